//! Pages: each goes on exactly where the one before it ended, whatever happened in between.

use std::sync::Arc;

use rookery::{
    protocol::{Event, EventId},
    store::{Cursor, End, FilterProgress, Outcome, Query},
};

use crate::subject::{
    Answer, NOW, Open, Subject, delete, event, filter, hex, ids, in_order, note, query, user,
};

/// Enough, and large enough, that a store is likely to cut them into several pages.
fn many(store: &Subject) -> Vec<Arc<Event>> {
    let notes: Vec<_> = (0..400)
        .map(|n| note(&user(n as u8 % 4), 1_000 + n / 7, &format!("{n} {}", "x".repeat(3_000))))
        .collect();
    for batch in notes.chunks(100) {
        assert!(store.write(batch).iter().all(|&outcome| outcome == Outcome::Stored));
    }
    notes
}

pub fn goes_through_everything_once(open: Open) {
    let store = open();
    let notes = many(&store);
    let answer = store.ask(&["{}"]);
    assert_eq!(answer.ids, in_order(&notes));
    assert_eq!(answer.end, End::Finish);
    let answer = store.ask(&[r#"{"limit":399}"#, &format!(r#"{{"authors":["{}"]}}"#, hex(&user(1)))]);
    assert_eq!(answer.ids, in_order(&notes)[..399]);
}

/// What a filter names is asked for once, not again for every page.
pub fn of_many_ids_and_values_come_to_the_end(open: Open) {
    const NOTES: usize = 300;
    let store = open();
    let notes: Vec<_> = (0..NOTES)
        .map(|n| {
            let text = format!("{n} {}", "x".repeat(500));
            event(&user(n as u8 % 100), 1_000 + n as u64 / 3, 1, &[&["t", &format!("t{n}")]], &text)
        })
        .collect();
    for batch in notes.chunks(100) {
        assert!(store.write(batch).iter().all(|&outcome| outcome == Outcome::Stored));
    }
    let list = |values: Vec<String>| serde_json::to_string(&values).unwrap();
    let named = list(notes.iter().map(|note| note.id().to_hex()).collect());
    let values = list((0..NOTES).map(|n| format!("t{n}")).collect());
    let authors = list((0..100).map(|n| hex(&user(n))).collect());
    for json in [
        format!(r#"{{"ids":{named}}}"#),
        format!(r##"{{"#t":{values}}}"##),
        format!(r#"{{"authors":{authors}}}"#),
        format!(r#"{{"authors":{authors},"kinds":[1,2,3]}}"#),
    ] {
        let answer = store.ask(&[&json]);
        assert_eq!((answer.ids.len(), answer.end), (NOTES, End::Finish), "{:.20}", json);
        assert_eq!(answer.ids, in_order(&notes), "{:.20}", json);
    }
    // Some of each, and several filters want the same.
    let half = list(notes.iter().take(200).map(|note| note.id().to_hex()).collect());
    let (half, few) = (format!(r#"{{"ids":{half}}}"#), format!(r##"{{"#t":{values},"limit":7}}"##));
    let answer = store.ask(&[&half, &few]);
    let newest = in_order(&notes)[..7].to_vec();
    let expected: Vec<EventId> = in_order(&notes)
        .into_iter()
        .filter(|id| newest.contains(id) || notes[..200].iter().any(|note| note.id() == *id))
        .collect();
    assert_eq!(answer.ids, expected);
}

/// Where a query stands after the first `looked_at` of all events that a store holds.
fn cursor_after(query: &Query, events: &[Arc<Event>], looked_at: usize) -> Cursor {
    let mut sorted = events.to_vec();
    sorted.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    let mut cursor = Cursor::start(query);
    for event in &sorted[..looked_at] {
        let matching: Vec<usize> =
            (0..query.filters.len()).filter(|&index| query.filters[index].0.matches(&**event)).collect();
        FilterProgress::offer(&mut cursor.progress, &matching, event.created_at());
        cursor.after = Some((event.created_at(), event.id()));
    }
    cursor
}

pub fn continues_after_any_event(open: Open) {
    let store = open();
    let notes: Vec<_> = [7, 7, 7, 5, 5, 3, 0, 0]
        .iter()
        .enumerate()
        .map(|(n, &at)| note(&user(0), at, &n.to_string()))
        .collect();
    store.write(&notes);
    let sorted = in_order(&notes);
    let author = hex(&user(0));
    for json in [
        "{}".to_owned(),
        format!(r#"{{"authors":["{author}"]}}"#),
        format!(r#"{{"authors":["{author}"],"kinds":[0,1]}}"#),
        r#"{"kinds":[1,2]}"#.to_owned(),
        format!(r#"{{"ids":{}}}"#, serde_json::to_string(&sorted).unwrap()),
    ] {
        for seen in 0..=sorted.len() {
            let query = query([filter(&json)]);
            let cursor = cursor_after(&query, &notes, seen);
            assert_eq!(store.answer_from(query, cursor).ids, sorted[seen..], "{json} after {seen}");
        }
    }
}

pub fn continues_filters_at_their_own_pace(open: Open) {
    let store = open();
    let notes: Vec<_> = [9, 9, 9, 8, 8, 8, 8, 7, 7, 6, 5, 5]
        .iter()
        .enumerate()
        .map(|(n, &at)| note(&user(n as u8 % 2), at, &n.to_string()))
        .collect();
    store.write(&notes);
    let (zero, one) = (hex(&user(0)), hex(&user(1)));
    let filters = [
        format!(r#"{{"authors":["{zero}"],"limit":2}}"#),
        format!(r#"{{"authors":["{one}"],"limit":4}}"#),
        r#"{"kinds":[1],"until":6,"limit":2}"#.to_owned(),
    ];
    for boundary in [0, 1, 5] {
        let mut query = query(filters.iter().map(|json| filter(json)));
        query.filters.iter_mut().for_each(|(_, limit)| limit.boundary = boundary);
        let whole = store.answer(query.clone());
        for looked_at in 0..=notes.len() {
            let cursor = cursor_after(&query, &notes, looked_at);
            let Answer { ids, end, .. } = store.answer_from(query.clone(), cursor);
            assert!(whole.ids.ends_with(&ids), "boundary {boundary}, after {looked_at}: {ids:?}");
            let looked_at = &in_order(&notes)[..looked_at];
            let sent = whole.ids.iter().filter(|id| looked_at.contains(id)).count();
            assert_eq!(sent + ids.len(), whole.ids.len());
            assert_eq!(end, whole.end);
        }
    }
}

pub fn stays_exact_while_others_write(open: Open) {
    let store = open();
    let notes = many(&store);
    let sorted = in_order(&notes);
    let query = Arc::new(query([filter("{}")]));
    let first = store.block_on(store.store().query(query.clone(), Cursor::start(&query))).unwrap();
    let Some(next) = first.next.clone() else { return };

    let seen: Vec<_> = first.iter().map(|entry| entry.id).collect();
    assert_eq!(seen, sorted[..seen.len()]);
    let doomed = notes.iter().find(|note| note.id() == sorted[sorted.len() - 1]).unwrap();
    let author = (0..4).map(user).find(|keys| keys.public_key() == doomed.pubkey()).unwrap();
    // A newer one, an older one, and a deletion that is newer again.
    let (newer, older) = (note(&user(0), 9_000, "newer"), note(&user(0), 1, "older"));
    store.write_at(NOW, [&newer, &older, &delete(&author, 9_001, doomed)]);

    let rest = store.answer_from((*query).clone(), next);
    let expected = [&sorted[seen.len()..sorted.len() - 1], &ids([&older])].concat();
    assert_eq!(rest.ids, expected);
    assert_eq!(rest.end, End::Finish);
}
