//! Home feeds from memory: they are what the store says, whatever comes while they are being filled.

mod breaks;
mod warm;

use std::{
    collections::BTreeSet,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use rookery::{
    config,
    protocol::{Event, Filter, PublicKey, Timestamp, filter::sorted, sign::Keys},
    store::{
        BatchOutcome, Content, Cursor, End, Limit, Moment, Page, Query, Store, StoreError, Viewer, Wrapper,
        home::Home,
        memory::Memory,
        tap::{Hearing, Tap, Taps, WrittenBy},
    },
    telemetry::Metrics,
};
use tokio::sync::Semaphore;
pub use warm::Warm;

use crate::subject::{NOW, delete, event, note, soon, user};

/// Kinds that are kept, and that the stories of the contract have.
const KINDS: [u16; 4] = [1, 5, 7, 62];

/// A store with home feeds in front of it, and those.
fn feeds(
    store: Arc<dyn Store>,
    config: config::Feeds,
    lateness: Duration,
    hearing: Arc<Mutex<Option<Hearing>>>,
) -> (Arc<dyn Store>, Arc<dyn Tap>, Arc<Metrics>) {
    let metrics = Arc::new(Metrics::new("test"));
    let home: Arc<dyn Tap> = Arc::new(Home::new(Arc::clone(&store), config, lateness, Arc::clone(&metrics)));
    home.listen(Arc::new(move |authors| vec![*hearing.lock().unwrap(); authors.len()]));
    (Taps::from_iter([Arc::clone(&home)]).on(store), home, metrics)
}

fn question(authors: impl IntoIterator<Item = PublicKey>, limit: usize, now: Timestamp) -> Query {
    let filter = Filter {
        authors: Some(sorted(authors.into_iter().collect())),
        kinds: Some(KINDS.into()),
        ..Filter::default()
    };
    let viewer = Viewer::client([]);
    Query { filters: vec![(filter, Limit::exactly(limit))], viewer, now, content: Content::Events }
}

/// All texts of an answer, and how it ends.
async fn whole(store: &dyn Store, query: &Query) -> (Vec<String>, End) {
    let query = Arc::new(query.clone());
    let mut cursor = Cursor::start(&query);
    let mut texts = Vec::new();
    loop {
        let page = store.query(Arc::clone(&query), cursor).await.unwrap();
        texts.extend(page.iter().map(|entry| entry.json.to_owned()));
        match page.next {
            Some(next) => cursor = next,
            None => return (texts, page.end),
        }
    }
}

/// What was begun in the background goes on until it has to wait.
async fn settle() {
    for _ in 0..10 {
        tokio::task::yield_now().await;
    }
}

/// A store that answers when it may, what it held when it was asked. It fails when it is told to.
pub struct Scripted {
    memory: Memory,
    /// Pages that may be answered to the operator: the reads that fill.
    fills: Semaphore,
    pub fails: AtomicBool,
}

impl Scripted {
    pub fn new() -> Self {
        Self { memory: Memory::new(), fills: Semaphore::new(0), fails: AtomicBool::new(false) }
    }
}

impl Wrapper for Scripted {
    fn inner(&self) -> &dyn Store {
        &self.memory
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Box::pin(async move {
            let written = self.memory.write(batch, now, until).await;
            if self.fails.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { written }
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            let is_fill = query.viewer == Viewer::Operator;
            let page = self.memory.query(query, cursor).await;
            if is_fill {
                self.fills.acquire().await.unwrap().forget();
            }
            if is_fill && self.fails.load(Ordering::Relaxed) { Err(StoreError::Closed) } else { page }
        })
    }
}

/// A node with feeds, and what the test has in hand.
struct Stage {
    store: Arc<Scripted>,
    feeds: Arc<dyn Store>,
    home: Arc<dyn Tap>,
    metrics: Arc<Metrics>,
    hearing: Arc<Mutex<Option<Hearing>>>,
}

impl Stage {
    fn new() -> Self {
        Self::with(config::Feeds { max_bytes: 1 << 20, ..config::Feeds::default() }, Duration::ZERO)
    }

    fn with(config: config::Feeds, lateness: Duration) -> Self {
        let store = Arc::new(Scripted::new());
        let hearing = Arc::new(Mutex::new(Some((0, 0))));
        let (feeds, home, metrics) =
            feeds(Arc::clone(&store) as Arc<dyn Store>, config, lateness, Arc::clone(&hearing));
        Self { store, feeds, home, metrics, hearing }
    }

    /// Another node writes it.
    async fn store(&self, event: &Arc<Event>) {
        self.store.memory.write([Arc::clone(event)].into(), NOW, soon()).await.unwrap();
    }

    /// The bus brings it.
    fn hear(&self, event: &Arc<Event>) {
        self.home.stored(&[event], WrittenBy::Elsewhere { heard_at: Moment::now() });
    }

    async fn store_and_hear(&self, event: &Arc<Event>) {
        self.store(event).await;
        self.hear(event);
    }

    fn listen(&self, hearing: Option<Hearing>) {
        *self.hearing.lock().unwrap() = hearing;
    }

    /// Asks, and begins to fill. What is asked next comes from the store or from memory.
    async fn ask(&self, keys: &Keys) -> (Vec<String>, End) {
        let answer = whole(&*self.feeds, &query_of(keys)).await;
        settle().await;
        answer
    }

    /// Lets what fills go on, to its end.
    async fn filled(&self) {
        self.store.fills.add_permits(1);
        settle().await;
    }

    /// The next answer is that of the store, and from memory or not.
    async fn expect(&self, keys: &Keys, from_memory: bool) {
        let hits = self.metrics.feed_hits.get();
        let expected = whole(&self.store.memory, &query_of(keys)).await;
        assert_eq!(self.ask(keys).await, expected);
        assert_eq!(self.metrics.feed_hits.get() > hits, from_memory, "from memory");
    }
}

fn query_of(keys: &Keys) -> Query {
    question([keys.public_key()], 100, NOW)
}

#[tokio::test]
async fn what_comes_while_a_feed_is_filled_is_in_it() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.store(&note(&keys, 10, "before")).await;
    stage.expect(&keys, false).await;
    stage.store_and_hear(&note(&keys, 11, "newer")).await;
    stage.store_and_hear(&note(&keys, 9, "older")).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
    stage.store_and_hear(&note(&keys, 12, "later")).await;
    stage.expect(&keys, true).await;
}

#[tokio::test]
async fn what_is_deleted_while_a_feed_is_filled_is_not_in_it() {
    let (stage, keys) = (Stage::new(), user(1));
    let doomed = note(&keys, 10, "doomed");
    stage.store(&doomed).await;
    stage.ask(&keys).await;
    stage.store_and_hear(&delete(&keys, 11, &doomed)).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
}

#[tokio::test]
async fn what_vanishes_while_a_feed_is_filled_is_not_in_it() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.store(&note(&keys, 10, "doomed")).await;
    stage.ask(&keys).await;
    stage.store_and_hear(&event(&keys, 11, 62, &[&["relay", "ALL_RELAYS"]], "")).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
}

/// It was deleted before the store was read, and its own node brings it only now.
#[tokio::test]
async fn what_was_deleted_and_comes_late_is_not_served() {
    let (stage, keys) = (Stage::new(), user(1));
    let doomed = note(&keys, 10, "doomed");
    stage.store(&doomed).await;
    // The author is listened to, because of another kind.
    let mut profile = query_of(&keys);
    profile.filters[0].0.kinds = Some([8].into());
    whole(&*stage.feeds, &profile).await;
    stage.filled().await;
    stage.store_and_hear(&delete(&keys, 11, &doomed)).await;
    stage.ask(&keys).await;
    stage.filled().await;
    stage.hear(&doomed);
    stage.expect(&keys, true).await;
}

#[tokio::test]
async fn nothing_is_read_before_what_is_late_has_come() {
    let config = config::Feeds { max_bytes: 1 << 20, ..config::Feeds::default() };
    let (stage, keys) = (Stage::with(config, Duration::from_secs(3_600)), user(1));
    stage.store.fills.add_permits(100);
    for _ in 0..3 {
        stage.expect(&keys, false).await;
    }
    assert_eq!(stage.store.fills.available_permits(), 100);
}

/// A subscription is not sent live what its head says was stored before.
#[tokio::test]
async fn the_head_is_that_of_what_is_in_the_feeds() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.store(&note(&keys, 10, "")).await;
    assert_eq!(stage.feeds.head(), 0);
    let written = stage.feeds.write([note(&keys, 11, "")].into(), NOW, soon()).await.unwrap();
    assert_eq!(stage.feeds.head(), written.head);
}

#[tokio::test]
async fn a_longer_question_reads_further_down() {
    let (stage, keys) = (Stage::new(), user(1));
    for n in 0..10 {
        stage.store(&note(&keys, 10 + n, &n.to_string())).await;
    }
    for (limit, from_memory) in [(3, false), (3, true), (2, true), (9, false), (9, true)] {
        let query = question([keys.public_key()], limit, NOW);
        let hits = stage.metrics.feed_hits.get();
        let expected = whole(&stage.store.memory, &query).await;
        assert_eq!(whole(&*stage.feeds, &query).await, expected);
        assert_eq!(stage.metrics.feed_hits.get() > hits, from_memory, "{limit}");
        stage.store.fills.add_permits(1);
        settle().await;
    }
}

#[tokio::test]
async fn memory_is_bounded() {
    let max_bytes = 20_000;
    let config = config::Feeds { max_bytes, max_events: 10, ..config::Feeds::default() };
    let stage = Stage::with(config, Duration::ZERO);
    stage.store.fills.add_permits(1_000);
    let mut authors = BTreeSet::new();
    for n in 0..50 {
        let keys = user(n);
        authors.insert(keys.public_key());
        let query = question([keys.public_key()], 2, NOW);
        whole(&*stage.feeds, &query).await;
        settle().await;
        for at in 0..20 {
            stage.store_and_hear(&note(&keys, at, "")).await;
        }
        let hits = stage.metrics.feed_hits.get();
        assert_eq!(whole(&*stage.feeds, &query).await, whole(&stage.store.memory, &query).await);
        assert!(stage.metrics.feed_hits.get() > hits);
        assert!(stage.metrics.feed_bytes.get() <= max_bytes);
    }
    assert!(stage.metrics.feed_authors.get() < 50);
}
