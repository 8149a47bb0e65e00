//! How many statements it takes to write and to read.

use std::time::{Duration, Instant};

use rookery::{
    config,
    store::{End, Outcome},
};

use crate::{
    cql_server::{nodes, patient},
    subject::{NOW, event, in_order, soon, user},
};

/// What a filter names is looked up once, however many pages the answer has, and counted once.
#[test]
fn the_bound_of_a_question_counts_what_is_sent_for_all_its_pages() {
    const NOTES: usize = 200;
    for (query_rows, end) in [(8_000, End::Finish), (2_000, End::Unknown)] {
        let config = config::Scylla { page_bytes: 1, query_rows, ..patient() };
        let [store] = nodes(config);
        let tag = |n: usize| format!("t{n}");
        let notes: Vec<_> =
            (0..NOTES).map(|n| event(&user(0), n as u64, 1, &[&["t", &tag(n)]], "")).collect();
        store.block_on(store.store().write(notes[..].into(), NOW, soon())).unwrap();
        let ids: Vec<String> = notes.iter().map(|note| note.id().to_hex()).collect();
        let tags: Vec<String> = (0..NOTES).map(tag).collect();
        for (name, values) in [("ids", ids), ("#t", tags)] {
            let before = store.store().load().sent;
            let answer = store.ask(&[&serde_json::json!({ name: values }).to_string()]);
            let sent = store.store().load().sent - before;
            assert_eq!(answer.end, end, "{name} within {query_rows}");
            assert_eq!(end == End::Finish, answer.ids == in_order(&notes), "{name} within {query_rows}");
            // Two for each value, one for each event, and what the first page read beyond its end.
            assert!(sent < 4 * NOTES as u64, "{sent} for {name} within {query_rows}");
        }
    }
}

/// What documents say of the cost: a change of these numbers is one of theirs.
#[test]
fn what_is_written_and_read_takes_so_many_statements() {
    let [a, b] = nodes(patient());
    let alice = user(0);
    // Some are sent once a second, or once for 512 rows: what is sent each time is the least of several times.
    let least = |work: &mut dyn FnMut()| {
        let count = |_| {
            let before = a.store().load().sent;
            work();
            a.store().load().sent - before
        };
        (0..5).map(count).min().unwrap()
    };
    let mut at = 0;
    let mut writes = |kind: u16, tags: &[&[&str]]| {
        least(&mut || {
            at += 1;
            // A contact list is the first of its author, or the one before would have to go.
            let author = if kind == 3 { user(at as u8) } else { alice.clone() };
            let event = event(&author, at, kind, tags, "");
            let until = Instant::now() + Duration::from_secs(60);
            let written = a.block_on(a.store().write([event].into(), NOW, until)).unwrap();
            assert_eq!(written.outcomes, [Outcome::Stored]);
        })
    };
    assert_eq!(writes(1, &[]), 11);
    assert_eq!(writes(1, &[&["t", "x"]]), 12);
    let follows: Vec<String> = (0..500).map(|n| format!("{n:064x}")).collect();
    let follows: Vec<[&str; 2]> = follows.iter().map(|follow| ["p", follow.as_str()]).collect();
    let follows: Vec<&[&str]> = follows.iter().map(|follow| &follow[..]).collect();
    assert_eq!(writes(3, &follows), 518);
    a.block_on(a.store().log().unwrap().send_heartbeat()).unwrap();
    let author = alice.public_key();
    for (asked, statements) in [
        (format!(r#"{{"authors":["{author}"],"kinds":[1],"limit":1}}"#), 2),
        (format!(r#"{{"authors":["{author}"],"limit":1}}"#), 3),
        (r#"{"kinds":[1],"limit":1}"#.into(), 2),
        (r##"{"#t":["x"],"limit":1}"##.into(), 4),
    ] {
        let reads = least(&mut || {
            assert_eq!(b.find(&asked).len(), 1, "{asked}");
        });
        assert_eq!(reads, statements, "{asked}");
    }
}
