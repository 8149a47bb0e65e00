//! Home feeds that a node tells from memory are those of the store.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{
    Cluster,
    stored::{Keyspace, publish_all},
};
use common::redis::Redis;
use common::{Client, PATIENCE, Relay, cassandra, note, now};

fn node(keyspace: &Keyspace, redis: &str, settings: &[&str]) -> Relay {
    let server = cassandra::server();
    let always = ["--redis", redis, "--scylla", server, "--keyspace", &keyspace.name, "--workers", "1"];
    // Quick to trust what it hears, as the test waits for it.
    let quick = ["--set", "bus.watermark_ms=100", "--set", "bus.missing_watermarks=20"];
    Relay::start(&[&always[..], &quick[..], settings].concat())
}

/// Asks until a whole answer comes from memory.
async fn ask_memory(node: &Relay, client: &mut Client, filter: &Value) -> (Vec<String>, Option<String>) {
    let before = node.metric("rookery_feed_hits_total");
    loop {
        let answer = client.request("again", std::slice::from_ref(filter)).await;
        client.say(json!(["CLOSE", "again"])).await;
        if node.metric("rookery_feed_hits_total") > before {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_home_feed_from_memory_is_that_of_the_store() {
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let publishing = node(&keyspace, &redis.url(), &[]);
    let reading = node(&keyspace, &redis.url(), &["--set", "feeds.max_bytes=10000000"]);
    let cluster = Cluster { nodes: vec![publishing, reading], redis };
    cluster.connected(1.0).await;
    let [publishing, reading] = &cluster.nodes[..] else { unreachable!() };
    let authors: Vec<Keys> = (0..20).map(|_| Keys::generate()).collect();
    let start = now() - 1_000;
    let notes: Vec<Event> =
        (0..100).map(|n| note(&authors[n % 20], start + n as u64, &n.to_string())).collect();
    let mut publisher = publishing.connect().await;
    publish_all(&mut publisher, &notes).await;

    let keys: Vec<_> = authors.iter().map(Keys::public_key).collect();
    let filter = json!({ "authors": keys, "kinds": [1, 6], "limit": 50 });
    let (mut client, mut witness) = (reading.connect().await, publishing.connect().await);
    // Somebody has it open, so that the authors are listened to.
    let mut listening = reading.connect().await;
    listening.request("open", std::slice::from_ref(&filter)).await;
    let expected: Vec<String> = notes.iter().rev().take(50).map(|note| note.id().to_hex()).collect();
    let answer = timeout(PATIENCE, ask_memory(reading, &mut client, &filter)).await;
    assert_eq!(answer.expect("never from memory"), (expected, Some("more".into())));
    assert_eq!(publishing.metric("rookery_feed_hits_total"), 0.0);

    // What the other node takes in is in the feed once this one has heard of it.
    let newer = note(&authors[0], start + 500, "newer");
    assert!(publisher.publish(&newer).await.0);
    let gone = Tags::from_iter([["e", notes[99].id().to_hex().as_str()]]);
    let deletion = authors[19].sign(now(), 5, gone, "");
    assert!(publisher.publish(&deletion).await.0);
    let expected = witness.request("s", std::slice::from_ref(&filter)).await;
    assert_eq!(expected.0[0], newer.id().to_hex());
    assert!(!expected.0.contains(&notes[99].id().to_hex()));
    let heard = async { while ask_memory(reading, &mut client, &filter).await != expected {} };
    timeout(PATIENCE, heard).await.expect("memory says something else");
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_and_live_meet_without_a_hole_or_a_copy() {
    const EVENTS: u64 = 300;
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let nodes = (0..2).map(|_| node(&keyspace, &redis.url(), &["--set", "feeds.max_bytes=10000000"]));
    let cluster = Cluster { nodes: nodes.collect(), redis };
    cluster.connected(1.0).await;
    let keys = Keys::generate();
    let filter = json!({ "authors": [keys.public_key()], "kinds": [1], "limit": 1_000 });
    let mut listening = Vec::new();
    for node in &cluster.nodes {
        let (mut open, mut client) = (node.connect().await, node.connect().await);
        open.request("open", std::slice::from_ref(&filter)).await;
        listening.push(open);
        let warm = ask_memory(node, &mut client, &filter);
        assert_eq!(timeout(PATIENCE, warm).await.expect("never from memory").0, [""; 0]);
    }
    let events: Vec<Event> = (0..EVENTS).map(|n| note(&keys, now() - n, &n.to_string())).collect();
    let wanted: HashSet<String> = events.iter().map(|event| event.id().to_hex()).collect();
    // Subscriptions that begin all the time while the events come, where they are published and elsewhere.
    let hear_all = async |node: &Relay, after: u64| {
        tokio::time::sleep(Duration::from_millis(after)).await;
        let mut client = node.connect().await;
        client.say(json!(["REQ", "s", filter])).await;
        let mut seen = HashSet::new();
        while seen.len() < wanted.len() {
            let message = client.hear().await;
            if message[0] == "EVENT" {
                let id = message[2]["id"].as_str().unwrap().to_owned();
                assert!(wanted.contains(&id) && seen.insert(id.clone()), "{id} came twice");
            } else {
                assert_eq!(message[0], "EOSE", "{message}");
            }
        }
        // Whatever else was on its way stands before this answer.
        client.say(json!(["COUNT", "c", { "ids": ["00".repeat(32)] }])).await;
        assert_eq!(client.hear().await[0], "COUNT");
    };
    let mut publisher = cluster.nodes[0].connect().await;
    let publish = async {
        for chunk in events.chunks(10) {
            publish_all(&mut publisher, chunk).await;
        }
    };
    let before = crate::sum(&cluster.nodes, "rookery_feed_hits_total");
    let subscribers = (0..20).map(|nth| hear_all(&cluster.nodes[nth as usize % 2], 40 * nth));
    let all = async { tokio::join!(publish, join_all(subscribers)) };
    timeout(PATIENCE, all).await.expect("an event was lost");
    assert!(crate::sum(&cluster.nodes, "rookery_feed_hits_total") > before);
}
