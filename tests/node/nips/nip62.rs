//! Requests to vanish (NIP-62).

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{event, ids, prefix};
use common::{Client, Relay, note, now};

fn vanish(keys: &Keys, at: u64, relay: &str) -> Event {
    event(keys, at, 62, &[&["relay", relay]], "please")
}

/// Everything that vanishes with `keys`, and what stays.
struct Traces {
    gone: Vec<Event>,
    kept: Vec<Event>,
}

impl Traces {
    async fn leave(client: &mut Client, keys: &Keys, at: u64) -> Self {
        let friend = Keys::generate();
        let to = keys.public_key().to_hex();
        let first = note(keys, at - 50, "first");
        let gone = vec![
            event(keys, at - 40, 0, &[], "{}"),
            event(keys, at - 30, 30_023, &[&["d", "x"]], "article"),
            event(keys, at - 20, 5, &[&["e", &first.id().to_hex()]], "deletion"),
            event(&friend, at - 10, 1_059, &[&["p", &to]], "gift wrap to them"),
            note(keys, at, "of that second"),
        ];
        let kept = vec![
            event(&friend, at - 10, 1, &[&["p", &to]], "about them"),
            note(&friend, at, "of another"),
            note(keys, at + 1, "later"),
        ];
        client.put(&first).await;
        client.put_all(&gone).await;
        client.put_all(&kept).await;
        Self { gone, kept }
    }

    /// Sees that all is gone, on the connection of one who may see everything of `keys`.
    async fn assert_gone(&self, client: &mut Client, request: &Event) {
        let mut expected = ids(self.kept.iter().chain([request]));
        expected.sort();
        let mut found = client.find(json!({})).await;
        found.sort();
        assert_eq!(found, expected);
        assert!(client.find(json!({ "ids": ids(&self.gone) })).await.is_empty());
        assert_eq!(client.count(&[json!({ "authors": [request.pubkey()] })]).await["count"], 2);
        for event in &self.gone {
            assert_eq!(client.refused(event).await, "blocked", "{event:?}");
        }
    }
}

#[tokio::test]
async fn everything_up_to_the_request_is_gone_for_good() {
    for (url, target) in [
        (None, "ALL_RELAYS"),
        (Some("wss://relay.example.com"), "ALL_RELAYS"),
        (Some("wss://relay.example.com"), "wss://relay.example.com"),
        (Some("wss://relay.example.com"), "wss://Relay.Example.com/"),
        (Some("ws://relay.example.com:7777/"), "ws://relay.example.com:7777"),
    ] {
        let arguments: Vec<&str> = url.into_iter().flat_map(|url| ["--url", url]).collect();
        // As few events at once as can be, so that the work is carried on with.
        let relay = Relay::start(&[&arguments[..], &["--set", "lmdb.sweep_batch=1"]].concat());
        let mut client = relay.connect().await;
        let keys = Keys::generate();
        client.authenticate(&keys, url.unwrap_or(&relay.url())).await;
        let at = now() - 100;
        let traces = Traces::leave(&mut client, &keys, at).await;
        let request = vanish(&keys, at, target);
        client.put(&request).await;
        traces.assert_gone(&mut client, &request).await;
        // Who has vanished may begin anew.
        client.put(&note(&keys, at + 2, "new")).await;
        // Also after the process was killed.
        let relay = relay.restart_after_kill(&arguments);
        let mut client = relay.connect().await;
        client.authenticate(&keys, url.unwrap_or(&relay.url())).await;
        for event in &traces.gone {
            assert_eq!(client.refused(event).await, "blocked", "{event:?}");
        }
        assert!(client.find(json!({ "ids": ids(&traces.gone) })).await.is_empty());
    }
}

#[tokio::test]
async fn a_request_to_others_is_refused_and_changes_nothing() {
    for (arguments, targets) in [
        (
            &["--url", "wss://relay.example.com"][..],
            &["wss://other.example.com", "wss://relay.example.com:444"][..],
        ),
        (&[], &["wss://relay.example.com", "all_relays", ""]),
    ] {
        let relay = Relay::start(arguments);
        let mut client = relay.connect().await;
        let keys = Keys::generate();
        let kept = note(&keys, now() - 100, "stays");
        client.put(&kept).await;
        for target in targets {
            assert_eq!(client.refused(&vanish(&keys, now(), target)).await, "invalid", "{target}");
        }
        assert_eq!(client.refused(&event(&keys, now(), 62, &[], "")).await, "invalid");
        assert_eq!(client.find(json!({ "authors": [keys.public_key()] })).await, ids([&kept]));
    }
    // One of several tags that names us is enough.
    let relay = Relay::start(&["--url", "wss://relay.example.com"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    client.put(&note(&keys, now() - 100, "goes")).await;
    let tags: &[&[&str]] = &[&["relay", "wss://other.example.com"], &["relay", "wss://relay.example.com"]];
    let request = event(&keys, now() - 50, 62, tags, "");
    client.put(&request).await;
    assert_eq!(client.find(json!({ "authors": [keys.public_key()] })).await, ids([&request]));
}

#[tokio::test]
async fn it_can_not_be_taken_back() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now() - 100;
    let gone = note(&keys, at - 10, "gone");
    client.put(&gone).await;
    let request = vanish(&keys, at, "ALL_RELAYS");
    client.put(&request).await;
    let deletion = event(&keys, at + 1, 5, &[&["e", &request.id().to_hex()]], "");
    client.put(&deletion).await;
    assert_eq!(client.refused(&gone).await, "blocked");
    assert_eq!(client.find(json!({ "kinds": [62] })).await, ids([&request]));
    let again = client.publish(&request).await;
    assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
    // An older request takes nothing back, a newer one reaches further.
    client.put(&vanish(&keys, at - 20, "ALL_RELAYS")).await;
    assert_eq!(client.refused(&gone).await, "blocked");
    client.put(&vanish(&keys, at + 50, "ALL_RELAYS")).await;
    assert_eq!(client.refused(&note(&keys, at + 50, "late")).await, "blocked");
    assert_eq!(client.refused(&deletion).await, "blocked");
}

/// More than one batch of the store takes, beside another's events.
#[tokio::test]
async fn many_events_vanish_at_once() {
    let relay = Relay::start(&["--set", "lmdb.sweep_batch=50"]);
    let mut client = relay.connect().await;
    let (keys, other) = (Keys::generate(), Keys::generate());
    let at = now() - 10_000;
    let events: Vec<Event> =
        (0..600).map(|n| note(if n % 3 == 0 { &other } else { &keys }, at + n, "one of many")).collect();
    client.put_all(&events).await;
    client.put(&vanish(&keys, now(), "ALL_RELAYS")).await;
    // At once, whatever is left to be removed.
    assert_eq!(client.count(&[json!({ "authors": [keys.public_key()] })]).await["count"], 1);
    assert_eq!(client.find(json!({ "kinds": [1] })).await.len(), 200);
    assert_eq!(client.refused(&events[1]).await, "blocked");
    let again = client.publish(&events[0]).await;
    assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
}
