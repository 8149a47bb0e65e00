//! COUNT and its estimate (NIP-45).

use rookery::{protocol::hll::HyperLogLog, store::Query};

use crate::subject::{NOW, Open, event, filter, hex, note, query, user};

pub fn ignore_limits(open: Open) {
    let store = open();
    let notes: Vec<_> = (0..20).map(|n| note(&user(n % 3), 10 + u64::from(n), "")).collect();
    store.write(&notes);
    for json in [r#"{"limit":0}"#, r#"{"limit":1}"#, r#"{"limit":20}"#, "{}"] {
        let counted = store.count(query([filter(json)]));
        assert_eq!((counted.count, counted.approximate), (20, false), "{json}");
    }
    assert_eq!(open().count(query([filter("{}")])).count, 0);
}

pub fn count_an_event_once(open: Open) {
    let store = open();
    let notes: Vec<_> = (0..9).map(|n| note(&user(n % 3), 10 + u64::from(n), "")).collect();
    store.write(&notes);
    let by = format!(r#"{{"authors":["{}"]}}"#, hex(&user(0)));
    let count = |filters: &[&str]| store.count(query(filters.iter().map(|json| filter(json)))).count;
    assert_eq!(count(&[&by]), 3);
    assert_eq!(count(&[&by, &by]), 3);
    assert_eq!(count(&[&by, r#"{"since":16}"#]), 5);
    assert_eq!(count(&[&by, "{}", r#"{"kinds":[7]}"#]), 9);
}

pub fn respect_the_window_and_empty_lists(open: Open) {
    let store = open();
    let notes: Vec<_> = (0..9).map(|n| event(&user(0), 10 + n, 1, &[&["t", "x"]], "")).collect();
    store.write(&notes);
    for (json, expected) in [
        (r#"{"since":12,"until":14}"#, 3),
        (r#"{"kinds":[1],"since":18}"#, 1),
        (r#"{"kinds":[1],"since":19}"#, 0),
        (r##"{"#t":["x"],"until":10}"##, 1),
        (r##"{"#t":["x","x"]}"##, 9),
        (r##"{"#t":[]}"##, 0),
        (r#"{"kinds":[]}"#, 0),
        (r#"{"since":14,"until":12}"#, 0),
    ] {
        assert_eq!(store.count(query([filter(json)])).count, expected, "{json}");
    }
}

pub fn estimate_authors_for_one_tag_filter(open: Open) {
    let store = open();
    let target = "ab".repeat(32);
    let reactions: Vec<_> =
        (0..60).map(|n| event(&user(n % 40), 10 + u64::from(n), 7, &[&["e", &target]], "+")).collect();
    let over = event(&user(99), 10, 7, &[&["e", &target], &["expiration", "20"]], "");
    store.write_at(10, reactions.iter().chain([&over]));
    let json = format!(r##"{{"#e":["{target}"],"kinds":[7],"limit":3}}"##);
    let mut expected = HyperLogLog::for_filter(&filter(&json)).unwrap();
    for reaction in &reactions {
        expected.add(&reaction.pubkey());
    }
    let one = query([filter(&json)]);
    let counted = store.count(Query { now: NOW, ..one });
    assert_eq!(counted.count, 60);
    assert_eq!(counted.hll, Some(expected));

    for filters in [vec![filter(&json), filter(&json)], vec![filter(r#"{"kinds":[7]}"#)], vec![]] {
        assert_eq!(store.count(query(filters)).hll, None);
    }
    let none = filter(&format!(r##"{{"#e":["{target}"],"kinds":[6]}}"##));
    let empty = HyperLogLog::for_filter(&none);
    assert_eq!(store.count(query([none])).hll, empty);
}
