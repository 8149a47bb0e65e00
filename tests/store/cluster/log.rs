//! The logs of nodes: what was written, and what is settled.

use std::time::{Duration, Instant};

use rookery::{route::key::digests, store::Outcome};

use crate::{
    cql_server::{nodes, patient},
    subject::{NOW, ids, note, user},
};

/// What a node writes is in its log, in the order of its batches, for all to read.
#[test]
fn the_log_tells_what_was_written() {
    // More than a partition of it has.
    const BATCHES: u64 = 70;
    let [a, b] = nodes(patient());
    let alice = user(0);
    let notes: Vec<_> = (1..=BATCHES).map(|at| note(&alice, at, "")).collect();
    for note in &notes {
        assert_eq!(a.put(note), Outcome::Stored);
    }
    let (log, other) = (a.store().log().unwrap(), b.store().log().unwrap());
    assert_ne!(log.origin(), other.origin());
    a.block_on(log.send_heartbeat()).unwrap();
    let heartbeats = b.block_on(other.heartbeats()).unwrap();
    let heartbeat = heartbeats.iter().find(|heartbeat| heartbeat.origin == log.origin()).unwrap();
    assert_eq!(heartbeat.head, BATCHES);
    assert!(heartbeat.count >= 2);
    // A process is listed when it first writes.
    assert!(heartbeats.iter().all(|heartbeat| heartbeat.origin != other.origin()));

    let read_all = |from| {
        let (mut end, mut all) = (from, Vec::new());
        loop {
            let batches = b.block_on(other.read(log.origin(), end, heartbeat.head)).unwrap();
            let Some(last) = batches.last() else { return all };
            end = last.sequence;
            all.extend(batches);
        }
    };
    let logged = read_all(0);
    assert!(logged.iter().map(|batch| batch.sequence).eq(1..=BATCHES));
    for (batch, note) in logged.iter().zip(&notes) {
        assert_eq!(batch.entries.len(), 1);
        assert_eq!(batch.entries[0].id, note.id());
        let mut expected = digests(note);
        expected.sort_unstable();
        assert_eq!(batch.entries[0].digests.as_deref(), Some(&expected[..]));
    }
    assert!(read_all(65).iter().map(|batch| batch.sequence).eq(66..=BATCHES));
}

/// Whoever is sent a copy soon after takes care that the event is heard of: its first writer may be gone.
#[test]
fn a_young_duplicate_is_logged_once_more() {
    let [a, b] = nodes(patient());
    let event = note(&user(0), 10, "");
    assert_eq!(a.put(&event), Outcome::Stored);
    let written = b.write_at(NOW, [&event, &event]);
    assert_eq!((written.outcomes, written.again), (vec![Outcome::Duplicate; 2], vec![0, 1]));
    let log = b.store().log().unwrap();
    assert_eq!(written.sequence, Some(1));
    let logged = a.block_on(log.read(log.origin(), 0, 1)).unwrap();
    assert!(logged[0].entries.iter().all(|entry| entry.id == event.id()));
    // A copy in the same batch is none of those.
    let fresh = note(&user(0), 11, "");
    let written = b.write_at(NOW, [&fresh, &fresh]);
    assert_eq!((written.outcomes, written.again), (vec![Outcome::Stored, Outcome::Duplicate], vec![]));
}

/// Whoever was told that a batch is settled believes its rows, and takes its copies for old ones. Both are the
/// same for as long as nobody has told.
#[test]
fn what_is_settled_needs_no_second_look() {
    let [a, b] = nodes(patient());
    let event = note(&user(0), 10, "");
    assert_eq!(a.put(&event), Outcome::Stored);
    assert_eq!(b.all(), ids([&event]));
    a.block_on(a.store().log().unwrap().send_heartbeat()).unwrap();
    let deadline = Instant::now() + Duration::from_secs(30);
    while !b.write_at(NOW, [&event]).again.is_empty() {
        assert!(Instant::now() < deadline, "it is never settled");
    }
    assert_eq!(b.all(), ids([&event]));
}
