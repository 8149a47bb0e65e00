//! A relay that is read: one trace from its message to a client's socket.

use std::time::Duration;

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use crate::traces::{
    collector::{Collector, Span, Trace},
    node,
    nodes::bus,
    traced,
};
use common::{
    Relay, cassandra, eventually, fresh, now,
    proxy::{Flow, Proxy},
    redis::Redis,
    rookery, start_aggregator,
};

/// A node that reads this relay, and is named `a`.
pub fn reads(url: &str, otlp: &str, settings: &[&str]) -> Relay {
    let upstream = ["--node-id", "a", "--upstream", url, "--set", "aggregator.allow_private=true"];
    node(otlp, &[&upstream, settings].concat())
}

/// Waits until it is read.
pub async fn is_read(reader: &Relay, url: &str) {
    let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
    eventually("it is read", || reader.metric(&up) == 1.0).await;
}

/// Publishes an event at an upstream, which comes to a client of a node.
pub async fn through(upstream: &Relay, to: &Relay) -> Event {
    let keys = Keys::generate();
    let mut client = to.connect().await;
    client.request("s", &[json!({ "authors": [keys.public_key()], "limit": 0 })]).await;
    let event = fresh(&keys, "");
    assert!(upstream.connect().await.publish(&event).await.0);
    assert_eq!(client.hear().await[2]["id"], event.id().to_hex());
    event
}

async fn trace_of(collector: &Collector, event: &Event, count: usize) -> Trace {
    collector.trace("message", ("messaging.message.id", &event.id().to_hex()), count).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_another_relay_is_one_trace_up_to_a_client_of_another_node() {
    let (redis, collector) = (Redis::start(), Collector::grpc().await);
    let (upstream, bus_url) = (Relay::start(&[]), redis.url());
    // What follows the path may be a secret.
    let (shown, url) = (upstream.url() + "/", upstream.url() + "/?token=secret");
    let a = reads(&url, &collector.url(), &["--redis", &bus_url]);
    // It would not choose it: what the first decided holds.
    let b = node(&collector.url(), &["--node-id", "b", "--redis", &bus_url, "--set", "traces.ratio=0"]);
    bus([&a, &b]).await;
    is_read(&a, &shown).await;
    let event = through(&upstream, &b).await;

    let trace = trace_of(&collector, &event, 11).await;
    for (span, parent) in [
        ("queue", "message"),
        ("consume", "message"),
        ("admit", "consume"),
        ("persist", "consume"),
        ("batch", "persist"),
        ("store transaction", "batch"),
        ("publish", "consume"),
        ("route", "publish"),
    ] {
        trace.is_below(span, parent);
    }
    let (message, queue, consume) = (trace.the("message"), trace.the("queue"), trace.the("consume"));
    assert_eq!(message.parent, "");
    assert!(queue.ended <= consume.ended && queue.begun <= consume.begun, "{trace:#?}");
    for span in [message, queue, consume] {
        for (attribute, value) in [
            ("rookery.upstream", &*shown),
            ("messaging.message.id", &event.id().to_hex()),
            ("messaging.operation.name", "EVENT"),
            ("nostr.event.kind", "1"),
            ("service.instance.id", "a"),
        ] {
            assert_eq!(span.says(attribute), value, "{span:#?}");
        }
    }
    let delivered =
        trace.0.iter().find(|span| span.name == "deliver" && span.parent == trace.the("route").id);
    let delivered = delivered.unwrap_or_else(|| panic!("{trace:#?}"));
    assert_eq!((delivered.says("service.instance.id"), delivered.says("rookery.sessions")), ("b", "1"));
    // The session with the upstream is a trace of its own, with which its messages are linked.
    let session = collector.trace("connect", ("rookery.upstream", &shown), 1).await;
    assert_eq!(message.links, std::slice::from_ref(&session.the("connect").id));
    assert!(collector.spans().iter().all(|span| !format!("{span:?}").contains("secret")));
}

/// Three processes: one reads, one stores, one has the client.
#[tokio::test(flavor = "multi_thread")]
async fn a_queue_in_redis_is_no_end_of_a_trace() {
    let (redis, collector) = (Redis::start(), Collector::grpc().await);
    let (upstream, bus_url, otlp) = (Relay::start(&[]), redis.url(), collector.url());
    let (server, keyspace, url) = (cassandra::server(), cassandra::new_name(), upstream.url());
    let store = ["--scylla", server, "--keyspace", &keyspace];
    let made = rookery(&[&["schema", "apply"], &store[..]].concat())
        .args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"])
        .status();
    assert!(made.unwrap().success());
    let settings =
        ["--redis", &bus_url, "--set", "aggregator.queue=redis", "--set", "aggregator.beat_ms=200"];
    let shared = [&settings[..], &store].concat();
    let process = |name, role, more: &[&str]| {
        let named = ["--node-id", name, "--role", role];
        start_aggregator(&[&named[..], &shared, &traced(&otlp)[..], more].concat())
    };
    let reads = process("a", "read", &["--upstream", &url, "--set", "aggregator.allow_private=true"]);
    let consumes = process("b", "consume", &[]);
    let c = node(&otlp, &[&["--node-id", "c", "--set", "aggregator.role=none"], &shared[..]].concat());
    bus([&reads, &consumes, &c]).await;
    is_read(&reads, &url).await;
    let event = through(&upstream, &c).await;
    // The store has more spans the more it has to look up.
    let id = event.id().to_hex();
    let ends = ["queue", "persist", "route", "deliver"];
    let trace = collector.trace_with("message", ("messaging.message.id", &id), &ends).await;
    for (span, parent) in
        [("queue", "message"), ("consume", "message"), ("persist", "consume"), ("route", "publish")]
    {
        trace.is_below(span, parent);
    }
    let node_of = |span: &str| trace.the(span).says("service.instance.id");
    assert_eq!((node_of("message"), node_of("queue"), node_of("consume")), ("a", "b", "b"));
    let is_at_the_client = |span: &&Span| span.name == "deliver" && span.says("service.instance.id") == "c";
    assert!(trace.0.iter().any(|span| is_at_the_client(&span)), "{trace:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_with_another_relay_is_one_trace_whatever_its_end() {
    let collector = Collector::grpc().await;
    let upstream = Relay::start(&[]);
    let proxy = Proxy::start(upstream.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let a = reads(&url, &collector.url(), &[]);
    is_read(&a, &url).await;
    proxy.set(Flow::Cut);
    let trace = collector.trace("cleanup", ("rookery.cleanup.result", "lost"), 2).await;
    trace.is_below("cleanup", "connect");
    let cleanup = trace.the("cleanup");
    assert_eq!((cleanup.says("rookery.upstream"), cleanup.says("rookery.events.in_flight")), (&*url, "0"));
    // One that can not be begun says why.
    drop(upstream);
    proxy.set(Flow::Open);
    eventually("a failure", || collector.spans().iter().any(|span| span.name == "connect" && span.failed))
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_or_not_stored_says_why() {
    let collector = Collector::grpc().await;
    let (upstream, keys) = (Relay::start(&[]), Keys::generate());
    let url = upstream.url();
    // It takes nothing that is a minute old.
    let a = reads(&url, &collector.url(), &["--set", "limits.max_ahead_seconds=60"]);
    is_read(&a, &url).await;
    let ahead = keys.sign(now() + 600, 1, Default::default(), "");
    assert!(upstream.connect().await.publish(&ahead).await.0);
    let trace = trace_of(&collector, &ahead, 4).await;
    assert_eq!(trace.names(), ["message", "queue", "consume", "admit"]);
    assert_eq!(trace.the("consume").says("rookery.refusal"), "ahead");
    drop(a);
    // A full disk: it is tried again, and each attempt is a span that says why it failed.
    let full = ["--set", "lmdb.min_free_bytes=9000000000000000000"];
    let a = reads(&url, &collector.url(), &full);
    is_read(&a, &url).await;
    let event = fresh(&keys, "");
    assert!(upstream.connect().await.publish(&event).await.0);
    let is_attempt =
        |trace: &Trace| trace.0.iter().filter(|span| span.name == "consume" && span.failed).count();
    let begun = std::time::Instant::now();
    let trace = loop {
        let trace = trace_of(&collector, &event, 8).await;
        if is_attempt(&trace) > 1 {
            break trace;
        }
        assert!(begun.elapsed() < common::PATIENCE, "{trace:#?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    let message = &trace.the("message").id;
    assert!(trace.0.iter().filter(|span| span.name == "consume").all(|span| span.parent == *message));
    assert_eq!(trace.0.iter().filter(|span| span.name == "queue").count(), 1, "{trace:#?}");
}
