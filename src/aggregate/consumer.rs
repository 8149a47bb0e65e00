//! The consumer: an actor that publishes what waits in the queue, as a client would, and says what is finished.
//!
//! It has a window of unanswered events. Where the store takes nothing, one new event is tried now and then: a store
//! that is away costs time and no event. What the store did not take is tried alone, while others go on, and is a dead
//! letter after some attempts that count ([`super::suspects`]).

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use super::{
    blame::at_work,
    counts::{Refusal, Verdict},
    dead::{Address, DeadLetter, DeadLetters, NotBuried},
    effort::Effort,
    queue::{Queue, Word},
    suspects::{Next, Suspect, Suspects},
    taken::Taken,
    upstream::UpstreamId,
};
use crate::{
    backoff::Backoff,
    clock,
    config::Live,
    ingest::{Admission, Admitted},
    persist::{self, Answer, CONSUMERS, Publisher, Share, Written},
    protocol::{EventId, ParsedEvent},
    store::Outcome,
    telemetry::Metrics,
    trace::{Subject, Trace, Tracer},
};

/// Between attempts while the store takes nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a consumer works with.
#[derive(Clone)]
pub struct ConsumerParts {
    pub queue: Arc<dyn Queue>,
    /// The way into the store.
    pub events: Arc<persist::Queue>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    /// What each upstream is called.
    pub names: Arc<dyn Fn(UpstreamId) -> Option<Arc<str>> + Send + Sync>,
    pub dead: Arc<DeadLetters>,
    /// Attempts to store an event alone that make it a dead letter, and the time between them.
    pub attempts: u32,
    pub apart: Duration,
    /// Processors that looking at ids and signatures may take.
    pub verify_cores: f64,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
}

/// The event that is being tried alone, and since when.
struct Trial {
    suspect: Suspect,
    begun: Instant,
}

/// What an answer says of the store.
#[derive(PartialEq, Eq)]
enum Heard {
    /// It has taken an event.
    Taken,
    /// It has taken none, for now or because of the event.
    NotTaken,
    /// It has not taken the event that is tried alone, or that is not the store's.
    Nothing,
}

/// What is said of an event that nobody looks at any more.
const DEADLY: &str = "process after process has ended that looked at it, which is a fault to report";
/// The store did not take an event for now.
const AGAIN: &str = "again";

/// Publishes what upstreams have sent.
pub struct Consumer {
    parts: ConsumerParts,
    number: u64,
    window: usize,
    publisher: Option<Publisher>,
    shares: HashMap<UpstreamId, Arc<Share>>,
    /// Events that the persister has, and whose they are. A copy is finished when the event is.
    with_persister: HashMap<EventId, Vec<Taken>>,
    /// Taken from the queue, and for now not taken by the store.
    held: VecDeque<Taken>,
    /// Not taken by the store, each perhaps through its own fault.
    suspects: Suspects,
    trial: Option<Trial>,
    effort: Effort,
    /// Whether it waits to try the next of them.
    is_alarm_set: bool,
    /// How many events came to what.
    outcomes: Vec<(&'static str, Counter)>,
    pause: Backoff,
    /// Whether it waits for the queue, or for the end of a pause.
    is_waiting: bool,
}

impl Consumer {
    /// `number` tells the consumers of a node apart; `window`: how many events may be without an answer.
    pub fn new(parts: ConsumerParts, number: u64, window: usize) -> Self {
        let outcomes = parts.metrics.consumer_outcomes(&[&[AGAIN][..], &Verdict::names()].concat());
        let suspects = Suspects::new(parts.attempts, parts.apart);
        let effort = Effort::new(parts.verify_cores, Instant::now());
        Self {
            parts,
            effort,
            suspects,
            trial: None,
            is_alarm_set: false,
            outcomes,
            number,
            window,
            publisher: None,
            shares: HashMap::new(),
            with_persister: HashMap::new(),
            held: VecDeque::new(),
            pause: Backoff::new(FIRST_PAUSE, LONGEST_PAUSE),
            is_waiting: false,
        }
    }

    /// Publishes what is held, or else what waits.
    fn next(&mut self, ctx: &mut Context<Self>) {
        self.try_alone(ctx);
        while !self.is_waiting && self.under_way() < self.allowed() {
            if let Some(pause) = self.effort.pause(Instant::now()) {
                return self.rest_for(pause, ctx);
            }
            if let Some(taken) = self.held.pop_front() {
                if taken.entry.is_deadly() {
                    self.suspects.condemn(taken.entry.id, vec![taken], DEADLY.to_owned(), Instant::now());
                    self.try_alone(ctx);
                    continue;
                }
                if let Err(taken) = self.publish(taken, false) {
                    self.held.push_front(taken);
                    return self.rest(ctx);
                }
                continue;
            }
            self.is_waiting = true;
            let queue = Arc::clone(&self.parts.queue);
            let most = self.allowed() - self.under_way();
            let taken = async move { queue.take(most).await };
            ctx.spawn(taken.into_actor(self).map(|entries, this, ctx| {
                this.is_waiting = false;
                let since = Instant::now();
                this.held.extend(entries.into_iter().map(|entry| Taken { entry, since }));
                this.next(ctx);
            }));
        }
    }

    /// Events of the window that are without an answer.
    fn under_way(&self) -> usize {
        self.with_persister.len() - usize::from(self.trial.is_some())
    }

    /// How many of them there may be: while the store takes nothing, one.
    fn allowed(&self) -> usize {
        if self.pause.attempts() == 0 { self.window } else { 1 }
    }

    /// Tries one of the events alone that were not taken with others.
    fn try_alone(&mut self, ctx: &mut Context<Self>) {
        loop {
            match self.suspects.next(Instant::now()) {
                None => return,
                Some(Next::Wait(wait)) => {
                    if !std::mem::replace(&mut self.is_alarm_set, true) {
                        ctx.run_later(wait, |this, ctx| {
                            this.is_alarm_set = false;
                            this.try_alone(ctx);
                        });
                    }
                    return;
                }
                Some(Next::Bury(suspect)) => self.bury(suspect, ctx),
                Some(Next::Try(suspect)) => self.begin_trial(suspect),
            }
        }
    }

    fn begin_trial(&mut self, mut suspect: Suspect) {
        let mut entries = std::mem::take(&mut suspect.entries);
        let Some(first) = entries.pop() else { return self.suspects.finished() };
        let id = suspect.id;
        self.trial = Some(Trial { suspect, begun: Instant::now() });
        let published = self.publish(first, true);
        if let Some(with_persister) = self.with_persister.get_mut(&id) {
            with_persister.append(&mut entries);
            return;
        }
        // Nothing is under way: there is no place, or it is refused or known by now.
        let Some(Trial { mut suspect, .. }) = self.trial.take() else { return };
        match published {
            Ok(()) => {
                self.held.extend(entries);
                self.suspects.finished();
            }
            Err(first) => {
                entries.push(first);
                suspect.entries = entries;
                self.suspects.put_back(suspect, Instant::now());
            }
        }
    }

    /// Makes dead letters of an event, one for each upstream that has sent it.
    fn bury(&mut self, suspect: Suspect, ctx: &mut Context<Self>) {
        let dead = Arc::clone(&self.parts.dead);
        let bury = async move {
            let mut buried = Ok(());
            for Taken { entry, .. } in &suspect.entries {
                let at = Address { upstream: entry.upstream, event: suspect.id };
                let letter = DeadLetter {
                    text: Some(entry.text.clone()),
                    bytes: entry.text.len(),
                    attempts: suspect.attempts,
                    first_error: suspect.first.error.clone(),
                    first_at: suspect.first.at,
                    last_error: suspect.last.error.clone(),
                    last_at: suspect.last.at,
                };
                buried = dead.keep(at, letter).await;
                if buried.is_err() {
                    break;
                }
            }
            (suspect, buried)
        };
        ctx.spawn(bury.into_actor(self).map(|(suspect, buried), this, ctx| {
            this.buried(suspect, buried);
            this.next(ctx);
        }));
    }

    fn buried(&mut self, suspect: Suspect, buried: Result<(), NotBuried>) {
        let id = suspect.id.to_hex();
        match buried {
            Ok(()) => {
                let (attempts, error) = (suspect.attempts, &suspect.last.error);
                warn!(event = %id, attempts, "an event of another relay can not be stored; it is a dead letter: {error}");
                self.say_full(&suspect.entries, false);
                suspect.entries.iter().for_each(|taken| self.settle(taken, Verdict::Dead));
                self.suspects.finished();
            }
            Err(error) => {
                if matches!(error, NotBuried::Full) {
                    self.say_full(&suspect.entries, true);
                }
                warn!(event = %id, "an event that can not be stored waits, as no dead letter can be made of it: {error}");
                self.suspects.put_back(suspect, Instant::now());
            }
        }
    }

    /// Whether there is no place for a dead letter of an event, for those who read its upstreams.
    fn say_full(&self, entries: &[Taken], is_full: bool) {
        entries.iter().for_each(|taken| self.parts.queue.say(&taken.entry, Word::Full(is_full)));
    }

    /// Waits before it tries again.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        let pause = self.pause.fail();
        self.rest_for(pause, ctx);
    }

    fn rest_for(&mut self, pause: Duration, ctx: &mut Context<Self>) {
        self.is_waiting = true;
        ctx.run_later(pause, |this, ctx| {
            this.is_waiting = false;
            this.next(ctx);
        });
    }

    /// Hands an event to the persister, to be written alone perhaps, unless it is refused or known at once.
    ///
    /// # Errors
    /// The event, where the store takes no more for now.
    fn publish(&mut self, mut taken: Taken, is_alone: bool) -> Result<(), Taken> {
        let entry = &mut taken.entry;
        let upstream = entry.upstream;
        let Ok(parsed) = at_work(upstream, || serde_json::from_str::<ParsedEvent<'_>>(&entry.text)) else {
            self.settle(&taken, Verdict::Refused(Refusal::Shape));
            return Ok(());
        };
        let share = self.shares.entry(entry.upstream).or_default();
        let bytes = entry.text.len();
        let place = self.parts.events.place(share, parsed.kind, &parsed.tags, bytes, Instant::now());
        let Ok(place) = place else { return Err(taken) };
        let names = &self.parts.names;
        let subject = Subject::Event { id: parsed.id, kind: parsed.kind, bytes: entry.text.len() };
        let mut trace = self.parts.tracer.consume(entry.trace.as_deref_mut(), || names(upstream), subject);
        let (admission, live) = (&self.parts.admission, self.parts.live.load());
        let admit = || admission.admit_relayed(parsed, &live.limits, clock::now());
        let admitted = self.effort.measure(|| at_work(upstream, admit));
        trace.lap("admit");
        match admitted {
            Ok(Admitted::Known) => self.settle(&taken, Verdict::Known),
            Ok(Admitted::Store(event)) => {
                // One that is to be tried alone is not tried with others.
                let Err(taken) = self.suspects.join(event.id(), taken) else { return Ok(()) };
                let same = self.with_persister.entry(event.id()).or_default();
                same.push(taken);
                if let [_] = same[..]
                    && let Some(publisher) = self.publisher.clone()
                {
                    match is_alone {
                        true => self.parts.events.store_alone(event, place, publisher, trace),
                        false => self.parts.events.store(event, place, publisher, trace),
                    }
                }
            }
            Ok(Admitted::Ephemeral(event)) => {
                let id = event.id();
                let Some(publisher) = self.publisher.clone() else { return Err(taken) };
                if self.parts.events.route(event, place, publisher, trace).is_err() {
                    return Err(taken);
                }
                self.with_persister.entry(id).or_default().push(taken);
            }
            Err(objection) => {
                let refusal = Refusal::from(objection);
                trace.refused(refusal.name());
                self.settle(&taken, Verdict::Refused(refusal));
            }
        }
        Ok(())
    }

    /// An event is finished.
    fn settle(&self, taken: &Taken, verdict: Verdict) {
        let Taken { entry, since } = taken;
        self.count(verdict.name());
        self.parts.metrics.consumer.observe(since.elapsed().as_secs_f64());
        self.parts.queue.say(entry, Word::Finished(verdict));
    }

    fn count(&self, outcome: &str) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(name, _)| *name == outcome) {
            counter.inc();
        }
    }

    fn hear(&mut self, id: EventId, answer: Answer, mut trace: Trace) -> Heard {
        let Some(entries) = self.with_persister.remove(&id) else { return Heard::Nothing };
        let trial = self.trial.take_if(|trial| trial.suspect.id == id);
        let (error, is_attempt) = match answer {
            Answer::Outcome(Outcome::NoSpace(shortage)) => (shortage.to_string(), false),
            Answer::Overloaded => ("overloaded".to_owned(), false),
            Answer::Failed(reason) => (reason.to_string(), true),
            Answer::Outcome(outcome) => return self.decided(trial, &entries, outcome.into(), trace),
            Answer::Routed => return self.decided(trial, &entries, Verdict::Routed, trace),
        };
        trace.fail(error.clone());
        self.count(AGAIN);
        let now = Instant::now();
        match trial {
            Some(Trial { mut suspect, begun }) => {
                suspect.entries = entries;
                match is_attempt {
                    true => self.suspects.failed(suspect, error, begun, now),
                    false => self.suspects.put_back(suspect, now),
                }
                Heard::Nothing
            }
            None => {
                match is_attempt {
                    true => self.suspects.add(id, entries, error, now),
                    false => self.held.extend(entries),
                }
                Heard::NotTaken
            }
        }
    }

    /// It is known what becomes of an event.
    fn decided(
        &mut self,
        trial: Option<Trial>,
        entries: &[Taken],
        verdict: Verdict,
        mut trace: Trace,
    ) -> Heard {
        if let Verdict::Refused(refusal) = verdict {
            trace.refused(refusal.name());
        }
        if trial.is_some() {
            self.suspects.finished();
            self.say_full(entries, false);
        }
        for (nth, entry) in entries.iter().enumerate() {
            // Of copies that came together one is stored.
            let is_copy = nth > 0 && matches!(verdict, Verdict::Stored | Verdict::Routed);
            self.settle(entry, if is_copy { Verdict::Known } else { verdict });
        }
        if verdict == Verdict::Stored {
            self.suspects.note_stored(Instant::now());
        }
        match verdict {
            // The store was not asked.
            Verdict::Routed => Heard::Nothing,
            _ => Heard::Taken,
        }
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.window.max(16));
        let session = Arc::new(ctx.address().recipient());
        self.publisher = Some(Publisher { id: CONSUMERS + self.number, session });
        self.next(ctx);
    }
}

impl Handler<Written> for Consumer {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, ctx: &mut Context<Self>) {
        let (mut taken, mut left) = (0_usize, 0_usize);
        for (id, answer, trace) in answers {
            match self.hear(id, answer, trace) {
                Heard::Taken => taken += 1,
                Heard::NotTaken => left += 1,
                Heard::Nothing => {}
            }
        }
        if taken > 0 {
            if self.pause.attempts() > 0 {
                self.suspects.hurry(Instant::now());
            }
            self.pause.succeed();
        }
        if left > 0 && taken == 0 {
            if self.pause.attempts() == 0 {
                warn!("the store takes nothing of other relays for now; they are read on when it does");
            }
            if !self.is_waiting {
                return self.rest(ctx);
            }
        }
        self.next(ctx);
    }
}

#[cfg(test)]
mod tests {
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
            flight::Number,
            queue::{Entry, Listener, memory},
            upstream::RelayUrl,
        },
        config,
        ingest::RecentIds,
        persist::{Persister, PersisterParts, Sweeps, Workers},
        protocol::{Event, Tags, Timestamp, sign::Keys},
        route::Routers,
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
            let events = persist::Queue::new(&config);
            let admission = Arc::new(Admission::new(None, RecentIds::new(16), 16));
            let parts = PersisterParts {
                queue: Arc::clone(&events),
                workers: Workers::here(),
                store: Arc::clone(&store) as Arc<dyn Store>,
                admission: Arc::clone(&admission),
                routers: Routers::default(),
                others: None,
                metrics: Arc::clone(&metrics),
                tracer: Tracer::default(),
            };
            Persister::new(parts, config, Sweeps::from(&config::Store::default())).start();
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
}
