//! The hint of EOSE (NIP-67): whether what was sent is all there is.

use std::slice::from_ref;

use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};

use common::ask::{event, ids};
use common::{Client, Relay, now};

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
    let relay = Relay::start(&["--set", "limits.max_limit=30", "--set", "lmdb.page_bytes=1000"]);
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
async fn the_last_second_of_a_page_is_whole_for_a_tenth_of_the_limit() {
    let relay = Relay::start(&["--set", "lmdb.page_bytes=1000"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let events = seconds(&keys, now() - 100, &[20, 5, 30, 1]);
    client.put_all(&events).await;
    let small = (1..10).map(|limit| (limit, limit, MORE));
    let larger = [
        (10, 11, MORE),
        (19, 20, MORE),
        (20, 20, MORE),
        (21, 23, MORE),
        (24, 25, MORE),
        (25, 25, MORE),
        (45, 49, MORE),
        (50, 55, MORE),
        (55, 55, MORE),
        (56, 56, FINISH),
        (57, 56, FINISH),
    ];
    for (limit, count, hint) in small.chain(larger) {
        for filter in [
            json!({ "limit": limit }),
            json!({ "authors": [keys.public_key()], "kinds": [1], "limit": limit }),
        ] {
            let (found, said) = client.find_any(&[filter]).await;
            assert_eq!((found, said.as_deref()), (ids(&events[..count]), hint), "limit {limit}");
        }
    }
    // The last page ends with the last second: there is no more.
    let filter = json!({ "since": events[20].created_at(), "limit": 23 });
    assert_eq!(client.find_any(&[filter]).await, (ids(&events[..25]), FINISH.map(str::to_owned)));
}

#[tokio::test]
async fn up_to_a_bound_that_has_a_name() {
    let relay = Relay::start(&["--set", "limits.max_boundary_events=3"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let events = seconds(&keys, now() - 100, &[60]);
    client.put_all(&events).await;
    for (limit, count, hint) in
        [(9, 9, MORE), (10, 11, MORE), (40, 43, MORE), (56, 59, MORE), (57, 60, FINISH), (60, 60, FINISH)]
    {
        let (found, said) = client.find_any(&[json!({ "limit": limit })]).await;
        assert_eq!((found, said.as_deref()), (ids(&events[..count]), hint), "limit {limit}");
    }
}

/// The loop of the protocol's text: until `finish`, with `until` at the oldest second received.
async fn page_through(client: &mut Client, events: &[Event], filter: Value) -> Vec<String> {
    let (mut met, mut until) = (Vec::new(), u64::MAX);
    for _ in 0..events.len() {
        let mut filter = filter.clone();
        filter["until"] = json!(until);
        let (page, hint) = client.find_any(&[filter]).await;
        met.extend(page.iter().filter(|id| !met.contains(*id)).cloned().collect::<Vec<_>>());
        if hint.as_deref() == FINISH {
            return met;
        }
        let oldest = events.iter().find(|event| event.id().to_hex() == *page.last().unwrap()).unwrap();
        until = oldest.created_at();
    }
    panic!("paging finds no end");
}

#[tokio::test]
async fn a_client_that_pages_meets_every_event() {
    let relay = Relay::start(&["--set", "limits.max_limit=10"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    // No second holds as many as a page.
    let events = seconds(&keys, now() - 100, &[3, 9, 9, 1, 1, 9, 8, 9, 2]);
    client.put_all(&events).await;
    assert_eq!(page_through(&mut client, &events, json!({})).await, ids(&events));
    let small = seconds(&Keys::generate(), now() - 200, &[2, 1, 2, 2, 1]);
    client.put_all(&small).await;
    let filter = json!({ "until": now() - 200, "authors": [small[0].pubkey()], "limit": 3 });
    assert_eq!(page_through(&mut client, &small, filter).await, ids(&small));
}

#[tokio::test]
async fn an_answer_is_bounded_in_bytes() {
    let bounds = ["--set", "limits.max_answer_bytes=20000", "--set", "lmdb.page_bytes=5000"];
    let relay = Relay::start(&bounds);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let text = "x".repeat(1_000);
    let mut events: Vec<_> =
        (0..60).map(|n| event(&keys, now() - 100 - n / 2, 1, &[], &format!("{n}{text}"))).collect();
    events.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    client.put_all(&events).await;
    let (found, hint) = client.find_any(&[json!({})]).await;
    assert_eq!((&found[..], hint.as_deref()), (&ids(&events[..found.len()])[..], MORE));
    // The bound, and a page and an event beyond it.
    let bytes: usize = events[..found.len()].iter().map(|event| event.json().len()).sum();
    assert!((20_000..27_000).contains(&bytes), "{bytes}");
    assert_eq!(page_through(&mut client, &events, json!({})).await, ids(&events));
    // What ends where the bound is has no more.
    let oldest = events[found.len() - 1].created_at();
    let whole = events.iter().filter(|event| event.created_at() >= oldest).count();
    if whole == found.len() {
        let (again, hint) = client.find_any(&[json!({ "since": oldest })]).await;
        assert_eq!((again, hint.as_deref()), (found, FINISH));
    }
}

#[tokio::test]
async fn a_query_past_its_budget_says_neither() {
    let relay = Relay::start(&["--set", "lmdb.query_entries=20", "--set", "lmdb.page_entries=10"]);
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
