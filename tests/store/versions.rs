//! Replaceable and addressable events: one version of an address, whatever order they come in
//! (NIP-01).

use std::{cell::Cell, sync::Arc};

use futures_util::future::{join, try_join_all};
use rookery::{
    protocol::Event,
    store::{
        Cursor,
        Outcome::{Duplicate, Stored, Superseded},
        StoreError,
    },
};

use crate::subject::{NOW, Open, event, filter, hex, ids, in_order, query, soon, user};

/// A version of the address that `identifier` names in kind 30023; of kind 0 without one.
fn version(identifier: Option<&str>, at: u64, content: &str) -> Arc<Event> {
    match identifier {
        Some(identifier) => event(&user(0), at, 30_023, &[&["d", identifier]], content),
        None => event(&user(0), at, 0, &[], content),
    }
}

/// All orders of three things.
const ORDERS: [[usize; 3]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];

pub fn the_newest_wins_in_any_order(open: Open) {
    for identifier in [None, Some("x"), Some("")] {
        let versions = [10, 20, 30].map(|at| version(identifier, at, ""));
        for order in ORDERS {
            let store = open();
            let mut newest = 0;
            for index in order {
                let expected = if versions[index].created_at() > newest { Stored } else { Superseded };
                newest = newest.max(versions[index].created_at());
                assert_eq!(store.put(&versions[index]), expected, "{order:?}, version {index}");
            }
            assert_eq!(store.all(), ids([&versions[2]]));
            assert_eq!(store.find(&format!(r#"{{"ids":["{}"]}}"#, versions[0].id())), ids([]));
            let by_author = format!(r#"{{"authors":["{}"],"until":25}}"#, hex(&user(0)));
            assert_eq!(store.find(&by_author), ids([]));
            assert_eq!(store.put(&versions[2]), Duplicate);
            // Accepted once or not: it is an older version now.
            assert_eq!(store.write([&versions[0], &versions[1]]), [Superseded, Superseded]);
            assert_eq!(store.all(), ids([&versions[2]]));
        }
    }
}

pub fn the_lowest_id_wins_a_tie(open: Open) {
    for identifier in [None, Some("x")] {
        let mut versions = ["a", "b", "c"].map(|content| version(identifier, 10, content));
        versions.sort_by_key(|version| version.id());
        for order in ORDERS {
            let store = open();
            let mut best = 3;
            for index in order {
                let expected = if index < best { Stored } else { Superseded };
                best = best.min(index);
                assert_eq!(store.put(&versions[index]), expected, "{order:?}, version {index}");
                assert_eq!(store.all(), ids([&versions[best]]));
            }
        }
    }
}

pub fn of_addresses_are_kept_apart(open: Open) {
    let store = open();
    let (alice, bob) = (user(0), user(1));
    let events = [
        event(&alice, 10, 0, &[], ""),
        event(&alice, 11, 3, &[], ""),
        event(&alice, 12, 10_002, &[], ""),
        event(&bob, 13, 0, &[], ""),
        event(&alice, 14, 30_023, &[&["d", "x"]], ""),
        event(&alice, 15, 30_023, &[&["d", "y"]], ""),
        event(&alice, 16, 30_023, &[&["d", "x "]], ""),
        event(&alice, 17, 30_023, &[&["d", "X"]], ""),
        event(&alice, 18, 30_024, &[&["d", "x"]], ""),
        event(&bob, 19, 30_023, &[&["d", "x"]], ""),
        event(&bob, 20, 39_999, &[&["d", "x"]], ""),
    ];
    assert_eq!(store.write(&events), [Stored; 11]);
    assert_eq!(store.all(), in_order(&events));
    // The identifier of a replaceable event means nothing.
    let newer = event(&alice, 21, 0, &[&["d", "x"]], "");
    assert_eq!(store.put(&newer), Stored);
    assert_eq!(store.all(), in_order(events[1..].iter().chain([&newer])));
}

pub fn without_an_identifier_share_the_empty_one(open: Open) {
    let store = open();
    let shapes: [&[&[&str]]; 5] =
        [&[], &[&["d", ""]], &[&["d"]], &[&["d"], &["d", "x"]], &[&["d", "", "x"], &["d", "y"]]];
    let mut last = None;
    for (at, tags) in (10..).zip(shapes) {
        let version = event(&user(0), at, 30_000, tags, "");
        assert_eq!(store.put(&version), Stored);
        assert_eq!(store.all(), ids([&version]), "{tags:?}");
        assert!(last.replace(version).is_none_or(|last| store.put(&last) == Superseded));
    }
    // Of several identifiers the first counts.
    let first = event(&user(0), 20, 30_000, &[&["d", "x"], &["d", "y"]], "");
    assert_eq!(store.put(&first), Stored);
    assert_eq!(store.put(&event(&user(0), 19, 30_000, &[&["d", "x"]], "")), Superseded);
    assert_eq!(store.put(&event(&user(0), 19, 30_000, &[&["d", "y"]], "")), Stored);
}

pub fn in_one_batch(open: Open) {
    for identifier in [None, Some("x")] {
        let [old, middle, new] = [10, 20, 30].map(|at| version(identifier, at, ""));
        let store = open();
        assert_eq!(store.write([&old, &new]), [Stored, Stored]);
        assert_eq!(store.all(), ids([&new]));
        let store = open();
        assert_eq!(store.write([&new, &old, &middle]), [Stored, Superseded, Superseded]);
        assert_eq!(store.all(), ids([&new]));
        let store = open();
        assert_eq!(
            store.write([&middle, &old, &middle, &new, &middle]),
            [Stored, Superseded, Duplicate, Stored, Superseded]
        );
        assert_eq!(store.all(), ids([&new]));
        assert_eq!(store.put(&middle), Superseded);
    }
}

pub fn of_regular_kinds_do_not_exist(open: Open) {
    let store = open();
    let events: Vec<_> = [1, 2, 4, 6, 7, 44, 45, 1_000, 9_999, 40_000, 65_535]
        .into_iter()
        .flat_map(|kind| [10, 10, 11].map(|at| (kind, at)))
        .enumerate()
        .map(|(n, (kind, at))| event(&user(0), at, kind, &[&["d", "x"]], &n.to_string()))
        .collect();
    assert!(store.write(&events).iter().all(|&outcome| outcome == Stored));
    assert_eq!(store.all(), in_order(&events));
}

/// What is replaced has a version all the time, and whoever asks is told one.
pub fn are_found_while_they_are_replaced(open: Open) {
    const VERSIONS: u64 = 60;
    for identifier in [None, Some("x")] {
        let store = open();
        let note = event(&user(0), 15, 1, &[], "");
        store.write([&version(identifier, 16, ""), &note]);
        let is_over = Cell::new(false);
        let replace = async {
            for at in 0..VERSIONS {
                let batch = [version(identifier, 20 + at, "")].into();
                assert_eq!(store.store().write(batch, NOW, soon()).await?.outcomes, [Stored]);
            }
            is_over.set(true);
            Ok::<_, StoreError>(())
        };
        let author = hex(&user(0));
        let kind = version(identifier, 10, "").kind();
        let shapes = [
            format!(r#"{{"authors":["{author}"],"kinds":[{kind}]}}"#),
            format!(r#"{{"authors":["{author}"],"kinds":[{kind}],"limit":1}}"#),
            format!(r#"{{"authors":["{author}"]}}"#),
            format!(r#"{{"kinds":[1,{kind}]}}"#),
        ];
        let (store, is_over, note) = (&store, &is_over, &note);
        let readers = shapes.iter().map(|shape| async move {
            let query = Arc::new(query([filter(shape)]));
            while !is_over.get() {
                let page = store.store().query(Arc::clone(&query), Cursor::start(&query)).await?;
                let versions = page.iter().filter(|entry| entry.id != note.id()).count();
                assert_eq!(versions, 1, "{shape}");
                let places: Vec<_> = page.iter().map(|entry| entry.created_at).collect();
                assert!(places.is_sorted_by(|one, next| one >= next), "{shape}: {places:?}");
            }
            Ok::<_, StoreError>(())
        });
        let (written, read) = store.block_on(join(replace, try_join_all(readers)));
        written.and(read.map(drop)).unwrap();
    }
}
