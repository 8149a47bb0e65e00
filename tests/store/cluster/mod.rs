//! What only a store of several nodes can get wrong: its tables, and nodes that write at the same time.

mod cost;
mod gone;
mod log;
mod schema;
mod sweeping;

use std::{
    sync::Arc,
    time::{Duration, Instant},
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
        Cursor, Outcome, StoreError,
        memory::Memory,
        scylla::{Scylla, apply_schema},
    },
};
use tokio::join;

use crate::{
    cql_server::{ONE_REPLICA, block_on, new_name, nodes, patient, settings},
    subject::{NOW, Subject, delete, event, filter, ids, note, query, soon, user},
    universe::{BEGINNING, cases},
};
use common::proxy::{Flow, Proxy};

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
