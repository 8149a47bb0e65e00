//! What a filter matches (NIP-01), stored and live: every question is asked before and after.

use std::slice::from_ref;

use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};

use common::ask::{delivered, event, id, ids, prefix};
use common::{Relay, now};

const LETTERS: &str = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/// Asks each filter live, publishes the events (oldest first), and asks for the stored ones: the
/// answers are `expected`, as places in `events`.
async fn check(events: &[Event], cases: &[(Value, &[usize])]) {
    let relay = Relay::start(&[]);
    let (mut writer, mut reader) = (relay.connect().await, relay.connect().await);
    for (nth, (filter, _)) in cases.iter().enumerate() {
        reader.watch(&nth.to_string(), filter.clone()).await;
    }
    writer.put_all(events).await;
    let live = delivered(&reader.heard(&mut writer).await);
    for (nth, (filter, expected)) in cases.iter().enumerate() {
        let mut expected = ids(expected.iter().map(|&at| &events[at]));
        let subscription = nth.to_string();
        let came: Vec<_> = live.iter().filter(|(to, _)| *to == subscription).map(|(_, id)| id).collect();
        assert_eq!(came, expected.iter().collect::<Vec<_>>(), "live: {filter}");
        expected.reverse();
        assert_eq!(writer.find(filter.clone()).await, expected, "stored: {filter}");
        assert_eq!(writer.count(from_ref(filter)).await["count"], expected.len(), "count: {filter}");
    }
}

#[tokio::test]
async fn every_letter_is_indexed_by_its_first_value() {
    let keys = Keys::generate();
    // `#e` and `#p` take ids and keys only.
    let value = |letter: char| match letter {
        'e' | 'p' => "ab".repeat(32),
        letter => format!("value of {letter}"),
    };
    let second = |letter: char| match letter {
        'e' | 'p' => "cd".repeat(32),
        _ => "second".to_owned(),
    };
    let tags: Vec<[String; 3]> =
        LETTERS.chars().map(|letter| [letter.to_string(), value(letter), second(letter)]).collect();
    let tags: Vec<[&str; 3]> = tags.iter().map(|tag| tag.each_ref().map(|s| &**s)).collect();
    let tags: Vec<&[&str]> = tags.iter().map(|tag| &tag[..]).collect();
    let at = now() - 10;
    let events = [event(&keys, at, 1, &tags, ""), event(&keys, at + 1, 1, &[], "without tags")];
    let mut cases: Vec<(Value, &[usize])> = Vec::new();
    for letter in LETTERS.chars() {
        let name = format!("#{letter}");
        cases.push((json!({ &name: [second(letter), value(letter)] }), &[0][..]));
        cases.push((json!({ &name: [second(letter)] }), &[]));
        let other: char =
            if letter.is_lowercase() { letter.to_ascii_uppercase() } else { letter.to_ascii_lowercase() };
        if !matches!(other, 'e' | 'p' | 'E' | 'P') {
            cases.push((json!({ &name: [value(other)] }), &[]));
        }
    }
    check(&events, &cases).await;
}

#[tokio::test]
async fn conditions_are_anded_and_values_ored() {
    let (one, two) = (Keys::generate(), Keys::generate());
    let (p, e) = ("11".repeat(32), "22".repeat(32));
    let at = now() - 100;
    let events = [
        event(&one, at, 1, &[&["t", "a"], &["t", "b"], &["p", &p]], "0"),
        event(&one, at + 1, 7, &[&["t", "a"], &["e", &e, "wss://x"], &["p", &p]], "1"),
        event(&two, at + 2, 1, &[&["t", "b"], &["long", "a"], &["1", "a"]], "2"),
        event(&two, at + 3, 30_000, &[&["d", "x"], &["t", "A"]], "3"),
    ];
    let (a, b) = (one.public_key(), two.public_key());
    let absent = "99".repeat(32);
    let everything: &[usize] = &[0, 1, 2, 3];
    check(
        &events,
        &[
            (json!({ "authors": [a, b] }), everything),
            (json!({}), everything),
            (json!({ "ids": [events[1].id(), events[3].id(), absent] }), &[1, 3]),
            (json!({ "ids": [absent] }), &[]),
            (json!({ "ids": [events[1].id(), events[1].id()] }), &[1]),
            (json!({ "authors": [a] }), &[0, 1]),
            (json!({ "authors": [a], "kinds": [1] }), &[0]),
            (json!({ "authors": [a, b], "kinds": [1, 30_000] }), &[0, 2, 3]),
            (json!({ "kinds": [7] }), &[1]),
            (json!({ "kinds": [7, 7, 65_535] }), &[1]),
            (json!({ "kinds": [8] }), &[]),
            (json!({ "#t": ["a"] }), &[0, 1]),
            (json!({ "#t": ["a", "b"] }), &[0, 1, 2]),
            (json!({ "#t": ["A"] }), &[3]),
            (json!({ "#t": ["a"], "#p": [p] }), &[0, 1]),
            (json!({ "#t": ["a", "b"], "#p": [p], "#e": [e] }), &[1]),
            (json!({ "#t": ["a"], "kinds": [1] }), &[0]),
            (json!({ "#t": ["b"], "authors": [b] }), &[2]),
            (json!({ "#t": ["a"], "authors": [b] }), &[]),
            (json!({ "#d": ["x"], "kinds": [30_000], "authors": [b] }), &[3]),
            (json!({ "ids": [events[0].id()], "authors": [b] }), &[]),
            (json!({ "ids": [events[0].id()], "authors": [a], "kinds": [1], "#t": ["b"] }), &[0]),
            (json!({ "#t": ["x"] }), &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn the_window_holds_both_its_ends() {
    let keys = Keys::generate();
    let at = now() - 100;
    let events: Vec<Event> = (0..5).map(|n| event(&keys, at + n, 1, &[], "")).collect();
    check(
        &events,
        &[
            (json!({ "since": at + 3 }), &[3, 4]),
            (json!({ "until": at + 1 }), &[0, 1]),
            (json!({ "since": at + 1, "until": at + 3 }), &[1, 2, 3]),
            (json!({ "since": at + 2, "until": at + 2 }), &[2]),
            (json!({ "since": at + 3, "until": at + 2 }), &[]),
            (json!({ "since": 0, "until": u64::MAX }), &[0, 1, 2, 3, 4]),
            (json!({ "kinds": [1], "since": at + 4 }), &[4]),
            (json!({ "authors": [keys.public_key()], "until": at }), &[0]),
        ],
    )
    .await;
}

#[tokio::test]
async fn an_empty_list_matches_nothing() {
    let keys = Keys::generate();
    let events = [event(&keys, now(), 1, &[&["t", "a"]], "")];
    let author = keys.public_key();
    check(
        &events,
        &[
            (json!({ "ids": [] }), &[]),
            (json!({ "authors": [] }), &[]),
            (json!({ "kinds": [] }), &[]),
            (json!({ "#t": [] }), &[]),
            (json!({ "authors": [author], "kinds": [] }), &[]),
            (json!({ "authors": [author], "#e": [] }), &[]),
            (json!({ "authors": [author] }), &[0]),
        ],
    )
    .await;
}

#[tokio::test]
async fn several_filters_are_ored_and_an_event_is_sent_once() {
    let relay = Relay::start(&[]);
    let (mut writer, mut reader) = (relay.connect().await, relay.connect().await);
    let (one, two) = (Keys::generate(), Keys::generate());
    let at = now() - 10;
    let events = [
        event(&one, at + 3, 1, &[&["t", "a"]], "all three"),
        event(&two, at + 2, 7, &[&["t", "a"]], "the tag"),
        event(&two, at + 1, 1, &[], "the kind"),
        event(&two, at, 7, &[], "none"),
    ];
    let filters = [json!({ "authors": [one.public_key()] }), json!({ "#t": ["a"] }), json!({ "kinds": [1] })];
    assert!(reader.request("s", &filters).await.0.is_empty());
    writer.put_all(&events).await;
    let live = delivered(&reader.heard(&mut writer).await);
    assert_eq!(live.iter().map(|(_, id)| id.clone()).collect::<Vec<_>>(), ids(&events[..3]));
    assert_eq!(reader.find_any(&filters).await, (ids(&events[..3]), Some("finish".into())));
    assert_eq!(reader.count(&filters).await["count"], 3);
    // One that matches nothing changes nothing.
    let filters = [json!({ "kinds": [] }), json!({ "authors": [one.public_key()] })];
    assert_eq!(reader.find_any(&filters).await.0, ids(&events[..1]));
}

#[tokio::test]
async fn what_can_not_be_honoured_is_closed() {
    let relay = Relay::start(&["--set", "limits.max_filters=2", "--set", "limits.max_filter_values=4"]);
    let mut client = relay.connect().await;
    let key = Keys::generate().public_key().to_hex();
    for (filter, expected) in [
        (json!({ "search": "words" }), "unsupported"),
        (json!({ "#long": ["x"] }), "unsupported"),
        (json!({ "#1": ["x"] }), "unsupported"),
        (json!({ "#é": ["x"] }), "unsupported"),
        (json!({ "unknown": 1 }), "unsupported"),
        (json!({ "ids": ["abc"] }), "invalid"),
        (json!({ "ids": [&key[1..]] }), "invalid"),
        (json!({ "ids": [key.to_uppercase()] }), "invalid"),
        (json!({ "authors": [key.replace(|c: char| c.is_ascii_digit(), "g")] }), "invalid"),
        (json!({ "authors": key }), "invalid"),
        (json!({ "#e": ["x"] }), "invalid"),
        (json!({ "#p": [key.to_uppercase()] }), "invalid"),
        (json!({ "#t": [1] }), "invalid"),
        (json!({ "kinds": ["1"] }), "invalid"),
        (json!({ "kinds": [65_536] }), "invalid"),
        (json!({ "kinds": [-1] }), "invalid"),
        (json!({ "since": -1 }), "invalid"),
        (json!({ "until": 1.5 }), "invalid"),
        (json!({ "limit": -1 }), "invalid"),
        (json!({ "limit": "10" }), "invalid"),
        (json!({ "kinds": [1, 2, 3], "#t": ["a", "b"] }), "invalid"),
        (json!([]), "invalid"),
        (Value::Null, "invalid"),
        (json!("{}"), "invalid"),
    ] {
        for verb in ["REQ", "COUNT"] {
            let text = client.closed(verb, "s", filter.clone()).await;
            assert_eq!(prefix(&text), expected, "{verb} {filter}: {text}");
        }
    }
    for message in [json!(["REQ", "s"]), json!(["COUNT", "s"]), json!(["REQ", "s", {}, {}, {}])] {
        client.say(message.clone()).await;
        let closed = client.hear().await;
        assert_eq!((&closed[0], &closed[1]), (&json!("CLOSED"), &json!("s")), "{message}: {closed}");
    }
    client.say_text(r#"["REQ","s",{"kinds":[1],"kinds":[2]}]"#).await;
    assert_eq!(client.hear().await[0], "CLOSED");
    // The bounds themselves are allowed.
    let filter = json!({ "kinds": [1, 2], "#t": ["a", "b"] });
    client.find_any(&[filter.clone(), filter]).await;
}

#[tokio::test]
async fn values_of_any_length_are_told_apart() {
    let keys = Keys::generate();
    let long = "x".repeat(5_000);
    let (longer, other) = (format!("{long}y"), format!("{long}z"));
    let at = now() - 10;
    let events = [
        event(&keys, at, 1, &[&["t", &longer]], ""),
        event(&keys, at + 1, 1, &[&["t", &other]], ""),
        event(&keys, at + 2, 1, &[&["t", ""]], "empty"),
        event(&keys, at + 3, 1, &[&["t"]], "no value"),
    ];
    assert_ne!(id(&events[0]), id(&events[1]));
    check(
        &events,
        &[
            (json!({ "#t": [longer] }), &[0]),
            (json!({ "#t": [other] }), &[1]),
            (json!({ "#t": [long] }), &[]),
            (json!({ "#t": [""] }), &[2]),
        ],
    )
    .await;
}
