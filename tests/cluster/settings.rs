//! Settings that are changed at one node, and are in force at the others.

use common::{Relay, eventually, redis::Redis, rookery};
use serde_json::Value;

use crate::stored::Keyspace;

/// Nobody reads what nodes share because it is time.
const NEVER: &str = "settings_seconds=3600";

fn set(relay: &Relay, change: &str) {
    let operators = relay.operators.to_string();
    let output = rookery(&["config", "set", change, "--ops-listen", &operators]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}

fn max_tags(relay: &Relay) -> Value {
    let (_, body) = Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n");
    serde_json::from_str::<Value>(&body).unwrap()["limitation"]["max_event_tags"].clone()
}

async fn has(relay: &Relay, tags: u64) {
    eventually("a setting of another node", || max_tags(relay) == tags).await;
}

async fn is_linked(relay: &Relay) {
    eventually("the bus", || relay.metric("rookery_bus_connected") == 1.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_told_of_a_change_at_another_and_finds_those_that_it_was_not_told_of() {
    let mut redis = Redis::start();
    let keyspace = Keyspace::make();
    let settings = ["--set", NEVER, "--set", "bus.max_backoff_ms=200", "--set", "bus.ready=always"];
    let url = redis.url();
    let start = || keyspace.patient_node(&url, &settings);
    let (one, other) = (start(), start());
    is_linked(&one).await;
    is_linked(&other).await;
    set(&one, "limits.max_tags=7");
    has(&other, 7).await;
    other.log().says("settings that nodes share: limits.max_tags 5000 → 7").await;
    // The other way, over what the first has written.
    set(&other, "limits.max_limit=70");
    one.log().says("limits.max_limit 5000 → 70").await;
    assert_eq!(max_tags(&one), 7);
    // What Redis says is not believed: it names the record alone, and that says what it said.
    redis.ask(&["spublish", "rookery:{2}:~records", "limits.max_tags=1"]);
    redis.stop();
    eventually("a lost link", || other.metric("rookery_bus_connected") == 0.0).await;
    set(&one, "limits.max_tags=8");
    assert_eq!((max_tags(&one), max_tags(&other)), (8.into(), 7.into()));
    // It has no link any more over which it could say so late.
    drop(one);
    redis.start_again();
    has(&other, 8).await;
    // One that starts has it from its first moment.
    assert_eq!(max_tags(&start()), 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_bus_nodes_find_what_was_changed() {
    let keyspace = Keyspace::make();
    let start = || {
        let server = common::cassandra::server();
        let store = ["--scylla", server, "--keyspace", &keyspace.name, "--workers", "1"];
        Relay::start(&[&store[..], &["--set", "settings_seconds=1"]].concat())
    };
    let (one, other) = (start(), start());
    set(&one, "limits.max_tags=7");
    has(&other, 7).await;
    // Both at once: neither undoes what the other does.
    std::thread::scope(|scope| {
        scope.spawn(|| (8..13).for_each(|tags| set(&one, &format!("limits.max_tags={tags}"))));
        scope.spawn(|| (8..13).for_each(|limit| set(&other, &format!("limits.max_filters={limit}"))));
    });
    for node in [&one, &other] {
        has(node, 12).await;
        node.log().says("→ 12").await;
    }
    let filters = |node: &Relay| node.settings().contains("max_filters = 12 #");
    eventually("both", || filters(&one) && filters(&other)).await;
}
