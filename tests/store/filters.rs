//! Each field of a filter, alone and with others (NIP-01).

use std::sync::Arc;

use rookery::protocol::{Event, Filter, TagFilter};

use crate::subject::{Open, Subject, event, hex, ids, in_order, query, user};

/// Asks with one filter that has a limit and with one that has none, and compares with what a walk
/// over all `events` finds.
fn check(store: &Subject, events: &[Arc<Event>], json: &str) -> usize {
    let filter: Filter = serde_json::from_str(json).unwrap();
    let expected = in_order(events.iter().filter(|event| filter.matches(&***event)));
    let answer = store.answer(query([filter.clone()]));
    assert_eq!(answer.ids, expected, "{json}");
    assert_eq!(store.count(query([filter.clone()])).count, expected.len() as u64, "{json}");
    if expected.len() > 1 {
        let limited = Filter { limit: Some(expected.len() - 1), ..filter };
        assert_eq!(store.answer(query([limited])).ids, expected[..expected.len() - 1], "{json}");
    }
    expected.len()
}

/// Events of three users, four kinds and a few tags over twenty seconds.
fn mixed(store: &Subject) -> Vec<Arc<Event>> {
    let (first, second) = (hex(&user(0)), "0".repeat(64));
    let tags: [&[&[&str]]; 6] = [
        &[],
        &[&["t", "red"]],
        &[&["t", "blue"], &["t", "red"], &["p", &first]],
        &[&["p", &first], &["e", &second]],
        &[&["t", "blue"], &["e", &second, "wss://relay", "root"]],
        &[&["T", "red"], &["title", "red"], &["r", "red", "blue"]],
    ];
    let events: Vec<_> = (0..120)
        .map(|n: usize| {
            let kind = [1, 7, 1_111, 40_000][n % 4];
            event(&user((n % 3) as u8), 100 + (n * 7 + n / 20) as u64 % 20, kind, tags[n % 6], &n.to_string())
        })
        .collect();
    store.write(&events);
    events
}

pub fn by_id(open: Open) {
    let store = open();
    let events = mixed(&store);
    let (a, b, unknown) = (events[3].id(), events[50].id(), "f".repeat(64));
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{a}"]}}"#)), 1);
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{b}","{unknown}","{a}","{a}"]}}"#)), 2);
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{unknown}"]}}"#)), 0);
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{a}"],"kinds":[2]}}"#)), 0);
    let at = events[3].created_at();
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{a}"],"since":{at},"until":{at}}}"#)), 1);
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{a}"],"since":{}}}"#, at + 1)), 0);
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{a}"],"until":{}}}"#, at - 1)), 0);
}

pub fn by_author(open: Open) {
    let store = open();
    let events = mixed(&store);
    let [a, b, stranger] = [0, 1, 9].map(|n| hex(&user(n)));
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{a}"]}}"#)), 40);
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{a}","{stranger}","{b}"]}}"#)), 80);
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{stranger}"]}}"#)), 0);
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{a}"],"kinds":[1,7]}}"#)), 20);
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{a}","{b}"],"kinds":[7]}}"#)), 20);
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":["{a}"],"kinds":[2]}}"#)), 0);
}

pub fn by_kind(open: Open) {
    let store = open();
    let events = mixed(&store);
    assert_eq!(check(&store, &events, r#"{"kinds":[1]}"#), 30);
    assert_eq!(check(&store, &events, r#"{"kinds":[40000,7,7]}"#), 60);
    assert_eq!(check(&store, &events, r#"{"kinds":[0,65535]}"#), 0);
}

pub fn by_tag(open: Open) {
    let store = open();
    let events = mixed(&store);
    for (json, expected) in [
        (r##"{"#t":["red"]}"##.to_owned(), 40),
        (r##"{"#t":["blue","red","green"]}"##.to_owned(), 60),
        (r##"{"#T":["red"]}"##.to_owned(), 20),
        (r##"{"#r":["red"]}"##.to_owned(), 20),
        (r##"{"#r":["blue"]}"##.to_owned(), 0),
        (r##"{"#t":["re"]}"##.to_owned(), 0),
        (r##"{"#t":["redd"]}"##.to_owned(), 0),
        (format!(r##"{{"#p":["{}"]}}"##, hex(&user(0))), 40),
        (format!(r##"{{"#e":["{}"]}}"##, "0".repeat(64)), 40),
        (format!(r##"{{"#e":["{}"],"kinds":[1,7]}}"##, "0".repeat(64)), 20),
        (format!(r##"{{"#e":["{}"]}}"##, hex(&user(0))), 0),
    ] {
        assert_eq!(check(&store, &events, &json), expected, "{json}");
    }
}

/// An event has one address, by its first `d` tag, and is found by the value of any (NIP-01).
pub fn by_any_tag_of_a_name(open: Open) {
    let store = open();
    let tags: [&[&[&str]]; 5] = [
        &[&["d", "one"], &["d", "two"]],
        &[&["d"], &["d", "two"]],
        &[&["d", ""], &["t", "two"], &["d", "two"], &["d", "three"]],
        &[&["d", "two"], &["d", "two"]],
        &[&["t", "one"], &["t", "two"], &["d", "four"]],
    ];
    let mut events = Vec::new();
    let alice = hex(&user(0));
    for kind in [30_023, 10_002] {
        let own = (0..5_u8).map(|n| event(&user(n % 2), 100 + u64::from(n), kind, tags[usize::from(n)], ""));
        events.extend(own.inspect(|event| {
            store.put(event);
        }));
        let stored = store.all();
        events.retain(|event| stored.contains(&event.id()));
        // First of values that few events have, then of one that is everybody's.
        for round in 0..2 {
            for value in ["two", "three", ""] {
                for fields in [
                    format!(r#","authors":["{alice}"]"#),
                    format!(r#","kinds":[{kind}]"#),
                    format!(r#","authors":["{alice}"],"kinds":[{kind}]"#),
                    format!(r#","authors":["{alice}","{}"],"kinds":[{kind},1]"#, hex(&user(1))),
                ] {
                    check(&store, &events, &format!(r##"{{"#d":["{value}","nine"]{fields}}}"##));
                }
            }
            if round == 0 {
                let others = (0..40).map(|n| event(&user(50 + n), 50, kind, &[&["d", "two"]], ""));
                let others: Vec<_> = others.collect();
                store.write(&others);
                events.extend(others);
            }
        }
        let found = format!(r##"{{"#d":["two"],"authors":["{alice}"],"kinds":[{kind}]}}"##);
        // Of a replaceable kind, only the last version is there, without such a tag.
        assert_eq!(check(&store, &events, &found) > 0, kind != 10_002, "{kind}");
    }
}

pub fn by_window(open: Open) {
    let store = open();
    let events = mixed(&store);
    for fields in
        ["", r##","kinds":[1]"##, r##","#t":["red"]"##, &format!(r#","authors":["{}"]"#, hex(&user(2)))]
    {
        for (since, until) in [(0, 99), (100, 100), (119, 119), (120, 1 << 40), (105, 110), (0, u64::MAX)] {
            let window = format!(r#"{{"since":{since},"until":{until}{fields}}}"#);
            let found = check(&store, &events, &window);
            assert!(found == 0 || until >= 100 && since <= 119, "{window}");
            assert!(found > 0 || until < 100 || since > 119 || !fields.is_empty(), "{window}");
            check(&store, &events, &format!(r#"{{"since":{since}{fields}}}"#));
            check(&store, &events, &format!(r#"{{"until":{until}{fields}}}"#));
        }
    }
}

pub fn with_all_conditions(open: Open) {
    let store = open();
    let events = mixed(&store);
    let sample = &events[26];
    let (id, author, at, kind) = (sample.id(), sample.pubkey(), sample.created_at(), sample.kind());
    let value = |t: &str, kind: u16, since: u64, until: u64| {
        format!(
            r##"{{"ids":["{id}"],"authors":["{author}"],"kinds":[{kind}],"#t":["{t}"],"since":{since},"until":{until}}}"##
        )
    };
    assert_eq!(check(&store, &events, &value("red", kind, at, at)), 1);
    assert_eq!(check(&store, &events, &value("green", kind, at, at)), 0);
    assert_eq!(check(&store, &events, &value("red", kind + 1, at, at)), 0);
    assert_eq!(check(&store, &events, &value("red", kind, at + 1, at + 1)), 0);
    let other = hex(&user(0));
    assert_ne!(other, author.to_hex());
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":["{id}"],"authors":["{other}"]}}"#)), 0);
    for json in [
        format!(r##"{{"authors":["{author}"],"#t":["red"]}}"##),
        format!(r##"{{"authors":["{author}"],"#t":["red"],"kinds":[1,40000],"since":105}}"##),
        r##"{"kinds":[1,1111],"#t":["blue"],"until":112}"##.to_owned(),
    ] {
        assert!(check(&store, &events, &json) > 0, "{json}");
    }
}

pub fn with_several_tags(open: Open) {
    let store = open();
    let events = mixed(&store);
    let (p, e) = (hex(&user(0)), "0".repeat(64));
    assert_eq!(check(&store, &events, &format!(r##"{{"#p":["{p}"],"#e":["{e}"]}}"##)), 20);
    assert_eq!(check(&store, &events, &format!(r##"{{"#p":["{p}"],"#t":["red","blue"]}}"##)), 20);
    assert_eq!(check(&store, &events, &format!(r##"{{"#p":["{p}"],"#t":["blue"],"#e":["{e}"]}}"##)), 0);
    assert_eq!(check(&store, &events, r##"{"#T":["red"],"#t":["red"]}"##), 0);
    assert_eq!(check(&store, &events, r##"{"#T":["red"],"#r":["red"]}"##), 20);
}

pub fn with_many_values(open: Open) {
    let store = open();
    let events = mixed(&store);
    let many: Vec<String> = (0..600).map(|n| format!("{n:064x}")).collect();
    let list = |more: &str| serde_json::to_string(&[&many[..], &[more.to_owned()]].concat()).unwrap();
    let author = hex(&user(1));
    assert_eq!(check(&store, &events, &format!(r#"{{"authors":{}}}"#, list(&author))), 40);
    let id = events[9].id().to_hex();
    assert_eq!(check(&store, &events, &format!(r#"{{"ids":{}}}"#, list(&id))), 1);
    assert_eq!(check(&store, &events, &format!(r##"{{"#t":{}}}"##, list("blue"))), 40);
    let kinds: Vec<u16> = (0..600).collect();
    assert_eq!(check(&store, &events, &format!(r#"{{"kinds":{kinds:?},"authors":["{author}"]}}"#)), 20);
}

pub fn that_are_empty(open: Open) {
    let store = open();
    let events = mixed(&store);
    assert_eq!(check(&store, &events, "{}"), 120);
}

pub fn lists_that_are_empty(open: Open) {
    let store = open();
    let events = mixed(&store);
    for json in [
        r#"{"ids":[]}"#,
        r#"{"authors":[]}"#,
        r#"{"kinds":[]}"#,
        r##"{"#t":[]}"##,
        r##"{"#t":["red"],"#p":[]}"##,
        r#"{"kinds":[1],"authors":[]}"#,
        r#"{"since":110,"until":109}"#,
    ] {
        assert_eq!(check(&store, &events, json), 0);
    }
    // One that never matches does not spoil the others.
    let found = store.ask(&[r#"{"kinds":[]}"#, r#"{"kinds":[1],"limit":2}"#]);
    assert_eq!(found.ids, store.find(r#"{"kinds":[1],"limit":2}"#));
    assert_eq!(found.ids.len(), 2);
    let none = Filter { tags: [TagFilter::new(b'x', Vec::<String>::new())].into(), ..Filter::default() };
    assert_eq!(store.answer(query([none])).ids, ids([]));
}
