//! Beside nodes of the version before: an upgrade goes node by node, and nobody hears less for it.
//!
//! They need that program: the one that `ROOKERY_TEST_BEFORE` names, or one that is built from the history, once,
//! which takes as long as building does. So `cluster/test.sh --long` runs them.

use std::{
    env,
    path::{Path, PathBuf},
    process::Command,
};

use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;
use tempfile::TempDir;

use crate::{follow, hears, stored::Keyspace};
use common::redis::Redis;
use common::{self, Client, Relay, cassandra, eventually, note, now};

/// The last commit whose messages had neither notes nor cards.
const BEFORE: &str = "3cd844e";

fn program() -> PathBuf {
    if let Some(program) = env::var_os("ROOKERY_TEST_BEFORE") {
        return program.into();
    }
    let source = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("before-{BEFORE}"));
    let program = source.join("target/debug/rookery");
    if !program.exists() {
        let script = format!(
            "mkdir -p '{0}' && git archive {BEFORE} | tar -x -C '{0}' && cd '{0}' && \
             CARGO_TARGET_DIR=target cargo build --locked --quiet --bin rookery",
            source.display()
        );
        let mut command = Command::new("bash");
        command.args(["-c", &script]).current_dir(env!("CARGO_MANIFEST_DIR"));
        assert!(command.status().unwrap().success(), "{BEFORE} can not be built");
    }
    program
}

/// Nodes of the version before and of this one, on one Redis.
async fn nodes(redis: &Redis, store: &[&str]) -> [Relay; 2] {
    let url = redis.url();
    // As that version called them, and this one still understands.
    let patient = ["--set", "bus.fence_ms=200", "--set", "bus.silent_fences=100"];
    let arguments = [&["--redis", &url, "--workers", "1"][..], &patient, store].concat();
    let data = TempDir::new().unwrap();
    let mut command = Command::new(program());
    command.env_remove("RUST_LOG");
    command.args(["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.path().join("relay")).args(&arguments);
    let nodes = [Relay::spawn(command, data), Relay::start(&arguments)];
    for node in &nodes {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    nodes
}

/// What one node takes both hear, once, and neither is in doubt about it.
async fn all_is_heard(nodes: &[Relay; 2], keys: &Keys, events: impl Fn(usize) -> Vec<Event>) {
    let mut clients: Vec<Client> = Vec::new();
    for node in nodes {
        clients.push(follow(node, keys).await);
    }
    for (nth, node) in nodes.iter().enumerate() {
        for event in events(nth) {
            assert!(node.connect().await.publish(&event).await.0);
            for client in &mut clients {
                hears(client, &event).await;
            }
        }
    }
    for (node, client) in nodes.iter().zip(&mut clients) {
        let nothing = json!({ "ids": ["00".repeat(32)] });
        assert_eq!(client.request("last", &[nothing]).await.0, [""; 0]);
        for name in ["malformed", "gaps", "gaps_told"] {
            assert_eq!(node.metric(&format!("rookery_bus_{name}_total")), 0.0, "{name}");
        }
        assert!(node.metric("rookery_bus_events_received_total") > 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the version before"]
async fn nodes_of_the_version_before_hear_and_are_heard() {
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let store = ["--scylla", cassandra::server(), "--keyspace", &keyspace.name];
    let nodes = nodes(&redis, &store).await;
    let keys = Keys::generate();
    let events = |nth: usize| {
        let mut tags = Tags::default();
        (0..100).for_each(|topic| tags.push(["t", &topic.to_string()]));
        let many = keys.sign(now(), 1, tags, &nth.to_string());
        let ephemeral = keys.sign(now(), 20_001, Tags::default(), &format!("{nth}{}", "x".repeat(50_000)));
        vec![note(&keys, now(), &nth.to_string()), many, ephemeral]
    };
    all_is_heard(&nodes, &keys, events).await;
    // An upgrade: the old one dies without a word, and what it had taken is heard.
    let [before, after] = nodes;
    let mut client = follow(&after, &keys).await;
    let last = note(&keys, now(), "the last word");
    assert!(before.connect().await.publish(&last).await.0);
    drop(before);
    hears(&mut client, &last).await;
    assert_eq!(after.metric("rookery_bus_gaps_told_total"), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs the program of the version before"]
async fn nodes_of_the_version_before_with_stores_of_their_own_hear_and_are_heard() {
    let redis = Redis::start();
    let nodes = nodes(&redis, &[]).await;
    let keys = Keys::generate();
    all_is_heard(&nodes, &keys, |nth| vec![note(&keys, now(), &nth.to_string())]).await;
}
