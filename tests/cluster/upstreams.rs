//! Relays that are read by nodes of a cluster: any node is told of them, one reads each.

use common::{Client, Relay, eventually, fresh, redis::Redis};
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};

use crate::stored::Keyspace;

/// How it stands with the only upstream, as a node sees it.
fn view(node: &Relay) -> Value {
    node.ask("GET", "/v1/upstreams", "").2[0].clone()
}

async fn is(node: &Relay, state: &str) {
    eventually(state, || view(node)["state"] == state).await;
}

async fn hears(client: &mut Client, subscription: &str, id: &str) {
    let message = client.hear().await;
    assert_eq!(
        (&message[0], &message[1], &message[2]["id"]),
        (&json!("EVENT"), &json!(subscription), &json!(id))
    );
}

/// ```text
/// one    reads ──────────────────────── killed ‖
/// other  begins too: elsewhere ────────────────── nothing is noted for five seconds: reads
/// ```
#[tokio::test(flavor = "multi_thread")]
async fn one_node_reads_and_another_goes_on_where_it_died() {
    let (redis, keyspace, source) = (Redis::start(), Keyspace::make(), Relay::start(&[]));
    let settings = ["allow_private=true", "takeover_seconds=5", "look_seconds=1"]
        .map(|setting| format!("aggregator.{setting}"));
    let settings: Vec<&str> = settings.iter().flat_map(|setting| ["--set", &**setting]).collect();
    let url = redis.url();
    let start = || keyspace.node_with(&url, &settings);
    let a = start();
    let (status, _, problem) = a.ask("POST", "/v1/upstreams", &json!({"url": source.url()}).to_string());
    assert_eq!(status, 201, "{problem}");
    is(&a, "live").await;
    let b = start();
    let states = |nodes: [&Relay; 2]| nodes.map(|node| view(node)["state"].as_str().unwrap().to_owned());
    let one_reads = || {
        let mut states = states([&a, &b]);
        states.sort();
        states == ["elsewhere", "live"]
    };
    eventually("one of them reads", one_reads).await;
    // Either may; what follows is the same.
    let (reads, other) = if view(&a)["state"] == "live" { (a, b) } else { (b, a) };

    let series = format!(r#"upstream="{}""#, source.url());
    assert!(reads.metrics().contains(&series) && !other.metrics().contains(&series));

    let (keys, mut publisher) = (Keys::generate(), source.connect().await);
    let mut watchers = [other.connect().await, reads.connect().await];
    for watcher in &mut watchers {
        let (stored, _) = watcher.request("s", &[json!({"kinds": [1]})]).await;
        assert_eq!(stored.len(), 0);
    }
    let first = fresh(&keys, "first");
    assert!(publisher.publish(&first).await.0);
    for watcher in &mut watchers {
        hears(watcher, "s", &first.id().to_hex()).await;
    }
    assert_eq!((&view(&other)["stored"], &view(&reads)["stored"]), (&json!(0), &json!(1)));

    // Any node says how far it is, and may ask for it to be compared.
    let read_through = |node: &Relay| view(node)["read_through"].as_u64().unwrap();
    eventually("both know how far it is", || read_through(&other) > 0 && read_through(&reads) > 0).await;
    let compared = || source.metric(r#"rookery_messages_total{verb="negentropy"}"#);
    let before = compared();
    let number = view(&other)["id"].as_str().unwrap().to_owned();
    assert_eq!(other.ask("POST", &format!("/v1/upstreams/{number}/reconcile"), "").0, 202);
    eventually("it is compared", || compared() > before).await;

    drop(reads);
    let second = fresh(&keys, "second");
    assert!(publisher.publish(&second).await.0);
    is(&other, "live").await;
    // Nothing twice, and nothing left out.
    hears(&mut watchers[0], "s", &second.id().to_hex()).await;
    let third = fresh(&keys, "third");
    assert!(publisher.publish(&third).await.0);
    hears(&mut watchers[0], "s", &third.id().to_hex()).await;

    // Any node may let go of it.
    let third = start();
    eventually("it is known", || view(&third)["url"] == source.url()).await;
    let id = view(&third)["id"].as_str().unwrap().to_owned();
    assert_eq!(third.ask("DELETE", &format!("/v1/upstreams/{id}"), "").0, 204);
    eventually("a connection that is closed", || source.metric("rookery_connections") == 1.0).await;
    assert_eq!(other.ask("GET", "/v1/upstreams", "").2, json!([]));
}
