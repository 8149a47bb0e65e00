//! Writers that are gone: others finish what they have begun, and forget them.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rookery::{
    protocol::{Event, Timestamp},
    route::key::digests,
    store::{
        Outcome,
        scylla::{CqlConnection, Scylla, apply_schema},
    },
};

use crate::{
    cql_server::{
        ONE_REPLICA, ask_server, block_on, count_on_server, new_name, nodes_and_keyspace, patient, settings,
    },
    subject::{NOW, Subject, event, note, user},
};

/// For how long a persister tries what it is given.
const TRIED_FOR: Duration = Duration::from_secs(60);

/// What nobody needs any more goes: drafts when their batches are settled, and a process that is gone for good when
/// nothing of it is left. Its rows are believed then.
#[test]
fn who_is_gone_is_forgotten_when_nothing_is_left_of_it() {
    // More than two partitions of drafts have.
    const BATCHES: u64 = 140;
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let open = || {
        let connection = Arc::new(block_on(CqlConnection::open(&config)).unwrap());
        Subject::new(Scylla::over(connection, &config, digests))
    };
    let count = |table: &str| count_on_server(&format!("{}.{table}", config.keyspace)) as u64;
    let (gone, left) = (open(), open());
    let notes: Vec<_> = (1..=BATCHES + 1).map(|at| note(&user(0), at, "")).collect();
    let write = |note: &Arc<Event>| {
        let until = Instant::now() + Duration::from_secs(60);
        gone.block_on(gone.store().write([note.clone()].into(), NOW, until)).unwrap();
    };
    let (last, before) = notes.split_last().unwrap();
    before.iter().for_each(write);
    assert_eq!((count("draft"), count("writer")), (BATCHES, 1));
    assert!(gone.block_on(gone.store().abandoned(TRIED_FOR)).unwrap().is_empty());
    // Numbers begin with 1.
    assert_eq!(count("draft"), BATCHES - 127);
    // As if it had not come to the end of the last one, nor told of it.
    write(last);
    ask_server(&format!("DELETE FROM {}.event WHERE id = 0x{}", config.keyspace, last.id()));
    drop(gone);
    // As if hours had passed.
    ask_server(&format!("DELETE FROM {}.node WHERE list = 0", config.keyspace));
    let deadline = Instant::now() + Duration::from_secs(60);
    let mut finished = Vec::new();
    // Who writes again is listed itself.
    while count("writer") > u64::from(!finished.is_empty()) {
        assert!(Instant::now() < deadline, "it stays on the list");
        let abandoned = left.block_on(left.store().abandoned(TRIED_FOR)).unwrap();
        finished.extend(abandoned.iter().cloned().zip(left.write(&abandoned)));
    }
    assert_eq!(finished, [(last.clone(), Outcome::Stored)]);
    assert_eq!(left.all().len(), before.len());
}

/// What expires while it is half written goes as well, whoever finishes it: but not before it has by all clocks, and
/// until then it is not forgotten.
#[test]
fn what_expires_half_written_is_cleared_away() {
    const EXPIRES: Timestamp = NOW + 10;
    let ([gone, left], keyspace) = nodes_and_keyspace(patient());
    let event = event(&user(0), 10, 1, &[&["expiration", &EXPIRES.to_string()], &["t", "x"]], "");
    assert_eq!(gone.put(&event), Outcome::Stored);
    // As if it had not come to that.
    ask_server(&format!("DELETE FROM {keyspace}.event WHERE id = 0x{}", event.id()));
    let deadline = Instant::now() + Duration::from_secs(60);
    let until_abandoned = || loop {
        // Whoever tries for no time is given it again at once.
        let abandoned = left.block_on(left.store().abandoned(Duration::ZERO)).unwrap();
        if !abandoned.is_empty() {
            break abandoned;
        }
        assert!(Instant::now() < deadline, "nobody misses its writer");
    };
    assert!(left.all().is_empty() && until_abandoned() == std::slice::from_ref(&event));
    let rows = || {
        ["by_author", "by_kind", "by_tag", "by_time"]
            .map(|table| count_on_server(&format!("{keyspace}.{table}")))
    };
    // By the clock of its writer it may be valid yet.
    assert_eq!(left.write_at(EXPIRES, [&event]).outcomes, [Outcome::Expired]);
    assert_eq!(rows(), [1; 4]);
    while rows() != [0; 4] {
        assert_eq!(until_abandoned(), std::slice::from_ref(&event));
        // By then it has by all, if the clocks of those that there are agree.
        left.block_on(left.store().maintain(EXPIRES)).unwrap();
        assert_eq!(left.write_at(EXPIRES, [&event]).outcomes, [Outcome::Expired]);
    }
    assert!(left.all().is_empty());
}

/// What another node has finished of a process while it was merely stopped says nothing of what it leaves later: it
/// has come further since, and its drafts of before are gone.
#[test]
fn who_comes_back_leaves_something_else_later() {
    // More than two partitions of drafts have.
    const BATCHES: u64 = 140;
    let ([gone, left], keyspace) = nodes_and_keyspace(patient());
    let half_written = |at| {
        let note = note(&user(0), at, "");
        assert_eq!(gone.put(&note), Outcome::Stored);
        // As if it had not come to that.
        ask_server(&format!("DELETE FROM {keyspace}.event WHERE id = 0x{}", note.id()));
        note
    };
    let deadline = Instant::now() + Duration::from_secs(120);
    let until_abandoned = || loop {
        let abandoned = left.block_on(left.store().abandoned(TRIED_FOR)).unwrap();
        if !abandoned.is_empty() {
            break abandoned;
        }
        assert!(Instant::now() < deadline, "nobody misses it");
    };
    let first = half_written(1);
    assert_eq!(until_abandoned(), std::slice::from_ref(&first));
    assert_eq!(left.put(&first), Outcome::Stored);
    // It goes on, and tells how far it has come.
    for at in 2..BATCHES {
        assert_eq!(gone.put(&note(&user(0), at, "")), Outcome::Stored);
    }
    assert!(gone.block_on(gone.store().abandoned(TRIED_FOR)).unwrap().is_empty());
    let last = half_written(BATCHES);
    drop(gone);
    // As if hours had passed.
    ask_server(&format!("DELETE FROM {keyspace}.node WHERE list = 0"));
    assert_eq!(until_abandoned(), [last]);
}

/// A process that ends in order leaves nothing for others to finish, and may write again all the same.
#[test]
fn who_leaves_in_order_leaves_nothing() {
    let ([first, second], keyspace) = nodes_and_keyspace(patient());
    let count = |table: &str| count_on_server(&format!("{keyspace}.{table}"));
    let notes: Vec<_> = (1..=3).map(|at| note(&user(0), at, "")).collect();
    let leave = || first.block_on(first.store().leave()).unwrap();
    leave();
    assert_eq!((count("draft"), count("writer")), (0, 0), "nothing was begun");
    for note in &notes[..2] {
        assert_eq!(first.put(note), Outcome::Stored);
    }
    assert_eq!((count("draft"), count("writer")), (2, 1));
    leave();
    assert_eq!((count("draft"), count("writer")), (0, 0));
    // Of whoever is not listed, everything is believed.
    assert_eq!(second.all().len(), 2);
    assert_eq!(first.put(&notes[2]), Outcome::Stored);
    assert_eq!((count("draft"), count("writer")), (1, 1));
}
