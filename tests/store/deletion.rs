//! Deletion requests (NIP-09), and gift wraps that their recipient deletes (NIP-59).

use rookery::store::Outcome::{Deleted, Duplicate, Stored, Superseded};

use crate::subject::{
    NOW, Open, address, delete, deletion, event, gift_wrap, hex, ids, in_order, note, user, vanish,
};

pub fn removes_what_its_author_names(open: Open) {
    let store = open();
    let alice = user(0);
    let [a, b, c] = ["a", "b", "c"].map(|content| note(&alice, 10, content));
    assert_eq!(store.write([&a, &b, &c]), [Stored; 3]);
    // An event newer than its deletion is deleted too: the id says which one is meant.
    let (a_id, c_id) = (a.id().to_hex(), c.id().to_hex());
    let request = event(&alice, 9, 5, &[&["e", &a_id], &["k", "1"], &["e", &c_id, "wss://x"]], "");
    let written = store.write_at(NOW, [&request]);
    assert_eq!(written.outcomes, [Stored]);
    assert_eq!(store.all(), in_order([&b, &request]));
    assert_eq!(store.find(&format!(r#"{{"ids":["{a_id}"]}}"#)), ids([]));
    assert_eq!(store.write([&a, &b, &c]), [Deleted, Duplicate, Deleted]);
    assert_eq!(store.put(&request), Duplicate);
    assert_eq!(store.all(), in_order([&b, &request]));
}

pub fn of_a_strangers_event_has_no_effect(open: Open) {
    let (alice, mallory) = (user(0), user(1));
    let target = note(&alice, 10, "");
    let request = delete(&mallory, 20, &target);
    for order in [[&target, &request], [&request, &target]] {
        let store = open();
        for event in order {
            assert_eq!(store.put(event), Stored);
        }
        assert_eq!(store.all(), ids([&request, &target]));
        assert_eq!(store.put(&target), Duplicate);
        // The author's own request still works beside it.
        let own = delete(&alice, 30, &target);
        store.put(&own);
        assert_eq!(store.all(), ids([&own, &request]));
        assert_eq!(store.put(&target), Deleted);
    }
}

pub fn of_requests_has_no_effect(open: Open) {
    let alice = user(0);
    let target = note(&alice, 10, "");
    let request = delete(&alice, 20, &target);
    let of_request = delete(&alice, 30, &request);
    let leave = vanish(&alice, 5);
    let of_leave = delete(&alice, 31, &leave);
    let store = open();
    assert_eq!(store.write([&target, &request, &leave, &of_request, &of_leave]), [Stored; 5]);
    assert_eq!(store.all(), ids([&of_leave, &of_request, &request, &leave]));
    assert_eq!(store.write([&target, &request, &leave]), [Deleted, Duplicate, Duplicate]);
    // Nor before it is there.
    let store = open();
    assert_eq!(store.write([&of_request, &of_leave, &request, &target]), [Stored, Stored, Stored, Deleted]);
    assert_eq!(store.put(&leave), Stored);
}

pub fn counts_before_the_event_arrives(open: Open) {
    let store = open();
    let alice = user(0);
    let target = note(&alice, 10, "");
    let request = delete(&alice, 5, &target);
    assert_eq!(store.put(&request), Stored);
    assert_eq!(store.put(&target), Deleted);
    assert_eq!(store.put(&target), Deleted);
    assert_eq!(store.all(), ids([&request]));
}

pub fn by_address_reaches_up_to_its_time(open: Open) {
    for (kind, identifier) in [(0, ""), (30_023, "x"), (30_023, "a:b"), (30_023, "")] {
        let alice = user(0);
        let version = |at| event(&alice, at, kind, &[&["d", identifier]], "");
        let target = address(kind, &alice.public_key(), identifier);
        let request = deletion(&alice, 20, "a", &target);
        for (at, gone) in [(19, true), (20, true), (21, false)] {
            let store = open();
            let version = version(at);
            assert_eq!(store.write([&version, &request]), [Stored, Stored]);
            let left = if gone { ids([&request]) } else { ids([&version, &request]) };
            assert_eq!(store.all(), left, "{target} at {at}");
            assert_eq!(store.put(&version), if gone { Deleted } else { Duplicate });
        }
        // A newer version may follow.
        let store = open();
        store.write([&version(10), &request]);
        let newer = version(30);
        assert_eq!(store.put(&newer), Stored);
        assert_eq!(store.all(), ids([&newer, &request]));
        assert_eq!(store.put(&version(20)), Deleted);
        assert_eq!(store.put(&version(21)), Superseded);
    }
}

pub fn by_address_before_the_versions_arrive(open: Open) {
    let store = open();
    let alice = user(0);
    let version = |at| event(&alice, at, 30_023, &[&["d", "x"]], "");
    let request = deletion(&alice, 20, "a", &address(30_023, &alice.public_key(), "x"));
    store.put(&request);
    assert_eq!(store.write([&version(19), &version(20)]), [Deleted, Deleted]);
    assert_eq!(store.put(&version(21)), Stored);
    // Other addresses are others.
    assert_eq!(store.put(&event(&alice, 10, 30_023, &[&["d", "y"]], "")), Stored);
    assert_eq!(store.put(&event(&alice, 10, 30_024, &[&["d", "x"]], "")), Stored);
    assert_eq!(store.put(&event(&user(1), 10, 30_023, &[&["d", "x"]], "")), Stored);
}

pub fn by_address_is_for_the_owner(open: Open) {
    let (alice, mallory) = (user(0), user(1));
    let version = event(&alice, 10, 30_023, &[&["d", "x"]], "");
    let request = deletion(&mallory, 20, "a", &address(30_023, &alice.public_key(), "x"));
    for order in [[&version, &request], [&request, &version]] {
        let store = open();
        assert_eq!(store.write(order), [Stored, Stored]);
        assert_eq!(store.all(), ids([&request, &version]));
    }
}

pub fn keeps_the_greatest_mark_of_an_address(open: Open) {
    let store = open();
    let alice = user(0);
    let target = address(30_023, &alice.public_key(), "x");
    let late = deletion(&alice, 30, "a", &target);
    let early = deletion(&alice, 10, "a", &target);
    assert_eq!(store.write([&late, &early]), [Stored, Stored]);
    assert_eq!(store.put(&event(&alice, 20, 30_023, &[&["d", "x"]], "")), Deleted);
    assert_eq!(store.put(&event(&alice, 31, 30_023, &[&["d", "x"]], "")), Stored);
}

pub fn of_a_winner_brings_nothing_back(open: Open) {
    for kind in [0, 30_023] {
        let store = open();
        let alice = user(0);
        let [old, middle, new] = [10, 20, 30].map(|at| event(&alice, at, kind, &[&["d", "x"]], ""));
        let request = delete(&alice, 31, &new);
        assert_eq!(store.write([&old, &new]), [Stored, Stored]);
        assert_eq!(store.put(&request), Stored);
        assert_eq!(store.all(), ids([&request]));
        assert_eq!(store.write([&old, &middle, &new]), [Superseded, Superseded, Deleted]);
        let newer = event(&alice, 40, kind, &[&["d", "x"]], "");
        assert_eq!(store.put(&newer), Stored);
        assert_eq!(store.all(), ids([&newer, &request]));
    }
}

/// The same three events leave the same behind in every order.
pub fn of_a_winner_yet_unseen_takes_the_older_version(open: Open) {
    let alice = user(0);
    let [old, new] = [10, 20].map(|at| event(&alice, at, 30_023, &[&["d", "x"]], ""));
    let request = delete(&alice, 5, &new);
    for (order, outcomes) in [
        ([&old, &new, &request], [Stored, Stored, Stored]),
        ([&old, &request, &new], [Stored, Stored, Deleted]),
        ([&new, &old, &request], [Stored, Superseded, Stored]),
        ([&new, &request, &old], [Stored, Stored, Superseded]),
        ([&request, &old, &new], [Stored, Stored, Deleted]),
        ([&request, &new, &old], [Stored, Deleted, Superseded]),
    ] {
        let (together, apart) = (open(), open());
        assert_eq!(together.write(order), outcomes);
        assert_eq!(order.map(|event| apart.put(event)), outcomes);
        assert_eq!(together.all(), ids([&request]));
        assert_eq!(apart.all(), ids([&request]));
    }
}

pub fn reaches_gift_wraps_of_their_recipient(open: Open) {
    let (recipient, other) = (user(0), user(1));
    let wrap = gift_wrap(&user(5), 10, &recipient, "");
    let own = delete(&recipient, 20, &wrap);
    let foreign = delete(&other, 21, &wrap);
    let store = open();
    assert_eq!(store.write([&wrap, &foreign]), [Stored, Stored]);
    assert_eq!(store.all(), ids([&foreign, &wrap]));
    assert_eq!(store.put(&own), Stored);
    assert_eq!(store.all(), ids([&foreign, &own]));
    assert_eq!(store.put(&wrap), Deleted);
    // Before it arrives, and by the key that signed it.
    let store = open();
    assert_eq!(store.write([&foreign, &own, &wrap]), [Stored, Stored, Deleted]);
    let store = open();
    assert_eq!(store.write([&delete(&user(5), 22, &wrap), &wrap]), [Stored, Deleted]);
    // Another kind does not belong to those it names.
    let mention = event(&user(5), 10, 1, &[&["p", &hex(&recipient)]], "");
    assert_eq!(store.write([&mention, &delete(&recipient, 20, &mention)]), [Stored, Stored]);
    assert_eq!(store.put(&mention), Duplicate);
}

pub fn in_one_batch_with_its_event(open: Open) {
    let alice = user(0);
    let target = note(&alice, 10, "");
    let request = delete(&alice, 20, &target);
    let store = open();
    assert_eq!(store.write([&target, &request]), [Stored, Stored]);
    assert_eq!(store.all(), ids([&request]));
    assert_eq!(store.put(&target), Deleted);
    let store = open();
    assert_eq!(store.write([&request, &target]), [Stored, Deleted]);
    assert_eq!(store.all(), ids([&request]));
    let store = open();
    assert_eq!(store.write([&target, &request, &target]), [Stored, Stored, Deleted]);
    assert_eq!(store.all(), ids([&request]));
}

pub fn ignores_malformed_targets(open: Open) {
    let store = open();
    let alice = user(0);
    let key = hex(&alice);
    let target = note(&alice, 10, "");
    let profile = event(&alice, 10, 0, &[], "");
    let id = target.id().to_hex();
    let (upper, upper_key) = (id.to_uppercase(), key.to_uppercase());
    store.write([&target, &profile]);
    let request = event(
        &alice,
        20,
        5,
        &[
            &["e"],
            &["e", ""],
            &["e", "zz"],
            &["e", &upper],
            &["e", &id[1..]],
            &["E", &id],
            &["x", "y", &id],
            &["a", "nonsense"],
            &["a", &format!("0:{key}")],
            &["a", &format!("0:{upper_key}:")],
            &["a", &format!("1:{key}:")],
            &["a", &format!("65536:{key}:")],
            &["a"],
            &[],
        ],
        "",
    );
    assert_eq!(store.put(&request), Stored);
    assert_eq!(store.all(), in_order([&request, &target, &profile]));
    // One bad target does not spoil the next.
    let request = event(&alice, 21, 5, &[&["e", "zz"], &["e", &id], &["a", &format!("0:{key}:ignored")]], "");
    assert_eq!(store.put(&request), Stored);
    assert_eq!(store.write([&target, &profile]), [Deleted, Deleted]);
}

pub fn refused_changes_nothing(open: Open) {
    let store = open();
    let alice = user(0);
    let target = note(&alice, 10, "");
    let id = target.id().to_hex();
    let over = event(&alice, 20, 5, &[&["e", &id], &["expiration", "5"]], "");
    store.write([&target, &over]);
    assert_eq!(store.all(), ids([&target]));
    store.put(&vanish(&alice, 9));
    store.put(&delete(&alice, 8, &target));
    assert_eq!(store.put(&target), Duplicate);
}
