//! Private kinds: for their author and those they name (NIP-04, NIP-17, NIP-59).

use std::sync::Arc;

use rookery::{
    protocol::{Event, EventId},
    store::{End, Query, Viewer},
};

use crate::subject::{Open, Subject, client, event, filter, gift_wrap, hex, ids, note, query, user};

fn as_seen(store: &Subject, json: &str, viewer: Viewer) -> Vec<EventId> {
    let query = Query { viewer, ..query([filter(json)]) };
    let answer = store.answer(query.clone());
    assert_eq!(answer.end, End::Finish);
    assert_eq!(
        store.keys_alone(query.clone()),
        (answer.ids.clone(), End::Finish),
        "keys tell no more than events"
    );
    assert_eq!(store.count(query).count, answer.ids.len() as u64, "a count tells no more than a query");
    answer.ids
}

/// A note of everybody's, a direct message from 0 to 1, a gift wrap for 1 and one for 2.
fn mail(store: &Subject) -> [Arc<Event>; 4] {
    let mail = [
        note(&user(0), 13, ""),
        event(&user(0), 12, 4, &[&["p", &hex(&user(1))]], ""),
        gift_wrap(&user(5), 11, &user(1), ""),
        gift_wrap(&user(5), 10, &user(2), ""),
    ];
    store.write(&mail);
    mail
}

pub fn shows_private_kinds_to_their_parties(open: Open) {
    let store = open();
    let [public, direct, to_one, to_two] = &mail(&store);
    let users: Vec<_> = (0..6).map(user).collect();
    for (viewer, expected) in [
        (Viewer::Operator, ids([public, direct, to_one, to_two])),
        (client([]), ids([public])),
        (client([&users[0]]), ids([public, direct])),
        (client([&users[1]]), ids([public, direct, to_one])),
        (client([&users[2]]), ids([public, to_two])),
        (client([&users[3]]), ids([public])),
        (client([&users[5]]), ids([public, to_one, to_two])),
        (client([&users[0], &users[2]]), ids([public, direct, to_two])),
    ] {
        assert_eq!(as_seen(&store, "{}", viewer.clone()), expected, "{viewer:?}");
        assert_eq!(as_seen(&store, r#"{"kinds":[4,1059]}"#, viewer.clone()), expected[1..], "{viewer:?}");
        let by_id = format!(r#"{{"ids":["{}"]}}"#, to_one.id());
        assert_eq!(as_seen(&store, &by_id, viewer).len(), usize::from(expected.contains(&to_one.id())));
    }
}

pub fn counts_for_the_viewer(open: Open) {
    let store = open();
    mail(&store);
    let tagged = format!(r##"{{"#p":["{}"]}}"##, hex(&user(1)));
    for (viewer, expected) in
        [(Viewer::Operator, 2), (client([]), 0), (client([&user(1)]), 2), (client([&user(0)]), 1)]
    {
        assert_eq!(as_seen(&store, &tagged, viewer).len(), expected);
    }
}

pub fn hidden_events_use_up_no_limit(open: Open) {
    let store = open();
    let wraps: Vec<_> = (0..10).map(|n| gift_wrap(&user(5), 100 + n, &user(1), "")).collect();
    let notes: Vec<_> = (0..3).map(|n| note(&user(0), 50 + n, "")).collect();
    store.write(wraps.iter().chain(&notes));
    let ask = |limit: usize, viewer| {
        let answer = store.answer(Query { viewer, ..query([filter(&format!(r#"{{"limit":{limit}}}"#))]) });
        (answer.ids, answer.end)
    };
    assert_eq!(ask(2, client([])), (ids([&notes[2], &notes[1]]), End::More));
    assert_eq!(ask(3, client([])), (ids([&notes[2], &notes[1], &notes[0]]), End::Finish));
    assert_eq!(ask(1, client([&user(1)])), (ids([&wraps[9]]), End::More));
}
