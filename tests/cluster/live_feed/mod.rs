//! The live feed between nodes: each node hears what its people want, and nothing else; each of them hears what their
//! friends say, once. What that costs is printed by the tests that are too long for every day.

#[path = "../../../benches/nodes/mod.rs"]
mod costs;
mod first_feed;
mod plan;

use std::{
    collections::BTreeSet,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, stream};
use rookery::protocol::kind::{ACTIVITY, DELETION, FOLLOW_LIST, NOTE, REACTION, REPOST};
use serde_json::json;
use tokio::task::block_in_place;

use crate::stored::Keyspace;
use common::{Client, Relay, eventually, people::Person, raw::memory, redis::Redis, watch};
use costs::cpu_seconds;
use plan::{Plan, Post, STRANGERS};

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
