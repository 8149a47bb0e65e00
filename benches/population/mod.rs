//! Events and questions as a busy relay sees them: invented, but always the same, so that two runs
//! of a benchmark measure the same work.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::{
    future::Future,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rookery::{
    config,
    protocol::{
        Event, EventId, Filter, ParsedEvent, PublicKey, Tags, Timestamp, event::Signature, sign::Keys,
    },
    store::{
        Content, Cursor, Limit, Query, Store, Viewer,
        lmdb::{Access, Lmdb},
    },
};
use sha2::{Digest, Sha256};
use tokio::runtime::{Builder, Runtime};

/// The relay's own, or the figures would be another's.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// When the first event is created. One follows every second second.
const BEGINNING: Timestamp = 1_700_000_000;
const AUTHORS: usize = 2_000;
/// The time at which questions are asked: nothing has expired.
const NOW: Timestamp = 1_900_000_000;
/// Events written at once while a store is filled.
const FILL_BATCH: usize = 5_000;

/// An endless stream of events. A few authors write most of them; replies and reactions go to notes
/// of the last hours. Their signatures are noise, as no store looks at them.
pub struct Population {
    rng: StdRng,
    count: u64,
    /// Notes that may be answered: id and author.
    notes: Vec<(EventId, PublicKey)>,
}

impl Population {
    pub fn new() -> Self {
        Self { rng: StdRng::seed_from_u64(7), count: 0, notes: Vec::new() }
    }

    /// The nth author; low numbers write most.
    pub fn author(nth: usize) -> PublicKey {
        PublicKey(Sha256::digest((nth as u64).to_le_bytes()).into())
    }

    pub fn authors(numbers: impl IntoIterator<Item = usize>) -> Vec<PublicKey> {
        numbers.into_iter().map(Self::author).collect()
    }

    /// A note of the last 500, rather one of the newest.
    pub fn note(&mut self) -> Option<(EventId, PublicKey)> {
        let back = 1 + self.skewed(self.notes.len().min(500));
        self.notes.len().checked_sub(back).map(|at| self.notes[at])
    }

    pub fn batch(&mut self, size: usize) -> Arc<[Arc<Event>]> {
        self.take(size).map(Arc::new).collect()
    }

    /// A number below `bound`, rather a low one.
    fn skewed(&mut self, bound: usize) -> usize {
        let uniform: f64 = self.rng.random();
        ((uniform.powi(3) * bound as f64) as usize).min(bound.saturating_sub(1))
    }

    fn some_author(&mut self) -> PublicKey {
        let nth = self.skewed(AUTHORS);
        Self::author(nth)
    }

    fn text(&mut self, longest: usize) -> String {
        let len = self.rng.random_range(20..longest);
        let text = "The quick brown fox \"jumps\" over the lazy dög.\n".repeat(len / 40 + 1);
        text.chars().take(len).collect()
    }

    fn answer(&mut self) -> Tags {
        let mut tags = Tags::default();
        // One note is the root of a long thread.
        let long = self.rng.random_range(0..100) == 0;
        let root = if long { self.notes.first().copied() } else { self.note() };
        if let Some((id, author)) = root {
            tags.push(["e", &id.to_hex(), "wss://relay.example.com", "root"]);
            tags.push(["p", &author.to_hex()]);
        }
        tags
    }
}

impl Iterator for Population {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        self.count += 1;
        let mut author = self.some_author();
        let (kind, tags, content) = match self.rng.random_range(0..100) {
            0..22 => (1, Tags::default(), self.text(400)),
            22..52 => (1, self.answer(), self.text(300)),
            52..80 => (7, self.answer(), "+".to_owned()),
            80..88 => (6, self.answer(), String::new()),
            88..91 => (0, Tags::default(), self.text(300)),
            91 => {
                let followed: Vec<_> = (0..200).map(|_| self.some_author().to_hex()).collect();
                (3, Tags::from_iter(followed.iter().map(|key| ["p", key])), String::new())
            }
            92..97 => {
                let recipient = self.some_author().to_hex();
                author = PublicKey(self.rng.random());
                (1_059, Tags::from_iter([["p", &recipient]]), "x".repeat(1_000))
            }
            _ => {
                let slug = format!("article-{}", self.rng.random_range(0..20));
                (30_023, Tags::from_iter([["d", &slug], ["t", "nostr"]]), self.text(4_000))
            }
        };
        let mut event = ParsedEvent {
            id: EventId([0; 32]),
            pubkey: author,
            created_at: BEGINNING + 2 * self.count,
            kind,
            tags,
            content: content.into(),
            sig: Signature(std::array::from_fn(|_| self.rng.random())),
        };
        event.id = EventId(Sha256::digest(event.serialise().hashed).into());
        if kind == 1 {
            self.notes.push((event.id, author));
        }
        Some(event.trust())
    }
}

/// The nth user who can sign.
pub fn user(nth: u64) -> Keys {
    Keys::from_secret(Sha256::digest(nth.to_le_bytes()).into()).unwrap()
}

/// An ordinary reply with a right signature: 290 bytes of text, two `e` and two `p` tags.
pub fn signed_note(user: &Keys, created_at: Timestamp) -> Event {
    let id = |nth: u8| hex::encode([nth; 32]);
    let tags = Tags::from_iter([
        vec!["e".into(), id(1), "wss://relay.example.com".into(), "root".into()],
        vec!["e".into(), id(2), String::new(), "reply".into()],
        vec!["p".into(), id(3)],
        vec!["p".into(), id(4)],
    ]);
    user.sign(created_at, 1, tags, &"All work and no \"play\" makes Jack a dull boy.\n".repeat(6))
}

pub fn filter(json: serde_json::Value) -> Filter {
    serde_json::from_value(json).unwrap()
}

/// A REQ for a home feed.
pub fn home_feed_request(authors: usize) -> String {
    let authors = Population::authors(0..authors);
    serde_json::json!(["REQ", "home", { "authors": authors, "kinds": [1, 6, 30_023], "limit": 500 }])
        .to_string()
}

/// The embedded store, and what it needs to be asked from a plain function.
pub struct Embedded {
    pub store: Lmdb,
    runtime: Runtime,
}

impl Embedded {
    /// Opens a store with one reading thread, as one client asks here at a time.
    pub fn open(path: &Path) -> Self {
        let config =
            config::Lmdb { readers: 1, map_bytes: 8 << 30, min_free_bytes: 0, ..config::Lmdb::default() };
        let store = Lmdb::open(path, &config, Access::Exclusive).unwrap();
        Self { store, runtime: Builder::new_current_thread().enable_time().build().unwrap() }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn fill(&self, population: &mut Population, mut events: usize) {
        while events > 0 {
            let size = events.min(FILL_BATCH);
            self.write(population.batch(size));
            events -= size;
        }
    }

    pub fn write(&self, batch: Arc<[Arc<Event>]>) {
        self.block_on(self.store.write(batch, NOW, Instant::now() + Duration::from_secs(60))).unwrap();
    }

    /// All pages of the answer; how many events, and their bytes.
    pub fn ask(&self, query: &Arc<Query>) -> (usize, usize) {
        let (mut events, mut bytes) = (0, 0);
        let mut next = Some(Cursor::start(query));
        while let Some(cursor) = next {
            let page = self.block_on(self.store.query(Arc::clone(query), cursor)).unwrap();
            events += page.len();
            bytes += page.bytes();
            next = page.next;
        }
        (events, bytes)
    }
}

/// The questions that clients ask most, each of another index; `population` is what the store holds.
pub fn questions(population: &Population) -> Vec<(&'static str, Filter)> {
    use serde_json::json;

    let notes = &population.notes;
    let ids: Vec<EventId> = (0..20).map(|nth| notes[nth * notes.len() / 20].0).collect();
    let followed = Population::authors((0..AUTHORS).step_by(4));
    let middle = BEGINNING + population.count;
    [
        ("nothing", json!({ "ids": [EventId([0; 32])] })),
        ("20_ids", json!({ "ids": ids })),
        ("3_authors", json!({ "authors": Population::authors([20, 100, 300]), "kinds": [1], "limit": 100 })),
        ("mentions", json!({ "#p": Population::authors([50]), "kinds": [1, 6, 7], "limit": 50 })),
        ("thread", json!({ "#e": [notes[0].0], "kinds": [1, 7], "limit": 500 })),
        ("kind_1", json!({ "kinds": [1], "limit": 500 })),
        ("window", json!({ "since": middle - 2_000, "until": middle, "limit": 500 })),
        ("home_feed", json!({ "authors": followed, "kinds": [1, 6], "limit": 100 })),
        ("500_authors", json!({ "authors": followed, "limit": 100 })),
    ]
    .map(|(name, json)| (name, filter(json)))
    .into()
}

/// A filter as a client asks it that has not authenticated.
pub fn question(filter: Filter) -> Query {
    let events = filter.limit.unwrap_or(500);
    let limit = Limit { events, boundary: events / 10 };
    let viewer = Viewer::client([]);
    Query { filters: vec![(filter, limit)], viewer, now: NOW, content: Content::Events }
}

/// Subscriptions to the notes of so many authors each, the busiest among them more often.
pub fn home_feeds(count: usize, authors: usize) -> Vec<Box<[Filter]>> {
    let mut population = Population::new();
    let mut feed = || {
        let authors: Vec<PublicKey> = (0..authors).map(|_| population.some_author()).collect();
        [filter(serde_json::json!({ "authors": authors, "kinds": [1, 6, 30_023] }))].into()
    };
    (0..count).map(|_| feed()).collect()
}

/// Subscriptions to all notes.
pub fn subscriptions_of_kind_1(count: usize) -> Vec<Box<[Filter]>> {
    vec![[filter(serde_json::json!({ "kinds": [1] }))].into(); count]
}
