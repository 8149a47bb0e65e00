//! Which messages have spans: those that are chosen, slow, failed or asked for.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

use rookery::protocol::sign::Keys;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::traces::{collector::Collector, node};
use common::{Client, Relay, note, now, relay_command};

/// A full disk: every event fails.
const FULL: &[&str] = &["--set", "lmdb.min_free_bytes=9000000000000000000"];

#[tokio::test]
async fn what_is_not_chosen_has_no_spans() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--set", "traces.ratio=0", "--set", "traces.slow_ms=600000"]);
    let mut client = relay.connect().await;
    for n in 0..20 {
        assert!(client.publish(&note(&Keys::generate(), now(), &n.to_string())).await.0);
    }
    // One that may ask, so that there is something to wait for.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut asking = asking(&relay, parent).await;
    asking.request("s", &[json!({ "limit": 0 })]).await;
    let trace = collector.trace("message", ("rookery.trace.reason", "asked"), 4).await;
    assert_eq!(trace.0.len(), collector.spans().len());
}

#[tokio::test]
async fn a_slow_message_has_spans_though_it_was_not_chosen() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--set", "traces.ratio=0", "--set", "traces.slow_ms=0"]);
    let mut client = relay.connect().await;
    let event = note(&Keys::generate(), now(), "");
    assert!(client.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 4).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "store"]);
    trace.is_below("store", "persist");
    assert_eq!(trace.the("message").says("rookery.trace.reason"), "slow");
    client.request("s", &[json!({ "kinds": [1] })]).await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.names(), ["message", "subscribe", "query", "eose"]);
    assert_eq!(trace.the("query").says("rookery.plan"), "kind 1");
}

#[tokio::test]
async fn so_many_a_second_are_traced_beyond_those_chosen() {
    let collector = Collector::grpc().await;
    let settings = ["traces.ratio=0", "traces.slow_ms=0", "traces.extra_per_second=2"];
    let relay = node(&collector.url(), &settings.map(|setting| ["--set", setting]).concat());
    let mut client = relay.connect().await;
    let begun = Instant::now();
    for n in 0..50 {
        assert!(client.publish(&note(&Keys::generate(), now(), &n.to_string())).await.0);
    }
    collector.has(8).await;
    let messages = collector.spans().iter().filter(|span| span.name == "message").count() as u64;
    assert!((2..=2 * (begun.elapsed().as_secs() + 2)).contains(&messages), "{messages}");
}

#[tokio::test]
async fn a_failed_event_has_spans_and_the_log_names_its_trace() {
    let collector = Collector::grpc().await;
    let data = tempfile::TempDir::new().unwrap();
    let traces =
        ["--otlp", &collector.url(), "--set", "traces.export_interval_ms=20", "--set", "traces.ratio=0"];
    let mut command = relay_command(data.path(), &[&traces, FULL].concat());
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut entry = |message: &str| {
        let entries = log.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        entries.into_iter().find(|entry| entry["message"].as_str().unwrap().starts_with(message)).unwrap()
    };
    let listening = entry("listening");
    let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
    let relay = Relay { clients: address("address"), operators: address("operators"), process, data };
    let event = note(&Keys::generate(), now(), "");
    let (accepted, reason) = relay.connect().await.publish(&event).await;
    assert_eq!((accepted, &*reason), (false, "error: the disk is full"));
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 4).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "store"]);
    assert!(trace.the("message").failed);
    assert_eq!(trace.the("message").says("rookery.trace.reason"), "failed");
    assert_eq!(entry("could not write")["trace_id"], trace.the("message").trace);
}

/// A client that says of what trace it is part.
async fn asking(relay: &Relay, traceparent: &str) -> Client {
    let mut request = relay.url().into_client_request().unwrap();
    request.headers_mut().insert("traceparent", traceparent.parse().unwrap());
    Client::connect(request).await
}

#[tokio::test]
async fn clients_may_ask_for_traces_where_they_are_trusted() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let collector = Collector::grpc().await;
    for (trusted, expected) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let trusted = format!("traces.trusted={trusted}");
        let relay = node(&collector.url(), &["--set", &trusted]);
        let event = note(&Keys::generate(), now(), "");
        assert!(asking(&relay, PARENT).await.publish(&event).await.0);
        let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
        let message = trace.the("message");
        let joined = message.trace == PARENT[3..35] && message.parent == PARENT[36..52];
        assert_eq!(joined, expected, "{message:#?}");
    }
    // Who says that it is not sampled is heard, too.
    let relay = node(&collector.url(), &[]);
    let event = note(&Keys::generate(), now(), "");
    assert!(asking(&relay, &PARENT.replace("-01", "-00")).await.publish(&event).await.0);
    let other = note(&Keys::generate(), now(), "");
    assert!(relay.connect().await.publish(&other).await.0);
    collector.trace("message", ("messaging.message.id", &other.id().to_hex()), 6).await;
    let id = event.id().to_hex();
    assert!(!collector.spans().iter().any(|span| span.attributes.get("messaging.message.id") == Some(&id)));
}
