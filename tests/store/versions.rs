//! Replaceable and addressable events: one version of an address, whatever order they come in
//! (NIP-01).

use std::sync::Arc;

use rookery::{
    protocol::Event,
    store::Outcome::{Duplicate, Stored, Superseded},
};

use crate::subject::{Open, event, hex, ids, in_order, user};

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
