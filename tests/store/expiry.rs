//! Expiration (NIP-40): at the second it names an event is over, swept or not.

use std::sync::Arc;

use rookery::{
    protocol::{Event, EventId, Timestamp},
    store::{Cursor, Outcome, Outcome::*, Query},
};

use crate::subject::{Open, Subject, event, filter, ids, query, user};

fn until(at: u64, kind: u16, expiration: u64, content: &str) -> Arc<Event> {
    event(&user(0), at, kind, &[&["expiration", &expiration.to_string()]], content)
}

fn put(store: &Subject, now: Timestamp, event: &Arc<Event>) -> Outcome {
    store.write_at(now, [event]).outcomes[0]
}

fn found(store: &Subject, now: Timestamp) -> Vec<EventId> {
    let query = Query { now, ..query([filter("{}")]) };
    let answer = store.answer(query.clone());
    assert_eq!(store.count(query).count, answer.ids.len() as u64);
    answer.ids
}

pub fn hides_at_the_second(open: Open) {
    let store = open();
    let (stays, goes) = (event(&user(0), 10, 1, &[], ""), until(11, 1, 100, ""));
    assert_eq!(store.write_at(50, [&stays, &goes]).outcomes, [Stored, Stored]);
    assert_eq!(found(&store, 99), ids([&goes, &stays]));
    assert_eq!(found(&store, 100), ids([&stays]));
    assert_eq!(found(&store, 101), ids([&stays]));
    let by_id = query([filter(&format!(r#"{{"ids":["{}"]}}"#, goes.id()))]);
    assert_eq!(store.answer(Query { now: 100, ..by_id.clone() }).ids, ids([]));
    assert_eq!(store.answer(Query { now: 99, ..by_id }).ids, ids([&goes]));
    // What is hidden uses up no limit.
    let newest = query([filter(r#"{"limit":1}"#)]);
    let answer = store.answer(Query { now: 100, ..newest });
    assert_eq!((answer.ids, answer.end), (ids([&stays]), rookery::store::End::Finish));
}

pub fn refuses_what_is_over(open: Open) {
    let store = open();
    let event = until(10, 1, 100, "");
    assert_eq!(put(&store, 100, &event), Expired);
    assert_eq!(put(&store, 101, &event), Expired);
    assert_eq!(found(&store, 0), ids([]));
    assert_eq!(put(&store, 99, &event), Stored);
    assert_eq!(put(&store, 99, &event), Duplicate);
    assert_eq!(put(&store, 100, &event), Expired);
    assert_eq!(put(&store, 50, &until(10, 1, 0, "")), Expired);
}

pub fn sweeps(open: Open) {
    let store = open();
    let events: Vec<_> = (0..40).map(|n| until(10 + n, 1, 100 + n, "")).collect();
    let forever = event(&user(0), 5, 1, &[], "");
    store.write_at(50, events.iter().chain([&forever]));
    store.maintain(119);
    let left = store.answer(Query { now: 0, ..query([filter("{}")]) });
    let expected: Vec<_> = events[20..].iter().rev().chain([&forever]).map(|event| event.id()).collect();
    assert_eq!(left.ids, expected);
    store.maintain(119);
    store.maintain(1_000);
    assert_eq!(found(&store, 0), ids([&forever]));
    // Nothing of it is left in the way.
    assert_eq!(put(&store, 50, &events[0]), Stored);
    assert_eq!(found(&store, 50), ids([&events[0], &forever]));
    let query = Arc::new(query([filter("{}")]));
    let page = store.block_on(store.store().query(query.clone(), Cursor::start(&query))).unwrap();
    assert!(page.bytes() > 0);
}

pub fn of_a_winner_brings_nothing_back(open: Open) {
    for kind in [0, 30_023] {
        for swept in [false, true] {
            let store = open();
            let [old, middle] = [10, 15].map(|at| event(&user(0), at, kind, &[], ""));
            let winner = until(20, kind, 100, "");
            assert_eq!(store.write_at(50, [&old, &winner]).outcomes, [Stored, Stored]);
            if swept {
                store.maintain(100);
            }
            assert_eq!(found(&store, 100), ids([]));
            assert_eq!(
                store.write_at(100, [&old, &middle, &winner]).outcomes,
                [Superseded, Superseded, Expired]
            );
            let next = event(&user(0), 21, kind, &[], "");
            assert_eq!(put(&store, 100, &next), Stored);
            assert_eq!(found(&store, 100), ids([&next]));
            store.maintain(200);
            assert_eq!(found(&store, 200), ids([&next]));
        }
    }
}

pub fn reads_the_first_number(open: Open) {
    let store = open();
    let tagged = |content, tags: &[&[&str]]| event(&user(0), 10, 1, tags, content);
    let forever = [
        tagged("none", &[&["expiration"]]),
        tagged("word", &[&["expiration", "soon"]]),
        tagged("empty", &[&["expiration", ""]]),
        tagged("negative", &[&["expiration", "-1"]]),
        tagged("other", &[&["Expiration", "60"]]),
        tagged("huge", &[&["expiration", "18446744073709551615"]]),
    ];
    let second = tagged("second", &[&["expiration", "x"], &["expiration", "60"], &["expiration", "70"]]);
    assert!(store.write_at(50, &forever).outcomes.iter().all(|&outcome| outcome == Stored));
    assert_eq!(put(&store, 60, &second), Expired);
    assert_eq!(put(&store, 50, &second), Stored);
    store.maintain(60);
    assert_eq!(found(&store, 1 << 62).len(), forever.len());
}

/// A deletion request that is over deleted what it deleted.
pub fn of_a_request_leaves_its_marks(open: Open) {
    let store = open();
    let target = event(&user(0), 10, 1, &[], "");
    let id = target.id().to_hex();
    let request = event(&user(0), 20, 5, &[&["e", &id], &["expiration", "100"]], "");
    assert_eq!(store.write_at(50, [&target, &request]).outcomes, [Stored, Stored]);
    store.maintain(100);
    assert_eq!(found(&store, 100), ids([]));
    assert_eq!(put(&store, 100, &target), Deleted);
}
