//! Newest first, ties by lowest id, and how limits cut that (NIP-01).

use std::slice::from_ref;

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{event, ids};
use common::{Relay, now};

/// Events with many ties, by two authors, kinds and tags, in the order in which they are served.
fn events(at: u64, authors: &[Keys; 2]) -> Vec<Event> {
    let events = (0..120_usize).map(|n| {
        let (author, kind) = (&authors[n % 2], [1, 7, 1_984][n % 3]);
        event(author, at - n as u64 / 10, kind, &[&["t", if n % 5 < 2 { "a" } else { "b" }]], &n.to_string())
    });
    let mut events: Vec<Event> = events.collect();
    events.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    events
}

/// Small pages, so that the order also holds across them.
const SMALL_PAGES: &[&str] = &["--set", "lmdb.page_bytes=2000", "--set", "limits.max_boundary_events=0"];

#[tokio::test]
async fn newest_first_and_ties_by_lowest_id() {
    let relay = Relay::start(SMALL_PAGES);
    let mut client = relay.connect().await;
    let authors = [Keys::generate(), Keys::generate()];
    let events = events(now() - 1_000, &authors);
    // Arrival must not matter.
    let mut arriving = events.clone();
    arriving.sort_by_key(Event::id);
    client.put_all(&arriving).await;
    let [a, b] = authors.map(|keys| keys.public_key());
    let of = |wanted: &dyn Fn(&Event) -> bool| ids(events.iter().filter(|event| wanted(event)));
    let tagged = |event: &Event, value: &str| event.tags().first_value("t") == Some(value);
    assert_eq!(client.find(json!({})).await, ids(&events));
    assert_eq!(client.find(json!({ "authors": [a] })).await, of(&|e| e.pubkey() == a));
    assert_eq!(client.find(json!({ "authors": [a, b] })).await, ids(&events));
    assert_eq!(client.find(json!({ "kinds": [7, 1] })).await, of(&|e| e.kind() != 1_984));
    assert_eq!(client.find(json!({ "#t": ["a", "b"] })).await, ids(&events));
    assert_eq!(
        client.find(json!({ "#t": ["a"], "kinds": [1] })).await,
        of(&|e| e.kind() == 1 && tagged(e, "a"))
    );
    let some = ids(events.iter().step_by(7));
    assert_eq!(client.find(json!({ "ids": some })).await, some);
    let several = [json!({ "authors": [a], "kinds": [1] }), json!({ "#t": ["b"] })];
    let expected = of(&|e| (e.pubkey() == a && e.kind() == 1) || tagged(e, "b"));
    assert_eq!(client.find_any(&several).await.0, expected);
}

#[tokio::test]
async fn a_limit_takes_the_newest_of_its_filter() {
    let relay = Relay::start(SMALL_PAGES);
    let mut client = relay.connect().await;
    let authors = [Keys::generate(), Keys::generate()];
    let events = events(now() - 1_000, &authors);
    client.put_all(&events).await;
    let [a, b] = authors.map(|keys| keys.public_key());
    for limit in [1, 7, 33, 119, 120, 1_000] {
        let expected = ids(events.iter().take(limit));
        assert_eq!(client.find(json!({ "limit": limit })).await, expected);
        assert_eq!(client.find(json!({ "authors": [a, b], "limit": limit })).await, expected);
        let expected = ids(events.iter().filter(|event| event.pubkey() == b).take(limit));
        assert_eq!(client.find(json!({ "authors": [b], "limit": limit })).await, expected);
    }
    // Each filter has its own; what both want is sent once, and the whole is in order.
    let filters = [json!({ "authors": [a], "limit": 5 }), json!({ "kinds": [7], "limit": 3 })];
    let mut expected: Vec<&Event> = events.iter().filter(|event| event.pubkey() == a).take(5).collect();
    expected.extend(events.iter().filter(|event| event.kind() == 7).take(3));
    expected.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    expected.dedup_by_key(|event| event.id());
    assert_eq!(client.find_any(&filters).await.0, ids(expected));
    // Going back page by page meets every event.
    let (mut until, mut met) = (u64::MAX, Vec::new());
    loop {
        let page = client.find(json!({ "until": until, "limit": 25 })).await;
        let new: Vec<_> = page.into_iter().filter(|id| !met.contains(id)).collect();
        let Some(last) = new.last() else { break };
        until = events.iter().find(|event| event.id().to_hex() == *last).unwrap().created_at();
        met.extend(new);
    }
    assert_eq!(met, ids(&events));
}

#[tokio::test]
async fn without_a_limit_the_default_holds_and_a_higher_one_is_cut() {
    let relay = Relay::start(&[
        "--set",
        "limits.default_limit=10",
        "--set",
        "limits.max_limit=20",
        "--set",
        "limits.max_boundary_events=0",
    ]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now();
    let events: Vec<Event> = (0..30).map(|n| event(&keys, at - n, 1, &[], "")).collect();
    client.put_all(&events).await;
    for (filter, expected) in [
        (json!({}), 10),
        (json!({ "authors": [keys.public_key()] }), 10),
        (json!({ "limit": 15 }), 15),
        (json!({ "limit": 20 }), 20),
        (json!({ "limit": 5_000 }), 20),
        (json!({ "ids": ids(&events), "limit": 30 }), 20),
    ] {
        let (found, hint) = client.find_any(from_ref(&filter)).await;
        assert_eq!((found, hint), (ids(&events[..expected]), Some("more".into())), "{filter}");
    }
    // A count knows no limit.
    assert_eq!(client.count(&[json!({ "limit": 3 })]).await["count"], 30);
}
