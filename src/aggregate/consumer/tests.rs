//! The consumer between a queue and a store of the tests' own.

use std::{
    collections::HashSet,
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
};

use futures_util::{FutureExt, future::BoxFuture};

use super::*;
use crate::{
    aggregate::{
        counts::Counts,
        dead::Address,
        flight::Number,
        queue::{Entry, Listener, memory},
        upstream::RelayUrl,
    },
    config,
    persist::PersisterParts,
    protocol::{Event, Tags, Timestamp, sign::Keys},
    store::{BatchOutcome, Store, StoreError, Wrapper, memory::Memory},
};

/// A store that does not take some events, or none for a while.
#[derive(Default)]
struct Picky {
    inner: Memory,
    poison: Mutex<HashSet<EventId>>,
    is_away: AtomicBool,
    tried: Mutex<Vec<EventId>>,
}

impl Wrapper for Picky {
    fn inner(&self) -> &dyn Store {
        &self.inner
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        let poison = self.poison.lock().unwrap();
        self.tried.lock().unwrap().extend(batch.iter().map(|event| event.id()));
        if self.is_away.load(Relaxed) || batch.iter().any(|event| poison.contains(&event.id())) {
            let error = StoreError::Engine(Arc::new(std::io::Error::other("told to fail")));
            return std::future::ready(Err(error)).boxed();
        }
        self.inner.write(batch, now, until)
    }
}

/// What a node hears of the one upstream that it reads.
struct Ear {
    counts: Arc<Counts>,
    dead: Arc<DeadLetters>,
}

impl Listener for Ear {
    fn hear(&self, _: UpstreamId, number: Number, word: Word) {
        match word {
            Word::Full(is_full) => self.counts.set_full(is_full),
            Word::Finished(verdict) => {
                self.counts.settle(verdict);
                let dead = Arc::clone(&self.dead);
                actix::spawn(async move { dead.decided(number, Some(verdict)).await });
            }
        }
    }

    fn lose(&self, _: UpstreamId, _: Number) {}
}

struct Stage {
    store: Arc<Picky>,
    queue: Arc<dyn Queue>,
    dead: Arc<DeadLetters>,
    counts: Arc<Counts>,
    upstream: UpstreamId,
    keys: Keys,
    put: u64,
    words: HashMap<u64, Verdict>,
}

impl Stage {
    fn new(most_dead: usize) -> Self {
        let (store, metrics) = (Arc::<Picky>::default(), Arc::new(Metrics::new("test")));
        let config = config::Persister::default();
        let parts = PersisterParts::on(Arc::clone(&store) as _, &config, &metrics);
        let (events, admission) = (Arc::clone(&parts.queue), Arc::clone(&parts.admission));
        parts.start(config);
        let dead = Arc::new(DeadLetters::new(Arc::clone(&store) as _, most_dead));
        let counts = Arc::<Counts>::default();
        let ear = Ear { counts: Arc::clone(&counts), dead: Arc::clone(&dead) };
        let queue: Arc<dyn Queue> = Arc::new(memory::Memory::new(1 << 24, Arc::new(ear)));
        let parts = ConsumerParts {
            queue: Arc::clone(&queue),
            events,
            admission,
            live: Live::new((&config::Config::default()).into()),
            dead: Arc::clone(&dead),
            attempts: 3,
            apart: Duration::from_millis(5),
            verify_cores: 1.0,
            clients_wait: 2.0,
            least_per_second: 20,
            names: Arc::new(|_| None),
            metrics,
            tracer: Tracer::default(),
        };
        Consumer::new(parts, 0, 8).start();
        let upstream = RelayUrl::parse("ws://a").unwrap().id();
        let (keys, put, words) = (Keys::generate(), 0, HashMap::new());
        Self { store, queue, dead, counts, upstream, keys, put, words }
    }

    /// Queues another event: its number.
    async fn put(&mut self, event: &Event) -> u64 {
        self.put += 1;
        self.counts.receive(1);
        let (upstream, number) = (self.upstream, self.put);
        let (id, text) = (event.id(), event.json().into());
        let entry = Entry { upstream, number, id, text, received: 0, trace: None, place: None };
        self.queue.put(entry).await;
        number
    }

    fn event(&self) -> Event {
        self.keys.sign(clock::now(), 1, Tags::default(), &rand::random::<u64>().to_string())
    }

    /// One that the store never takes.
    fn poison(&self) -> Event {
        let event = self.event();
        self.store.poison.lock().unwrap().insert(event.id());
        event
    }

    async fn listen(&mut self) {
        self.words.extend(self.queue.words(self.upstream).await.unwrap());
    }

    async fn verdict(&mut self, number: u64) -> Verdict {
        while !self.words.contains_key(&number) {
            self.listen().await;
        }
        self.words[&number]
    }

    /// An event is stored, and then another one, until this is finished.
    async fn others_until(&mut self, number: u64) -> Verdict {
        while !self.words.contains_key(&number) {
            let other = self.event();
            let other = self.put(&other).await;
            assert_eq!(self.verdict(other).await, Verdict::Stored);
            actix::clock::sleep(Duration::from_millis(1)).await;
        }
        self.words[&number]
    }

    fn at(&self, event: &Event) -> Address {
        Address { upstream: self.upstream, event: event.id() }
    }
}

#[actix::test]
async fn what_the_store_never_takes_holds_nothing_up_and_is_a_dead_letter() {
    let mut stage = Stage::new(10);
    let poison = stage.poison();
    let mut numbers = Vec::new();
    for nth in 0..40 {
        let event = if nth == 3 { poison.clone() } else { stage.event() };
        numbers.push(stage.put(&event).await);
    }
    // A copy of it comes from somebody else.
    let copy = stage.put(&poison).await;
    let number = numbers.remove(3);
    for other in numbers {
        assert_eq!(stage.verdict(other).await, Verdict::Stored);
    }
    assert_eq!(stage.others_until(number).await, Verdict::Dead);
    assert_eq!(stage.others_until(copy).await, Verdict::Dead);
    let at = stage.at(&poison);
    let letter = stage.dead.get(at).await.unwrap().expect("it is kept before it is finished");
    assert_eq!((letter.attempts, letter.text.as_deref()), (3, Some(poison.json())));
    assert!(letter.first_at <= letter.last_at && !letter.last_error.is_empty());
    let counted = stage.counts.at_this_moment();
    assert_eq!((counted.dead, counted.waiting), (2, 0));
    // It is replayed, in vain; then the store is mended.
    for expected in [Verdict::Dead, Verdict::Stored] {
        if expected == Verdict::Stored {
            stage.store.poison.lock().unwrap().clear();
        }
        let replay = stage.dead.replay(&*stage.queue, at, &stage.counts, async |_| None).await.unwrap();
        assert_eq!(replay, crate::aggregate::dead::Replay::Queued);
        let before = stage.words.len();
        while stage.words.len() == before || !stage.words.iter().any(|(n, _)| *n >= 1 << 63) {
            let other = stage.event();
            stage.put(&other).await;
            stage.listen().await;
        }
        let replayed = *stage.words.keys().find(|n| **n >= 1 << 63).unwrap();
        assert_eq!(stage.words.remove(&replayed), Some(expected));
    }
    while stage.dead.get(at).await.unwrap().is_some() {
        actix::clock::sleep(Duration::from_millis(1)).await;
    }
}

#[actix::test]
async fn while_the_store_is_away_no_attempt_counts() {
    let mut stage = Stage::new(10);
    let first = stage.event();
    let first = stage.put(&first).await;
    assert_eq!(stage.verdict(first).await, Verdict::Stored);
    stage.store.is_away.store(true, Relaxed);
    let mut numbers = Vec::new();
    for _ in 0..40 {
        let event = stage.event();
        numbers.push(stage.put(&event).await);
    }
    let most = |tried: &[EventId]| {
        let times = |id| tried.iter().filter(|other| *other == id).count();
        tried.iter().map(times).max()
    };
    while most(&stage.store.tried.lock().unwrap()) < Some(8) {
        actix::clock::sleep(Duration::from_millis(5)).await;
    }
    stage.store.is_away.store(false, Relaxed);
    for number in numbers {
        assert_eq!(stage.verdict(number).await, Verdict::Stored);
    }
    assert_eq!(stage.counts.at_this_moment().dead, 0);
    assert_eq!(stage.dead.list(None, None, 10).await.unwrap().0, []);
}

#[actix::test]
async fn where_there_is_no_place_for_a_dead_letter_it_waits_and_that_is_said() {
    let mut stage = Stage::new(0);
    let poison = stage.poison();
    let number = stage.put(&poison).await;
    while !stage.counts.is_full() {
        let other = stage.event();
        let other = stage.put(&other).await;
        assert_eq!(stage.verdict(other).await, Verdict::Stored);
    }
    assert!(!stage.words.contains_key(&number));
    assert_eq!(stage.counts.at_this_moment().waiting, 1);
    stage.store.poison.lock().unwrap().clear();
    assert_eq!(stage.verdict(number).await, Verdict::Stored);
    assert!(!stage.counts.is_full());
}
