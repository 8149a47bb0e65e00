//! The reader of an upstream: what comes live over one connection, what was missed over another.
//!
//! It subscribes first, and then catches up, so that nothing falls between the two. Whatever breaks, it begins again at
//! its cursor.

mod catch_up;

use std::{convert::Infallible, sync::Arc, time::Duration};

use futures_util::future::OptionFuture;
use parking_lot::Mutex;
use tokio::{
    select,
    time::{Instant, MissedTickBehavior, interval, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    counts::{Counts, Verdict, connect_result},
    cursor::{Cursor, Kept, MAX_LATE, NotKept},
    flight::{Asked, Flight, Number},
    intake::judge,
    phantoms::Phantoms,
    progress::Progress,
    queue::{Entry, Full, Queue},
    refused::Refused,
    status::{State, Status},
    upstream::{Upstream, UpstreamId},
};
use crate::{
    backoff::Backoff,
    client::{ClientError, Connection, Endpoint},
    clock,
    protocol::{Event, Filter, Reply, Timestamp, negentropy::Key},
    store::Store,
    telemetry::{CleanupResult, ConnectResult, Label, Metrics},
    trace::{Arrival, Subject, Tracer, UpstreamTrace},
};

/// Between attempts to reach an upstream.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// A session that lasted so long was worth it, whatever ended it.
const PRODUCTIVE: Duration = Duration::from_secs(60);
/// Between looks at how far it is, and how often that is written at most.
const TICK: Duration = Duration::from_secs(1);
const SAVE_EVERY: u32 = 5;
/// After so long an upstream is asked again how much may be asked of it.
const MANNERS_LAST: Duration = Duration::from_secs(3_600);
/// For a goodbye at the end of a session.
const GOODBYE: Duration = Duration::from_secs(1);
/// Between looks whether it may go on.
const LOOK: Duration = Duration::from_millis(200);

/// What readers work with.
#[derive(Clone)]
pub struct Parts {
    pub queue: Arc<dyn Queue>,
    pub store: Arc<dyn Store>,
    /// How far back what was missed may be dated, in seconds.
    pub overlap: u64,
    pub max_event_bytes: usize,
    /// After so long everything is compared again.
    pub compare: Duration,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// Events of an upstream that are remembered as not to be fetched.
    pub most_refused: usize,
}

/// Reads an upstream.
pub struct Reader {
    parts: Parts,
    id: UpstreamId,
    /// As traces call it.
    name: Arc<str>,
    upstream: Upstream,
    endpoint: Endpoint,
    /// When it was asked for its manners.
    asked: Option<Instant>,
    counts: Arc<Counts>,
    status: Arc<Status>,
    refused: Refused,
    inner: Mutex<Inner>,
}

struct Inner {
    flight: Flight,
    progress: Progress,
    /// What was received, could not be queued, and will not come again by itself.
    left_out: Vec<Key>,
    phantoms: Phantoms,
    /// Of the session.
    trace: UpstreamTrace,
}

/// A session that has begun.
struct Subscribed {
    connection: Connection,
    subscriptions: Vec<String>,
}

/// Why a session with an upstream ended.
#[derive(Debug, thiserror::Error)]
enum Ended {
    #[error(transparent)]
    Client(#[from] ClientError),
    #[error("it has the store of this relay: it is this relay itself, or a node of its cluster")]
    Ourselves,
    #[error(
        "the store takes events more slowly than they come; it goes on from its cursor when there is room"
    )]
    Behind,
    #[error("events of it can not be stored, and there are as many dead letters of it as there may be")]
    DeadLettersFull,
    #[error("it names events and does not send them")]
    Phantoms,
    #[error("how far it has been read is not known: {0}")]
    Cursor(#[from] NotKept),
    #[error("cannot read what is stored here: {0}")]
    Store(#[from] crate::store::StoreError),
}

impl Reader {
    pub fn new(
        parts: Parts,
        upstream: Upstream,
        endpoint: Endpoint,
        counts: Arc<Counts>,
        status: Arc<Status>,
    ) -> Self {
        let (id, name) = (upstream.url.id(), upstream.url.shown().into());
        let refused = Refused::new(id, &upstream.filters, parts.most_refused);
        let inner = Mutex::new(Inner {
            flight: Flight::new(parts.overlap),
            progress: Progress::default(),
            left_out: Vec::new(),
            phantoms: Phantoms::default(),
            trace: UpstreamTrace::default(),
        });
        Self { parts, id, name, upstream, endpoint, asked: None, counts, status, refused, inner }
    }

    /// Reads until it is dropped.
    pub async fn run(mut self) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        let (mut kept, cursor) = self.cursor().await;
        {
            let mut inner = self.inner.lock();
            self.counts.note(cursor.progress.through);
            // One that was never read is behind since now.
            self.counts.note_whole(match cursor.progress.through {
                0 => clock::now(),
                through => through,
            });
            inner.progress = cursor.progress;
            inner.left_out = cursor.late.iter().map(|&(created_at, id)| Key { created_at, id }).collect();
        }
        loop {
            let was_ourselves = self.status.is(State::Ourselves);
            self.status.set(State::Connecting);
            self.learn_manners().await;
            let begun = Instant::now();
            let received = self.counts.at_this_moment().received;
            let ended = self.session(&mut kept).await;
            if begun.elapsed() >= PRODUCTIVE || self.counts.at_this_moment().received > received {
                backoff.succeed();
            }
            match ended {
                Ended::Behind => {
                    self.status.set(State::Behind);
                    self.wait_until(&mut kept, || self.parts.queue.fill() <= 0.5).await;
                }
                Ended::DeadLettersFull => {
                    info!(upstream = %self.upstream.url, "not read for now: {ended}");
                    self.status.set(State::DeadLettersFull);
                    self.wait_until(&mut kept, || !self.counts.is_full()).await;
                }
                Ended::Cursor(NotKept::Overtaken) => {
                    self.status.set(State::Elsewhere);
                    let cursor;
                    (kept, cursor) = self.cursor().await;
                    self.inner.lock().progress = cursor.progress;
                }
                Ended::Ourselves => {
                    if !was_ourselves {
                        warn!(upstream = %self.upstream.url, "not read: {}", Ended::Ourselves);
                    }
                    self.status.set(State::Ourselves);
                    self.wait(LONGEST_RETRY, &mut kept).await;
                }
                ended => {
                    let wait = backoff.fail();
                    if backoff.attempts() == 1 {
                        info!(upstream = %self.upstream.url, "not read for now: {ended}");
                    }
                    self.status.set(State::Waiting);
                    self.wait(wait, &mut kept).await;
                }
            }
        }
    }

    /// The cursor, once it can be read.
    async fn cursor(&self) -> (Kept, Cursor) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match Kept::load(self.parts.store.records(), self.id).await {
                Ok(loaded) => return loaded,
                Err(error) => {
                    self.status.set(State::Waiting);
                    if backoff.attempts() == 0 {
                        warn!(upstream = %self.upstream.url, "not read: {error}");
                    }
                    sleep(backoff.fail()).await;
                }
            }
        }
    }

    /// Hears what is finished, and notes it, as long as nobody reads.
    async fn keep_on(&self, kept: &mut Kept) -> Infallible {
        let mut ticks = interval(TICK * SAVE_EVERY);
        loop {
            select! {
                words = self.parts.queue.words(self.id) => self.finish(&words),
                // What can not be written now is written later.
                _ = ticks.tick() => { let _ = self.save(kept).await; }
            }
        }
    }

    async fn wait(&self, time: Duration, kept: &mut Kept) {
        select! {
            () = sleep(time) => {}
            never = self.keep_on(kept) => match never {},
        }
    }

    /// Asks the upstream how much may be asked of it, unless that was done lately. One that does not say is asked for as
    /// much as every relay bears.
    async fn learn_manners(&mut self) {
        if self.asked.is_some_and(|asked| asked.elapsed() < MANNERS_LAST) {
            return;
        }
        self.asked = Some(Instant::now());
        if let Ok(manners) = self.endpoint.ask_manners().await {
            self.endpoint.manners = manners;
        }
    }

    /// Reads nothing until it is so.
    async fn wait_until(&self, kept: &mut Kept, is_so: impl Fn() -> bool) {
        let until = async {
            while !is_so() {
                sleep(LOOK).await;
            }
        };
        select! {
            () = until => {}
            never = self.keep_on(kept) => match never {},
        }
    }

    /// Reads until something is in the way.
    async fn session(&self, kept: &mut Kept) -> Ended {
        self.inner.lock().trace = self.parts.tracer.upstream(&self.name);
        let mut subscribed = match self.begin().await {
            Ok(subscribed) => subscribed,
            Err(ended) => {
                let result = match &ended {
                    Ended::Client(error) => connect_result(error),
                    Ended::Ourselves => ConnectResult::Forbidden,
                    _ => ConnectResult::Lost,
                };
                self.counts.connects.of(result).inc();
                self.inner.lock().trace.failed(&ended);
                return ended;
            }
        };
        self.counts.connects.of(ConnectResult::Subscribed).inc();
        self.inner.lock().trace.connected();
        let ended = match self.read(&mut subscribed, kept).await {
            Ok(never) => match never {},
            Err(ended) => ended,
        };
        self.clean_up(subscribed, kept, &ended).await;
        ended
    }

    /// Connects and subscribes.
    async fn begin(&self) -> Result<Subscribed, Ended> {
        let mut connection = self.endpoint.connect().await?;
        if connection.store() == Some(self.parts.store.identity()) {
            connection.close().await;
            return Err(Ended::Ourselves);
        }
        connection.identify().await?;
        let subscriptions = self.subscribe(&mut connection).await?;
        Ok(Subscribed { connection, subscriptions })
    }

    /// Says goodbye where somebody hears it, lets go of what was not read to its end, and notes how far it came. What
    /// is in flight goes on by itself: whoever waits for the next session hears that it is finished.
    async fn clean_up(&self, subscribed: Subscribed, kept: &mut Kept, ended: &Ended) {
        let begun = Instant::now();
        let is_lost = matches!(ended, Ended::Client(ClientError::Lost(_) | ClientError::Silent(_)));
        let is_told = !is_lost && subscribed.end().await;
        let in_flight = {
            let mut inner = self.inner.lock();
            inner.flight.interrupt();
            inner.flight.len()
        };
        let result = match self.save(kept).await {
            Ok(()) if is_told => CleanupResult::Told,
            Ok(()) => CleanupResult::Lost,
            Err(_) => CleanupResult::Unwritten,
        };
        self.counts.cleanups.of(result).inc();
        let trace = std::mem::take(&mut self.inner.lock().trace);
        trace.cleaned_up(begun.into_std(), result.name(), ended, in_flight);
    }

    async fn read(&self, subscribed: &mut Subscribed, kept: &mut Kept) -> Result<Infallible, Ended> {
        let Subscribed { connection, subscriptions } = subscribed;
        // What the upstream had before is found by whoever catches up; what it has from now on comes.
        let since = clock::now();
        self.inner.lock().flight.live(Some(since));
        self.status.set(State::CatchingUp);
        let mut catching_up = Some(Box::pin(self.catch_up(since)));
        let mut compared = Instant::now();
        let (mut ticks, mut count) = (interval(TICK), 0);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            select! {
                text = connection.receive() => self.hear(connection, subscriptions, &text?)?,
                words = self.parts.queue.words(self.id) => self.finish(&words),
                caught_up = OptionFuture::from(catching_up.as_mut()), if catching_up.is_some() => {
                    caught_up.transpose()?;
                    catching_up = None;
                    compared = Instant::now();
                    self.status.set(State::Live);
                }
                _ = ticks.tick() => {
                    if self.counts.is_full() {
                        return Err(Ended::DeadLettersFull);
                    }
                    self.follow();
                    if catching_up.is_none() && compared.elapsed() >= self.parts.compare {
                        catching_up = Some(Box::pin(self.catch_up(clock::now())));
                    }
                    count += 1;
                    if count % SAVE_EVERY == 0 {
                        self.save(kept).await?;
                    }
                }
            }
        }
    }

    /// Subscribes to what comes from now on, and waits until the upstream has said so of every subscription.
    async fn subscribe(&self, connection: &mut Connection) -> Result<Vec<String>, Ended> {
        let mut subscriptions = Vec::new();
        let filters = &self.upstream.filters;
        let most = self.endpoint.manners.subscriptions;
        for filters in filters.chunks(filters.len().div_ceil(most).max(1)) {
            let id = format!("{:016x}", rand::random::<u64>());
            // One stored event: not every relay takes none for a limit.
            let ask = |filter: &Filter| Filter { limit: Some(1), ..filter.clone() }.to_string();
            let asked: Vec<String> = filters.iter().map(ask).collect();
            connection.send(format!(r#"["REQ","{id}",{}]"#, asked.join(","))).await?;
            subscriptions.push(id);
        }
        let mut missing: Vec<String> = subscriptions.clone();
        let answered = async {
            while !missing.is_empty() {
                let text = connection.receive().await?;
                if let Ok(Reply::Eose { subscription, .. }) = Reply::parse(&text) {
                    missing.retain(|id| *id != subscription);
                }
                self.hear(connection, &subscriptions, &text)?;
            }
            Ok::<_, Ended>(())
        };
        let patience = self.endpoint.bounds.answer;
        tokio::time::timeout(patience, answered)
            .await
            .map_err(|_| ClientError::Silent("answer a subscription"))??;
        Ok(subscriptions)
    }

    /// A message of the live connection.
    fn hear(&self, connection: &mut Connection, subscriptions: &[String], text: &str) -> Result<(), Ended> {
        match connection.read(text) {
            Some(Reply::Event { subscription, event })
                if subscriptions.iter().any(|id| *id == subscription) =>
            {
                let arrival = self.inner.lock().trace.arrival();
                self.counts.receive(text.len());
                match judge(event, self.parts.max_event_bytes, &self.upstream.filters) {
                    Ok(event) => self.offer(&event, arrival),
                    Err(refusal) => {
                        arrival.refuse(refusal.name());
                        self.counts.settle(Verdict::Refused(refusal));
                        Ok(())
                    }
                }
            }
            Some(Reply::Closed { subscription, reason })
                if subscriptions.iter().any(|id| *id == subscription) =>
            {
                Err(ClientError::Ended(reason.into_owned()).into())
            }
            _ => Ok(()),
        }
    }

    /// Queues what came live.
    fn offer(&self, event: &Event, mut arrival: Arrival) -> Result<(), Ended> {
        let (received, key) = (clock::now(), Key { created_at: event.created_at(), id: event.id() });
        let mut inner = self.inner.lock();
        if inner.flight.count_late() + inner.left_out.len() >= MAX_LATE {
            self.counts.give_up(1);
            arrival.fail("too many old events are in flight");
            return Err(Ended::Behind);
        }
        let number = inner.flight.take(received, key, Asked::default());
        let entry = self.entry(number, event, received, &mut arrival);
        match self.parts.queue.offer(entry) {
            Ok(()) => {
                self.parts.metrics.queue_published.inc();
                Ok(())
            }
            Err(Full) => {
                inner.flight.forget(number);
                if inner.flight.is_late(received, key) {
                    inner.left_out.push(key);
                }
                self.counts.give_up(1);
                arrival.fail("the queue is full");
                Err(Ended::Behind)
            }
        }
    }

    fn entry(&self, number: u64, event: &Event, received: Timestamp, arrival: &mut Arrival) -> Entry {
        let text = event.json();
        let subject = || Subject::Event { id: event.id(), kind: event.kind(), bytes: text.len() };
        Entry { upstream: self.id, number, text: text.into(), received, trace: arrival.queue(subject) }
    }

    fn finish(&self, words: &[(Number, Verdict)]) {
        let inner = &mut *self.inner.lock();
        for &(number, verdict) in words {
            if let Some(finished) = inner.flight.finish(number, &mut inner.progress) {
                self.remember(finished.compared, finished.key, verdict);
            }
        }
    }

    fn follow(&self) {
        let inner = &mut *self.inner.lock();
        if let Some(moment) = inner.flight.follow(clock::now(), &mut inner.progress) {
            self.counts.note_whole(moment);
        }
    }

    async fn save(&self, kept: &mut Kept) -> Result<(), NotKept> {
        let cursor = {
            let inner = self.inner.lock();
            let late = inner.flight.late().chain(inner.left_out.iter().copied());
            let late = late.map(|key| (key.created_at, key.id)).take(MAX_LATE).collect();
            Cursor { progress: inner.progress.clone(), late }
        };
        // Before what would tell that they are finished. Without them nothing is missed, and some is fetched again.
        if let Err(error) = self.refused.save(self.parts.store.records()).await {
            debug!(upstream = %self.upstream.url, "what is refused is not remembered for now: {error}");
        }
        kept.save(self.parts.store.records(), &cursor).await?;
        self.counts.note(cursor.progress.through);
        Ok(())
    }
}

impl Subscribed {
    /// Ends the subscriptions and the connection; whether that was said.
    async fn end(mut self) -> bool {
        let end = async {
            for id in &self.subscriptions {
                self.connection.send(format!(r#"["CLOSE","{id}"]"#)).await?;
            }
            self.connection.close().await;
            Ok::<_, ClientError>(())
        };
        matches!(timeout(GOODBYE, end).await, Ok(Ok(())))
    }
}
