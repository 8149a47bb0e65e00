//! Events with strange tags through the records of the embedded store: each is found by every tag it
//! carries, byte for byte as it was, and by no other.

#![no_main]

use std::{cell::RefCell, sync::Arc, time::Instant};

use arbitrary::{Result, Unstructured};
use libfuzzer_sys::fuzz_target;
use rookery::{
    config,
    protocol::{Event, EventId, Filter, ParsedEvent, PublicKey, TagFilter, Tags, event::Signature},
    store::{
        Content, Cursor, Limit, Outcome, Query, Store, Viewer,
        lmdb::{Access, Lmdb},
    },
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// Events that a store takes before it is replaced, so that it stays small.
const FULL: u64 = 2_000;
/// Neither replaced nor deleted nor private.
const KIND: u16 = 1;
const NOW: u64 = 1_000;

struct Subject {
    runtime: Runtime,
    store: Lmdb,
    written: u64,
    _folder: TempDir,
}

thread_local! {
    static SUBJECT: RefCell<Option<Subject>> = const { RefCell::new(None) };
}

fuzz_target!(|bytes: &[u8]| {
    let Ok((tags, content)) = read(&mut Unstructured::new(bytes)) else { return };
    SUBJECT.with_borrow_mut(|subject| {
        if subject.as_ref().is_some_and(|subject| subject.written >= FULL) {
            *subject = None;
        }
        subject.get_or_insert_with(open).take(tags, &content);
    });
});

fn open() -> Subject {
    let folder = TempDir::new().unwrap();
    let config =
        config::Lmdb { readers: 1, min_free_bytes: 0, map_bytes: 1 << 30, ..config::Lmdb::default() };
    let store = Lmdb::open(folder.path(), &config, Access::Exclusive).unwrap();
    // Questions wait for room, and for no longer than a while.
    let runtime = Builder::new_current_thread().enable_time().build().unwrap();
    Subject { runtime, store, written: 0, _folder: folder }
}

impl Subject {
    fn take(&mut self, tags: Tags, content: &str) {
        self.written += 1;
        let mut id = [0; 32];
        id[..8].copy_from_slice(&self.written.to_be_bytes());
        let event = ParsedEvent {
            id: EventId(id),
            pubkey: PublicKey([1; 32]),
            created_at: 1,
            kind: KIND,
            tags,
            content: content.into(),
            sig: Signature([2; 64]),
        };
        let event = event.trust();
        let expired = event.expiration().is_some_and(|at| at <= NOW);
        let written = self
            .runtime
            .block_on(self.store.write([Arc::new(event.clone())].into(), NOW, Instant::now()))
            .unwrap();
        let expected = if expired { Outcome::Expired } else { Outcome::Stored };
        assert_eq!(written.outcomes, [expected]);
        if expired {
            return;
        }
        self.expect(&event, None, true);
        for (letter, value) in event.tags().indexed() {
            self.expect(&event, Some(TagFilter::new(letter, [value])), true);
            let other = format!("{value}?");
            let carried = event.tags().indexed().any(|(l, v)| (l, v) == (letter, other.as_str()));
            self.expect(&event, Some(TagFilter::new(letter, [other])), carried);
        }
    }

    /// Asks for the event by its tag; by its id where there is none.
    fn expect(&self, event: &Event, tag: Option<TagFilter>, expected: bool) {
        let ids = tag.is_none().then(|| [event.id()].into());
        let filter = Filter { ids, tags: tag.into_iter().collect(), ..Filter::default() };
        assert_eq!(filter.matches(event), expected);
        let limit = FULL as usize;
        let query = Query {
            filters: vec![(filter, Limit::exactly(limit))],
            viewer: Viewer::Operator,
            now: NOW,
            content: Content::Events,
        };
        let query = Arc::new(query);
        let mut found = Vec::new();
        let mut next = Some(Cursor::start(&query));
        while let Some(cursor) = next {
            let page = self.runtime.block_on(self.store.query(Arc::clone(&query), cursor)).unwrap();
            found.extend(
                page.iter().filter(|entry| entry.id == event.id()).map(|entry| entry.json.to_owned()),
            );
            next = page.next;
        }
        let expected: &[&str] = if expected { &[event.json()] } else { &[] };
        assert_eq!(found, expected, "{query:?}");
    }
}

fn read(u: &mut Unstructured<'_>) -> Result<(Tags, String)> {
    let content = text(u)?;
    let mut tags = Tags::default();
    for _ in 0..u.int_in_range(0..=5)? {
        let mut tag = Vec::new();
        for _ in 0..u.int_in_range(0..=3)? {
            tag.push(text(u)?);
        }
        tags.push(tag);
    }
    Ok((tags, content))
}

/// Short names, what JSON escapes, what looks like the JSON of an event, or anything.
fn text(u: &mut Unstructured<'_>) -> Result<String> {
    let pieces = [
        "e",
        "p",
        "expiration",
        "\"",
        "\\",
        "\n",
        "\u{1}",
        ",\"tags\":[",
        "[[",
        "]]",
        "é",
        "😀",
        "1001",
        "a",
    ];
    Ok(match u.int_in_range(0..=7)? {
        0 => String::new(),
        1 => u.arbitrary::<&str>()?.to_owned(),
        2 => "0f".repeat(32),
        3..=5 => (*u.choose(&pieces)?).to_owned(),
        6 => [*u.choose(&pieces)?, *u.choose(&pieces)?].concat(),
        _ => u.choose(&pieces)?.repeat(u.int_in_range(0..=300)?),
    })
}
