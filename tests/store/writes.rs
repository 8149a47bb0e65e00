//! What a write answers, whatever the events are about.

use rookery::store::Outcome::{Deleted, Duplicate, Expired, Stored, Superseded, Vanished};
use tokio::join;

use crate::subject::{NOW, Open, delete, event, in_order, note, soon, user, vanish};

pub fn answer_each_event_in_order(open: Open) {
    let store = open();
    let notes: Vec<_> = (0..200).map(|n| note(&user(n % 5), u64::from(n % 9), &n.to_string())).collect();
    store.write(notes.iter().step_by(2));
    let outcomes = store.write(&notes);
    for (n, outcome) in outcomes.iter().enumerate() {
        assert_eq!(*outcome, if n % 2 == 0 { Duplicate } else { Stored }, "{n}");
    }
    assert_eq!(store.all(), in_order(&notes));
}

/// Expired, then vanished, then deleted, then superseded.
pub fn are_refused_for_the_first_reason(open: Open) {
    let store = open();
    let alice = user(0);
    let old = event(&alice, 10, 30_023, &[&["expiration", "100"]], "old");
    let new = event(&alice, 20, 30_023, &[], "new");
    let at = |now| store.write_at(now, [&old]).outcomes[0];
    store.write_at(50, [&new]);
    assert_eq!(at(50), Superseded);
    store.write_at(50, [&delete(&alice, 15, &old)]);
    assert_eq!(at(50), Deleted);
    store.write_at(50, [&vanish(&alice, 12)]);
    assert_eq!(at(50), Vanished);
    assert_eq!(at(100), Expired);
    assert_eq!(store.find(r#"{"kinds":[30023]}"#), [new.id()]);
}

pub fn twice_are_duplicates(open: Open) {
    let store = open();
    let note = note(&user(0), 10, "");
    assert_eq!(store.put(&note), Stored);
    assert_eq!(store.put(&note), Duplicate);
    assert_eq!(store.all(), [note.id()]);
}

pub fn twice_in_one_batch_are_duplicates(open: Open) {
    let store = open();
    let (a, b) = (note(&user(0), 10, "a"), note(&user(0), 10, "b"));
    assert_eq!(store.write([&a, &b, &a, &a]), [Stored, Stored, Duplicate, Duplicate]);
    assert_eq!(store.all(), in_order([&a, &b]));
}

/// Positions rise in the order of acceptance, which is not the order of the answers.
pub fn number_what_they_store(open: Open) {
    let store = open();
    let notes: Vec<_> = [30, 10, 20, 40].iter().map(|&at| note(&user(0), at, "")).collect();
    let first = store.write_at(NOW, &notes[..3]);
    let second = store.write_at(NOW, [&notes[0], &notes[3]]);
    assert!(second.head > first.head);
    assert_eq!(store.store().head(), second.head);
    let answer = store.ask(&["{}"]);
    let position = |n: usize| {
        let index = answer.ids.iter().position(|&id| id == notes[n].id()).unwrap();
        answer.positions[index]
    };
    assert!(position(0) < position(1) && position(1) < position(2) && position(2) < position(3));
    assert_eq!(position(2), first.head);
    assert_eq!(position(3), second.head);
    let repeated = store.write_at(NOW, &notes);
    assert_eq!(repeated.head, second.head);
    assert_eq!(store.ask(&["{}"]).positions, answer.positions);
}

pub fn at_the_same_time(open: Open) {
    let store = open();
    let [a, b, both] = ["a", "b", "both"].map(|content| note(&user(0), 10, content));
    let (one, two) = store.block_on(async {
        join!(
            store.store().write([a.clone(), both.clone()].into(), NOW, soon()),
            store.store().write([both.clone(), b.clone()].into(), NOW, soon())
        )
    });
    let (one, two) = (one.unwrap(), two.unwrap());
    let mut of_both = [one.outcomes[1], two.outcomes[0]];
    of_both.sort_by_key(|outcome| *outcome == Duplicate);
    assert_eq!(of_both, [Stored, Duplicate]);
    assert_eq!([one.outcomes[0], two.outcomes[1]], [Stored, Stored]);
    assert_eq!(store.all(), in_order([&a, &b, &both]));
    assert_eq!(store.store().head(), one.head.max(two.head));
}

pub fn of_nothing(open: Open) {
    let store = open();
    let head = store.store().head();
    let written = store.write_at(NOW, []);
    assert!(written.outcomes.is_empty() && written.removed.ids.is_empty());
    assert_eq!(written.head, head);
    store.maintain(NOW);
    assert!(store.all().is_empty());
}
