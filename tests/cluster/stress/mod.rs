//! Three nodes behind the balancer, clients that come and go, and faults of every kind at any moment. What was
//! acknowledged and what was subscribed to say exactly who must hear what; the test is that nobody misses an
//! event and nobody hears one twice, and that what was deleted or superseded is gone.
//!
//! Short by default. `ROOKERY_STRESS_SECONDS` makes it longer, `ROOKERY_STRESS_SEED` repeats the choices of a run.

mod check;
mod faults;
mod node;
mod publishing;
mod subscribing;

use std::{
    collections::HashMap,
    env, fmt,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use faults::{Mischief, OneOfEach, ThreeOfEach};
use futures_util::StreamExt;
use node::{Node, Ports, balance};
use rand::{Rng, RngExt, SeedableRng, rngs::StdRng};
use rookery::protocol::sign::Keys;
use serde_json::Value;
use tokio::time::{sleep, timeout};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::stored::Keyspace;
use common::{Client, cassandra::Servers, eventually, free_port, redis::RedisCluster, watch};

const NODES: usize = 3;
const AUTHORS: usize = 20;
const PUBLISHERS: usize = 3;
const SUBSCRIBERS: usize = 12;

/// Longest that an event may take to whoever waits for it, while nothing is at fault: a CQL server alone takes most of a
/// minute to start again.
const LATEST: Duration = Duration::from_secs(120);

/// Publishes what nobody follows.
const FLOODER: usize = AUTHORS;

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

    fn stays(&self, id: &str) -> bool {
        self.events.lock().unwrap()[id].end == End::Stays
    }

    fn change(&self, id: &str, change: impl FnOnce(&mut Known)) {
        change(self.events.lock().unwrap().get_mut(id).unwrap());
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
