//! Expiration (NIP-40).

use std::{slice::from_ref, time::Duration};

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{event, ids, prefix};
use common::{Client, PATIENCE, Relay, now};

fn until(keys: &Keys, kind: u16, expiration: &str) -> Event {
    event(keys, now() - 1_000, kind, &[&["expiration", expiration]], "for a while")
}

/// Asks until the event is not found any more; while it is, its time is not over.
async fn await_expiry(client: &mut Client, event: &Event) {
    let expiration = event.expiration().unwrap();
    let filter = json!({ "ids": [event.id()] });
    let gone = async {
        loop {
            let asked = now();
            let found = client.find(filter.clone()).await;
            let counted = client.count(from_ref(&filter)).await["count"].as_u64().unwrap();
            assert!(found.is_empty() || asked < expiration, "served when its time was over");
            assert!(counted as usize <= found.len(), "counted when its time was over");
            if found.is_empty() {
                assert!(now() >= expiration, "gone before its time");
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("the event is served for ever");
}

#[tokio::test]
async fn what_has_expired_is_refused() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    for kind in [1, 0, 30_000, 20_000, 1_059] {
        for expiration in [0, 1, now() - 1, now()] {
            let refusal = client.refused(&until(&keys, kind, &expiration.to_string())).await;
            assert_eq!(refusal, "invalid", "kind {kind}, {expiration}");
        }
    }
    // What says no time: to keep it for ever is not what its author wanted.
    let past = now() - 5;
    for expiration in
        ["never", "", "-1", "+9999999999", " 9999999999", "9999999999.5", "1e20", "18446744073709551616"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("{past}.5"), format!(" {past}")])
    {
        assert_eq!(client.refused(&until(&keys, 1, &expiration)).await, "invalid", "{expiration:?}");
    }
    assert_eq!(client.refused(&event(&keys, now(), 1, &[&["expiration"]], "")).await, "invalid");
    assert_eq!(client.count(&[json!({})]).await["count"], 0);
    for expiration in [(now() + 3_600).to_string().as_str(), "18446744073709551615"] {
        client.put(&until(&keys, 1, expiration)).await;
    }
}

#[tokio::test]
async fn an_event_is_served_until_its_time_is_over() {
    let relay = Relay::start(&["--set", "store.sweep_seconds=3600"]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    reader.watch("s", json!({ "authors": [keys.public_key()] })).await;
    let event = until(&keys, 1, &(now() + 3).to_string());
    client.put(&event).await;
    assert_eq!(reader.hear().await[2]["id"], event.id().to_hex());
    assert_eq!(client.find(json!({ "authors": [keys.public_key()] })).await, ids([&event]));
    await_expiry(&mut client, &event).await;
    // It is hidden at once, whenever it is removed; and it does not come back.
    assert!(client.find(json!({ "authors": [keys.public_key()] })).await.is_empty());
    assert!(client.find(json!({})).await.is_empty());
    assert_eq!(client.refused(&event).await, "invalid");
    // A subscription is not told.
    assert!(reader.heard(&mut client).await.is_empty());
}

#[tokio::test]
async fn an_expired_winner_brings_no_older_version_back() {
    let relay = Relay::start(&["--set", "store.sweep_seconds=1", "--set", "store.sweep_margin_seconds=0"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let lasting = event(&keys, now() - 2_000, 30_000, &[&["d", "x"]], "lasting");
    let soon = (now() + 2).to_string();
    let brief = event(&keys, now() - 1_000, 30_000, &[&["d", "x"], &["expiration", &soon]], "brief");
    client.put(&lasting).await;
    client.put(&brief).await;
    await_expiry(&mut client, &brief).await;
    assert!(client.find(json!({ "kinds": [30_000] })).await.is_empty());
    let (accepted, text) = client.publish(&lasting).await;
    assert!(!accepted && prefix(&text) == "duplicate", "{text}");
    // What is newer takes its place.
    let newer = event(&keys, now(), 30_000, &[&["d", "x"]], "newer");
    client.put(&newer).await;
    assert_eq!(client.find(json!({ "kinds": [30_000] })).await, ids([&newer]));
}
