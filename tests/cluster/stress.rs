//! Three nodes behind the balancer, clients that come and go, and faults of every kind at any moment. What was
//! acknowledged and what was subscribed to say exactly who must hear what; the test is that nobody misses an
//! event and nobody hears one twice, and that what was deleted or superseded is gone.
//!
//! Short by default. `ROOKERY_STRESS_SECONDS` makes it longer, `ROOKERY_STRESS_SEED` repeats the choices of a run.

use std::{
    collections::{HashMap, HashSet},
    env, fmt,
    future::ready,
    pin::pin,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt, future::join};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rookery::protocol::{Event, Tags, kind, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::{clocks::Clock, stored::Keyspace};
use common::{
    self, Client, Relay,
    cassandra::Servers,
    eventually, fresh, now,
    proxy::{Flow, Proxy},
    watch,
};
use common::{
    free_port,
    redis::{Redis, RedisCluster},
};

const NODES: usize = 3;
const AUTHORS: usize = 20;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 12;

/// Longest that an event may take to whoever waits for it, while nothing is at fault: a CQL server alone takes most of a
/// minute to start again.
const LATEST: Duration = Duration::from_secs(120);

/// Those of a node for clients and for operators.
type Ports = (u16, u16);

/// Publishes what nobody follows.
const FLOODER: usize = AUTHORS;

/// Events of a flood, more than the store takes in the time.
const FLOOD: usize = 1_000;

/// What is known of an event: enough to say who must hear it.
struct Known {
    author: usize,
    /// When it was sent for the first time.
    begun: Instant,
    acknowledged: bool,
    end: End,
}

/// Whether an event stays.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Stays,
    /// A newer version of it, or a request to delete it, has been sent.
    MayBeGone,
    /// Its deletion was acknowledged.
    Gone,
}

/// What has happened.
#[derive(Default)]
struct Tally {
    acknowledged: AtomicUsize,
    refused: AtomicUsize,
    /// Deletions that were acknowledged, of what was acknowledged itself or not.
    deleted: AtomicUsize,
    /// Contact lists that were acknowledged.
    lists: AtomicUsize,
    delivered: AtomicUsize,
    /// Subscriptions that heard all they had to.
    whole: AtomicUsize,
    /// Subscriptions whose connection ended.
    cut_off: AtomicUsize,
    /// Subscriptions that were not taken, because the store was away.
    not_begun: AtomicUsize,
    /// Subscriptions that were told that something may be missed.
    told: AtomicUsize,
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let count = |count: &AtomicUsize| count.load(Ordering::Relaxed);
        write!(f, "{} events acknowledged", count(&self.acknowledged))?;
        write!(f, " ({} deletions, {} contact lists)", count(&self.deleted), count(&self.lists))?;
        write!(f, " after {} refusals, {} deliveries; ", count(&self.refused), count(&self.delivered))?;
        write!(f, "subscriptions: {} whole, {} cut off, ", count(&self.whole), count(&self.cut_off))?;
        write!(f, "{} not begun, {} told", count(&self.not_begun), count(&self.told))
    }
}

/// What all tasks share.
struct World {
    authors: Vec<Keys>,
    /// `created_at` and id of the newest contact list of each author.
    lists: Mutex<HashMap<usize, (u64, String)>>,
    events: Mutex<HashMap<String, Known>>,
    /// Where clients connect: the balancer, and each node.
    doors: Vec<String>,
    ending: AtomicBool,
    calm: Calm,
    tally: Tally,
}

/// A clock that stands still while something is at fault.
struct Calm(Mutex<(Duration, Option<Instant>)>);

impl Calm {
    fn new() -> Self {
        Self(Mutex::new((Duration::ZERO, Some(Instant::now()))))
    }

    fn now(&self) -> Duration {
        let (before, since) = *self.0.lock().unwrap();
        before + since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    fn stop(&self) {
        let now = self.now();
        *self.0.lock().unwrap() = (now, None);
    }

    fn go_on(&self) {
        self.0.lock().unwrap().1 = Some(Instant::now());
    }
}

/// A node on ports of its own.
struct Node {
    relay: Option<Relay>,
    arguments: Vec<String>,
    clock: Clock,
}

/// HAProxy; killed when dropped.
struct Balancer(Child);

impl Drop for Balancer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Node {
    fn new(redis: &str, store: &str, keyspace: &Keyspace, ports: Ports) -> Self {
        let arguments = [
            ("--listen", format!("127.0.0.1:{}", ports.0)),
            ("--ops-listen", format!("127.0.0.1:{}", ports.1)),
            ("--redis", redis.to_owned()),
            ("--scylla", store.to_owned()),
            ("--keyspace", keyspace.name.clone()),
            ("--workers", "1".into()),
            ("--trusted-proxy", "127.0.0.0/8".into()),
        ];
        let arguments = arguments.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]).collect();
        let mut node = Self { relay: None, arguments, clock: Clock::new() };
        node.start();
        node
    }

    fn start(&mut self) {
        let data = TempDir::new().unwrap();
        let mut command = common::rookery(&["relay"]);
        command.args(&self.arguments).arg("--data").arg(data.path());
        self.clock.give(&mut command);
        self.relay = Some(Relay::spawn(command, data));
    }

    /// `kill -9`
    fn kill(&mut self) {
        self.relay = None;
    }

    fn signal(&self, name: &str) {
        self.relay.as_ref().unwrap().signal(name);
    }

    /// Stands still for so long, as a machine that is suspended.
    async fn freeze(&self, pause: Duration) {
        self.signal("STOP");
        sleep(pause).await;
        self.signal("CONT");
    }

    /// Killed, and after a while there again.
    async fn restart(&mut self, pause: Duration) {
        self.kill();
        sleep(pause).await;
        tokio::task::block_in_place(|| self.start());
    }
}

impl World {
    fn is_ending(&self) -> bool {
        self.ending.load(Ordering::Relaxed)
    }

    fn door(&self, random: &mut impl Rng) -> &str {
        // Half of the clients come through the balancer.
        match random.random_bool(0.5) {
            true => &self.doors[0],
            false => &self.doors[random.random_range(1..self.doors.len())],
        }
    }

    /// A connection, if the node behind that door takes one.
    async fn connect(&self, random: &mut impl Rng) -> Option<Client> {
        let request = self.door(random).into_client_request().unwrap();
        let connected = tokio_tungstenite::connect_async_with_config(request, None, true);
        let (socket, _) = timeout(Duration::from_secs(5), connected).await.ok()?.ok()?;
        Some(Client { socket, challenge: String::new() })
    }

    /// Publishes events one after the other, each until it is acknowledged or deleted.
    async fn publish(&self, mut random: StdRng) {
        let mut client = None;
        while !self.is_ending() {
            let author = random.random_range(0..AUTHORS);
            match random.random_range(0..100) {
                0..4 => self.publish_list(&mut client, author, &mut random).await,
                4..8 => self.publish_expiring(&mut client, &mut random).await,
                _ => self.publish_note(&mut client, author, &mut random).await,
            }
            sleep(Duration::from_millis(random.random_range(0..40))).await;
        }
    }

    /// A note; some are deleted once they are acknowledged, some because they are not.
    async fn publish_note(&self, client: &mut Option<Client>, author: usize, random: &mut StdRng) {
        let event = fresh(&self.authors[author], "");
        // Whoever gives it up does not know what is written of it.
        let patience = if random.random_bool(0.5) { LATEST } else { Duration::ZERO };
        let acknowledged = self.insist(client, author, &event, patience, random).await;
        if !acknowledged || random.random_bool(0.05) {
            let id = event.id().to_hex();
            self.change(&id, |known| known.end = End::MayBeGone);
            let tags = Tags::from_iter([["e", &id]]);
            let request = self.authors[author].sign(now(), kind::DELETION, tags, "");
            self.insist(client, author, &request, LATEST, random).await;
            self.change(&id, |known| known.end = End::Gone);
            self.tally.deleted.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// A note that expires after the test, though a clock may say that it has.
    async fn publish_expiring(&self, client: &mut Option<Client>, random: &mut StdRng) {
        let expiration = (now() + 3_600).to_string();
        let tags = Tags::from_iter([["expiration", &expiration]]);
        let event = self.authors[FLOODER].sign(now(), 1, tags, &random.random::<u64>().to_string());
        self.insist(client, FLOODER, &event, LATEST, random).await;
    }

    /// A contact list, which supersedes the one before it.
    async fn publish_list(&self, client: &mut Option<Client>, author: usize, random: &mut StdRng) {
        let contacts = (0..random.random_range(1..300)).map(|_| hex::encode(random.random::<[u8; 32]>()));
        let tags: Tags = contacts.map(|contact| ["p".to_owned(), contact]).collect();
        let event = {
            let mut lists = self.lists.lock().unwrap();
            let before = lists.remove(&author);
            let created_at = before.as_ref().map_or(0, |(at, _)| at + 1).max(now());
            let event = self.authors[author].sign(created_at, kind::FOLLOW_LIST, tags, "");
            if let Some((_, before)) = before {
                self.change(&before, |known| known.end = End::MayBeGone);
            }
            lists.insert(author, (created_at, event.id().to_hex()));
            event
        };
        self.insist(client, author, &event, LATEST, random).await;
        self.tally.lists.fetch_add(1, Ordering::Relaxed);
    }

    /// Publishes an event until it is acknowledged, or refused and out of patience.
    async fn insist(
        &self,
        client: &mut Option<Client>,
        author: usize,
        event: &Event,
        patience: Duration,
        random: &mut StdRng,
    ) -> bool {
        let id = event.id().to_hex();
        let (begun, waits_since) = (Instant::now(), self.calm.now());
        let known = Known { author, begun, acknowledged: false, end: End::Stays };
        self.events.lock().unwrap().insert(id.clone(), known);
        while !self.try_publish(client, event, random).await {
            self.tally.refused.fetch_add(1, Ordering::Relaxed);
            // Elsewhere, as it may be this node that is at fault.
            *client = None;
            if patience.is_zero() {
                return false;
            }
            assert!(self.calm.now() - waits_since < 2 * patience, "an event is never taken");
            sleep(Duration::from_millis(100)).await;
        }
        self.change(&id, |known| known.acknowledged = true);
        self.tally.acknowledged.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn stays(&self, id: &str) -> bool {
        self.events.lock().unwrap()[id].end == End::Stays
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Known)) {
        change(self.events.lock().unwrap().get_mut(id).unwrap());
    }

    /// Publishes more at once than the store takes. Whatever is accepted must be there in the end.
    async fn flood(&self, random: &mut StdRng) -> String {
        let Some(client) = self.connect(random).await else { return "a flood that nobody let in".into() };
        let keys = &self.authors[FLOODER];
        let events: Vec<Event> = (0..FLOOD).map(|_| fresh(keys, "flood")).collect();
        let (mut sink, stream) = client.socket.split();
        let sending = async {
            for event in &events {
                let message = format!(r#"["EVENT",{}]"#, event.json());
                if sink.send(Message::text(message)).await.is_err() {
                    break;
                }
            }
        };
        let hearing = async {
            let oks = stream.take_while(|message| ready(message.is_ok())).filter_map(async |message| {
                let ok: Value = serde_json::from_str(message.ok()?.to_text().ok()?).ok()?;
                (ok[0] == "OK").then_some(ok)
            });
            let mut accepted = 0;
            let mut oks = pin!(oks.take(events.len()));
            while let Some(ok) = oks.next().await {
                if ok[2] == true {
                    let known =
                        Known { author: FLOODER, begun: Instant::now(), acknowledged: true, end: End::Stays };
                    self.events.lock().unwrap().insert(ok[1].as_str().unwrap().to_owned(), known);
                    accepted += 1;
                }
            }
            accepted
        };
        let (_, accepted) = timeout(LATEST, join(sending, hearing)).await.expect("a flood has no answer");
        format!("a flood of {FLOOD} events, {accepted} accepted")
    }

    async fn try_publish(&self, client: &mut Option<Client>, event: &Event, random: &mut StdRng) -> bool {
        if client.is_none() {
            *client = self.connect(random).await;
        }
        let Some(client) = client else { return false };
        let message = format!(r#"["EVENT",{}]"#, event.json());
        if client.socket.send(Message::text(message)).await.is_err() {
            return false;
        }
        /// A node may stand still for as long as it is frozen, and then takes its time as ever.
        const ANSWERED: Duration = Duration::from_secs(30);
        loop {
            match hear(client, ANSWERED).await {
                Heard::Message(ok) if ok[0] == "OK" && ok[1] == event.id().to_hex() => {
                    let reason = ok[3].as_str().unwrap();
                    // Of two lists at once the older one may come too late.
                    let superseded = event.kind() == kind::FOLLOW_LIST && reason.starts_with("duplicate: ");
                    let expired = event.expiration().is_some() && reason.starts_with("invalid: ");
                    assert!(ok[2] == true || superseded || expired || reason.starts_with("error: "), "{ok}");
                    return ok[2] == true || superseded;
                }
                Heard::Message(_) => {}
                Heard::Nothing => panic!("an EVENT has no answer"),
                Heard::End => return false,
            }
        }
    }

    /// Subscribes again and again, to what was stored or to what comes only.
    async fn subscribe(&self, mut random: StdRng) {
        while !self.is_ending() {
            let Some(mut client) = self.connect(&mut random).await else {
                sleep(Duration::from_millis(100)).await;
                continue;
            };
            let authors: HashSet<usize> =
                (0..random.random_range(1..5)).map(|_| random.random_range(0..AUTHORS)).collect();
            let live_only = random.random_bool(0.5);
            let stay = Duration::from_millis(random.random_range(500..15_000));
            match (Subscription { world: self, authors, live_only }).run(&mut client, stay).await {
                Ended::Whole => &self.tally.whole,
                Ended::CutOff => &self.tally.cut_off,
                Ended::NotBegun => &self.tally.not_begun,
                Ended::Told => &self.tally.told,
            }
            .fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Every acknowledged event is found, unless it is deleted or superseded. What was deleted is not.
    async fn check_store(&self) {
        let mut random = StdRng::seed_from_u64(0);
        let ids = |is_meant: &dyn Fn(&Known) -> bool| -> Vec<String> {
            let events = self.events.lock().unwrap();
            events.iter().filter(|(_, known)| is_meant(known)).map(|(id, _)| id.clone()).collect()
        };
        for ids in ids(&|known| known.acknowledged && known.end == End::Stays).chunks(100) {
            let found = self.found(json!({ "ids": ids }), &mut random).await;
            assert_eq!(found.len(), ids.len(), "acknowledged events are not in the store");
        }
        let gone = ids(&|known| known.end == End::Gone);
        for ids in gone.chunks(100) {
            let found = self.found(json!({ "ids": ids }), &mut random).await;
            assert_eq!(found, [""; 0], "deleted, and found by id");
        }
        let gone: HashSet<String> = gone.into_iter().collect();
        let lists = self.lists.lock().unwrap().clone();
        for (author, keys) in self.authors[..AUTHORS].iter().enumerate() {
            let authors = [keys.public_key()];
            let found = self.found(json!({ "authors": authors, "limit": 5_000 }), &mut random).await;
            let still: Vec<_> = found.iter().filter(|id| gone.contains(*id)).collect();
            assert!(still.is_empty(), "deleted, and found by author: {still:?}");
            if let Some((_, list)) = lists.get(&author) {
                let found = self
                    .found(json!({ "authors": authors, "kinds": [kind::FOLLOW_LIST] }), &mut random)
                    .await;
                assert_eq!(&found, std::slice::from_ref(list), "a contact list that is not the newest");
            }
        }
    }

    /// Ids of what is stored, as soon as the store answers.
    async fn found(&self, filter: Value, random: &mut StdRng) -> Vec<String> {
        let begun = Instant::now();
        loop {
            if let Some(found) = self.find(&filter, random).await {
                return found;
            }
            assert!(begun.elapsed() < LATEST, "the store does not come back");
        }
    }

    /// Ids of what is stored, if the store answers.
    async fn find(&self, filter: &Value, random: &mut StdRng) -> Option<Vec<String>> {
        let mut client = self.connect(random).await?;
        client.socket.send(Message::text(json!(["REQ", "s", filter]).to_string())).await.ok()?;
        let mut found = Vec::new();
        loop {
            match hear(&mut client, LATEST).await {
                Heard::Message(message) if message[0] == "EVENT" => {
                    found.push(message[2]["id"].as_str().unwrap().to_owned());
                }
                Heard::Message(message) if message[0] == "EOSE" => return Some(found),
                Heard::Message(message) if message[0] == "AUTH" => {}
                Heard::Message(_) | Heard::Nothing | Heard::End => return None,
            }
        }
    }
}

enum Heard {
    Message(Value),
    Nothing,
    End,
}

async fn hear(client: &mut Client, patience: Duration) -> Heard {
    loop {
        match timeout(patience, client.socket.next()).await {
            Err(_) => return Heard::Nothing,
            Ok(Some(Ok(Message::Text(text)))) => return Heard::Message(serde_json::from_str(&text).unwrap()),
            Ok(Some(Ok(Message::Ping(_) | Message::Pong(_)))) => {}
            Ok(_) => return Heard::End,
        }
    }
}

enum Ended {
    Whole,
    CutOff,
    NotBegun,
    Told,
}

struct Subscription<'w> {
    world: &'w World,
    authors: HashSet<usize>,
    live_only: bool,
}

impl Subscription<'_> {
    /// Stays for a while, and then until everything acknowledged by then has come.
    async fn run(&self, client: &mut Client, stay: Duration) -> Ended {
        let authors: Vec<_> =
            self.authors.iter().map(|author| self.world.authors[*author].public_key()).collect();
        let limit = if self.live_only { 0 } else { 5_000 };
        let request = json!(["REQ", "s", { "authors": authors, "limit": limit }]).to_string();
        if client.socket.send(Message::text(request)).await.is_err() {
            return Ended::CutOff;
        }
        let mut heard: HashSet<String> = HashSet::new();
        let mut stored_at = None;
        let begun = Instant::now();
        // What must have come before it may end.
        let mut due: Option<Vec<String>> = None;
        let asked = self.world.calm.now();
        let mut due_since = asked;
        loop {
            match hear(client, Duration::from_millis(100)).await {
                Heard::End => return Ended::CutOff,
                Heard::Nothing => {}
                Heard::Message(message) => match message[0].as_str() {
                    Some("EVENT") => {
                        let id = message[2]["id"].as_str().unwrap().to_owned();
                        self.world.tally.delivered.fetch_add(1, Ordering::Relaxed);
                        assert!(self.wants(&id), "{id} was not asked for");
                        assert!(heard.insert(id.clone()), "{id} came twice");
                    }
                    Some("EOSE") => stored_at = Some(Instant::now()),
                    Some("CLOSED") => {
                        let reason = message[2].as_str().unwrap();
                        assert!(reason.starts_with("error: "), "{message}");
                        return if stored_at.is_some() { Ended::Told } else { Ended::NotBegun };
                    }
                    _ => {}
                },
            }
            let Some(stored_at) = stored_at else {
                assert!(self.world.calm.now() - asked < LATEST, "a REQ has no answer");
                continue;
            };
            if due.is_none() && (begun.elapsed() > stay || self.world.is_ending()) {
                due = Some(self.due(stored_at));
                due_since = self.world.calm.now();
            }
            if let Some(due) = &mut due {
                due.retain(|id| !heard.contains(id) && self.world.stays(id));
                if due.is_empty() {
                    return Ended::Whole;
                }
                let ways = if self.live_only { "live only" } else { "stored and live" };
                assert!(self.world.calm.now() - due_since < LATEST, "lost ({ways}): {due:?}");
            }
        }
    }

    fn wants(&self, id: &str) -> bool {
        self.world.events.lock().unwrap().get(id).is_some_and(|known| self.authors.contains(&known.author))
    }

    /// Everything acknowledged that it must hear, if it got its EOSE then.
    fn due(&self, stored_at: Instant) -> Vec<String> {
        let events = self.world.events.lock().unwrap();
        let due = events.iter().filter(|(_, known)| {
            let is_live = known.begun > stored_at;
            let is_there = known.acknowledged && known.end == End::Stays;
            is_there && self.authors.contains(&known.author) && (is_live || !self.live_only)
        });
        due.map(|(id, _)| id.clone()).collect()
    }
}

/// Of whatever else the cluster is made.
async fn harm_nodes(nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
    let victim = random.random_range(0..nodes.len());
    let pause = Duration::from_millis(random.random_range(100..5_000));
    match random.random_range(0..5) {
        0 | 1 => {
            nodes[victim].restart(pause / 4).await;
            format!("node {victim} killed")
        }
        2 => {
            // Longer than the others wait before they take it for dead.
            let pause = pause + Duration::from_secs(5);
            nodes[victim].freeze(pause).await;
            format!("node {victim} frozen for {pause:?}")
        }
        3 if Clock::is_there() => {
            // Further behind, and it would refuse what is new as of the future.
            let ahead = random.random_range(-600..7_200);
            nodes[victim].clock.set(ahead);
            sleep(pause).await;
            nodes[victim].clock.set(0);
            format!("the clock of node {victim} {ahead} s ahead for {pause:?}")
        }
        _ => world.flood(random).await,
    }
}

/// Does harm, and mends it. Says what it did.
trait Mischief {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String;
}

fn pick<T: Copy>(random: &mut StdRng, of: &[T]) -> T {
    of[random.random_range(0..of.len())]
}

/// One server of each kind, to which every node has its own ways.
struct OneOfEach {
    redis: Redis,
    store: Servers,
    to_redis: Vec<Proxy>,
    to_store: Vec<Proxy>,
}

impl OneOfEach {
    async fn start() -> Self {
        let (redis, store) = (Redis::start(), Servers::start(1));
        let (mut to_redis, mut to_store) = (Vec::new(), Vec::new());
        for _ in 0..NODES {
            to_redis.push(Proxy::start(format!("127.0.0.1:{}", redis.port)).await);
            to_store.push(Proxy::start(store.addresses()).await);
        }
        Self { redis, store, to_redis, to_store }
    }
}

impl Mischief for OneOfEach {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
        let victim = random.random_range(0..nodes.len());
        let pause = Duration::from_millis(random.random_range(100..5_000));
        match random.random_range(0..12) {
            0..4 => harm_nodes(nodes, world, random).await,
            4 => {
                self.redis.stop();
                sleep(pause).await;
                self.redis.start_again();
                format!("Redis restarted empty after {pause:?}")
            }
            5 => {
                self.redis.signal("STOP");
                sleep(pause).await;
                self.redis.signal("CONT");
                format!("Redis frozen for {pause:?}")
            }
            6 => {
                // Dies with what Redis did not take.
                self.redis.signal("STOP");
                sleep(pause / 4).await;
                nodes[victim].kill();
                self.redis.signal("CONT");
                nodes[victim].restart(Duration::ZERO).await;
                format!("node {victim} killed before a frozen Redis")
            }
            7 => hold(&self.to_redis[victim], victim, "Redis", Flow::Cut, pause).await,
            8 => {
                let flow = pick(random, &[Flow::HoldsAll, Flow::HoldsAnswers, Flow::HoldsRequests]);
                hold(&self.to_redis[victim], victim, "Redis", flow, pause).await
            }
            9 => {
                let flow = pick(random, &[Flow::Cut, Flow::HoldsAll, Flow::HoldsAnswers]);
                hold(&self.to_store[victim], victim, "the store", flow, pause).await
            }
            10 => {
                self.store.kill(1);
                sleep(pause).await;
                tokio::task::block_in_place(|| self.store.up(1));
                format!("the CQL server killed for {pause:?}")
            }
            _ => {
                self.to_store.iter().for_each(|way| way.set(Flow::Cut));
                sleep(pause).await;
                self.to_store.iter().for_each(|way| way.set(Flow::Open));
                format!("the store away for {pause:?}")
            }
        }
    }
}

async fn hold(way: &Proxy, node: usize, to: &str, flow: Flow, pause: Duration) -> String {
    way.set(flow);
    sleep(pause).await;
    way.set(Flow::Open);
    format!("node {node} to {to}: {flow:?} for {pause:?}")
}

/// A Redis Cluster and three CQL servers, of which one at a time may be gone.
struct ThreeOfEach {
    redis: RedisCluster,
    store: Servers,
}

impl Mischief for ThreeOfEach {
    async fn once(&mut self, nodes: &mut [Node], world: &World, random: &mut StdRng) -> String {
        let victim = random.random_range(0..nodes.len());
        let server = random.random_range(1..=self.store.count);
        let pause = Duration::from_millis(random.random_range(1_000..8_000));
        match random.random_range(0..10) {
            0 | 8 | 9 => harm_nodes(nodes, world, random).await,
            kind @ (1 | 2) => {
                // Its replica takes over after a second, and it comes back as a replica.
                let number = self.redis.primary(random);
                let primary = self.redis.node(number);
                if kind == 1 {
                    primary.stop();
                    sleep(pause).await;
                    primary.start_again();
                } else {
                    primary.signal("STOP");
                    sleep(pause).await;
                    primary.signal("CONT");
                }
                self.redis.mended().await;
                format!("primary {number} of Redis {} for {pause:?}", ["killed", "frozen"][kind - 1])
            }
            3 => {
                // No replica has what the primary was sent last.
                let number = self.redis.primary(random);
                let primary = self.redis.node(number);
                primary.signal("STOP");
                sleep(pause / 8).await;
                primary.signal("CONT");
                primary.stop();
                nodes[victim].restart(pause).await;
                self.redis.start_stopped();
                self.redis.mended().await;
                format!("primary {number} of Redis and node {victim} killed together")
            }
            4 => {
                // It serves whoever is connected to it, while its replica takes over.
                let number = self.redis.primary(random);
                self.redis.isolate(number);
                sleep(pause).await;
                self.redis.join();
                self.redis.mended().await;
                format!("primary {number} of Redis isolated for {pause:?}")
            }
            5 => {
                // The replica takes over with what it had before.
                let number = self.redis.primary(random);
                let replica = self.redis.replica_of(number);
                self.redis.node(replica).signal("STOP");
                sleep(pause / 2).await;
                self.redis.node(number).stop();
                self.redis.node(replica).signal("CONT");
                sleep(pause / 2).await;
                self.redis.start_stopped();
                self.redis.mended().await;
                format!("primary {number} of Redis killed, {pause:?} after its replica was cut off")
            }
            6 => {
                self.store.kill(server);
                sleep(pause).await;
                tokio::task::block_in_place(|| self.store.up(server));
                format!("CQL server {server} killed for {pause:?}")
            }
            _ => {
                self.store.signal(server, "STOP");
                sleep(pause).await;
                self.store.signal(server, "CONT");
                format!("CQL server {server} frozen for {pause:?}")
            }
        }
    }
}

/// Each has many servers, and both at once would wait for the processor more than for each other.
static ONE_AT_A_TIME: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

fn number(variable: &str, default: u64) -> u64 {
    env::var(variable).map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_and_nothing_comes_twice() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let services = OneOfEach::start().await;
    let keyspace = Keyspace::make_on(&services.store.addresses(), 1);
    let redis = services.to_redis.iter().map(|way| format!("redis://{}", way.address));
    let store = services.to_store.iter().map(|way| way.address.to_string());
    let ways: Vec<_> = redis.zip(store).collect();
    stress(services, |node, ports| Node::new(&ways[node].0, &ways[node].1, &keyspace, ports)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_when_one_server_of_three_is() {
    let _alone = ONE_AT_A_TIME.lock().await;
    let store = Servers::start(3);
    let keyspace = Keyspace::make_on(&store.addresses(), store.count);
    let redis = RedisCluster::start().await;
    let (to_redis, to_store) = (redis.urls(), store.addresses());
    stress(ThreeOfEach { redis, store }, |_, ports| Node::new(&to_redis, &to_store, &keyspace, ports)).await;
}

async fn stress(mut mischief: impl Mischief, node: impl Fn(usize, Ports) -> Node) {
    let length = Duration::from_secs(number("ROOKERY_STRESS_SECONDS", 45));
    watch::allow(length + 5 * LATEST);
    let seed = number("ROOKERY_STRESS_SEED", rand::random());
    eprintln!("ROOKERY_STRESS_SEED={seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let ports: Vec<Ports> = (0..NODES).map(|_| (free_port(), free_port())).collect();
    let mut nodes: Vec<Node> = ports.iter().enumerate().map(|(nth, ports)| node(nth, *ports)).collect();
    for node in nodes.iter().filter_map(|node| node.relay.as_ref()) {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let front = free_port();
    let _balancer = balance(front, &ports);
    let doors = [front].into_iter().chain(ports.iter().map(|ports| ports.0));
    let world = Arc::new(World {
        authors: (0..=FLOODER).map(|_| Keys::generate()).collect(),
        lists: Mutex::default(),
        events: Mutex::default(),
        doors: doors.map(|port| format!("ws://127.0.0.1:{port}")).collect(),
        ending: AtomicBool::new(false),
        calm: Calm::new(),
        tally: Tally::default(),
    });
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..PUBLISHERS {
        let (world, random) = (Arc::clone(&world), StdRng::from_rng(&mut random));
        tasks.spawn(async move { world.publish(random).await });
    }
    for _ in 0..SUBSCRIBERS {
        let (world, random) = (Arc::clone(&world), StdRng::from_rng(&mut random));
        tasks.spawn(async move { world.subscribe(random).await });
    }
    let begun = Instant::now();
    let mut faults = 0;
    while begun.elapsed() < length {
        world.calm.stop();
        let fault = mischief.once(&mut nodes, &world, &mut random).await;
        world.calm.go_on();
        eprintln!("{:>6.1} s: {fault}", begun.elapsed().as_secs_f64());
        faults += 1;
        // A failure is seen no later than the next fault.
        while let Some(ended) = tasks.try_join_next() {
            ended.unwrap();
        }
        sleep(Duration::from_millis(random.random_range(0..3_000))).await;
    }
    world.ending.store(true, Ordering::Relaxed);
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    world.check_store().await;
    eprintln!("{faults} faults; {}", world.tally);
    assert_eq!(world.tally.told.load(Ordering::Relaxed), 0, "no gap was as long as that");
    assert!(world.tally.whole.load(Ordering::Relaxed) > 0);
}

/// HAProxy as the cluster runs it.
fn balance(front: u16, ports: &[Ports]) -> Balancer {
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/cluster/haproxy.cfg");
    let mut command = Command::new("haproxy");
    command.args(["-f", file]).env("ROOKERY_BIND", format!("127.0.0.1:{front}"));
    for (nth, (clients, operators)) in (1..).zip(ports) {
        command.env(format!("ROOKERY_NODE_{nth}"), format!("127.0.0.1:{clients}"));
        command.env(format!("ROOKERY_OPS_{nth}"), operators.to_string());
    }
    let started = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    Balancer(started.expect("haproxy is needed: cluster/test.sh installs it"))
}
