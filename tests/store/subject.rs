//! A store under test with the questions that tests ask it, and the events they ask about.
//!
//! Whatever is asked, the answers are checked for what must hold of every answer.

use std::{
    any::Any,
    collections::{BTreeSet, HashSet},
    future::Future,
    path::Path,
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};

use common::watch;
use rookery::{
    protocol::{Circle, Event, EventId, Filter, ParsedEvent, PublicKey, Tags, Timestamp, sign::Keys},
    store::{
        BatchOutcome, Content, Counted, Cursor, End, Limit, Outcome, Position, Query, Store, StoreError,
        Viewer,
    },
};
use tempfile::TempDir;
use tokio::runtime::{Builder, Runtime};

/// How tests open an empty store.
pub type Open = fn() -> Subject;

/// The time of everything that does not say another.
pub const NOW: Timestamp = 1_000_000;

/// How many events a filter without a limit gets.
const DEFAULT_LIMIT: usize = 1_000;

/// An open store and what it needs to stay open.
pub struct Subject {
    store: Box<dyn Store>,
    runtime: Runtime,
    /// What the store lives in. Goes after the store.
    _home: Option<Box<dyn Any>>,
    /// Whether each question is a way to a server and back.
    pub is_distant: bool,
}

/// A whole answer, all pages of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub ids: Vec<EventId>,
    pub json: Vec<String>,
    pub positions: Vec<Position>,
    pub end: End,
}

impl Subject {
    pub fn new(store: impl Store) -> Self {
        Self { store: Box::new(store), runtime: runtime(), _home: None, is_distant: false }
    }

    /// A store on a server, in something there that is given back afterwards.
    pub fn on_server(store: impl Store, home: impl Any) -> Self {
        Self { store: Box::new(store), runtime: runtime(), _home: Some(Box::new(home)), is_distant: true }
    }

    /// A store that lives in a folder, which is removed afterwards.
    pub fn in_folder<S: Store>(open: impl FnOnce(&Path) -> S) -> Self {
        let folder = TempDir::new().unwrap();
        let runtime = runtime();
        let store = runtime.block_on(async { open(folder.path()) });
        Self { store: Box::new(store), runtime, _home: Some(Box::new(folder)), is_distant: false }
    }

    pub fn block_on<T>(&self, future: impl Future<Output = T>) -> T {
        self.runtime.block_on(future)
    }

    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// Writes one batch, and checks what it says it took away.
    pub fn write_at<'a>(
        &self,
        now: Timestamp,
        events: impl IntoIterator<Item = &'a Arc<Event>>,
    ) -> BatchOutcome {
        let batch: Arc<[Arc<Event>]> = events.into_iter().cloned().collect();
        let before = self.everything(now);
        let head = self.store.head();
        let written = self.block_on(self.store.write(batch.clone(), now, soon())).unwrap();
        let after = self.everything(now);

        assert_eq!(written.outcomes.len(), batch.len(), "an outcome for each event");
        assert_eq!(written.head, self.store.head(), "nobody else writes");
        if written.outcomes.contains(&Outcome::Stored) {
            assert!(written.head > head, "the head moves: {head} {}", written.head);
        } else {
            assert_eq!(written.head, head, "nothing was stored");
        }
        let stayed: HashSet<EventId> = after.ids.iter().copied().collect();
        let listed: HashSet<EventId> = written.removed.ids.iter().copied().collect();
        for id in &before.ids {
            let known = written.removed.many || listed.contains(id);
            assert!(stayed.contains(id) || known, "{id} is gone and not said to be");
        }
        for id in &after.ids {
            assert!(!listed.contains(id), "{id} is said to be gone and is not");
        }
        for (id, position) in after.ids.iter().zip(&after.positions) {
            let new = !before.ids.contains(id);
            let place = if new { head + 1..=written.head } else { 0..=head };
            assert!(place.contains(position), "position of {id}: {position}, expected {place:?}");
        }
        written
    }

    /// Writes one batch now: its outcomes.
    pub fn write<'a>(&self, events: impl IntoIterator<Item = &'a Arc<Event>>) -> Vec<Outcome> {
        self.write_at(NOW, events).outcomes
    }

    /// Writes one event now, in a batch of its own.
    pub fn put(&self, event: &Arc<Event>) -> Outcome {
        self.write([event])[0]
    }

    /// Asks as a client would write it: limits in the filters, nothing beyond them.
    pub fn ask(&self, filters: &[&str]) -> Answer {
        self.answer(query(filters.iter().map(|json| filter(json))))
    }

    /// The ids for one filter.
    pub fn find(&self, json: &str) -> Vec<EventId> {
        self.ask(&[json]).ids
    }

    pub fn all(&self) -> Vec<EventId> {
        self.all_at(NOW)
    }

    pub fn all_at(&self, now: Timestamp) -> Vec<EventId> {
        self.everything(now).ids
    }

    fn everything(&self, now: Timestamp) -> Answer {
        self.answer(Query { now, ..query([Filter::default()]) })
    }

    /// Follows all pages from the start.
    pub fn answer(&self, query: Query) -> Answer {
        let cursor = Cursor::start(&query);
        self.answer_from(query, cursor)
    }

    /// The ids of the answer, asked for without the events, and how it ends.
    pub fn keys_alone(&self, query: Query) -> (Vec<EventId>, End) {
        let answer = self.answer(Query { content: Content::Keys, ..query });
        (answer.ids, answer.end)
    }

    /// Follows all pages from a cursor.
    pub fn answer_from(&self, query: Query, mut cursor: Cursor) -> Answer {
        let mut answer =
            Answer { ids: Vec::new(), json: Vec::new(), positions: Vec::new(), end: End::Unknown };
        let query = Arc::new(query);
        let mut last = cursor.after;
        loop {
            let page = self.block_on(self.store.query(query.clone(), cursor.clone())).unwrap();
            for entry in page.iter() {
                match query.content {
                    Content::Events => {
                        let parsed: ParsedEvent = serde_json::from_str(entry.json).unwrap();
                        assert_eq!((parsed.id, parsed.created_at), (entry.id, entry.created_at));
                    }
                    Content::Keys => assert_eq!(entry.json, ""),
                    Content::Authors => assert!(PublicKey::from_hex(entry.json).is_some()),
                }
                let follows = last
                    .is_none_or(|(at, id)| entry.created_at < at || entry.created_at == at && entry.id > id);
                assert!(follows, "{} at {} after {last:?}", entry.id, entry.created_at);
                last = Some((entry.created_at, entry.id));
                answer.ids.push(entry.id);
                answer.json.push(entry.json.to_owned());
                answer.positions.push(entry.position);
            }
            let Some(next) = page.next else {
                answer.end = page.end;
                return answer;
            };
            assert_ne!(next, cursor, "a page that leads nowhere");
            cursor = next;
        }
    }

    pub fn count(&self, query: Query) -> Counted {
        self.block_on(self.store.count(Arc::new(query))).unwrap()
    }

    /// Maintains until there is nothing left to do.
    /// A piece of the work; whether there is more.
    pub async fn maintain_some(&self, now: Timestamp) -> Result<bool, StoreError> {
        self.store.maintain(now).await
    }

    pub fn maintain(&self, now: Timestamp) {
        for _ in 0..10_000 {
            if !self.block_on(self.maintain_some(now)).unwrap() {
                return;
            }
        }
        panic!("maintenance finds no end");
    }
}

/// Until when a write is waited for.
pub fn soon() -> Instant {
    Instant::now() + Duration::from_secs(60)
}

fn runtime() -> Runtime {
    watch::begin();
    Builder::new_current_thread().enable_all().build().unwrap()
}

pub fn filter(json: &str) -> Filter {
    serde_json::from_str(json).unwrap()
}

/// The operator's query for filters that carry their own limits.
pub fn query(filters: impl IntoIterator<Item = Filter>) -> Query {
    let filters = filters.into_iter().map(|filter| {
        let limit = Limit::exactly(filter.limit.unwrap_or(DEFAULT_LIMIT));
        (filter, limit)
    });
    Query { filters: filters.collect(), viewer: Viewer::Operator, now: NOW, content: Content::Events }
}

pub fn client<'a>(keys: impl IntoIterator<Item = &'a Keys>) -> Viewer {
    Viewer::client(keys.into_iter().map(Keys::public_key).collect::<Vec<_>>())
}

/// The same, who follows these, and of them is followed by those.
pub fn follower<'a>(
    keys: impl IntoIterator<Item = &'a Keys>,
    followed: impl IntoIterator<Item = &'a Keys>,
    friends: impl IntoIterator<Item = &'a Keys>,
) -> Viewer {
    let [followed, friends]: [BTreeSet<PublicKey>; 2] = [
        followed.into_iter().map(Keys::public_key).collect(),
        friends.into_iter().map(Keys::public_key).collect(),
    ];
    let circle = Some(Arc::new(Circle::new(&followed, &friends)));
    Viewer::Client { keys: keys.into_iter().map(Keys::public_key).collect(), circle }
}

/// One of a hundred users, the same ones in every run.
pub fn user(number: u8) -> Keys {
    static USERS: LazyLock<Vec<Keys>> =
        LazyLock::new(|| (1..=100).map(|secret| Keys::from_secret([secret; 32]).unwrap()).collect());
    USERS[usize::from(number)].clone()
}

pub fn hex(keys: &Keys) -> String {
    keys.public_key().to_hex()
}

/// An event with tags, and with a content that makes it one of a kind.
pub fn event(keys: &Keys, created_at: Timestamp, kind: u16, tags: &[&[&str]], content: &str) -> Arc<Event> {
    Arc::new(keys.sign(created_at, kind, Tags::from_iter(tags.iter().copied()), content))
}

/// A text note.
pub fn note(keys: &Keys, created_at: Timestamp, content: &str) -> Arc<Event> {
    event(keys, created_at, 1, &[], content)
}

/// A deletion request for one target: `e` or `a` and its value.
pub fn deletion(keys: &Keys, created_at: Timestamp, letter: &str, target: &str) -> Arc<Event> {
    event(keys, created_at, 5, &[&[letter, target]], "")
}

pub fn delete(keys: &Keys, created_at: Timestamp, target: &Event) -> Arc<Event> {
    deletion(keys, created_at, "e", &target.id().to_hex())
}

pub fn vanish(keys: &Keys, created_at: Timestamp) -> Arc<Event> {
    event(keys, created_at, 62, &[&["relay", "ALL_RELAYS"]], "")
}

pub fn gift_wrap(keys: &Keys, created_at: Timestamp, recipient: &Keys, content: &str) -> Arc<Event> {
    event(keys, created_at, 1059, &[&["p", &hex(recipient)]], content)
}

pub fn address(kind: u16, author: &PublicKey, identifier: &str) -> String {
    format!("{kind}:{author}:{identifier}")
}

pub fn ids<'a>(events: impl IntoIterator<Item = &'a Arc<Event>>) -> Vec<EventId> {
    events.into_iter().map(|event| event.id()).collect()
}

/// The ids in the order of an answer.
pub fn in_order<'a>(events: impl IntoIterator<Item = &'a Arc<Event>>) -> Vec<EventId> {
    let mut events: Vec<_> = events.into_iter().collect();
    events.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    ids(events)
}
