//! Nodes on one Redis that do not belong together: neither hears of the other, and both say so.

use std::{
    fs::{self, File},
    path::Path,
};

use rookery::{
    bus::{envelope::Card, redis::names::cards},
    protocol::sign::Keys,
};
use serde_json::{Value, json};

use crate::{follow, hears, stored::Keyspace};
use common::redis::Redis;
use common::{self, Client, Relay, cassandra, eventually, note, now, raw::Raw};

/// A node whose log is kept in its data folder.
fn start(arguments: &[&str]) -> Relay {
    let data = tempfile::TempDir::new().unwrap();
    let mut command = common::relay_command(data.path(), arguments);
    command.stderr(File::create(data.path().join("log")).unwrap());
    let process = command.spawn().unwrap();
    let entry = listening(data.path());
    let address = |name: &str| entry[name].as_str().unwrap().parse().unwrap();
    Relay { process, clients: address("address"), operators: address("operators"), data }
}

fn listening(data: &Path) -> Value {
    let begun = std::time::Instant::now();
    loop {
        if let Some(entry) = said(data, "listening").pop() {
            return entry;
        }
        assert!(begun.elapsed() < common::PATIENCE, "it does not listen");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

/// The lines of its log that begin so.
fn said(data: &Path, beginning: &str) -> Vec<Value> {
    let log = fs::read_to_string(data.join("log")).unwrap();
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["message"].as_str().is_some_and(|it| it.starts_with(beginning))).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_store_is_not_heard_and_that_is_said_once() {
    let (redis, keyspaces) = (Redis::start(), [Keyspace::make(), Keyspace::make()]);
    let (url, server) = (redis.url(), cassandra::server());
    let quick = [
        "--redis",
        &url,
        "--workers",
        "1",
        "--set",
        "bus.watermark_ms=100",
        "--set",
        "bus.missing_watermarks=100",
    ];
    let sharing = |keyspace: &Keyspace| {
        start(&[&quick[..], &["--scylla", server, "--keyspace", &keyspace.name]].concat())
    };
    // Who hears whom: the first two share a store, the third has another one, the last two have their own.
    let nodes = [
        sharing(&keyspaces[0]),
        sharing(&keyspaces[0]),
        sharing(&keyspaces[1]),
        start(&quick),
        start(&quick),
    ];
    let group = |node: usize| [0, 0, 1, 2, 2][node];
    for node in &nodes {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        // Each has heard of the others.
        eventually("strangers", || node.metric("rookery_bus_strangers_total") > 10.0).await;
    }
    // Clients can tell it as well.
    let stores: Vec<String> = nodes.iter().map(|node| Raw::store_of(node.clients)).collect();
    for (a, b) in (0..5).flat_map(|a| (0..a).map(move |b| (a, b))) {
        assert_eq!(stores[a] == stores[b], group(a) == group(b) && group(a) < 2, "{stores:?}");
    }
    let keys = Keys::generate();
    let mut clients: Vec<Client> = Vec::new();
    for node in &nodes {
        clients.push(follow(node, &keys).await);
    }
    // One travels whole, the other by its id.
    for content in ["short".to_owned(), "long".repeat(5_000)] {
        for (nth, node) in nodes.iter().enumerate() {
            let event = note(&keys, now(), &format!("{nth} {content}"));
            assert!(node.connect().await.publish(&event).await.0);
            for (other, client) in clients.iter_mut().enumerate() {
                if group(other) == group(nth) {
                    hears(client, &event).await;
                }
            }
        }
    }
    for (node, client) in nodes.iter().zip(&mut clients) {
        let nothing = json!({ "ids": ["00".repeat(32)] });
        assert_eq!(client.request("last", &[nothing]).await.0, [""; 0]);
        assert_eq!(node.metric("rookery_bus_gaps_total"), 0.0);
    }
    let alone = "this node has a store of its own";
    let other = "a node on this Redis has another store";
    let count = |node: usize, beginning: &str| said(nodes[node].data.path(), beginning).len();
    // Three other stores, or the two that are shared.
    assert_eq!((0..5).map(|node| count(node, other)).collect::<Vec<_>>(), [3, 3, 3, 0, 0]);
    assert_eq!((0..5).map(|node| count(node, alone)).collect::<Vec<_>>(), [0, 0, 0, 2, 2]);
    // A node that is no stranger is heard when the strangers are gone, and nobody misses these.
    let [first, _second, third, fourth, _fifth] = nodes;
    drop((third, fourth));
    let event = note(&keys, now(), "after");
    assert!(first.connect().await.publish(&event).await.0);
    hears(&mut clients[1], &event).await;
    assert_eq!(first.metric("rookery_bus_gaps_told_total"), 0.0);
}

/// Nobody else compares clocks where each node has a store of its own.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_another_time_than_the_others_says_so() {
    let redis = Redis::start();
    let url = redis.url();
    let node = start(&["--redis", &url, "--workers", "1", "--set", "bus.watermark_ms=100"]);
    eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    let mut connection = ::redis::Client::open(url).unwrap().get_connection().unwrap();
    // Two others, by whose clocks it is an hour earlier.
    let mut tell = || {
        for origin in [1, 2] {
            let card = Card { origin, store: None, at: Some((now() - 3_600) * 1_000), waits: None };
            let mut publish = ::redis::cmd("SPUBLISH");
            let heard: u64 = publish.arg(cards("rookery")).arg(card.encode()).query(&mut connection).unwrap();
            assert_eq!(heard, 1, "it does not listen");
        }
    };
    let begun = std::time::Instant::now();
    while node.metric("rookery_clock_ahead_seconds") == 0.0 {
        assert!(begun.elapsed() < common::PATIENCE, "it does not say so");
        tell();
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let ahead = node.metric("rookery_clock_ahead_seconds");
    assert!((3_590.0..3_700.0).contains(&ahead), "{ahead}");
    assert_eq!(said(node.data.path(), "the clock of this node is").len(), 1);
}
