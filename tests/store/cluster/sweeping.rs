//! What is removed later: by requests to vanish that take long, and by clocks that may be wrong.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use rookery::{
    config,
    protocol::Timestamp,
    route::key::digests,
    store::{Outcome, scylla::Scylla},
};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    cql_server::{ask_server, block_on, count_on_server, nodes_and_keyspace, patient, settings},
    subject::{NOW, Subject, event, gift_wrap, hex, note, soon, user, vanish},
};

/// A request to vanish that takes longer than a statement may is carried out all the same, and what it has looked
/// at is not looked at again.
#[test]
fn a_long_request_to_vanish_goes_on_where_it_stopped() {
    const MENTIONS: u64 = 800;
    // Each answer has two rows, and so many answers take longer than the deadline.
    let ([writer], keyspace) = nodes_and_keyspace(patient());
    let config = config::Scylla { deadline_ms: 250, sweep_rows: 1, sweep_batch: 2, ..settings(&keyspace) };
    let sweeper = Subject::new(block_on(Scylla::open(&config, digests)).unwrap());
    let (alice, bob) = (user(0), user(1));
    let mention = |at| event(&bob, at, 1, &[&["p", &hex(&alice)]], "");
    let mentions: Vec<_> = (0..MENTIONS).map(|n| mention(1_000 + n)).collect();
    let own = [note(&alice, 10, "oldest of all"), gift_wrap(&bob, 11, &alice, "")];
    for batch in mentions.chunks(100) {
        writer.block_on(writer.store().write(batch.into(), NOW, soon())).unwrap();
    }
    writer.write(&own);
    assert_eq!(writer.put(&vanish(&alice, NOW)), Outcome::Stored);
    let left = || count_on_server(&format!("{keyspace}.vanishing"));
    assert_eq!(left(), 1);
    let (before, deadline) = (sweeper.store().load().rows, soon());
    while left() > 0 {
        // A slice of it may be given up.
        let _ = sweeper.block_on(sweeper.store().maintain(0));
        assert!(Instant::now() < deadline, "it finds no end");
    }
    let rows = sweeper.store().load().rows - before;
    // Two passes, the second for what a writer may have left that had not seen the mark.
    assert!((2 * MENTIONS..6 * MENTIONS).contains(&rows), "{rows} rows were read");
    for event in &own {
        assert_eq!(count_on_server(&format!("{keyspace}.event WHERE id = 0x{}", event.id())), 0);
    }
    assert_eq!(writer.find(&format!(r##"{{"#p":["{}"],"limit":5000}}"##, hex(&alice))).len(), mentions.len());
}

/// A clock that was far ahead has gone through the expirations of days to come. What expires then is removed all
/// the same once it is right again.
#[test]
fn a_clock_that_was_ahead_keeps_nothing_from_being_removed() {
    const DAY: Timestamp = 24 * 60 * 60;
    let ([a, b], keyspace) = nodes_and_keyspace(patient());
    let expiring =
        |content, at: Timestamp| event(&user(0), 10, 1, &[&["expiration", &at.to_string()]], content);
    let left = || count_on_server(&format!("{keyspace}.by_expiration"));
    a.maintain(NOW);
    a.put(&expiring("before", NOW + 60));
    a.maintain(NOW + 3 * DAY);
    assert_eq!(left(), 0);
    // In the same hour as the one before, and later than any that there was.
    a.write(&[expiring("soon", NOW + 90), expiring("later", NOW + 2 * DAY)]);
    a.maintain(NOW + 100);
    assert_eq!(left(), 1);
    // Whoever is started later goes on from there, when it knows that the other one does not.
    let deadline = soon();
    while left() > 0 {
        b.maintain(NOW + 2 * DAY);
        assert!(Instant::now() < deadline, "it stays");
    }
}

/// Two others say by the timestamps of their rows that it is an hour earlier than this node takes it to be.
#[test]
fn a_clock_that_is_far_from_those_of_the_others_removes_nothing() {
    let ([a], keyspace) = nodes_and_keyspace(patient());
    // What there is to be removed falls to this node.
    let rank = |origin| xxh3_64_with_seed(b"expired", origin);
    let own = a.store().log().unwrap().origin();
    let others: Vec<u64> = (1..).filter(|origin| rank(*origin) < rank(own)).take(2).collect();
    let tell = |count: u64, behind: Duration| {
        let at = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() - behind;
        for origin in &others {
            ask_server(&format!(
                "INSERT INTO {keyspace}.node (list, origin, head, beats) VALUES (0, {origin}, 0, {count}) \
                 USING TIMESTAMP {}",
                at.as_micros()
            ));
        }
    };
    let until = |is_far: bool, first: u64, behind: Duration| {
        let deadline = soon();
        for count in first.. {
            tell(count, behind);
            a.maintain(NOW);
            if (a.store().load().clock_ahead > 3_000.0) == is_far {
                return count + 1;
            }
            assert!(Instant::now() < deadline, "the clock is not compared");
        }
        unreachable!()
    };
    let count = until(true, 1, Duration::from_secs(3_600));
    let expiring = event(&user(0), 10, 1, &[&["expiration", &(NOW + 60).to_string()]], "");
    assert_eq!(a.put(&expiring), Outcome::Stored);
    let left = || count_on_server(&format!("{keyspace}.by_expiration"));
    a.maintain(NOW + 100);
    assert_eq!(left(), 1);
    // Set right.
    until(false, count, Duration::ZERO);
    a.maintain(NOW + 100);
    assert_eq!(left(), 0);
}
