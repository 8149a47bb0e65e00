//! What the bus loses is found in the log of the store: nobody misses an event, hears one twice or is told
//! that a subscription has ended.

use std::time::Instant;

use rookery::protocol::{Event, sign::Keys};

use crate::{
    follow, hears,
    stored::{Keyspace, start},
    sum,
};
use common::redis::RedisCluster;
use common::{Client, PATIENCE, Relay, eventually, fresh};

/// A note by these keys, acknowledged by that node.
async fn publish(node: &Relay, keys: &Keys, content: &str) -> Event {
    let event = fresh(keys, content);
    assert!(node.connect().await.publish(&event).await.0);
    event
}

/// Nothing more comes than what was heard: the answer to a question comes next.
async fn hears_no_more(client: &mut Client) {
    assert_eq!(client.request("last", &[serde_json::json!({ "ids": ["00".repeat(32)] })]).await.0, [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn while_redis_is_away_and_when_it_is_back() {
    let mut cluster = start(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    cluster.redis.stop();
    cluster.connected(0.0).await;
    let first = publish(&cluster.nodes[0], &keys, "without Redis").await;
    hears(&mut client, &first).await;
    // Who asks now is answered, and goes on to hear.
    let mut late = follow(&cluster.nodes[1], &keys).await;
    let second = publish(&cluster.nodes[0], &keys, "without Redis as well").await;
    hears(&mut client, &second).await;
    hears(&mut late, &second).await;
    let third = publish(&cluster.nodes[0], &keys, "just before it is back").await;
    cluster.redis.start_again();
    cluster.connected(1.0).await;
    let fourth = publish(&cluster.nodes[0], &keys, "with Redis").await;
    for client in [&mut client, &mut late] {
        let mut heard = [client.hear().await, client.hear().await].map(|heard| heard[2]["id"].clone());
        let mut expected = [&third, &fourth].map(|event| serde_json::json!(event.id()));
        heard.sort_by_key(ToString::to_string);
        expected.sort_by_key(ToString::to_string);
        assert_eq!(heard, expected);
        hears_no_more(client).await;
    }
    assert!(sum(&cluster.nodes, "rookery_bus_events_recovered_total") >= 2.0);
    assert_eq!(sum(&cluster.nodes, "rookery_bus_gaps_told_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_dies_before_it_could_publish() {
    let mut cluster = start(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    let doomed = cluster.nodes.remove(0);
    cluster.redis.stop();
    let event = publish(&doomed, &keys, "the last word").await;
    // `kill -9`
    drop(doomed);
    cluster.redis.start_again();
    hears(&mut client, &event).await;
    hears_no_more(&mut client).await;
    assert_eq!(sum(&cluster.nodes, "rookery_bus_events_recovered_total"), 1.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_redis_is_frozen_for_a_while() {
    let cluster = start(2).await;
    let keys = Keys::generate();
    let mut client = follow(&cluster.nodes[1], &keys).await;
    cluster.redis.signal("STOP");
    let event = publish(&cluster.nodes[0], &keys, "to a frozen Redis").await;
    hears(&mut client, &event).await;
    cluster.redis.signal("CONT");
    cluster.connected(1.0).await;
    let event = publish(&cluster.nodes[0], &keys, "after the frost").await;
    hears(&mut client, &event).await;
    hears_no_more(&mut client).await;
}

/// A node that stands still finds in its sockets what had come by then, and the rest in the log.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_node_stands_still_for_a_while() {
    let cluster = start(2).await;
    let [writer, stopped] = &cluster.nodes[..] else { unreachable!() };
    let keys = Keys::generate();
    let mut client = follow(stopped, &keys).await;
    stopped.signal("STOP");
    let mut events = vec![publish(writer, &keys, "just after").await];
    // Longer than the watermarks of a node may stay away.
    eventually("that it is missed", || writer.metric("rookery_bus_gaps_total") >= 1.0).await;
    events.push(publish(writer, &keys, "when it is missed").await);
    stopped.signal("CONT");
    events.push(publish(writer, &keys, "when it goes on").await);
    let mut heard = Vec::new();
    for _ in &events {
        heard.push(client.hear().await[2]["id"].clone());
    }
    // What was in the sockets and what is in the log come in any order.
    heard.sort_by_key(ToString::to_string);
    let mut expected: Vec<_> = events.iter().map(|event| serde_json::json!(event.id())).collect();
    expected.sort_by_key(ToString::to_string);
    assert_eq!(heard, expected);
    hears_no_more(&mut client).await;
    assert_eq!(sum(&cluster.nodes, "rookery_bus_gaps_told_total"), 0.0);
}

/// Two nodes on a Redis Cluster, and clients of the second one who follow authors enough for all primaries.
struct Sharded {
    redis: RedisCluster,
    nodes: [Relay; 2],
    publisher: Client,
    followed: Vec<(Keys, Client)>,
    _keyspace: Keyspace,
}

impl Sharded {
    async fn start() -> Self {
        let redis = RedisCluster::start().await;
        let keyspace = Keyspace::make();
        let nodes = [keyspace.node(&redis.urls()), keyspace.node(&redis.urls())];
        let mut followed = Vec::new();
        let sharded = Self {
            publisher: nodes[0].connect().await,
            redis,
            nodes,
            followed: Vec::new(),
            _keyspace: keyspace,
        };
        sharded.connected().await;
        for _ in 0..30 {
            let keys = Keys::generate();
            let client = follow(&sharded.nodes[1], &keys).await;
            followed.push((keys, client));
        }
        Self { followed, ..sharded }
    }

    async fn connected(&self) {
        let connected = || self.nodes.iter().all(|node| node.metric("rookery_bus_connected") == 1.0);
        eventually("the bus", connected).await;
    }

    /// An event of each author, which everybody hears.
    async fn everybody_hears(&mut self, content: &str) {
        let mut events = Vec::new();
        for (keys, _) in &self.followed {
            let event = fresh(keys, content);
            assert!(self.publisher.publish(&event).await.0);
            events.push(event);
        }
        for (event, (_, client)) in events.iter().zip(&mut self.followed) {
            hears(client, event).await;
        }
    }

    fn recovered(&self) -> f64 {
        sum(&self.nodes, "rookery_bus_events_recovered_total")
    }

    /// Nothing came that was not expected.
    async fn nobody_hears_more(&mut self) {
        for (_, client) in &mut self.followed {
            hears_no_more(client).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_redis_cluster_fails_over() {
    let mut cluster = Sharded::start().await;
    cluster.redis.kill_primary();
    cluster.everybody_hears("during").await;
    cluster.connected().await;
    cluster.everybody_hears("after").await;
    cluster.nobody_hears_more().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_a_primary_is_cut_off_from_its_cluster() {
    let mut cluster = Sharded::start().await;
    // The one that nodes ask first. It still says that it has its part.
    let replica = cluster.redis.replica_of(0);
    cluster.redis.isolate(0);
    cluster.everybody_hears("from the log").await;
    eventually("the replica", || cluster.redis.is_primary(replica)).await;
    let begun = Instant::now();
    loop {
        let before = cluster.recovered();
        cluster.everybody_hears("by the bus").await;
        if cluster.recovered() == before {
            break;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "the bus does not turn to the replica that took over");
    }
    cluster.redis.join();
    cluster.redis.mended().await;
    cluster.everybody_hears("after").await;
    cluster.nobody_hears_more().await;
}
