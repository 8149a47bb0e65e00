//! Protected events (NIP-70).

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{delivered, event, id, ids, prefix};
use common::{Relay, now};

fn protected(keys: &Keys, kind: u16) -> Event {
    event(keys, now(), kind, &[&["t", "x"], &["-"]], "members only")
}

#[tokio::test]
async fn only_its_author_publishes_it() {
    let relay = Relay::start(&[]);
    let (author, stranger) = (Keys::generate(), Keys::generate());
    for kind in [1, 0, 30_000, 20_000] {
        let event = protected(&author, kind);
        let [mut nobody, mut other, mut own] =
            [relay.connect().await, relay.connect().await, relay.connect().await];
        assert!(other.authenticate(&stranger, &relay.url()).await.0);
        assert_eq!(nobody.refused(&event).await, "auth-required", "kind {kind}");
        assert_eq!(other.refused(&event).await, "restricted", "kind {kind}");
        assert!(nobody.find(json!({ "ids": [event.id()] })).await.is_empty());
        // The author may be one of several keys.
        assert!(own.authenticate(&stranger, &relay.url()).await.0);
        assert!(own.authenticate(&author, &relay.url()).await.0);
        nobody.watch("s", json!({ "ids": [event.id()] })).await;
        own.put(&event).await;
        // Everybody may read it; having it changes nothing for those who may not publish it.
        assert_eq!(delivered(&nobody.heard(&mut own).await), [("s".into(), id(&event))]);
        assert_eq!(nobody.refused(&event).await, "auth-required");
        assert_eq!(other.refused(&event).await, "restricted");
        let again = own.publish(&event).await;
        assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
        if kind != 20_000 {
            assert_eq!(nobody.find(json!({ "ids": [event.id()] })).await, ids([&event]));
        }
    }
}

#[tokio::test]
async fn the_flow_of_the_text_works_on_one_connection() {
    let relay = Relay::start(&["--url", "wss://relay.example.com"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let event = protected(&keys, 1);
    assert_eq!(client.refused(&event).await, "auth-required");
    assert!(client.authenticate(&keys, "wss://relay.example.com").await.0);
    client.put(&event).await;
}

#[tokio::test]
async fn a_repost_must_not_embed_one() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let (author, fan) = (Keys::generate(), Keys::generate());
    let event_json = protected(&author, 1).json().to_owned();
    let plain = event(&author, now(), 1, &[], "for all").json().to_owned();
    assert!(client.authenticate(&fan, &relay.url()).await.0);
    for kind in [6, 16] {
        assert_eq!(client.refused(&event(&fan, now(), kind, &[], &event_json)).await, "blocked");
        let padded =
            serde_json::to_string_pretty(&serde_json::from_str::<serde_json::Value>(&event_json).unwrap());
        assert_eq!(client.refused(&event(&fan, now(), kind, &[], &padded.unwrap())).await, "blocked");
        // Not embedded, of a plain event, or no event at all.
        for content in ["", &plain, "not json", "{}", "[]"] {
            client.put(&event(&fan, now(), kind, &[&["e", &"ab".repeat(32)]], content)).await;
        }
    }
    // Even the author's own.
    assert!(client.authenticate(&author, &relay.url()).await.0);
    assert_eq!(client.refused(&event(&author, now(), 6, &[], &event_json)).await, "blocked");
}
