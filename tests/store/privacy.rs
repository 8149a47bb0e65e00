//! Private kinds: for their author and those they name (NIP-04, NIP-17, NIP-59).

use std::{collections::BTreeSet, sync::Arc};

use futures_util::future::BoxFuture;
use rookery::{
    protocol::{Circle, Event, EventId, PublicKey, kind},
    store::{
        Content, End, Query, StoreError, Viewer,
        circle::{FollowLists, Reciprocity},
    },
};

use crate::subject::{
    NOW, Open, Subject, client, event, filter, follower, gift_wrap, hex, ids, note, query, user,
};

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

/// What 0 has done, for friends and for followers, and a note of theirs.
fn activity(store: &Subject) -> [Arc<Event>; 3] {
    let key = hex(&user(1));
    let named = &["p", &*key][..];
    let done = [
        event(&user(0), 12, kind::ACTIVITY, &[&["audience", "friends"], named], "followed"),
        event(&user(0), 11, kind::ACTIVITY, &[&["audience", "followers"], named], "signed in"),
        event(&user(0), 10, 1, &[named], ""),
    ];
    store.write(&done);
    done
}

pub fn activity_is_found_by_those_who_name_it(open: Open) {
    let store = open();
    let [followed, signed_in, note] = &activity(&store);
    let (author, named) = (hex(&user(0)), hex(&user(1)));
    let ids_of_all = format!(r#""ids":["{}","{}","{}"]"#, followed.id(), signed_in.id(), note.id());
    for viewer in [Viewer::Operator, client([&user(0)]), client([])] {
        for conditions in [
            String::new(),
            ids_of_all.clone(),
            format!(r#""authors":["{author}"]"#),
            format!(r##""#p":["{named}"]"##),
            format!(r##""authors":["{author}"],"#p":["{named}"]"##),
        ] {
            let ask = |kinds: &str| {
                let comma = if conditions.is_empty() || kinds.is_empty() { "" } else { "," };
                let query = query([filter(&format!("{{{conditions}{comma}{kinds}}}"))]);
                let query = Query { viewer: viewer.clone(), ..query };
                let answer = store.answer(query.clone());
                assert_eq!(store.count(query.clone()).count, answer.ids.len() as u64, "{query:?}");
                (answer.ids, store.keys_alone(query))
            };
            let seen = if viewer == client([]) { vec![] } else { ids([followed, signed_in]) };
            let noted = ids([note]);
            let alone = (noted.clone(), (noted.clone(), End::Finish));
            assert_eq!(ask(""), alone, "{viewer:?} {conditions}");
            assert_eq!(ask(r#""kinds":[1]"#), alone, "{viewer:?} {conditions}");
            let both = (seen.iter().copied().chain(noted.clone()).collect(), (noted, End::Finish));
            assert_eq!(ask(r#""kinds":[1,4227]"#), both, "{viewer:?} {conditions}");
            assert_eq!(ask(r#""kinds":[4227]"#), (seen, (vec![], End::Finish)), "{viewer:?} {conditions}");
        }
    }
}

pub fn activity_is_for_those_whom_its_author_has_chosen(open: Open) {
    let store = open();
    let [followed, signed_in, _] = &activity(&store);
    let [author, reader, other] = [0, 1, 2].map(user);
    let named = r#"{"kinds":[4227]}"#;
    for (viewer, expected) in [
        (client([]), ids([])),
        (client([&reader]), ids([])),
        (client([&author]), ids([followed, signed_in])),
        (client([&reader, &author]), ids([followed, signed_in])),
        (follower([&reader], [], [&author]), ids([])),
        (follower([&reader], [&other], [&other]), ids([])),
        (follower([&reader], [&author, &other], [&other]), ids([signed_in])),
        (follower([&reader], [&author, &other], [&author]), ids([followed, signed_in])),
    ] {
        let query = Query { viewer: viewer.clone(), ..query([filter(named)]) };
        assert_eq!(store.answer(query.clone()).ids, expected, "{viewer:?}");
        assert_eq!(store.count(query.clone()).count, expected.len() as u64, "{viewer:?}");
        assert_eq!(store.keys_alone(query).0, ids([]), "{viewer:?}");
    }
}

/// Everybody shares what they do, but for these.
struct AllBut(Vec<PublicKey>);

impl Reciprocity for AllBut {
    fn shares(&self, key: PublicKey) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(std::future::ready(Ok(!self.0.contains(&key))))
    }
}

pub fn circles_are_read_from_the_newest_lists(open: Open) {
    let store = open();
    let keys: Vec<PublicKey> = (0..6).map(|number| user(number).public_key()).collect();
    let list = |who: u8, at: u64, whom: &[u8]| {
        let tags: Vec<_> = whom.iter().map(|&number| ["p".to_owned(), hex(&user(number))]).collect();
        let tags: Vec<Vec<&str>> = tags.iter().map(|tag| tag.iter().map(|text| &**text).collect()).collect();
        let tags: Vec<&[&str]> = tags.iter().map(|tag| &**tag).collect();
        event(&user(who), at, kind::FOLLOW_LIST, &tags, "")
    };
    let circle = |reciprocity: &AllBut, of: &[u8], most| {
        let of: Vec<PublicKey> = of.iter().map(|&number| user(number).public_key()).collect();
        let lists = FollowLists { store: store.store(), reciprocity };
        store.block_on(lists.circle(&of, most)).unwrap()
    };
    let expected = |followed: &[u8], friends: &[u8]| {
        let all = |numbers: &[u8]| numbers.iter().map(|&n| user(n).public_key()).collect::<BTreeSet<_>>();
        Circle::new(&all(followed), &all(friends))
    };
    let everybody = AllBut(Vec::new());
    assert_eq!(circle(&everybody, &[0], 9), expected(&[], &[]), "no list");
    store.write(&[
        list(0, 10, &[5]),
        list(0, 12, &[1, 2, 3, 4]),
        list(0, 11, &[4, 5]),
        // 1 and 2 follow back, 2 no longer, 3 never did, 4 has no list; 5 follows, and is not followed.
        list(1, 10, &[3, 0, 2]),
        list(2, 10, &[0]),
        list(2, 11, &[1]),
        list(3, 10, &[1, 2]),
        list(5, 10, &[0, 1]),
    ]);
    assert_eq!(circle(&everybody, &[0], 9), expected(&[1, 2, 3, 4], &[1]));
    assert!(!circle(&everybody, &[0], 2).follows(&keys[4]), "a list has a bound");
    assert_eq!(circle(&everybody, &[1], 9), expected(&[0, 2, 3], &[0, 2, 3]));
    // Who follows one of the keys is no friend of another that does not follow them.
    assert_eq!(circle(&everybody, &[0, 5], 9), expected(&[0, 1, 2, 3, 4], &[1]));
    assert_eq!(circle(&AllBut(vec![keys[0]]), &[0], 9), expected(&[], &[]), "shows nothing, sees nothing");
    assert_eq!(circle(&AllBut(vec![keys[0]]), &[0, 1], 9), expected(&[0, 2, 3], &[0, 2, 3]));
    // Authors alone.
    let asked = Query { content: Content::Authors, ..query([filter(r#"{"kinds":[3]}"#)]) };
    let mut authors = store.answer(asked).json;
    authors.sort_unstable();
    let mut all: Vec<String> = [0, 1, 2, 3, 5].map(|number| hex(&user(number))).into();
    all.sort_unstable();
    assert_eq!(authors, all);
    let deletion = event(&user(1), NOW, kind::DELETION, &[&["a", &format!("3:{}:", hex(&user(1)))]], "");
    store.write(&[deletion]);
    assert_eq!(circle(&everybody, &[0], 9), expected(&[1, 2, 3, 4], &[]));
    assert_eq!(circle(&everybody, &[1], 9), expected(&[], &[]));
}
