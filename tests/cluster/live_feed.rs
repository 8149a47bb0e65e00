//! The live feed between nodes: each node hears what its people want, and nothing else; each of them hears what their
//! friends say, once. What that costs is printed by the tests that are too long for every day.

#[path = "../../benches/nodes/mod.rs"]
mod costs;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use nostr_sdk::nips::{nip19::FromBech32, nip49::EncryptedSecretKey};
use rand::{SeedableRng, rngs::StdRng, seq::index};
use rookery::protocol::{
    Event, Tags,
    kind::{ACTIVITY, DELETION, FOLLOW_LIST, NOTE, REACTION, REPOST},
    sign::Keys,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use crate::stored::{Keyspace, publish_all};
use common::{
    Client, Relay, eventually, note, now,
    people::{PASSWORD, Person},
    raw::memory,
    redis::Redis,
    watch,
};
use costs::cpu_seconds;

/// Nodes whose doors are wide, and that refuse nothing for being slow.
const SETTINGS: [&str; 9] = [
    "accounts.open=everybody",
    "accounts.address_sign_ups=1000000",
    "accounts.sign_ups=1000000",
    "bus.ready=always",
    "bus.acknowledge_ms=30000",
    "persister.deadline_ms=30000",
    "scylla.deadline_ms=30000",
    "scylla.request_timeout_ms=15000",
    // Sockets that nobody reads for a while answer no pings.
    "session.idle_seconds=3600",
];
/// That take a while to doubt each other: whatever else the machine has to do, nothing is missed.
const PATIENT: [&str; 2] = ["bus.missing_watermarks=300", "bus.timeout_ms=30000"];

/// Subscriptions of a page.
const FEED: &str = "feed";
const NOTICES: &str = "notices";

struct Size {
    people: usize,
    friends: usize,
    posts: usize,
}

/// Of posts, one in so many mentions somebody, and one in so many is by somebody whom nobody follows.
const MENTIONING: usize = 5;
const UNHEARD: usize = 10;
const STRANGERS: usize = 3;

/// Who follows whom and says what, so that it is known who must hear what.
struct Plan {
    /// Nodes that people are at, in turn.
    nodes: usize,
    /// Whom each follows.
    friends: Vec<BTreeSet<usize>>,
    posts: Vec<Post>,
}

struct Post {
    /// Those beyond the people are strangers: nobody follows them, and they listen to nobody.
    author: usize,
    mentioned: Option<usize>,
}

impl Plan {
    fn new(size: &Size, nodes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let friends = |person: usize| -> BTreeSet<usize> {
            let others = index::sample(&mut random, size.people - 1, size.friends);
            others.iter().map(|other| other + usize::from(other >= person)).collect()
        };
        let post = |nth: usize| match nth % UNHEARD {
            0 => Post { author: size.people + nth / UNHEARD % STRANGERS, mentioned: None },
            _ => Post {
                author: nth % size.people,
                mentioned: (nth % MENTIONING == 1).then_some(nth * 7 % size.people),
            },
        };
        Self {
            nodes,
            friends: (0..size.people).map(friends).collect(),
            posts: (0..size.posts).map(post).collect(),
        }
    }

    /// The node of somebody; that of strangers comes after the others.
    fn node_of(&self, person: usize) -> usize {
        if person < self.friends.len() { person % self.nodes } else { self.nodes }
    }

    /// Whom somebody's feed is made of.
    fn authors(&self, person: usize) -> impl Iterator<Item = usize> {
        self.friends[person].iter().copied().chain([person])
    }

    /// What somebody must hear: in which subscription, and which post.
    fn due(&self, person: usize) -> BTreeSet<(&'static str, usize)> {
        let is_of_feed = |author: usize| author == person || self.friends[person].contains(&author);
        let posts = self.posts.iter().enumerate();
        posts
            .flat_map(|(nth, post)| {
                let in_feed = is_of_feed(post.author).then_some((FEED, nth));
                in_feed.into_iter().chain((post.mentioned == Some(person)).then_some((NOTICES, nth)))
            })
            .collect()
    }

    /// What a node must be told of posts of other nodes: how often, as a post is told under the key of its author and
    /// that of who is mentioned, if somebody there wants it; and how often it was told that before.
    fn told(&self, node: usize) -> (usize, usize) {
        let people = (0..self.friends.len()).filter(|person| self.node_of(*person) == node);
        let authors: BTreeSet<usize> = people.flat_map(|person| self.authors(person)).collect();
        let of_others = self.posts.iter().filter(|post| self.node_of(post.author) != node);
        of_others.fold((0, 0), |(told, again), post| {
            let is_named = post.mentioned.is_some_and(|person| self.node_of(person) == node);
            let keys = usize::from(authors.contains(&post.author)) + usize::from(is_named);
            (told + keys, again + keys.saturating_sub(1))
        })
    }
}

/// What a load came to.
struct Cost {
    deliveries: usize,
    /// Of the nodes that people are at.
    told: Vec<usize>,
    /// Messages given to Redis.
    published: f64,
    /// Seconds of all nodes that people are at, of the one with most to do, and of Redis.
    cpu: f64,
    busiest: f64,
    redis: f64,
    /// Bytes.
    socket: f64,
    seconds: f64,
}

/// Does the same for each number, some at once. What came of it, in their order.
fn at_once<T: Send>(count: usize, each: impl Fn(usize) -> T + Sync) -> Vec<T> {
    const AT_ONCE: usize = 4;
    let next = AtomicUsize::new(0);
    let work = || {
        let numbers = std::iter::repeat_with(|| next.fetch_add(1, Relaxed));
        numbers.take_while(|nth| *nth < count).map(|nth| (nth, each(nth))).collect::<Vec<_>>()
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(work)).collect();
        let mut all: Vec<_> = threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect();
        all.sort_unstable_by_key(|(nth, _)| *nth);
        all.into_iter().map(|(_, done)| done).collect()
    })
}

fn settings(more: &[&'static str]) -> Vec<&'static str> {
    SETTINGS.iter().chain(more).flat_map(|setting| ["--set", *setting]).collect()
}

/// A signed-in socket that asks for what the page asks for.
async fn open(node: &Relay, person: &Person, authors: &[&str]) -> Client {
    let mut client = person.connect(node).await;
    let of_friends = |kinds: &[u16]| json!({ "authors": authors, "kinds": kinds, "limit": 0 });
    let feed = [&[NOTE, REPOST][..], &[ACTIVITY], &[DELETION]].map(of_friends);
    assert_eq!(client.request(FEED, &feed).await.0, [""; 0]);
    let kinds = [NOTE, REPOST, REACTION, FOLLOW_LIST];
    client.watch(NOTICES, json!({ "#p": [person.key], "kinds": kinds, "limit": 0 })).await;
    client
}

/// Hears what is due, each once, and that nothing else is on its way.
async fn hear(mut client: Client, mut due: BTreeSet<(&'static str, usize)>) {
    client.say(json!(["COUNT", "end", { "ids": ["00".repeat(32)] }])).await;
    loop {
        let message = client.hear().await;
        if message[0] == "COUNT" {
            assert!(due.is_empty(), "missing: {due:?}");
            return;
        }
        let subscription = if message[1] == FEED { FEED } else { NOTICES };
        let content = message[2]["content"].as_str().unwrap_or_else(|| panic!("{message}"));
        let is_due = due.remove(&(subscription, content.parse().unwrap()));
        assert!(message[1] == subscription && is_due, "not due, or twice: {message}");
    }
}

/// People at so many nodes who all hear each other, and one node more, at which they sign up and nobody listens.
async fn live_feed(size: &Size, nodes: usize) -> Cost {
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let plan = Plan::new(size, nodes);
    let settings = settings(&PATIENT);
    // The last is that of the strangers.
    let all: Vec<Relay> = (0..=nodes).map(|_| keyspace.node_with(&redis.url(), &settings)).collect();
    for node in &all {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let (with_people, front) = (&all[..nodes], &all[nodes]);
    let people =
        block_in_place(|| at_once(size.people + STRANGERS, |nth| front.sign_up(&format!("person-{nth}"))));
    // What that has published has gone to nobody: nobody listens yet.
    let stored = || front.metric("rookery_events_total{result=\"stored\"}");
    eventually("the bus has it all", || front.metric("rookery_bus_events_published_total") == stored()).await;

    let connect = |person: usize| {
        let authors: Vec<&str> = plan.authors(person).map(|author| &*people[author].key).collect();
        let (node, person) = (&with_people[plan.node_of(person)], &people[person]);
        async move { open(node, person, &authors).await }
    };
    let resident = || with_people.iter().map(|node| memory(node.process.id(), "RssAnon")).sum::<u64>() as f64;
    // What the first sockets of a node make is not theirs alone.
    let first = size.people / 5;
    let mut sockets: Vec<Client> = stream::iter(0..first).map(connect).buffered(16).collect().await;
    let before = resident();
    sockets.extend(stream::iter(first..size.people).map(connect).buffered(16).collect::<Vec<_>>().await);
    let socket = (resident() - before) / (size.people - first) as f64;

    let published =
        || all.iter().map(|node| node.metric("rookery_bus_messages_published_total")).sum::<f64>();
    let cpu = || with_people.iter().map(|node| cpu_seconds(node.process.id())).collect::<Vec<_>>();
    let (begun, published_before) = (Instant::now(), published());
    let (cpu_before, redis_before) = (cpu(), cpu_seconds(redis.id()));
    // Nobody reads what is delivered until all is said: the sockets hold that much.
    block_in_place(|| {
        at_once(size.posts, |nth| {
            let Post { author, mentioned } = plan.posts[nth];
            let tags: Vec<_> = mentioned.iter().map(|person| ["p", people[*person].key.as_str()]).collect();
            let post = json!({ "content": nth.to_string(), "tags": tags });
            let said = people[author].ask(&all[plan.node_of(author)], "POST", "/v1/posts", post);
            assert_eq!(said.status, 201, "{said:?}");
        })
    });
    let due: Vec<_> = (0..size.people).map(|person| plan.due(person)).collect();
    let deliveries: usize = due.iter().map(BTreeSet::len).sum();
    let delivered = || crate::sum(with_people, "rookery_deliveries_total") as usize;
    eventually("all that is due", || delivered() >= deliveries).await;
    for (nth, node) in all.iter().enumerate() {
        let metric = |name: &str| node.metric(&format!("rookery_bus_events_{name}_total")) as usize;
        let (told, again) = plan.told(nth);
        eventually("all that is wanted", || metric("received") >= told).await;
        let got = (metric("received"), metric("copies"), metric("unmatched"));
        assert_eq!(got, (told, again, 0), "node {nth} of {nodes}");
    }
    let spent: Vec<f64> = cpu().into_iter().zip(cpu_before).map(|(after, before)| after - before).collect();
    let (redis_spent, seconds) = (cpu_seconds(redis.id()) - redis_before, begun.elapsed().as_secs_f64());
    let published = published() - published_before;
    stream::iter(sockets.into_iter().zip(due))
        .map(|(client, due)| hear(client, due))
        .buffer_unordered(16)
        .collect::<()>()
        .await;
    assert_eq!(delivered(), deliveries);
    assert_eq!(crate::sum(&all, "rookery_bus_gaps_total"), 0.0);
    Cost {
        deliveries,
        told: (0..nodes).map(|node| plan.told(node).0).collect(),
        published,
        cpu: spent.iter().sum(),
        busiest: spent.iter().copied().fold(0.0, f64::max),
        redis: redis_spent,
        socket,
        seconds,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn each_node_hears_what_its_people_want_and_nothing_else() {
    live_feed(&Size { people: 16, friends: 3, posts: 80 }, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "thousands of sign-ups, and figures for people"]
async fn a_thousand_people_hear_what_their_friends_say_at_one_and_two_and_four_nodes() {
    watch::allow(Duration::from_secs(3_600));
    let size = Size { people: 1_000, friends: 50, posts: 2_000 };
    println!(
        "nodes  deliveries  told of others, each node  messages/post  CPU/delivery µs  busiest node s  Redis/delivery µs  posts/s  KiB/socket"
    );
    for nodes in [1, 2, 4] {
        let cost = live_feed(&size, nodes).await;
        let (deliveries, posts) = (cost.deliveries as f64, size.posts as f64);
        println!(
            "{nodes:>5}  {:>10}  {:>25}  {:>13.1}  {:>15.1}  {:>14.1}  {:>17.2}  {:>7.0}  {:>10.1}",
            cost.deliveries,
            format!("{:?}", cost.told),
            cost.published / posts,
            1e6 * cost.cpu / deliveries,
            cost.busiest,
            1e6 * cost.redis / deliveries,
            posts / cost.seconds,
            cost.socket / 1024.0,
        );
    }
}

/// The sum over all labels of a metric.
fn total(node: &Relay, name: &str) -> f64 {
    let text = node.metrics();
    let values =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// How long a question takes, in milliseconds, and what it costs the node: statements, and pages told from memory.
struct Asked {
    milliseconds: f64,
    statements: f64,
    hits: f64,
}

const HITS: &str = "rookery_feed_hits_total";

async fn asked(node: &Relay, question: impl AsyncFnOnce()) -> Asked {
    let costs = || [total(node, "rookery_store_statements_total"), node.metric(HITS)];
    let (before, begun) = (costs(), Instant::now());
    question().await;
    let milliseconds = 1e3 * begun.elapsed().as_secs_f64();
    let [statements, hits] = std::array::from_fn(|nth| costs()[nth] - before[nth]);
    Asked { milliseconds, statements, hits }
}

fn print(what: &str, mut asked: Vec<Asked>) {
    asked.sort_unstable_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds));
    let Asked { milliseconds, statements, hits } = &asked[asked.len() / 2];
    let (least, most) = (asked[0].milliseconds, asked[asked.len() - 1].milliseconds);
    println!(
        "{what:<44} {milliseconds:>7.1} ms ({least:.1} to {most:.1}), {statements:.0} statements, {hits:.0} pages from memory"
    );
}

/// Somebody who follows five hundred, at nodes that know nothing of that yet: what the first feed takes, by REST and by
/// the filter of the page, and the next ones.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures for people"]
async fn the_first_feed_of_somebody_who_follows_five_hundred() {
    const AUTHORS: usize = 500;
    const NOTES: usize = 20;
    const ROUNDS: usize = 5;
    const REPEATED: usize = 20;
    const KEY_PASSWORD: &str = "a longer one for the key";
    watch::allow(Duration::from_secs(3_600));
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    // As nodes with accounts have it.
    let settings = settings(&["feeds.max_bytes=67108864"]);
    let start = async || {
        let node = keyspace.node_with(&redis.url(), &settings);
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        node
    };
    let front = start().await;
    let reader = front.sign_up("reader");
    let taken = json!({ "password": PASSWORD, "keyPassword": KEY_PASSWORD });
    let taken = reader.ask(&front, "POST", "/v1/me/key", taken).json();
    let key = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
    let own = Keys::from_secret(key.decrypt(KEY_PASSWORD).unwrap().to_secret_bytes()).unwrap();
    let newest = now();
    let authors: Vec<Keys> = (0..AUTHORS).map(|_| Keys::generate()).collect();
    let notes: Vec<Event> = (0..AUTHORS * NOTES)
        .map(|nth| {
            note(&authors[nth * 7 % AUTHORS], newest - nth as u64, &format!("{nth} {}", "x".repeat(200)))
        })
        .collect();
    let mut publisher = front.connect().await;
    for some in notes.chunks(500) {
        publish_all(&mut publisher, some).await;
    }
    let hex: Vec<String> = authors.iter().map(|keys| keys.public_key().to_hex()).collect();
    // As another app writes it.
    let list = own.sign(now(), FOLLOW_LIST, Tags::from_iter(hex.iter().map(|key| ["p", key.as_str()])), "");
    publish_all(&mut publisher, &[list]).await;
    let page = common::ask::ids(&notes[..100]);
    let of_kinds = |kinds: &[u16]| json!({ "authors": hex, "kinds": kinds, "limit": 100 });
    let notes = [of_kinds(&[NOTE, REPOST])];
    // All that the page asks for in one subscription.
    let whole = [&[NOTE, REPOST][..], &[ACTIVITY], &[DELETION]].map(of_kinds);

    let rest = async |node: &Relay| {
        let answer = block_in_place(|| reader.ask(node, "GET", "/v1/feed?limit=100", Value::Null)).json();
        let events = answer["events"].as_array().unwrap().iter();
        assert_eq!(events.map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), page);
    };
    let req = async |client: &mut Client, filters: &[Value]| {
        assert_eq!(client.find_any(filters).await.0, page);
    };
    let (mut cold, mut signed_in, mut warm) = ([(); 3].map(|()| vec![]), vec![], [(); 3].map(|()| vec![]));
    for _ in 0..ROUNDS {
        let node = start().await;
        cold[0].push(asked(&node, async || rest(&node).await).await);
        for (filters, cold) in [&notes[..], &whole].into_iter().zip(&mut cold[1..]) {
            let node = start().await;
            let mut client = reader.connect(&node).await;
            cold.push(asked(&node, async || req(&mut client, filters).await).await);
        }
        let node = start().await;
        node.sign_in("reader");
        // Where signing in has the feed read, it has been read by then; where it has not, nothing tells.
        let (half, begun) = ((AUTHORS * NOTES * 200 / 2) as f64, Instant::now());
        while node.metric("rookery_feed_memory_bytes") < half && begun.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        signed_in.push(asked(&node, async || rest(&node).await).await);
        // The page is open, so its authors are listened to.
        let mut client = reader.connect(&node).await;
        client.request("open", &notes).await;
        let (before, begun) = (node.metric(HITS), Instant::now());
        while node.metric(HITS) == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is never told from memory");
            req(&mut client, &notes).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..REPEATED {
            warm[0].push(asked(&node, async || rest(&node).await).await);
            warm[1].push(asked(&node, async || req(&mut client, &notes).await).await);
            warm[2].push(asked(&node, async || req(&mut client, &whole).await).await);
        }
    }
    for (what, cold, warm) in ["GET /v1/feed", "REQ of notes", "REQ of the page"]
        .into_iter()
        .zip(cold)
        .zip(warm)
        .map(|((what, cold), warm)| (what, cold, warm))
    {
        print(&format!("{what}, a node that knows nothing"), cold);
        print(&format!("{what}, notes in memory"), warm);
    }
    print("GET /v1/feed, the first after sign-in", signed_in);
}
