//! Several nodes: what is published at one reaches the clients of all, once; and where that can not be
//! known, the clients are told.

mod accounts;
mod activity;
mod aggregator;
mod before;
mod clocks;
mod feeds;
mod follows;
mod gaps;
mod live_feed;
mod page;
mod rights;
mod schedules;
mod scripts;
mod settings;
mod stored;
mod strangers;
mod stress;
mod tls;
mod upstreams;

use std::collections::HashSet;

use common::redis::{Redis, RedisCluster};
use common::{Client, Relay, eventually, fresh, now};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;

/// Nodes that share a Redis.
struct Cluster {
    nodes: Vec<Relay>,
    redis: Redis,
}

impl Cluster {
    /// Nodes that take a while to doubt each other: whatever else the machine has to do, nothing is missed. Nor do they
    /// doubt clients, which answer no ping while a test has no time for them.
    async fn start(nodes: usize) -> Self {
        let settings = [
            "bus.missing_watermarks=300",
            "bus.timeout_ms=30000",
            "session.ping_seconds=3600",
            "session.idle_seconds=7200",
        ];
        let patient = settings.map(|setting| ["--set", setting]).concat();
        Self::of(nodes, &patient).await
    }

    /// Nodes that are quick to notice, for tests that wait for that.
    async fn quick(nodes: usize) -> Self {
        Self::of(nodes, &QUICK).await
    }

    async fn of(nodes: usize, settings: &[&str]) -> Self {
        let redis = Redis::start();
        let nodes: Vec<Relay> = (0..nodes).map(|_| node(&redis.url(), settings)).collect();
        let cluster = Self { nodes, redis };
        cluster.connected(1.0).await;
        cluster
    }

    async fn connected(&self, value: f64) {
        for node in &self.nodes {
            eventually("the bus", || node.metric("rookery_bus_connected") == value).await;
        }
    }
}

const QUICK: [&str; 4] = ["--set", "bus.missing_watermarks=20", "--set", "bus.timeout_ms=1000"];

fn node(redis: &str, settings: &[&str]) -> Relay {
    let usual = ["--redis", redis, "--workers", "2", "--set", "bus.watermark_ms=100"];
    Relay::start(&[&usual, settings].concat())
}

fn sum(nodes: &[Relay], metric: &str) -> f64 {
    nodes.iter().map(|node| node.metric(metric)).sum()
}

/// Subscribes to live events of these keys.
async fn follow(node: &Relay, keys: &Keys) -> Client {
    let mut client = node.connect().await;
    client.say(json!(["REQ", "s", { "authors": [keys.public_key()], "limit": 0 }])).await;
    assert_eq!(client.hear().await[0], "EOSE");
    client
}

async fn hears(client: &mut Client, event: &Event) {
    let heard = client.hear().await;
    assert_eq!((&heard[0], &heard[2]["id"]), (&json!("EVENT"), &json!(event.id())), "{heard}");
}

/// The subscription is ended, and the client told why.
async fn hears_of_the_gap(client: &mut Client) {
    let heard = client.hear().await;
    assert_eq!((&heard[0], &heard[1]), (&json!("CLOSED"), &json!("s")), "{heard}");
    assert!(heard[2].as_str().unwrap().starts_with("error: "), "{heard}");
}

/// The routers of all threads know: a subscription that begins now is not ended for it.
async fn has_told_of_the_gap(node: &Relay) {
    eventually("the end of telling of a gap", || node.metric("rookery_bus_gaps_told_total") >= 1.0).await;
}

#[tokio::test]
async fn an_event_reaches_every_node_once() {
    let cluster = Cluster::start(3).await;
    let keys = Keys::generate();
    let mut clients: Vec<Client> = Vec::new();
    for node in &cluster.nodes {
        let mut client = node.connect().await;
        // Three routing keys that the events carry.
        let filters =
            [json!({ "authors": [keys.public_key()] }), json!({ "kinds": [1] }), json!({ "#t": ["x"] })];
        assert_eq!(client.request("s", &filters).await.0, [""; 0]);
        clients.push(client);
    }
    let mut publisher = cluster.nodes[0].connect().await;
    let tags = || Tags::from_iter([["t", "x"]]);
    let events: Vec<Event> = (0..20).map(|n| keys.sign(now(), 1, tags(), &n.to_string())).collect();
    for event in &events {
        assert!(publisher.publish(event).await.0);
    }
    for client in &mut clients {
        for event in &events {
            hears(client, event).await;
        }
    }
    let others = &cluster.nodes[1..];
    eventually("all copies", || sum(others, "rookery_bus_events_received_total") == 2.0 * 3.0 * 20.0).await;
    assert_eq!(sum(others, "rookery_bus_events_copies_total"), 2.0 * 2.0 * 20.0);
    assert_eq!(sum(others, "rookery_bus_events_unmatched_total"), 0.0);
    assert_eq!(sum(&cluster.nodes, "rookery_bus_gaps_total"), 0.0);
    assert_eq!(sum(&cluster.nodes, "rookery_deliveries_total"), 3.0 * 20.0);
}

#[tokio::test]
async fn a_node_receives_only_what_its_clients_want() {
    let cluster = Cluster::start(3).await;
    let authors: Vec<Keys> = (0..3).map(|_| Keys::generate()).collect();
    let mut clients = Vec::new();
    for (node, keys) in cluster.nodes.iter().zip(&authors) {
        clients.push(follow(node, keys).await);
    }
    let mut publisher = cluster.nodes[0].connect().await;
    for n in 0..30 {
        let event = fresh(&authors[n % 3], &n.to_string());
        assert!(publisher.publish(&event).await.0);
        hears(&mut clients[n % 3], &event).await;
    }
    for node in &cluster.nodes[1..] {
        assert_eq!(node.metric("rookery_bus_events_received_total"), 10.0);
        assert_eq!(node.metric("rookery_bus_events_unmatched_total"), 0.0);
    }
    // Its own authors' clients are on the node itself.
    assert_eq!(cluster.nodes[0].metric("rookery_bus_events_received_total"), 0.0);
}

/// What a node receives is what its clients want by key, each under each such key, and nothing else.
#[tokio::test(flavor = "multi_thread")]
async fn twenty_thousand_events_go_where_two_thousand_subscriptions_want_them() {
    const NODES: usize = 4;
    const CONNECTIONS: usize = 25;
    const SUBSCRIPTIONS: usize = 20;
    const AUTHORS: usize = 3_000;
    const TOPICS: usize = 50;
    const EVENTS: usize = 20_000;
    let cluster = Cluster::start(NODES).await;
    let keys: Vec<Keys> = (0..AUTHORS).map(|_| Keys::generate()).collect();
    // A subscription in ten is to a topic, the others are to an author.
    let mut wanted = vec![(HashSet::new(), HashSet::new()); NODES];
    let mut clients = Vec::new();
    for nth in 0..NODES * CONNECTIONS {
        let node = nth % NODES;
        let mut client = cluster.nodes[node].connect().await;
        for subscription in 0..SUBSCRIPTIONS {
            let number = nth * SUBSCRIPTIONS + subscription;
            let filter = if subscription % 10 == 0 {
                let topic = number / 10 * 7 % TOPICS;
                wanted[node].1.insert(topic);
                json!({ "#t": [topic.to_string()], "limit": 0 })
            } else {
                let author = number * 31 % AUTHORS;
                wanted[node].0.insert(author);
                json!({ "authors": [keys[author].public_key()], "limit": 0 })
            };
            assert_eq!(client.request(&subscription.to_string(), &[filter]).await.0, [""; 0]);
        }
        clients.push(client);
    }
    // Under how many of its keys each node wants an event that comes from another one.
    let (mut received, mut copies) = ([0; NODES], [0; NODES]);
    let mut events: Vec<Vec<Event>> = vec![Vec::new(); NODES];
    for nth in 0..EVENTS {
        let (author, topic, origin) = (nth * 13 % AUTHORS, nth * 17 % TOPICS, nth % NODES);
        let tags = Tags::from_iter([["t", &topic.to_string()]]);
        events[origin].push(keys[author].sign(now(), 1, tags, &nth.to_string()));
        for (node, (authors, topics)) in wanted.iter().enumerate().filter(|(node, _)| *node != origin) {
            let keys = usize::from(authors.contains(&author)) + usize::from(topics.contains(&topic));
            received[node] += keys;
            copies[node] += keys.saturating_sub(1);
        }
    }
    // Nobody reads what is delivered until all is published: the sockets hold that much.
    for (node, events) in cluster.nodes.iter().zip(&events) {
        stored::publish_all(&mut node.connect().await, events).await;
    }
    for (node, (received, copies)) in cluster.nodes.iter().zip(received.into_iter().zip(copies)) {
        let metric = |name: &str| node.metric(&format!("rookery_bus_events_{name}_total")) as usize;
        eventually("all that is wanted", || metric("received") >= received).await;
        let got = (metric("received"), metric("copies"), metric("unmatched"));
        assert_eq!(got, (received, copies, 0));
        eprintln!(
            "of {} events of others {received} received, {copies} of them copies, none unmatched",
            EVENTS - EVENTS / NODES
        );
    }
}

#[tokio::test]
async fn ephemeral_events_and_large_ones_travel_too() {
    let cluster = Cluster::start(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    let mut publisher = cluster.nodes[0].connect().await;
    let mentions = |count: usize| {
        let mut tags = Tags::default();
        (0..count).for_each(|nth| tags.push(["p", &format!("{nth:064x}")]));
        tags
    };
    // Around and far beyond what is published under each key, in keys and in bytes. The stores have nothing in common.
    for (kind, people, bytes) in [
        (20_001, 0, 100_000),
        (20_001, 2_000, 100_000),
        (1, 11, 0),
        (1, 12, 0),
        (1, 13, 0),
        (30_023, 0, 7_000),
        (30_023, 0, 9_000),
        (3, 2_000, 0),
        (1, 2_000, 100_000),
    ] {
        let mut tags = mentions(people);
        // An address of its own.
        tags.push(["d", &format!("{people} {bytes}")]);
        let event = keys.sign(now(), kind, tags, &"x".repeat(bytes));
        assert_eq!(publisher.publish(&event).await, (true, String::new()), "{people} {bytes}");
        hears(&mut client, &event).await;
    }
    assert_eq!(client.request("last", &[json!({ "ids": ["00".repeat(32)] })]).await.0, [""; 0]);
    // Not once under each of two thousand keys.
    assert!(cluster.nodes[0].metric("rookery_bus_messages_published_total") < 100.0);
}

#[tokio::test]
async fn clients_are_told_when_redis_was_restarted_and_can_go_on() {
    let mut cluster = Cluster::quick(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    let mut publisher = cluster.nodes[0].connect().await;
    cluster.redis.stop();
    cluster.connected(0.0).await;
    // Without Redis a node serves its own clients, and answers.
    let meanwhile = fresh(&keys, "meanwhile");
    let mut local = follow(&cluster.nodes[0], &keys).await;
    assert!(publisher.publish(&meanwhile).await.0);
    hears(&mut local, &meanwhile).await;
    cluster.redis.start_again();
    hears_of_the_gap(&mut client).await;
    hears_of_the_gap(&mut local).await;
    has_told_of_the_gap(&cluster.nodes[1]).await;
    cluster.connected(1.0).await;
    let mut client = follow(&cluster.nodes[1], &keys).await;
    let after = fresh(&keys, "after");
    assert!(publisher.publish(&after).await.0);
    hears(&mut client, &after).await;
}

#[tokio::test]
async fn clients_are_told_when_redis_was_frozen() {
    let cluster = Cluster::quick(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    cluster.redis.signal("STOP");
    cluster.connected(0.0).await;
    cluster.redis.signal("CONT");
    hears_of_the_gap(&mut client).await;
}

#[tokio::test]
async fn clients_are_told_when_a_node_dies_and_not_when_it_leaves() {
    let mut cluster = Cluster::quick(3).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[0], &keys).await;
    let (left, dead) = (cluster.nodes.remove(1), cluster.nodes.remove(1));
    // Both are known by their watermarks.
    let mut publisher = left.connect().await;
    let event = fresh(&keys, "the last word");
    assert!(publisher.publish(&event).await.0);
    hears(&mut client, &event).await;
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    left.signal("TERM");
    drop(publisher);
    eventually("the end of the node that leaves", || std::net::TcpStream::connect(left.clients).is_err())
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(1_500)).await;
    assert_eq!(cluster.nodes[0].metric("rookery_bus_gaps_total"), 0.0);
    drop(dead);
    hears_of_the_gap(&mut client).await;
    assert_eq!(cluster.nodes[0].metric("rookery_bus_gaps_total"), 1.0);
}

#[tokio::test]
async fn a_node_starts_without_redis_and_finds_it_later() {
    let mut redis = Redis::start();
    redis.stop();
    let keys = Keys::generate();
    let (one, other) = (node(&redis.url(), &QUICK), node(&redis.url(), &QUICK));
    let mut early = follow(&one, &keys).await;
    assert!(one.metric("rookery_bus_subscriptions_unacknowledged_total") >= 1.0);
    redis.start_again();
    hears_of_the_gap(&mut early).await;
    has_told_of_the_gap(&one).await;
    let mut client = follow(&one, &keys).await;
    eventually("the bus", || other.metric("rookery_bus_connected") == 1.0).await;
    let event = fresh(&keys, "");
    assert!(other.connect().await.publish(&event).await.0);
    hears(&mut client, &event).await;
}

#[test]
fn a_datacenter_without_a_server_is_named() {
    let mut command = common::rookery(&["schema", "apply", "--scylla", common::cassandra::server()]);
    let ended = command.args(["--set", "scylla.datacenter=mars"]).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    let expected = "scylla.datacenter: no server is in \"mars\"; there are: ";
    assert!(!ended.status.success() && said.contains(expected), "{said}");
}

#[test]
fn a_node_may_be_told_not_to_start_without_redis() {
    let data = tempfile::TempDir::new().unwrap();
    // Nobody listens there.
    let nowhere = format!("redis://127.0.0.1:{}", common::free_port());
    let arguments = ["--redis", &nowhere, "--set", "bus.start_seconds=1"];
    let ended = common::relay_command(data.path(), &arguments).output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("Redis can not be reached, for 1s"), "{said}");
    let log: String = said.lines().filter(|line| line.starts_with('{')).collect();
    assert_eq!(log.matches("Connection refused").count(), 1, "{log}");
}

#[tokio::test]
async fn redis_may_want_tls_and_a_password() {
    let redis = Redis::start_guarded();
    let data = tempfile::TempDir::new().unwrap();
    let mut command = common::relay_command(data.path(), &["--redis", &redis.url(), "--workers", "1"]);
    command.env("SSL_CERT_FILE", redis.certificate());
    let relay = Relay::spawn(command, data);
    eventually("the bus", || relay.metric("rookery_bus_connected") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_cluster_may_fail_over() {
    let mut redis = RedisCluster::start().await;
    let nodes = [node(&redis.urls(), &QUICK), node(&redis.urls(), &QUICK)];
    let connected = |value: f64| nodes.iter().all(|node| node.metric("rookery_bus_connected") == value);
    eventually("the bus", || connected(1.0)).await;
    // Authors enough for all three primaries.
    let authors: Vec<Keys> = (0..30).map(|_| Keys::generate()).collect();
    let mut publisher = nodes[0].connect().await;
    let mut clients = Vec::new();
    for keys in &authors {
        clients.push(follow(&nodes[1], keys).await);
    }
    for (keys, client) in authors.iter().zip(&mut clients) {
        let event = fresh(keys, "before");
        assert!(publisher.publish(&event).await.0);
        hears(client, &event).await;
    }
    redis.kill_primary();
    for client in &mut clients {
        hears_of_the_gap(client).await;
    }
    has_told_of_the_gap(&nodes[1]).await;
    eventually("the bus", || connected(1.0)).await;
    for keys in &authors {
        let mut client = follow(&nodes[1], keys).await;
        let event = fresh(keys, "after");
        assert!(publisher.publish(&event).await.0);
        hears(&mut client, &event).await;
    }
}
