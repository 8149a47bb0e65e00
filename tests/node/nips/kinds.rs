//! What is kept of an event, by its kind (NIP-01): regular, replaceable, ephemeral, addressable.

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{delivered, event, id, ids, prefix};
use common::{Client, Relay, now};

/// Versions made in the same second, by id.
fn versions_of_a_second(keys: &Keys, at: u64, kind: u16, tags: &[&[&str]]) -> Vec<Event> {
    let mut versions: Vec<Event> =
        (0..5).map(|n| event(keys, at, kind, tags, &format!("version {n}"))).collect();
    versions.sort_by_key(Event::id);
    versions
}

async fn all_of(client: &mut Client, keys: &Keys) -> Vec<String> {
    client.find(json!({ "authors": [keys.public_key()] })).await
}

#[tokio::test]
async fn regular_events_are_all_kept() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    for kind in [1, 2, 5, 6, 7, 44, 1_000, 1_984, 9_735, 9_999, 40_000, 65_535] {
        let keys = Keys::generate();
        let at = now() - 100;
        let events = [at + 1, at, at].map(|at| event(&keys, at, kind, &[&["d", "x"]], &at.to_string()));
        // The last one is the second one: content and time are the same.
        client.put(&events[0]).await;
        client.put(&events[1]).await;
        assert_eq!(prefix(&client.publish(&events[2]).await.1), "duplicate");
        assert_eq!(all_of(&mut client, &keys).await, ids(&events[..2]), "kind {kind}");
    }
}

#[tokio::test]
async fn of_replaceable_events_the_newest_is_kept() {
    let relay = Relay::start(&[]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    for kind in [0, 3, 10_000, 10_002, 19_999] {
        let keys = Keys::generate();
        let at = now() - 100;
        reader.watch("s", json!({ "authors": [keys.public_key()] })).await;
        // A `d` tag gives a replaceable event no address of its own.
        let [old, middle, new] =
            [at, at + 1, at + 2].map(|at| event(&keys, at, kind, &[&["d", &at.to_string()]], ""));
        client.put(&middle).await;
        assert_eq!(client.refused(&old).await, "duplicate", "kind {kind}");
        assert_eq!(all_of(&mut client, &keys).await, ids([&middle]));
        client.put(&new).await;
        assert_eq!(all_of(&mut client, &keys).await, ids([&new]), "kind {kind}");
        // Superseded, though it was accepted once.
        assert_eq!(client.refused(&middle).await, "duplicate");
        assert!(client.find(json!({ "ids": [middle.id(), old.id()] })).await.is_empty());
        // Another author's and another kind's are others.
        client.put(&event(&Keys::generate(), at, kind, &[], "")).await;
        client.put(&event(&keys, at, kind + 1_000, &[], "")).await;
        let live = delivered(&reader.heard(&mut client).await);
        assert_eq!(live[..2], [("s".into(), id(&middle)), ("s".into(), id(&new))]);
        assert_eq!(live.len(), 3);
    }
}

#[tokio::test]
async fn of_versions_of_one_second_the_lowest_id_is_kept() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    for (kind, tags) in [(0, &[][..]), (10_000, &[]), (30_023, &[&["d", "x"][..]])] {
        let keys = Keys::generate();
        let versions = versions_of_a_second(&keys, now(), kind, tags);
        client.put(&versions[2]).await;
        assert_eq!(client.refused(&versions[3]).await, "duplicate");
        client.put(&versions[1]).await;
        assert_eq!(client.refused(&versions[4]).await, "duplicate");
        assert_eq!(client.refused(&versions[2]).await, "duplicate");
        assert_eq!(all_of(&mut client, &keys).await, ids([&versions[1]]));
        client.put(&versions[0]).await;
        assert_eq!(all_of(&mut client, &keys).await, ids([&versions[0]]));
        let again = client.publish(&versions[0]).await;
        assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
    }
}

#[tokio::test]
async fn of_addressable_events_the_newest_of_each_d_is_kept() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    for kind in [30_000, 30_023, 39_999] {
        let keys = Keys::generate();
        let at = now() - 100;
        let one = event(&keys, at, kind, &[&["d", "one"]], "1");
        let newer = event(&keys, at + 1, kind, &[&["d", "one", "more"], &["d", "two"]], "2");
        let two = event(&keys, at, kind, &[&["t", "x"], &["d", "two"]], "1");
        for event in [&one, &two, &newer] {
            client.put(event).await;
        }
        assert_eq!(all_of(&mut client, &keys).await, ids([&newer, &two]), "kind {kind}");
        assert_eq!(client.refused(&one).await, "duplicate");
        let filter = json!({ "kinds": [kind], "authors": [keys.public_key()], "#d": ["one"] });
        assert_eq!(client.find(filter).await, ids([&newer]));
        // Without a `d` tag, with one that has no value, and with an empty one: one address.
        let bare = event(&keys, at + 10, kind, &[], "bare");
        let valueless = event(&keys, at + 11, kind, &[&["d"]], "valueless");
        let empty = event(&keys, at + 12, kind, &[&["d", ""]], "empty");
        for event in [&bare, &valueless, &empty] {
            client.put(event).await;
        }
        let filter = json!({ "authors": [keys.public_key()], "kinds": [kind], "since": at + 10 });
        assert_eq!(client.find(filter).await, ids([&empty]));
        assert_eq!(client.refused(&bare).await, "duplicate");
    }
}

#[tokio::test]
async fn ephemeral_events_are_sent_on_and_never_stored() {
    let relay = Relay::start(&[]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    for kind in [20_000, 20_001, 29_999] {
        let keys = Keys::generate();
        let filter = json!({ "authors": [keys.public_key()] });
        reader.watch("s", filter.clone()).await;
        let [one, two] = ["one", "two"].map(|content| event(&keys, now() - 100, kind, &[], content));
        client.put(&one).await;
        client.put(&two).await;
        let live = delivered(&reader.heard(&mut client).await);
        assert_eq!(live, [("s".into(), id(&one)), ("s".into(), id(&two))], "kind {kind}");
        assert!(reader.find(filter.clone()).await.is_empty());
        assert!(reader.find(json!({ "ids": ids([&one, &two]) })).await.is_empty());
        assert_eq!(reader.count(&[filter]).await["count"], 0);
    }
}

#[tokio::test]
async fn a_copy_of_an_ephemeral_event_is_not_delivered_again() {
    let relay = Relay::start(&[]);
    let (mut one, mut two, mut reader) =
        (relay.connect().await, relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    reader.watch("s", json!({ "kinds": [25_000] })).await;
    let first = event(&keys, now(), 25_000, &[], "one after the other");
    one.put(&first).await;
    let again = two.publish(&first).await;
    assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
    let mut expected = vec![("s".into(), id(&first))];
    for n in 0..20 {
        let event = event(&keys, now(), 25_000, &[], &format!("at once {n}"));
        let text = format!(r#"["EVENT",{}]"#, event.json());
        for _ in 0..5 {
            one.say_text(&*text).await;
            two.say_text(&*text).await;
        }
        for client in [&mut one, &mut two] {
            for _ in 0..5 {
                let (accepted, text) = client.hear_ok(&id(&event)).await;
                assert!(accepted && (text.is_empty() || prefix(&text) == "duplicate"), "{text}");
            }
        }
        expected.push(("s".into(), id(&event)));
    }
    assert_eq!(delivered(&reader.heard(&mut one).await), expected);
}
