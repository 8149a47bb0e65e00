//! One node.

mod chosen;
mod export;

use rookery::protocol::{Tags, sign::Keys};
use serde_json::json;

use crate::traces::{collector::Collector, node};
use common::{cassandra, fresh, note, now, rookery};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

#[tokio::test]
async fn an_event_is_one_trace() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--node-id", "n1"]);
    let keys = Keys::generate();
    let mut follower = relay.connect().await;
    // Two subscriptions of one session: it counts once.
    follower.request("a", &[json!({ "authors": [keys.public_key()] })]).await;
    follower.request("b", &[json!({ "kinds": [1] })]).await;
    let mut publisher = relay.connect().await;
    let event = fresh(&keys, "hello");
    assert!(publisher.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "batch", "store transaction", "deliver"]);
    for (span, parent) in [
        ("admit", "message"),
        ("persist", "message"),
        ("batch", "persist"),
        ("store transaction", "batch"),
        ("deliver", "message"),
    ] {
        trace.is_below(span, parent);
    }
    let (message, persist, batch) = (trace.the("message"), trace.the("persist"), trace.the("batch"));
    assert_eq!(message.parent, "");
    assert!(trace.the("admit").ended <= persist.begun && persist.ended <= message.ended, "{trace:#?}");
    assert!(
        trace.the("store transaction").ended <= batch.ended && batch.ended <= persist.ended,
        "{trace:#?}"
    );
    assert!(trace.the("deliver").begun >= persist.ended, "{trace:#?}");
    assert_eq!(persist.links, std::slice::from_ref(&batch.id));
    assert_eq!((message.kind, trace.the("store transaction").kind), (SERVER, CLIENT));
    for (attribute, value) in [
        ("network.transport", "tcp"),
        ("network.protocol.name", "websocket"),
        ("client.address", "127.0.0.1"),
        ("messaging.system", "nostr"),
        ("messaging.operation.name", "EVENT"),
        ("nostr.event.kind", "1"),
        ("rookery.trace.reason", "sampled"),
        ("service.name", "rookery"),
        ("service.instance.id", "n1"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(message.says(attribute), value, "{attribute}");
    }
    assert_eq!(trace.the("store transaction").says("db.system.name"), "lmdb");
    assert_eq!(batch.says("messaging.batch.message_count"), "1");
    assert_eq!(trace.the("deliver").says("rookery.sessions"), "1");
}

/// What somebody with an account says by REST goes the way of an EVENT.
#[tokio::test]
async fn a_post_by_rest_is_one_trace() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let quill = relay.sign_up("quill");
    let mut follower = relay.connect().await;
    follower.request("a", &[json!({ "authors": [quill.key], "kinds": [1] })]).await;
    let posted = quill.ask(&relay, "POST", "/v1/posts", json!({ "content": "hello" })).json();
    let id = posted["event"]["id"].as_str().unwrap();
    let trace = collector.trace("message", ("messaging.message.id", id), 6).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "batch", "store transaction", "deliver"]);
    for (span, parent) in [("admit", "message"), ("persist", "message"), ("deliver", "message")] {
        trace.is_below(span, parent);
    }
    let message = trace.the("message");
    assert_eq!((&*message.parent, message.kind), ("", SERVER));
    for (attribute, value) in [("messaging.operation.name", "EVENT"), ("nostr.event.kind", "1")] {
        assert_eq!(message.says(attribute), value, "{attribute}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_cluster_store_each_group_of_statements_is_a_span() {
    let collector = Collector::grpc().await;
    let (server, keyspace) = (cassandra::server(), cassandra::new_name());
    let made = rookery(&["schema", "apply", "--scylla", server, "--keyspace", &keyspace])
        .args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let relay = node(&collector.url(), &["--scylla", server, "--keyspace", &keyspace]);
    let (keys, mut client) = (Keys::generate(), relay.connect().await);
    let event = fresh(&keys, "");
    assert!(client.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 12).await;
    let groups = ["read", "rows", "marks", "removal", "commit", "ranks", "check"]
        .map(|group| format!("store {group}"));
    for group in &groups {
        trace.is_below(group, "batch");
        assert_eq!(trace.the(group).says("db.system.name"), "cassandra");
    }
    let stored: Vec<&str> = trace.names().into_iter().filter(|name| name.starts_with("store ")).collect();
    assert_eq!(stored, groups);
    client.request("s", &[json!({ "authors": [keys.public_key()], "kinds": [1] })]).await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.the("query").says("rookery.plan"), "by_author 1");
    assert_eq!(trace.the("query").says("db.response.returned_rows"), "1");
}

#[tokio::test]
async fn a_request_is_one_trace_that_tells_its_plan() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    for n in 0..3 {
        assert!(client.publish(&note(&keys, now() - n, "")).await.0);
    }
    let other = Keys::generate();
    client
        .request(
            "s",
            &[json!({ "authors": [keys.public_key(), other.public_key()], "kinds": [1], "limit": 2 })],
        )
        .await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.names(), ["message", "subscribe", "query", "eose"]);
    for span in ["subscribe", "query", "eose"] {
        trace.is_below(span, "message");
    }
    let query = trace.the("query");
    assert!(
        trace.the("subscribe").ended <= query.begun && query.ended <= trace.the("eose").begun,
        "{trace:#?}"
    );
    assert_eq!(query.says("rookery.plan"), "author_kind 2");
    assert_eq!(query.says("db.response.returned_rows"), "2");
    assert!(query.says("rookery.rows_read").parse::<u32>().unwrap() >= 2);
    assert_eq!(trace.the("message").says("nostr.filters"), "1");
}

#[tokio::test]
async fn a_connection_is_one_trace_and_its_messages_link_to_it() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let mut client = relay.connect().await;
    client.request("s", &[json!({ "limit": 0 })]).await;
    client.socket.close(None).await.unwrap();
    let trace = collector.trace("cleanup", ("rookery.close.reason", "client"), 2).await;
    trace.is_below("cleanup", "connect");
    let message = collector.trace("message", ("messaging.operation.name", "REQ"), 1).await;
    assert_eq!(message.the("message").links, std::slice::from_ref(&trace.the("connect").id));
}

#[tokio::test]
async fn refused_events_say_why() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let late = Keys::generate().sign(now() + 100_000, 1, Tags::default(), "");
    assert!(!relay.connect().await.publish(&late).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &late.id().to_hex()), 2).await;
    assert_eq!(trace.names(), ["message", "admit"]);
    assert!(trace.the("message").says("rookery.refusal").starts_with("invalid: "));
    assert!(!trace.the("message").failed);
}
