//! Events of unusual shape: what is stored comes back as it was, and is found by what it says.

use rookery::{
    protocol::{Filter, TagFilter},
    store::{End, Outcome::*},
};

use crate::subject::{Open, Subject, address, deletion, event, filter, ids, in_order, note, query, user};

fn with(store: &Subject, letter: u8, value: &str) -> Vec<rookery::protocol::EventId> {
    let filter = Filter { tags: [TagFilter::new(letter, [value])].into(), ..Filter::default() };
    assert_eq!(
        store.count(query([filter.clone()])).count,
        store.answer(query([filter.clone()])).ids.len() as u64
    );
    store.answer(query([filter])).ids
}

pub fn texts_come_back_byte_for_byte(open: Open) {
    let store = open();
    let texts = [
        "",
        "\0",
        "a\0b\u{1}\u{1f}\u{7f}\n\r\t\u{8}\u{c}\"\\/",
        "Grüße, 世界, 🦀, e\u{301}, \u{202e}\u{feff}\u{10ffff}\u{2028}",
        r#"{"id":"fake"}]["#,
        "\\u0000 \\n",
        &"long ".repeat(60_000),
    ];
    let events: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(n, text)| event(&user(0), n as u64, 1, &[&["t", text], &[text, text]], text))
        .collect();
    for event in &events {
        assert_eq!(store.put(event), Stored);
    }
    let answer = store.ask(&["{}"]);
    let expected: Vec<_> = events.iter().rev().map(|event| event.json()).collect();
    assert_eq!(answer.json, expected);
    for (event, text) in events.iter().zip(texts) {
        assert_eq!(with(&store, b't', text), ids([event]));
    }
}

pub fn tags_without_a_value_are_not_found(open: Open) {
    let store = open();
    let bare = event(&user(0), 10, 1, &[&["t"], &[], &[""], &["", "x"], &["tt", "x"], &["-"]], "");
    let empty = event(&user(0), 11, 1, &[&["t", ""]], "");
    let second = event(&user(0), 12, 1, &[&["t", "", "x"], &["t", "y"]], "");
    store.write([&bare, &empty, &second]);
    assert_eq!(with(&store, b't', ""), ids([&second, &empty]));
    assert_eq!(with(&store, b't', "x"), ids([]));
    assert_eq!(with(&store, b't', "y"), ids([&second]));
    // The same tag twice is one event.
    let twice = event(&user(0), 13, 1, &[&["t", "z"], &["t", "z"], &["t", "z", "z"]], "");
    store.put(&twice);
    assert_eq!(with(&store, b't', "z"), ids([&twice]));
}

pub fn long_values_are_told_apart(open: Open) {
    let store = open();
    let long = "x".repeat(100_000);
    let other = format!("{}y", &long[1..]);
    let (a, b) =
        (event(&user(0), 10, 1, &[&["t", &long]], ""), event(&user(0), 11, 1, &[&["t", &other]], ""));
    store.write([&a, &b]);
    assert_eq!(with(&store, b't', &long), ids([&a]));
    assert_eq!(with(&store, b't', &other), ids([&b]));
    assert_eq!(with(&store, b't', &long[1..]), ids([]));
    // Around every length where a key might be cut.
    let lengths: Vec<usize> = (20..70).chain(240..260).chain(480..520).collect();
    let events: Vec<_> = lengths
        .iter()
        .map(|&length| event(&user(0), 20, 1, &[&["r", &long[..length]]], &length.to_string()))
        .collect();
    store.write(&events);
    for (event, &length) in events.iter().zip(&lengths) {
        assert_eq!(with(&store, b'r', &long[..length]), ids([event]), "{length}");
    }
    assert_eq!(with(&store, b'r', &long[..19]), ids([]));
}

pub fn values_that_look_like_ids(open: Open) {
    let store = open();
    let hex = "ab".repeat(32);
    let values = [&hex, &hex.to_uppercase(), &hex[1..], "not hex", "", &"zz".repeat(32), &"é".repeat(32)];
    let letters = ["e", "p", "a", "E", "P", "q", "d"];
    let events: Vec<_> = letters
        .iter()
        .flat_map(|letter| values.iter().map(move |value| (*letter, *value)))
        .map(|(letter, value)| event(&user(0), 10, 1, &[&[letter, value]], ""))
        .collect();
    assert!(store.write(&events).iter().all(|&outcome| outcome == Stored));
    let mut events = events.iter();
    for letter in letters {
        for value in values {
            let expected = ids(events.next());
            assert_eq!(with(&store, letter.as_bytes()[0], value), expected, "{letter} {value:?}");
        }
    }
    // The 32 bytes themselves are not their hexadecimal form.
    let raw = "A".repeat(32);
    let (text, digits) = (
        event(&user(0), 12, 1, &[&["e", &raw]], ""),
        event(&user(0), 12, 1, &[&["e", &"41".repeat(32)]], ""),
    );
    store.write([&text, &digits]);
    assert_eq!(with(&store, b'e', &raw), ids([&text]));
    assert_eq!(with(&store, b'e', &"41".repeat(32)), ids([&digits]));
}

pub fn upper_case_letters_are_other_letters(open: Open) {
    let store = open();
    let letters = ["a", "A", "z", "Z", "t", "T"];
    let events: Vec<_> =
        (10..).zip(letters).map(|(at, letter)| event(&user(0), at, 1, &[&[letter, "v"]], "")).collect();
    let others = ["1", "_", "é", "aa"].map(|name| event(&user(0), 5, 1, &[&[name, "v"]], ""));
    store.write(events.iter().chain(&others));
    for (event, letter) in events.iter().zip(letters) {
        assert_eq!(with(&store, letter.as_bytes()[0], "v"), ids([event]), "{letter}");
    }
}

pub fn times_at_the_ends(open: Open) {
    let store = open();
    const FAR: u64 = u64::MAX / 2;
    let times = [0, 0, 1, 255, 256, u64::from(u32::MAX), 1 << 32, FAR - 1, FAR, FAR];
    let events: Vec<_> =
        times.iter().enumerate().map(|(n, &at)| note(&user(0), at, &n.to_string())).collect();
    assert!(store.write(&events).iter().all(|&outcome| outcome == Stored));
    assert_eq!(store.all(), in_order(&events));
    let author = user(0).public_key();
    for fields in [String::new(), r#","kinds":[1]"#.into(), format!(r#","authors":["{author}"]"#)] {
        for (window, expected) in [
            (r#""until":0"#.to_owned(), 2),
            (r#""since":0"#.to_owned(), 10),
            (format!(r#""since":{FAR}"#), 2),
            (format!(r#""since":{}"#, FAR + 1), 0),
            (format!(r#""since":{}"#, u64::MAX), 0),
            (format!(r#""until":{}"#, u64::MAX), 10),
            (format!(r#""since":{},"until":{}"#, 1_u64 << 32, FAR - 1), 2),
            (r#""since":1,"until":255"#.to_owned(), 2),
        ] {
            let json = format!("{{{window}{fields}}}");
            assert_eq!(store.find(&json).len(), expected, "{json}");
            assert_eq!(store.count(query([filter(&json)])).count, expected as u64, "{json}");
        }
    }
    let answer = store.ask(&[r#"{"limit":9}"#]);
    assert_eq!((answer.ids.len(), answer.end), (9, End::More));
    let profile = |at| event(&user(1), at, 0, &[], "");
    assert_eq!(store.write([&profile(0), &profile(FAR), &profile(1)]), [Stored, Stored, Superseded]);
}

pub fn identifiers_of_any_shape(open: Open) {
    let store = open();
    let alice = user(0);
    let long = "d".repeat(100_000);
    let identifiers =
        ["", " ", "a", "a\0", "a\0b", "a:b", ":", "ä", "\u{10ffff}", &long, &long[1..], &"d".repeat(511)];
    let version = |at, identifier: &str| event(&alice, at, 30_023, &[&["d", identifier]], "");
    let events: Vec<_> = identifiers.iter().map(|identifier| version(10, identifier)).collect();
    assert!(store.write(&events).iter().all(|&outcome| outcome == Stored));
    assert_eq!(store.all(), in_order(&events));
    for (identifier, event) in identifiers.into_iter().zip(&events) {
        assert_eq!(with(&store, b'd', identifier), ids([event]));
        assert_eq!(store.put(&version(9, identifier)), Superseded);
        let newer = version(11, identifier);
        assert_eq!(store.put(&newer), Stored);
        assert_eq!(with(&store, b'd', identifier), ids([&newer]));
        let request = deletion(&alice, 12, "a", &address(30_023, &alice.public_key(), identifier));
        assert_eq!(store.put(&request), Stored);
        assert_eq!(with(&store, b'd', identifier), ids([]));
        assert_eq!(store.put(&newer), Deleted);
    }
    assert_eq!(store.find(r#"{"kinds":[30023]}"#), ids([]));
}
