//! Requests to vanish (NIP-62).

use rookery::store::Outcome::{Deleted, Duplicate, Stored, Superseded, Vanished};

use crate::subject::{Open, delete, deletion, event, gift_wrap, hex, ids, in_order, note, user, vanish};

pub fn takes_what_is_older(open: Open) {
    let store = open();
    let (alice, bob) = (user(0), user(1));
    let [older, same, newer] = [19, 20, 21].map(|at| note(&alice, at, ""));
    let profile = event(&alice, 10, 0, &[], "");
    let request = delete(&alice, 15, &note(&alice, 1, "gone"));
    let bystander = event(&bob, 10, 1, &[&["p", &hex(&alice)]], "");
    store.write([&older, &same, &newer, &profile, &request, &bystander]);
    let leave = vanish(&alice, 20);
    assert_eq!(store.put(&leave), Stored);
    assert_eq!(store.all(), ids([&newer, &leave, &bystander]));
    assert_eq!(store.find(&format!(r#"{{"authors":["{}"]}}"#, hex(&alice))), ids([&newer, &leave]));
    assert_eq!(store.find(r#"{"kinds":[0,5]}"#), ids([]));
    assert_eq!(store.put(&leave), Duplicate);
}

pub fn takes_gift_wraps_to_the_author(open: Open) {
    let store = open();
    let (alice, bob, wrapper) = (user(0), user(1), user(5));
    let older = gift_wrap(&wrapper, 10, &alice, "older");
    let newer = gift_wrap(&wrapper, 30, &alice, "newer");
    let other = gift_wrap(&wrapper, 10, &bob, "other");
    let both = event(&wrapper, 11, 1059, &[&["p", &hex(&bob)], &["p", &hex(&alice)]], "");
    let direct = event(&bob, 12, 4, &[&["p", &hex(&alice)]], "");
    assert_eq!(store.write([&older, &newer, &other, &both, &direct]), [Stored; 5]);
    let leave = vanish(&alice, 20);
    store.put(&leave);
    assert_eq!(store.all(), ids([&newer, &leave, &direct, &other]));
    assert_eq!(
        store.write([&older, &newer, &other, &both, &direct]),
        [Vanished, Duplicate, Duplicate, Vanished, Duplicate]
    );
}

pub fn refuses_it_coming_back(open: Open) {
    let store = open();
    let alice = user(0);
    let known = note(&alice, 10, "known");
    let profile = event(&alice, 12, 0, &[], "");
    let request = delete(&alice, 11, &known);
    store.write([&known, &profile]);
    store.put(&vanish(&alice, 20));
    let unknown = note(&alice, 20, "unknown");
    assert_eq!(store.write([&known, &unknown, &request, &profile]), [Vanished; 4]);
    let newer = note(&alice, 21, "newer");
    assert_eq!(store.put(&newer), Stored);
    assert_eq!(store.put(&event(&alice, 21, 0, &[], "new")), Stored);
    // Another's event of that time is not concerned.
    assert_eq!(store.put(&note(&user(1), 10, "")), Stored);
}

pub fn extends_with_a_later_request(open: Open) {
    let alice = user(0);
    let [a, b, c] = [10, 20, 30].map(|at| note(&alice, at, ""));
    let (first, second) = (vanish(&alice, 15), vanish(&alice, 25));
    for order in [[&first, &second], [&second, &first]] {
        let store = open();
        store.write([&a, &b, &c]);
        for leave in order {
            assert_eq!(store.put(leave), Stored);
        }
        assert_eq!(store.all(), ids([&c, &second, &first]));
        assert_eq!(store.write([&a, &b, &c]), [Vanished, Vanished, Duplicate]);
    }
    // The earlier one alone does not reach as far.
    let store = open();
    store.write([&a, &b, &first]);
    assert_eq!(store.all(), ids([&b, &first]));
}

pub fn spares_requests_to_vanish(open: Open) {
    let store = open();
    let alice = user(0);
    let requests = [vanish(&alice, 30), vanish(&alice, 10), vanish(&alice, 20)];
    for leave in &requests {
        assert_eq!(store.put(leave), Stored);
    }
    assert_eq!(store.all(), in_order(&requests));
}

pub fn in_one_batch(open: Open) {
    let alice = user(0);
    let (before, leave, after) = (note(&alice, 10, ""), vanish(&alice, 20), note(&alice, 21, ""));
    let store = open();
    assert_eq!(store.write([&before, &leave, &after]), [Stored; 3]);
    assert_eq!(store.all(), ids([&after, &leave]));
    let store = open();
    assert_eq!(store.write([&after, &leave, &before]), [Stored, Stored, Vanished]);
    assert_eq!(store.all(), ids([&after, &leave]));
    // A winner that vanished is a winner still, and its own reason comes first.
    let [old, new] = [15, 25].map(|at| event(&alice, at, 0, &[], ""));
    let store = open();
    assert_eq!(store.write([&new, &vanish(&alice, 30), &old, &new]), [Stored, Stored, Vanished, Vanished]);
    let store = open();
    assert_eq!(store.write([&new, &vanish(&alice, 20), &old]), [Stored, Stored, Vanished]);
    assert_eq!(store.put(&event(&alice, 22, 0, &[], "")), Superseded);
}

pub fn can_not_be_undone(open: Open) {
    let store = open();
    let alice = user(0);
    let target = note(&alice, 10, "");
    let leave = vanish(&alice, 20);
    store.write([&target, &leave]);
    let request = event(&alice, 30, 5, &[&["e", &leave.id().to_hex()], &["k", "62"]], "");
    let by_address = deletion(&alice, 31, "a", &format!("62:{}:", hex(&alice)));
    assert_eq!(store.write([&request, &by_address]), [Stored, Stored]);
    assert_eq!(store.all(), ids([&by_address, &request, &leave]));
    assert_eq!(store.put(&target), Vanished);
    // What a deletion request did stays done when the request itself vanishes.
    let later = note(&alice, 60, "later");
    assert_eq!(store.put(&delete(&alice, 40, &later)), Stored);
    assert_eq!(store.put(&vanish(&alice, 50)), Stored);
    assert_eq!(store.put(&later), Deleted);
}
