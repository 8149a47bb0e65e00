//! What was answered `OK true` is there after `kill -9`, and what was taken away stays away.

use rookery::protocol::sign::Keys;
use serde_json::json;

use common::ask::{event, ids, prefix};
use common::{Relay, note, now};

#[tokio::test]
async fn everything_that_was_answered_survives_the_process() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let gone = Keys::generate();
    let at = now() - 1_000;
    let notes: Vec<_> = (0..100).map(|n| event(&keys, at - n, 1, &[&["t", "x"]], "")).collect();
    client.put_all(&notes).await;
    let [old, new] = [at, at + 1].map(|at| event(&keys, at, 10_002, &[], ""));
    client.put_all(&[old.clone(), new.clone()]).await;
    let deletion = event(&keys, at, 5, &[&["e", &notes[0].id().to_hex()]], "");
    client.put(&deletion).await;
    let farewell = note(&gone, at, "farewell");
    client.put(&farewell).await;
    let vanishing = event(&gone, at + 5, 62, &[&["relay", "ALL_RELAYS"]], "");
    client.put(&vanishing).await;
    let ephemeral = event(&keys, at, 20_000, &[], "");
    client.put(&ephemeral).await;

    let relay = relay.restart_after_kill(&[]);
    let mut client = relay.connect().await;
    assert_eq!(client.find(json!({ "#t": ["x"] })).await, ids(&notes[1..]));
    assert_eq!(client.find(json!({ "authors": [keys.public_key()], "kinds": [10_002] })).await, ids([&new]));
    assert_eq!(client.find(json!({ "kinds": [5] })).await, ids([&deletion]));
    let again = client.publish(&notes[1]).await;
    assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
    assert_eq!(client.refused(&old).await, "duplicate");
    assert_eq!(client.refused(&notes[0]).await, "blocked");
    assert_eq!(client.refused(&farewell).await, "blocked");
    assert!(client.find(json!({ "ids": ids([&farewell, &ephemeral]) })).await.is_empty());
    // Live goes on where it was.
    let mut reader = relay.connect().await;
    reader.request("s", &[json!({ "authors": [keys.public_key()], "limit": 1 })]).await;
    let live = note(&keys, now(), "after");
    client.put(&live).await;
    assert_eq!(reader.hear().await[2]["id"], live.id().to_hex());
}
