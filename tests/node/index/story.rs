//! Random lives of an index: subscriptions come and go, events are looked up. What is found must be
//! what asking every filter finds.
//!
//! Made from bytes, so that the property test and the fuzzer tell the same stories. The universe is
//! small, so that events and filters meet.

use std::collections::{BTreeMap, HashSet};

use arbitrary::{Result, Unstructured};
use rookery::{
    protocol::{
        Event, EventId, Filter, ParsedEvent, PublicKey, TagFilter, Tags, event::Signature, filter::sorted,
    },
    route::{
        index::{Index, Slot},
        key::{RoutingKey, cover, keys},
    },
};

const STEPS: usize = 60;
const KINDS: [u16; 5] = [0, 1, 4, 1_059, 30_023];
const LETTERS: [&str; 5] = ["e", "p", "t", "P", "d"];

#[derive(Debug)]
pub struct Story(Vec<Step>);

#[derive(Debug)]
enum Step {
    Insert(Box<[Filter]>),
    /// Which of the subscriptions there are, counted round.
    Remove(usize),
    Find(Event),
}

impl Story {
    pub fn new(u: &mut Unstructured<'_>) -> Result<Self> {
        Ok(Self(list(u, STEPS, |u| {
            Ok(match u.int_in_range(0..=9)? {
                0..=3 => Step::Insert(list(u, 3, filter)?.into()),
                4 => Step::Remove(u.arbitrary()?),
                _ => Step::Find(event(u)?),
            })
        })?))
    }

    pub fn tell(&self) {
        let mut index = Index::default();
        let mut live: Vec<(usize, Slot, &[Filter])> = Vec::new();
        for (owner, step) in self.0.iter().enumerate() {
            match step {
                Step::Insert(filters) => live.push((owner, index.insert(owner, filters.clone()), filters)),
                Step::Remove(_) if live.is_empty() => {}
                Step::Remove(nth) => drop(index.remove(live.swap_remove(nth % live.len()).1)),
                Step::Find(event) => {
                    let mut expected: Vec<usize> = Vec::new();
                    for (owner, _, filters) in &live {
                        // Every filter is asked, also where one is enough.
                        if filters.iter().filter(|filter| wants(filter, event)).count() > 0 {
                            expected.push(*owner);
                        }
                    }
                    let mut found = Vec::new();
                    index.matches(event, |&owner| found.push(owner));
                    expected.sort_unstable();
                    found.sort_unstable();
                    assert_eq!(found, expected, "{event:?}");
                }
            }
            assert_eq!(index.len(), live.len());
        }
        for (_, slot, _) in live {
            index.remove(slot);
        }
        assert_eq!((index.len(), index.keys()), (0, 0), "something is left in the empty index");
    }
}

/// Asks the filter, and checks what routing rests on.
fn wants(filter: &Filter, event: &Event) -> bool {
    let wanted = filter.matches(event);
    assert_eq!(wanted, plainly_wants(filter, event), "{filter:?} {event:?}");
    if wanted {
        assert!(!filter.is_never(), "{filter:?} {event:?}");
        let carried: HashSet<RoutingKey> = keys(event).collect();
        assert!(cover(filter).iter().any(|key| carried.contains(key)), "no key shared: {filter:?} {event:?}");
    }
    wanted
}

/// What NIP-01 says, without any care for speed.
fn plainly_wants(filter: &Filter, event: &Event) -> bool {
    let has = |tag: &TagFilter| {
        event.tags().iter().any(|t| {
            let letter = char::from(tag.letter()).to_string();
            t.name() == letter && t.value().is_some_and(|value| tag.values().iter().any(|v| **v == *value))
        })
    };
    filter.ids.as_ref().is_none_or(|ids| ids.contains(&event.id()))
        && filter.authors.as_ref().is_none_or(|authors| authors.contains(&event.pubkey()))
        && filter.kinds.as_ref().is_none_or(|kinds| kinds.contains(&event.kind()))
        && filter.since.is_none_or(|since| event.created_at() >= since)
        && filter.until.is_none_or(|until| event.created_at() <= until)
        && filter.tags.iter().all(has)
}

fn filter(u: &mut Unstructured<'_>) -> Result<Filter> {
    let mut tags = BTreeMap::new();
    for _ in 0..u.int_in_range(0..=2)? {
        let letter = u.choose(&LETTERS)?.as_bytes()[0];
        tags.insert(letter, TagFilter::new(letter, list(u, 4, value)?));
    }
    Ok(Filter {
        ids: some(u, 9, |u| Ok(sorted(list(u, 3, id)?)))?,
        authors: some(u, 3, |u| Ok(sorted(list(u, 3, key)?)))?,
        kinds: some(u, 2, |u| Ok(sorted(list(u, 4, kind)?)))?,
        tags: tags.into_values().collect(),
        since: some(u, 5, time)?,
        until: some(u, 5, time)?,
        limit: some(u, 9, |u| u.int_in_range(0..=2))?,
    })
}

fn event(u: &mut Unstructured<'_>) -> Result<Event> {
    let tag = |u: &mut Unstructured<'_>| -> Result<Vec<String>> {
        let name = match u.ratio(1, 9)? {
            true => *u.choose(&["", "-", "expiration", "é", "ee"])?,
            false => *u.choose(&LETTERS)?,
        };
        let mut tag = vec![name.to_owned()];
        tag.extend(list(u, 2, value)?);
        Ok(tag)
    };
    let mut tags: Tags = list(u, 5, tag)?.into_iter().collect();
    if u.ratio(1, 9)? {
        tags.push([""; 0]);
    }
    let event = ParsedEvent {
        id: id(u)?,
        pubkey: key(u)?,
        created_at: time(u)?,
        kind: kind(u)?,
        tags,
        content: "".into(),
        sig: Signature([0; 64]),
    };
    Ok(event.trust())
}

fn id(u: &mut Unstructured<'_>) -> Result<EventId> {
    Ok(EventId([u.int_in_range(0..=3)?; 32]))
}

fn key(u: &mut Unstructured<'_>) -> Result<PublicKey> {
    Ok(PublicKey([u.int_in_range(0..=3)?; 32]))
}

fn kind(u: &mut Unstructured<'_>) -> Result<u16> {
    u.choose(&KINDS).copied()
}

fn time(u: &mut Unstructured<'_>) -> Result<u64> {
    u.choose(&[0, 1, 2, 3, u64::MAX]).copied()
}

/// Values that look like ids and keys, and others.
fn value(u: &mut Unstructured<'_>) -> Result<String> {
    Ok(match u.int_in_range(0..=7)? {
        nth @ 0..=3 => key_text(nth),
        4 => String::new(),
        5 => "x".to_owned(),
        6 => "AB".repeat(32),
        _ => format!("{}é", &key_text(0)[2..]),
    })
}

fn key_text(nth: u8) -> String {
    PublicKey([nth; 32]).to_hex()
}

/// At most `most` of them; few are as likely as many.
fn list<T>(
    u: &mut Unstructured<'_>,
    most: usize,
    mut element: impl FnMut(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Vec<T>> {
    (0..u.int_in_range(0..=most)?).map(|_| element(u)).collect()
}

/// Once in so many times.
fn some<T>(
    u: &mut Unstructured<'_>,
    times: u8,
    value: impl FnOnce(&mut Unstructured<'_>) -> Result<T>,
) -> Result<Option<T>> {
    u.ratio(1, times)?.then(|| value(u)).transpose()
}
