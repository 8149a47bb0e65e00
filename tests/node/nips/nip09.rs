//! Deletion requests (NIP-09), and those of gift wraps by their recipient (NIP-59).

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{delivered, event, id, ids, prefix};
use common::{Relay, note, now};

fn deletion(keys: &Keys, at: u64, events: &[&Event]) -> Event {
    let ids: Vec<String> = events.iter().map(|event| id(event)).collect();
    let tags: Vec<[&str; 2]> = ids.iter().map(|id| ["e", id.as_str()]).collect();
    let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
    event(keys, at, 5, &tags, "published by accident")
}

fn deletion_of_address(keys: &Keys, at: u64, address: &str) -> Event {
    event(keys, at, 5, &[&["a", address], &["k", "30023"]], "")
}

#[tokio::test]
async fn an_author_deletes_what_is_named_and_the_request_stays() {
    let relay = Relay::start(&[]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let at = now() - 100;
    let [one, two, three] = ["one", "two", "three"].map(|content| note(&keys, at, content));
    client.put_all(&[one.clone(), two.clone(), three.clone()]).await;
    reader.request("s", &[json!({ "authors": [keys.public_key()], "limit": 0 })]).await;
    let request = deletion(&keys, at + 1, &[&one, &two]);
    client.put(&request).await;
    let found = client.find(json!({ "authors": [keys.public_key()] })).await;
    assert_eq!(found, ids([&request, &three]));
    assert!(client.find(json!({ "ids": ids([&one, &two]) })).await.is_empty());
    assert_eq!(client.count(&[json!({ "kinds": [1] })]).await["count"], 1);
    // It can not come back, and is not sent on.
    assert_eq!(client.refused(&one).await, "blocked");
    let again = client.publish(&request).await;
    assert!(again.0 && prefix(&again.1) == "duplicate", "{again:?}");
    assert_eq!(delivered(&reader.heard(&mut client).await), [("s".into(), id(&request))]);
}

#[tokio::test]
async fn nobody_deletes_what_is_anothers() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let (author, stranger) = (Keys::generate(), Keys::generate());
    let at = now() - 100;
    let early = note(&author, at, "before the request");
    let article = event(&author, at, 30_023, &[&["d", "x"]], "");
    let late = note(&author, at, "after the request");
    client.put_all(&[early.clone(), article.clone()]).await;
    client.put(&deletion(&stranger, at + 1, &[&early, &article, &late])).await;
    let address = format!("30023:{}:x", author.public_key());
    client.put(&deletion_of_address(&stranger, at + 1, &address)).await;
    client.put(&late).await;
    let found = client.find(json!({ "authors": [author.public_key()] })).await;
    assert_eq!(found.len(), 3);
}

#[tokio::test]
async fn a_request_may_come_before_its_event() {
    let relay = Relay::start(&[]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let at = now() - 100;
    let event = note(&keys, at, "late");
    // Even one that is older than the event: an id is an id.
    client.put(&deletion(&keys, at - 50, &[&event])).await;
    reader.watch("s", json!({ "ids": [event.id()] })).await;
    assert_eq!(client.refused(&event).await, "blocked");
    assert!(reader.heard(&mut client).await.is_empty());
    assert!(client.find(json!({ "ids": [event.id()] })).await.is_empty());
}

#[tokio::test]
async fn an_address_is_deleted_up_to_the_time_of_the_request() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let at = now() - 100;
    for (kind, d) in [(30_023, "x:y"), (30_000, ""), (0, ""), (10_002, "")] {
        let keys = Keys::generate();
        let version = |at, content: &str| event(&keys, at, kind, &[&["d", d]], content);
        let address = format!("{kind}:{}:{d}", keys.public_key());
        let kept = event(&keys, at - 5, if kind < 30_000 { 1 } else { kind }, &[&["d", "other"]], "");
        client.put(&kept).await;
        client.put(&version(at, "old")).await;
        let request = deletion_of_address(&keys, at + 10, &address);
        client.put(&request).await;
        let all = json!({ "authors": [keys.public_key()] });
        assert_eq!(client.find(all.clone()).await, ids([&request, &kept]), "{address}");
        // Versions up to that second are gone, whether or not they were known.
        assert_eq!(client.refused(&version(at, "old")).await, "blocked");
        assert_eq!(client.refused(&version(at + 10, "of that second")).await, "blocked");
        let newer = version(at + 11, "newer");
        client.put(&newer).await;
        assert_eq!(client.find(all.clone()).await, ids([&newer, &request, &kept]));
        // An older request takes nothing away from what is newer than it.
        let late = deletion_of_address(&keys, at + 9, &address);
        client.put(&late).await;
        assert_eq!(client.find(all).await, ids([&newer, &request, &late, &kept]));
    }
}

#[tokio::test]
async fn deleting_the_winner_brings_no_older_version_back() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now() - 100;
    let [old, new] = [at, at + 1].map(|at| event(&keys, at, 30_023, &[&["d", "x"]], ""));
    client.put(&old).await;
    client.put(&new).await;
    client.put(&deletion(&keys, at + 2, &[&new])).await;
    assert!(client.find(json!({ "kinds": [30_023] })).await.is_empty());
    assert_eq!(client.refused(&new).await, "blocked");
    assert_eq!(client.refused(&old).await, "duplicate");
    assert!(client.find(json!({ "kinds": [30_023] })).await.is_empty());
}

#[tokio::test]
async fn a_request_against_a_request_has_no_effect() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now() - 100;
    let event = note(&keys, at, "gone");
    let request = deletion(&keys, at + 1, &[&event]);
    let against = deletion(&keys, at + 2, &[&request]);
    for event in [&event, &request, &against] {
        client.put(event).await;
    }
    assert_eq!(client.find(json!({ "authors": [keys.public_key()] })).await, ids([&against, &request]));
    assert_eq!(client.refused(&event).await, "blocked");
}

#[tokio::test]
async fn a_recipient_deletes_gift_wraps() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let (recipient, stranger) = (Keys::generate(), Keys::generate());
    let wrap = |content: &str| {
        let to = recipient.public_key().to_hex();
        event(&Keys::generate(), now() - 100, 1_059, &[&["p", &to]], content)
    };
    let (mine, kept) = (wrap("delete me"), wrap("keep me"));
    client.put_all(&[mine.clone(), kept.clone()]).await;
    client.put(&deletion(&stranger, now(), &[&kept])).await;
    client.put(&deletion(&recipient, now(), &[&mine])).await;
    client.authenticate(&recipient, &relay.url()).await;
    assert_eq!(client.find(json!({ "kinds": [1_059] })).await, ids([&kept]));
    assert_eq!(client.refused(&mine).await, "blocked");
}
