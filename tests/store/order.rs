//! Order, limits, the boundary second and the hint at the end (NIP-01, NIP-67).

use std::sync::Arc;

use rookery::{
    protocol::Event,
    store::{End, Limit, Query},
};

use crate::subject::{Open, Subject, filter, ids, in_order, note, query, user};

/// Notes at the given times, written in one batch.
fn notes(store: &Subject, times: &[u64]) -> Vec<Arc<Event>> {
    let notes: Vec<_> =
        times.iter().enumerate().map(|(n, &at)| note(&user(n as u8 % 3), at, &n.to_string())).collect();
    store.write(&notes);
    notes
}

pub fn is_newest_first_then_lowest_id(open: Open) {
    let store = open();
    let notes = notes(&store, &[5, 7, 6, 7, 7, 5, 300, 256, 255, 65_536, 7]);
    assert_eq!(store.all(), in_order(&notes));
}

pub fn does_not_depend_on_arrival(open: Open) {
    let notes: Vec<_> = (0..12).map(|n| note(&user(0), 50 + n % 4, &n.to_string())).collect();
    for turn in [0, 5, 9] {
        let store = open();
        let mut turned = notes.clone();
        turned.rotate_left(turn);
        for note in turned.iter().rev() {
            store.put(note);
        }
        assert_eq!(store.all(), in_order(&notes));
    }
}

pub fn limits_take_the_newest(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[1, 2, 3, 4, 5, 5, 5]));
    for limit in 1..sorted.len() {
        let answer = store.ask(&[&format!(r#"{{"limit":{limit}}}"#)]);
        assert_eq!(answer.ids, sorted[..limit]);
        assert_eq!(answer.end, End::More, "limit {limit}");
    }
}

pub fn limits_at_the_exact_number_say_finish(open: Open) {
    let store = open();
    notes(&store, &[1, 2, 3]);
    for (limit, end) in [(2, End::More), (3, End::Finish), (4, End::Finish)] {
        assert_eq!(store.ask(&[&format!(r#"{{"limit":{limit}}}"#)]).end, end, "limit {limit}");
        // What does not match is no more.
        let json = format!(r#"{{"limit":{limit},"since":2}}"#);
        assert_eq!(store.ask(&[&json]).end, End::Finish, "{json}");
    }
    assert_eq!(store.ask(&[r#"{"kinds":[7],"limit":1}"#]).end, End::Finish);
    assert_eq!(open().ask(&["{}"]).end, End::Finish);
}

pub fn limit_zero_says_nothing(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[1, 2, 3]));
    let answer = store.ask(&[r#"{"limit":0}"#]);
    assert!(answer.ids.is_empty());
    assert_eq!(answer.end, End::Unknown);
    let answer = store.ask(&[r#"{"limit":0}"#, r#"{"since":2}"#]);
    assert_eq!(answer.ids, sorted[..2]);
    assert_eq!(answer.end, End::Unknown);
}

/// A relay caps what a client writes: the filter's own field has no say here.
pub fn the_limit_is_that_of_the_query(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[1, 2, 3, 4]));
    for (json, limit) in [(r#"{"limit":1}"#, 3), (r#"{"limit":4}"#, 2), ("{}", 1), (r#"{"limit":0}"#, 2)] {
        let mut query = query([filter(json)]);
        query.filters[0].1 = Limit::exactly(limit);
        assert_eq!(store.answer(query).ids, sorted[..limit], "{json}, {limit}");
    }
}

fn bounded(json: &str, boundary: usize) -> Query {
    let mut query = query([filter(json)]);
    query.filters[0].1.boundary = boundary;
    query
}

pub fn the_boundary_second_is_completed(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[9, 8, 8, 8, 8, 7, 7, 6]));
    for (limit, sent, end) in [
        (1, 1, End::More),
        (2, 5, End::More),
        (3, 5, End::More),
        (4, 5, End::More),
        (5, 5, End::More),
        (6, 7, End::More),
        (7, 7, End::More),
        (8, 8, End::Finish),
        (9, 8, End::Finish),
    ] {
        let answer = store.answer(bounded(&format!(r#"{{"limit":{limit}}}"#), 10));
        assert_eq!(answer.ids, sorted[..sent], "limit {limit}");
        assert_eq!(answer.end, end, "limit {limit}");
    }
    // The last second of all: completing it finishes.
    assert_eq!(store.answer(bounded(r#"{"limit":6,"since":7}"#, 10)).end, End::Finish);
}

pub fn the_boundary_has_a_cap(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[9, 8, 8, 8, 8]));
    for (limit, boundary, sent, end) in [
        (2, 0, 2, End::More),
        (2, 1, 3, End::More),
        (2, 2, 4, End::More),
        (2, 3, 5, End::Finish),
        (2, 4, 5, End::Finish),
        (4, 1, 5, End::Finish),
        (1, 3, 1, End::More),
    ] {
        let answer = store.answer(bounded(&format!(r#"{{"limit":{limit}}}"#), boundary));
        assert_eq!(answer.ids, sorted[..sent], "limit {limit}, boundary {boundary}");
        assert_eq!(answer.end, end, "limit {limit}, boundary {boundary}");
    }
}

pub fn several_filters_are_one_answer(open: Open) {
    let store = open();
    let sorted = in_order(&notes(&store, &[1, 2, 3, 4, 5, 6]));
    let answer =
        store.ask(&[r#"{"until":3}"#, r#"{"since":3,"until":5}"#, r#"{"kinds":[1],"since":5}"#, "{}"]);
    assert_eq!(answer.ids, sorted);
    assert_eq!(answer.end, End::Finish);
    let answer = store.ask(&[r#"{"until":1}"#, r#"{"since":5}"#, r#"{"since":5}"#]);
    assert_eq!(answer.ids, [&sorted[..2], &sorted[5..]].concat());
}

pub fn each_filter_has_its_own_limit(open: Open) {
    let store = open();
    let (alice, bob) = (user(0), user(1));
    let of = |keys, times: [u64; 4]| times.map(|at| note(keys, at, ""));
    let (alices, bobs) = (of(&alice, [10, 20, 30, 40]), of(&bob, [11, 21, 31, 41]));
    store.write(alices.iter().chain(&bobs));
    let by = |keys, limit| format!(r#"{{"authors":["{}"],"limit":{limit}}}"#, crate::subject::hex(keys));

    let answer = store.ask(&[&by(&alice, 3), &by(&bob, 1)]);
    assert_eq!(answer.ids, ids([&bobs[3], &alices[3], &alices[2], &alices[1]]));
    assert_eq!(answer.end, End::More);
    // An event that two filters match counts for both.
    let answer = store.ask(&[&by(&alice, 1), r#"{"limit":2}"#]);
    assert_eq!(answer.ids, ids([&bobs[3], &alices[3]]));
    let answer = store.ask(&[&by(&alice, 4), &by(&bob, 4)]);
    assert_eq!(answer.ids, in_order(alices.iter().chain(&bobs)));
    assert_eq!(answer.end, End::Finish);
}

/// As clients ask that want the newest event of each author.
pub fn hundreds_of_filters_are_one_answer(open: Open) {
    let store = open();
    let notes: Vec<_> =
        (0..150).map(|n| note(&user(n % 50), 1_000 - u64::from(n / 3), &n.to_string())).collect();
    store.write(&notes);
    let newest = |number| in_order(notes.iter().filter(|note| note.pubkey() == user(number).public_key()))[0];
    let expected: Vec<_> = (0..50).map(newest).collect();
    let mut filters: Vec<String> = (0..50)
        .map(|number| {
            format!(r#"{{"authors":["{}"],"kinds":[1],"limit":1}}"#, crate::subject::hex(&user(number)))
        })
        .collect();
    // As many again that find nothing, nothing more, and what others have found.
    filters.extend((0..50).map(|number| format!(r##"{{"#t":["{number}"],"limit":1}}"##)));
    filters.extend((0..50).map(|number| format!(r#"{{"ids":["{}"]}}"#, expected[number])));
    filters.extend((0..50).map(|_| r#"{"kinds":[1],"limit":1}"#.to_owned()));
    let filters: Vec<&str> = filters.iter().map(String::as_str).collect();
    let answer = store.ask(&filters);
    let sorted = in_order(notes.iter().filter(|note| expected.contains(&note.id())));
    assert_eq!((answer.ids, answer.end), (sorted, End::More));
}

pub fn no_filter_is_no_event(open: Open) {
    let store = open();
    notes(&store, &[1, 2]);
    let answer = store.ask(&[]);
    assert!(answer.ids.is_empty());
    assert_eq!(answer.end, End::Finish);
    assert_eq!(store.count(query([])).count, 0);
}

pub fn the_hint_says_more_only_of_what_was_not_sent(open: Open) {
    let store = open();
    notes(&store, &[1, 2, 3]);
    for (limits, sent, end) in
        [(vec![1, 10], 3, End::Finish), (vec![1, 2], 2, End::More), (vec![3], 3, End::Finish)]
    {
        let filters =
            limits.iter().map(|&limit| (filter(r#"{"kinds":[1]}"#), Limit::exactly(limit))).collect();
        let answer = store.answer(Query { filters, ..query([filter("{}")]) });
        assert_eq!((answer.ids.len(), answer.end), (sent, end), "{limits:?}");
    }
}
