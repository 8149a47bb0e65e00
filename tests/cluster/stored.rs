//! Nodes that share a store: what one of them acknowledged, all of them find; and nothing is sent twice.

use std::{collections::HashSet, process::Stdio, time::Instant};

use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::Cluster;
use common::redis::Redis;
use common::{Client, PATIENCE, Relay, cassandra, eventually, fresh, note, now, refused, rookery};

/// A keyspace with the tables, and nodes on it.
pub struct Keyspace {
    pub name: String,
}

impl Keyspace {
    pub fn make() -> Self {
        Self::make_on(cassandra::server(), 1)
    }

    /// On other servers than those of all tests, with so many replicas.
    pub fn make_on(servers: &str, replicas: usize) -> Self {
        let name = cassandra::new_name();
        let replication = format!("{{'class': 'SimpleStrategy', 'replication_factor': {replicas}}}");
        let made = rookery(&["schema", "apply", "--scylla", servers, "--keyspace", &name])
            .args(["--replication", &replication])
            .output()
            .unwrap();
        assert!(made.status.success(), "{made:?}");
        Self { name }
    }

    /// A node on it, and on these servers of Redis.
    pub fn node(&self, redis: &str) -> Relay {
        self.node_with(redis, &[])
    }

    /// A node with further arguments.
    pub fn node_with(&self, redis: &str, more: &[&str]) -> Relay {
        let server = cassandra::server();
        let arguments = ["--redis", redis, "--scylla", server, "--keyspace", &self.name, "--workers", "1"];
        Relay::start(&[&arguments[..], more].concat())
    }

    /// The same, for those who ask by HTTP: however much else the machine has to do, nobody is told to ask again.
    pub fn patient_node(&self, redis: &str, more: &[&str]) -> Relay {
        const PATIENT: [&str; 6] = [
            "--set",
            "persister.deadline_ms=30000",
            "--set",
            "scylla.deadline_ms=30000",
            "--set",
            "scylla.request_timeout_ms=10000",
        ];
        self.node_with(redis, &[&PATIENT, more].concat())
    }
}

/// Nodes on one Redis and one keyspace.
pub async fn start(nodes: usize) -> Cluster {
    let redis = Redis::start();
    let keyspace = Keyspace::make();
    let nodes = (0..nodes).map(|_| keyspace.node(&redis.url())).collect();
    let cluster = Cluster { nodes, redis };
    cluster.connected(1.0).await;
    cluster
}

/// Publishes without waiting, then hears every OK. What is refused, as the machine has too much else to do, is
/// published again.
pub async fn publish_all(client: &mut Client, events: &[Event]) {
    let mut waiting: Vec<&Event> = events.iter().collect();
    let begun = Instant::now();
    while !waiting.is_empty() {
        assert!(begun.elapsed() < PATIENCE, "{} events are refused", waiting.len());
        for event in &waiting {
            client.socket.feed(Message::text(format!(r#"["EVENT",{}]"#, event.json()))).await.unwrap();
        }
        client.socket.flush().await.unwrap();
        let mut refused = HashSet::new();
        for _ in &waiting {
            let ok = client.hear().await;
            assert_eq!(ok[0], "OK", "{ok}");
            if ok[2] == false {
                assert!(ok[3].as_str().unwrap().starts_with("error: "), "{ok}");
                refused.insert(ok[1].as_str().unwrap().to_owned());
            }
        }
        waiting.retain(|event| refused.contains(&event.id().to_hex()));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_node_acknowledged_every_node_finds() {
    let cluster = start(2).await;
    let keys = Keys::generate();
    // One a second, so that their order is known.
    let newest = now();
    let events: Vec<Event> = (0..100).map(|n| note(&keys, newest - n, &n.to_string())).collect();
    publish_all(&mut cluster.nodes[0].connect().await, &events).await;
    let mut client = cluster.nodes[1].connect().await;
    let (found, hint) = client.request("s", &[json!({ "authors": [keys.public_key()] })]).await;
    let published: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    assert_eq!((found, hint.as_deref()), (published, Some("finish")));
    // A copy at the other node is known, and the winner of an address is the same everywhere.
    assert_eq!(client.publish(&events[0]).await, (true, "duplicate: already have this event".into()));
    let profile = |at, name| keys.sign(at, 0, Tags::default(), name);
    assert!(client.publish(&profile(now(), "new")).await.0);
    refused(cluster.nodes[0].connect().await.publish(&profile(now() - 10, "old")).await, "duplicate: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn stored_and_live_meet_without_a_hole_or_a_copy() {
    const EVENTS: usize = 300;
    let cluster = start(2).await;
    let keys = Keys::generate();
    let events: Vec<Event> = (0..EVENTS as u64).map(|n| note(&keys, now() - n, &n.to_string())).collect();
    let mut publisher = cluster.nodes[0].connect().await;
    let filter = json!({ "authors": [keys.public_key()], "limit": 5_000 });
    let wanted: HashSet<String> = events.iter().map(|event| event.id().to_hex()).collect();
    // Subscriptions that begin all the time while the events come.
    let url = cluster.nodes[1].url();
    let mut subscribers = Vec::new();
    for nth in 0..10 {
        let (url, filter, wanted) = (url.clone(), filter.clone(), wanted.clone());
        subscribers.push(tokio::spawn(async move {
            tokio::time::sleep(std::time::Duration::from_millis(40 * nth)).await;
            let request = tokio_tungstenite::tungstenite::client::IntoClientRequest::into_client_request(url);
            let mut client = Client::connect(request.unwrap()).await;
            client.say(json!(["REQ", "s", filter])).await;
            let mut seen = HashSet::new();
            while seen.len() < wanted.len() {
                let message = client.hear().await;
                match message[0].as_str() {
                    Some("EVENT") => {
                        let id = message[2]["id"].as_str().unwrap().to_owned();
                        assert!(wanted.contains(&id) && seen.insert(id.clone()), "{id} came twice");
                    }
                    Some("EOSE") => {}
                    _ => panic!("{message}"),
                }
            }
            // Whatever else was on its way stands before this answer.
            client.say(json!(["COUNT", "c", { "ids": ["00".repeat(32)] }])).await;
            assert_eq!(client.hear().await[0], "COUNT");
        }));
    }
    for chunk in events.chunks(10) {
        publish_all(&mut publisher, chunk).await;
    }
    for subscriber in subscribers {
        tokio::time::timeout(PATIENCE, subscriber).await.expect("an event was lost").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlives_the_node() {
    let mut cluster = start(2).await;
    let keys = Keys::generate();
    let doomed = cluster.nodes.remove(0);
    let mut publisher = doomed.connect().await;
    let events: Vec<Event> = (0..400).map(|n| fresh(&keys, &n.to_string())).collect();
    for event in &events {
        publisher.socket.feed(Message::text(format!(r#"["EVENT",{}]"#, event.json()))).await.unwrap();
    }
    publisher.socket.flush().await.unwrap();
    let (mut acknowledged, mut answered) = (Vec::new(), 0);
    let mut doomed = Some(doomed);
    while let Some(Ok(message)) = publisher.socket.next().await {
        let Message::Text(text) = message else { continue };
        let ok: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(ok[0], "OK", "{ok}");
        answered += 1;
        // Some may be refused, as the machine has too much else to do.
        if ok[2] == true {
            acknowledged.push(ok[1].as_str().unwrap().to_owned());
        }
        if acknowledged.len() == 50 || answered == events.len() {
            // `kill -9`
            drop(doomed.take());
        }
    }
    assert!(acknowledged.len() >= 50);
    let mut client = cluster.nodes[0].connect().await;
    let (found, _) = client.request("s", &[json!({ "authors": [keys.public_key()], "limit": 5_000 })]).await;
    let found: HashSet<String> = found.into_iter().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !found.contains(*id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_events_are_fetched_once_by_who_wants_them() {
    let cluster = start(3).await;
    let keys = Keys::generate();
    let mut client = cluster.nodes[1].connect().await;
    client.say(json!(["REQ", "s", { "authors": [keys.public_key()], "limit": 0 }])).await;
    assert_eq!(client.hear().await[0], "EOSE");
    let follows = (0..300).map(|_| Keys::generate().public_key().to_hex());
    let mut tags = Tags::default();
    follows.for_each(|follow| tags.push(["p", &follow]));
    let list = keys.sign(now(), 3, tags, "");
    assert!(cluster.nodes[0].connect().await.publish(&list).await.0);
    let heard = client.hear().await;
    assert_eq!(heard[2], serde_json::from_str::<Value>(list.json()).unwrap());
    eventually("nothing for the third", || {
        cluster.nodes[2].metric("rookery_bus_events_received_total") == 0.0
    })
    .await;
}

/// A node may have stored an event a moment ago that another one has deleted since.
#[tokio::test(flavor = "multi_thread")]
async fn what_another_node_deleted_stays_deleted() {
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let node = || keyspace.node_with(&redis.url(), &[]);
    let (one, other) = (node(), node());
    let keys = Keys::generate();
    let event = fresh(&keys, "");
    let mut client = one.connect().await;
    assert!(client.publish(&event).await.0);
    let request = keys.sign(now(), 5, Tags::from_iter([["e", &event.id().to_hex()]]), "");
    assert!(other.connect().await.publish(&request).await.0);
    refused(client.publish(&event).await, "blocked: ");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_has_stored_moves_into_the_cluster() {
    let alone = Relay::start(&[]);
    let keys = Keys::generate();
    let newest = now();
    let events: Vec<Event> = (0..50).map(|n| note(&keys, newest - n, &n.to_string())).collect();
    publish_all(&mut alone.connect().await, &events).await;
    let cluster = start(2).await;
    // Straight from its folder, while it runs.
    let mut export = rookery(&["export", "--data"])
        .arg(alone.data.path().join("relay"))
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let import = rookery(&["import", "--relay", &cluster.nodes[0].url()])
        .stdin(export.stdout.take().unwrap())
        .output()
        .unwrap();
    assert!(import.status.success() && export.wait().unwrap().success(), "{import:?}");
    let mut client = cluster.nodes[1].connect().await;
    let (found, _) = client.request("s", &[json!({ "authors": [keys.public_key()] })]).await;
    let published: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    assert_eq!(found, published);
}

/// One server, and a keyspace that was made for three.
#[tokio::test(flavor = "multi_thread")]
async fn a_keyspace_of_too_many_copies_is_mended_by_a_second_try() {
    let apply = |keyspace: &str, copies: usize| {
        let replication = format!("{{'class': 'NetworkTopologyStrategy', 'replication_factor': {copies}}}");
        let applied = rookery(&["schema", "apply", "--scylla", cassandra::server(), "--keyspace", keyspace])
            .args(["--replication", &replication])
            .output()
            .unwrap();
        (applied.status.success(), String::from_utf8(applied.stderr).unwrap())
    };
    let name = cassandra::new_name();
    let (done, said) = apply(&name, 3);
    assert!(!done && said.contains("--replication") && said.contains("'replication_factor': 1"), "{said}");
    let (done, said) = apply(&name, 1);
    assert!(done, "{said}");
    let redis = Redis::start();
    let keyspace = Keyspace { name };
    let node = keyspace.node(&redis.url());
    let mut client = node.connect().await;
    let event = note(&Keys::generate(), now(), "");
    assert!(client.publish(&event).await.0);
    // What has been filled is its operator's to change.
    let (done, said) = apply(&keyspace.name, 3);
    assert!(done, "{said}");
    assert_eq!(client.request("s", &[json!({})]).await.0, [event.id().to_hex()]);
}
