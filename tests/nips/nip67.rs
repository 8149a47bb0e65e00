//! The hint of EOSE (NIP-67): whether what was sent is all there is.

use std::slice::from_ref;

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use crate::{
    ask::{event, ids},
    common::{Relay, now},
};

const FINISH: Option<&str> = Some("finish");
const MORE: Option<&str> = Some("more");

/// As many events as each second says, newest second first, ties by lowest id.
fn seconds(keys: &Keys, at: u64, sizes: &[usize]) -> Vec<Event> {
    let mut events = Vec::new();
    for (second, &size) in (0..).zip(sizes) {
        let mut of_second: Vec<Event> =
            (0..size).map(|n| event(keys, at - second, 1, &[&["t", "x"]], &n.to_string())).collect();
        of_second.sort_by_key(Event::id);
        events.extend(of_second);
    }
    events
}

#[tokio::test]
async fn finish_and_more_are_said_truly() {
    let relay = Relay::start(&["--set", "limits.max_limit=30", "--set", "store.page_bytes=1000"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    assert_eq!(client.find_any(&[json!({})]).await, (vec![], FINISH.map(str::to_owned)));
    let events = seconds(&keys, now() - 100, &[1; 40]);
    client.put_all(&events).await;
    let author = keys.public_key();
    for (filter, count, hint) in [
        (json!({ "limit": 10 }), 10, MORE),
        (json!({ "authors": [author], "limit": 10 }), 10, MORE),
        (json!({ "#t": ["x"], "limit": 1 }), 1, MORE),
        // More than the relay's own cap.
        (json!({ "limit": 40 }), 30, MORE),
        (json!({}), 30, MORE),
        // Exactly as many as there are.
        (json!({ "since": events[9].created_at(), "limit": 10 }), 10, FINISH),
        (json!({ "since": events[29].created_at() }), 30, FINISH),
        (json!({ "since": events[29].created_at(), "limit": 30 }), 30, FINISH),
        (json!({ "since": events[5].created_at(), "limit": 10 }), 6, FINISH),
        (json!({ "kinds": [7], "limit": 10 }), 0, FINISH),
        (json!({ "kinds": [], "limit": 10 }), 0, FINISH),
        (json!({ "until": 5 }), 0, FINISH),
        (json!({ "limit": 0 }), 0, None),
    ] {
        let (found, said) = client.find_any(from_ref(&filter)).await;
        assert_eq!((found, said.as_deref()), (ids(&events[..count]), hint), "{filter}");
    }
    // One filter with more is more.
    let all = json!({ "since": events[2].created_at() });
    let filters = [all.clone(), json!({ "limit": 5 })];
    assert_eq!(client.find_any(&filters).await, (ids(&events[..5]), MORE.map(str::to_owned)));
    let filters = [all, json!({ "kinds": [7] })];
    assert_eq!(client.find_any(&filters).await, (ids(&events[..3]), FINISH.map(str::to_owned)));
}

#[tokio::test]
async fn the_last_second_of_a_page_is_whole() {
    let relay = Relay::start(&["--set", "store.page_bytes=1000"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let events = seconds(&keys, now() - 100, &[1, 5, 20, 1]);
    client.put_all(&events).await;
    for (limit, count, hint) in [
        (1, 1, MORE),
        (2, 6, MORE),
        (5, 6, MORE),
        (6, 6, MORE),
        (7, 26, MORE),
        (25, 26, MORE),
        (26, 26, MORE),
        (27, 27, FINISH),
        (28, 27, FINISH),
    ] {
        for filter in [
            json!({ "limit": limit }),
            json!({ "authors": [keys.public_key()], "kinds": [1], "limit": limit }),
        ] {
            let (found, said) = client.find_any(&[filter]).await;
            assert_eq!((found, said.as_deref()), (ids(&events[..count]), hint), "limit {limit}");
        }
    }
    // The last page ends with the last second: there is no more.
    let filter = json!({ "since": events[6].created_at(), "limit": 10 });
    assert_eq!(client.find_any(&[filter]).await, (ids(&events[..26]), FINISH.map(str::to_owned)));
}

#[tokio::test]
async fn up_to_a_bound_that_has_a_name() {
    let relay = Relay::start(&["--set", "limits.max_boundary_events=3"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let events = seconds(&keys, now() - 100, &[10]);
    client.put_all(&events).await;
    for (limit, count, hint) in [(2, 5, MORE), (6, 9, MORE), (7, 10, FINISH), (10, 10, FINISH)] {
        let (found, said) = client.find_any(&[json!({ "limit": limit })]).await;
        assert_eq!((found, said.as_deref()), (ids(&events[..count]), hint), "limit {limit}");
    }
}

/// The loop of the protocol's text: until `finish`, with `until` at the oldest second received.
#[tokio::test]
async fn a_client_that_pages_meets_every_event() {
    let relay = Relay::start(&["--set", "limits.max_limit=10", "--set", "limits.max_boundary_events=50"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let events = seconds(&keys, now() - 100, &[3, 25, 1, 1, 9, 10, 11, 2]);
    client.put_all(&events).await;
    let (mut met, mut until) = (Vec::new(), u64::MAX);
    for _ in 0..20 {
        let (page, hint) = client.find_any(&[json!({ "until": until })]).await;
        met.extend(page.iter().filter(|id| !met.contains(*id)).cloned().collect::<Vec<_>>());
        if hint.as_deref() == FINISH {
            break;
        }
        let oldest = events.iter().find(|event| event.id().to_hex() == *page.last().unwrap()).unwrap();
        // A whole second was sent, so the next page may begin before it.
        until = oldest.created_at() - 1;
    }
    assert_eq!(met, ids(&events));
}

#[tokio::test]
async fn a_query_past_its_budget_says_neither() {
    let relay = Relay::start(&["--set", "store.query_entries=20", "--set", "store.page_entries=10"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    client.put_all(&seconds(&keys, now() - 1_000, &[1; 60])).await;
    let other = event(&keys, now() - 5_000, 1, &[&["t", "x"], &["u", "y"]], "far down");
    client.put(&other).await;
    let (_, hint) =
        client.find_any(&[json!({ "#t": ["x"], "#u": ["y"], "authors": [keys.public_key()] })]).await;
    // Whichever index was chosen: never a promise that does not hold.
    assert_ne!(hint.as_deref(), MORE);
    let (found, hint) = client.find_any(&[json!({ "kinds": [1], "#t": ["x"], "limit": 100 })]).await;
    assert!(found.len() < 61 && hint.is_none(), "{} events, {hint:?}", found.len());
}
