//! Two nodes on a bus: what is published at one and delivered at the other is one trace.

use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;

use crate::traces::{collector::Collector, node};
use common::redis::Redis;
use common::{Client, Relay, eventually, fresh, now};

/// Nodes that share live events, each with this name and these settings.
async fn share(redis: &Redis, otlp: &str, nodes: [(&str, &str); 2]) -> [Relay; 2] {
    let url = redis.url();
    let relays =
        nodes.map(|(name, setting)| node(otlp, &["--node-id", name, "--redis", &url, "--set", setting]));
    bus(&relays).await;
    relays
}

pub async fn bus<'r>(relays: impl IntoIterator<Item = &'r Relay>) {
    for relay in relays {
        eventually("the bus", || relay.metric("rookery_bus_connected") == 1.0).await;
    }
}

/// Publishes an event at one node, which comes to a client of the other.
pub async fn through(from: &Relay, to: &Relay, make: impl Fn(&Keys) -> Event) -> Event {
    let keys = Keys::generate();
    let mut client: Client = to.connect().await;
    client.request("s", &[json!({ "authors": [keys.public_key()], "limit": 0 })]).await;
    let event = make(&keys);
    assert!(from.connect().await.publish(&event).await.0);
    assert_eq!(client.hear().await[2]["id"], event.id().to_hex());
    event
}

#[tokio::test]
async fn an_event_is_one_trace_on_both_nodes() {
    let (redis, collector) = (Redis::start(), Collector::grpc().await);
    // The other node would not choose it: what the first decided holds.
    let nodes = [("a", "traces.ratio=1"), ("b", "traces.ratio=0")];
    let [a, b] = share(&redis, &collector.url(), nodes).await;
    let event = through(&a, &b, |keys| fresh(keys, "")).await;
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 9).await;
    trace.is_below("publish", "message");
    trace.is_below("route", "publish");
    let (publish, route) = (trace.the("publish"), trace.the("route"));
    let delivered: Vec<_> = trace.0.iter().filter(|span| span.name == "deliver").collect();
    let at = |node: &str| delivered.iter().find(|span| span.says("service.instance.id") == node).unwrap();
    assert_eq!((at("a").says("rookery.sessions"), at("b").says("rookery.sessions")), ("0", "1"));
    assert_eq!((&at("a").parent, &at("b").parent), (&trace.the("message").id, &route.id));
    assert!(at("b").begun >= route.begun && at("b").ended <= route.ended, "{trace:#?}");
    assert!(publish.begun >= trace.the("persist").ended, "{trace:#?}");
    assert_eq!((publish.says("service.instance.id"), route.says("service.instance.id")), ("a", "b"));
    for span in [publish, route] {
        assert_eq!(span.says("messaging.system"), "redis");
    }
    assert_eq!(
        (publish.says("messaging.operation.type"), route.says("messaging.operation.type")),
        ("send", "process")
    );
}

#[tokio::test]
async fn an_ephemeral_event_is_one_trace_too() {
    let (redis, collector) = (Redis::start(), Collector::grpc().await);
    let nodes = [("a", "traces.ratio=1"), ("b", "traces.ratio=0")];
    let [a, b] = share(&redis, &collector.url(), nodes).await;
    let event = through(&a, &b, |keys| keys.sign(now(), 20_001, Tags::default(), "")).await;
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
    trace.is_below("route", "publish");
    assert!(!trace.names().contains(&"persist"), "{trace:#?}");
}

#[tokio::test]
async fn what_is_not_sampled_says_nothing_to_others() {
    let (redis, collector) = (Redis::start(), Collector::grpc().await);
    let nodes = [("a", "traces.ratio=0"), ("b", "traces.ratio=0")];
    let [a, b] = share(&redis, &collector.url(), nodes).await;
    through(&a, &b, |keys| fresh(keys, "")).await;
    // Slow for the first node only.
    let slow = node(
        &collector.url(),
        &["--redis", &redis.url(), "--set", "traces.ratio=0", "--set", "traces.slow_ms=0"],
    );
    bus(std::slice::from_ref(&slow)).await;
    let event = through(&slow, &b, |keys| fresh(keys, "")).await;
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 4).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "store"]);
    assert!(!collector.spans().iter().any(|span| span.name == "route"));
}
