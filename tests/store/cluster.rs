//! What only a store of several nodes can get wrong: its tables, and nodes that write at the same time.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use proptest::{
    strategy::{Strategy, ValueTree},
    test_runner::TestRunner,
};
use rookery::{
    config,
    protocol::{Event, Fields, Timestamp, kind},
    route::key::digests,
    store::{
        Cursor, End, Outcome, StoreError,
        memory::Memory,
        scylla::{CqlConnection, OpenError, Scylla, apply_schema},
    },
};
use tokio::join;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    cql_server::{
        ask_server, block_on, count_on_server, new_name, nodes, nodes_and_keyspace, patient, settings,
    },
    subject::{
        NOW, Subject, delete, event, filter, gift_wrap, hex, ids, in_order, note, query, soon, user, vanish,
    },
    universe::{BEGINNING, cases},
};
use common::proxy::{Flow, Proxy};

const ONE_REPLICA: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

#[test]
fn several_nodes_may_apply_the_schema_at_once_and_again() {
    let config = settings(&new_name());
    assert!(matches!(block_on(CqlConnection::open(&config)), Err(OpenError::NoKeyspace(_))));
    block_on(async {
        let apply = || apply_schema(&config, ONE_REPLICA);
        let (a, b, c) = join!(apply(), apply(), apply());
        a.unwrap();
        b.unwrap();
        c.unwrap();
        CqlConnection::open(&config).await.unwrap();
        apply().await.unwrap();
        CqlConnection::open(&config).await.unwrap();
    });
    ask_server(&format!("DROP KEYSPACE {}", config.keyspace));
}

/// Tables of earlier versions of the program get what they lack, and nothing is lost.
#[test]
fn what_tables_lack_is_added() {
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let keyspace = &config.keyspace;
    for lacking in
        ["ALTER TABLE by_author DROP written_by", "ALTER TABLE node DROP settled", "DROP TABLE draft"]
    {
        ask_server(&lacking.replace("TABLE ", &format!("TABLE {keyspace}.")));
    }
    let refused = block_on(CqlConnection::open(&config)).map(drop).unwrap_err();
    assert!(refused.to_string().contains("rookery schema apply"), "{refused}");
    block_on(async {
        let (a, b) = join!(apply_schema(&config, ONE_REPLICA), apply_schema(&config, ONE_REPLICA));
        a.unwrap();
        b.unwrap();
        CqlConnection::open(&config).await.unwrap();
    });
    ask_server(&format!("DROP KEYSPACE {keyspace}"));
}

#[test]
fn newer_tables_are_refused() {
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let keyspace = &config.keyspace;
    ask_server(&format!(
        "INSERT INTO {keyspace}.meta (name, value) VALUES ('schema', '999') USING TIMESTAMP 999"
    ));
    for result in
        [block_on(apply_schema(&config, ONE_REPLICA)), block_on(CqlConnection::open(&config)).map(drop)]
    {
        assert!(matches!(&result, Err(OpenError::Version { found, .. }) if found == "999"), "{result:?}");
    }
    ask_server(&format!("DROP KEYSPACE {keyspace}"));
}

#[test]
fn consistencies_that_need_not_meet_are_refused() {
    let one = || "ONE".to_owned();
    let config =
        config::Scylla { read_consistency: one(), write_consistency: one(), ..settings(&new_name()) };
    let three = ONE_REPLICA.replace('1', "3");
    block_on(apply_schema(&config, &three)).unwrap();
    let refused = block_on(CqlConnection::open(&config)).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::NoOverlap { .. }), "{refused}");
    let unknown = config::Scylla { read_consistency: "MOST".into(), ..config.clone() };
    let refused = block_on(CqlConnection::open(&unknown)).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Consistency { .. }), "{refused}");
    ask_server(&format!("DROP KEYSPACE {}", config.keyspace));
}

#[test]
fn a_node_reads_what_another_wrote() {
    let [a, b] = nodes(patient());
    let alice = user(0);
    let [first, second] = [10, 20].map(|at| event(&alice, at, 0, &[], ""));
    assert_eq!(a.put(&first), Outcome::Stored);
    assert_eq!(b.all(), ids([&first]));
    assert_eq!(b.put(&first), Outcome::Duplicate);
    assert_eq!(b.put(&second), Outcome::Stored);
    assert_eq!(a.all(), ids([&second]));
    assert_eq!(a.put(&first), Outcome::Superseded);
    let target = note(&alice, 5, "");
    let request = delete(&alice, 6, &target);
    assert_eq!(a.put(&target), Outcome::Stored);
    assert_eq!(b.put(&request), Outcome::Stored);
    assert_eq!(a.all(), ids([&second, &request]));
    assert_eq!(a.put(&target), Outcome::Deleted);
}

/// Nothing is acknowledged that is not stored, reads fail instead of missing something, and it all goes on
/// by itself.
#[test]
fn a_store_that_is_away_is_said_to_be_and_comes_back() {
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let proxy = block_on(Proxy::start(config.nodes[0].clone()));
    let through = config::Scylla {
        nodes: vec![proxy.address.to_string()],
        deadline_ms: 500,
        request_timeout_ms: 200,
        ..config.clone()
    };
    let store = Subject::new(block_on(Scylla::open(&through, digests)).unwrap());
    let (before, during) = (note(&user(0), 10, "before"), note(&user(0), 11, "during"));
    assert_eq!(store.put(&before), Outcome::Stored);

    proxy.set(Flow::Cut);
    let query = Arc::new(query([filter("{}")]));
    let ask = || store.block_on(store.store().query(query.clone(), Cursor::start(&query)));
    let begun = Instant::now();
    let written = store.block_on(store.store().write([during.clone()].into(), NOW, soon()));
    assert!(matches!(written, Err(StoreError::Engine(_))), "{written:?}");
    assert!(matches!(ask(), Err(StoreError::Engine(_))));
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());

    proxy.set(Flow::Open);
    let deadline = Instant::now() + Duration::from_secs(30);
    while ask().is_err() {
        assert!(Instant::now() < deadline, "it does not come back");
    }
    assert_eq!(store.all(), ids([&before]));
    assert_eq!(store.put(&during), Outcome::Stored);
    assert_eq!(store.all(), ids([&during, &before]));
    drop(store);
    ask_server(&format!("DROP KEYSPACE {}", config.keyspace));
}

/// Whatever the order, whichever the node, and two at a time: the same events leave the same behind, and the same
/// of them lasts. Deletion requests that vanish are left out: what these have done stays done, but they do nothing
/// when they come after the request to vanish.
#[test]
fn nodes_that_write_at_the_same_time_come_to_the_same() {
    const STORIES: usize = 15;
    const NOW: Timestamp = BEGINNING;
    /// When all has expired that does.
    const LATER: Timestamp = BEGINNING + 100;
    let mut runner = TestRunner::deterministic();
    for story in 0..STORIES {
        let case = cases().new_tree(&mut runner).unwrap().current();
        let all = case.events();
        let vanishes = |event: &Event| {
            let takes = |request: &Event| {
                request.kind() == kind::VANISH && event.vanishes_with(&request.pubkey(), request.created_at())
            };
            all.iter().any(|request| takes(request))
        };
        let commutes = |event: &&Arc<Event>| event.kind() != kind::DELETION || !vanishes(event);
        let mut events: Vec<_> = all.iter().filter(commutes).cloned().collect();
        let model = Subject::new(Memory::new());
        model.write_at(NOW, &events);
        let [a, b, reader] = nodes(patient());
        if story % 3 == 1 {
            events.reverse();
        }
        let half = if story % 3 == 2 { events.len() / 2 } else { 0 };
        events.rotate_left(half);
        for pair in events.chunks(2) {
            block_on(async {
                // The same one on both now and then.
                let (one, other) = (&pair[0], pair.last().unwrap_or(&pair[0]));
                let (one, other) = join!(
                    a.store().write([one.clone(), other.clone()].into(), NOW, soon()),
                    b.store().write([other.clone()].into(), NOW, soon())
                );
                one.unwrap();
                other.unwrap();
            });
        }
        // The writers learn of each other's requests to vanish within a second.
        assert_eq!(reader.all_at(NOW), model.all_at(NOW), "story {story}: {case:?}");
        for now in [NOW, LATER] {
            a.maintain(now);
            for node in [&a, &b] {
                assert_eq!(node.all_at(now), model.all_at(now), "story {story}, swept: {case:?}");
            }
        }
    }
}

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
    drop(left);
    ask_server(&format!("DROP KEYSPACE {}", config.keyspace));
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
