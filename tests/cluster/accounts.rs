//! Accounts at several nodes of one store: a token of one is good at the other, until it is at none.

use std::time::{Duration, Instant};

use common::{
    Relay, cassandra, eventually,
    people::{PASSWORD, Person},
    redis::Redis,
};
use serde_json::{Value, json};

use crate::stored::Keyspace;

/// Nobody looks because it is time.
const SETTINGS: [&str; 8] = [
    "--set",
    "accounts.socket_check_seconds=3600",
    "--set",
    "accounts.open=everybody",
    "--set",
    "accounts.address_sign_ups=1000",
    "--set",
    "bus.ready=always",
];

fn status(relay: &Relay, person: &Person) -> u16 {
    person.ask(relay, "GET", "/v1/me", Value::Null).status
}

#[tokio::test(flavor = "multi_thread")]
async fn a_session_is_good_at_every_node_until_it_is_at_none() {
    let mut redis = Redis::start();
    let keyspace = Keyspace::make();
    let (one, other) =
        (keyspace.patient_node(&redis.url(), &SETTINGS), keyspace.patient_node(&redis.url(), &SETTINGS));
    for node in [&one, &other] {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let quill = one.sign_up("quill");
    assert_eq!(status(&other, &quill), 200);
    let again = other.sign_in("quill");
    assert_eq!((status(&one, &again), &again.key), (200, &quill.key));
    let mut socket = quill.connect(&other).await;

    // The other node is told which record has changed; Redis is not believed what it says.
    redis.ask(&["spublish", "rookery:{2}:~records", &format!("session {}/none", quill.key)]);
    assert_eq!(status(&other, &quill), 200);
    assert_eq!(quill.ask(&one, "POST", "/v1/auth/sign-out", Value::Null).status, 204);
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(status(&other, &quill), 401);
    assert_eq!(status(&other, &again), 200);

    // A node that is asked for nothing else takes tokens too.
    let carrier =
        keyspace.patient_node(&redis.url(), &[&SETTINGS[..], &["--set", "accounts.enabled=false"]].concat());
    eventually("the bus", || carrier.metric("rookery_bus_connected") == 1.0).await;
    assert_eq!(status(&carrier, &again), 404);
    let mut carried = again.connect(&carrier).await;

    // All of an account's sessions, at all nodes, by one write.
    let mut socket = again.connect(&one).await;
    let quill = one.sign_in("quill");
    let change = json!({ "password": PASSWORD, "newPassword": "four rooks on a wire" });
    assert_eq!(quill.ask(&other, "PUT", "/v1/auth/password", change).status, 204);
    assert_eq!((socket.hear_close().await, carried.hear_close().await), (4401, 4401));
    assert_eq!((status(&one, &again), status(&one, &quill)), (401, 200));

    // Without Redis, a node finds out by itself, when what it has found is over.
    redis.stop();
    assert_eq!(status(&other, &quill), 200);
    assert_eq!(quill.ask(&one, "POST", "/v1/auth/sign-out", Value::Null).status, 204);
    let begun = Instant::now();
    while status(&other, &quill) == 200 {
        assert!(begun.elapsed() < Duration::from_secs(30), "it is good for ever");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Two nodes, one name, at the same time: one account has it, and the other is nobody's.
#[tokio::test(flavor = "multi_thread")]
async fn a_name_has_one_account_whichever_node_is_asked() {
    const NAMES: usize = 8;
    let redis = Redis::start();
    let keyspace = Keyspace::make();
    let nodes = [0; 2].map(|_| keyspace.patient_node(&redis.url(), &SETTINGS));
    for number in 0..NAMES {
        let said = json!({ "username": format!("quill-{number}"), "password": PASSWORD });
        let mut statuses = std::thread::scope(|scope| {
            let up = |node: &Relay| {
                let said = said.clone();
                node.program("POST", "/v1/auth/sign-up", &[], said).status
            };
            let threads = nodes.each_ref().map(|node| scope.spawn(move || up(node)));
            threads.map(|thread| thread.join().unwrap())
        });
        statuses.sort_unstable();
        assert_eq!(statuses, [201, 409], "{number}");
    }
    let listed = nodes[1].ask("GET", "/v1/accounts", "").2;
    assert_eq!(listed["accounts"].as_array().unwrap().len(), NAMES, "{listed}");
}

/// The first account of a store says which master key is the right one: a node with another makes none, and does not
/// start again.
#[tokio::test(flavor = "multi_thread")]
async fn nodes_with_different_master_keys_are_not_one_relay() {
    let redis = Redis::start();
    let keyspace = Keyspace::make();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("master.key");
    std::fs::write(&file, "0f".repeat(32)).unwrap();
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let master = format!("master_key_file={}", file.display());
    let other = keyspace.patient_node(&redis.url(), &[&SETTINGS[..], &["--set", &master]].concat());
    let one = keyspace.patient_node(&redis.url(), &SETTINGS);
    one.sign_up("quill");
    let said = json!({ "username": "nettle", "password": PASSWORD });
    assert_eq!(other.program("POST", "/v1/auth/sign-up", &[], said).problem(), (503, "unavailable".into()));
    assert_eq!(other.try_sign_in("quill", PASSWORD).problem(), (503, "unavailable".into()));
    drop(other);
    let server = cassandra::server();
    let arguments = ["relay", "--scylla", server, "--keyspace", &keyspace.name, "--set", &master];
    let listen = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let output = common::rookery(&[&arguments[..], &listen].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another master key"), "{said}");
}

/// Whoever signs in has their feed read ahead: the first page that they ask for comes from memory.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_page_after_signing_in_comes_from_memory() {
    const LONG: usize = 20_000;
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let quick = ["--set", "bus.watermark_ms=100", "--set", "bus.missing_watermarks=10"];
    let settings = [&SETTINGS[..], &quick, &["--set", "feeds.max_bytes=10000000"]].concat();
    let node = keyspace.patient_node(&redis.url(), &settings);
    eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    let (quill, rook) = (node.sign_up("quill"), node.sign_up("rook"));
    assert_eq!(quill.ask(&node, "POST", "/v1/friends/rook", Value::Null).status, 200);
    let said = json!({ "content": "x".repeat(LONG) });
    assert_eq!(rook.ask(&node, "POST", "/v1/posts", said).status, 201);
    assert_eq!(node.metric("rookery_feed_authors"), 0.0);

    let again = node.sign_in("quill");
    eventually("the post in memory", || node.metric("rookery_feed_memory_bytes") > LONG as f64).await;
    let asked = || [node.metric("rookery_feed_hits_total"), node.metric("rookery_feed_misses_total")];
    let [hits, misses] = asked();
    let feed = again.ask(&node, "GET", "/v1/feed", Value::Null).json();
    assert_eq!(feed["events"][0]["content"].as_str().map(str::len), Some(LONG));
    assert_eq!(asked(), [hits + 1.0, misses]);
}
