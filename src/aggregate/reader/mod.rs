//! The reader of an upstream: what comes live over one connection, what was missed over another.
//!
//! It subscribes first, and then catches up, so that nothing falls between the two. Whatever breaks, it begins again at
//! its cursor.

mod catch_up;
mod live;
mod rest;
mod session;

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    select,
    sync::{Notify, watch},
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    counts::{Counts, Refusal, Verdict},
    cursor::{Cursor, Kept, Lease, MAX_LATE, NotKept},
    flight::{Flight, Number},
    pace::{Pace, Spent},
    phantoms::Phantoms,
    progress::Progress,
    queue::{Broken, Entry, Queue},
    refused::Refused,
    status::{State, Status},
    trust::Trust,
    upstream::{Upstream, UpstreamId},
};
use crate::{
    backoff::Backoff,
    client::{ClientError, Endpoint},
    clock,
    protocol::{Event, Filter, PublicKey, Timestamp, negentropy::Key},
    store::Store,
    telemetry::Metrics,
    trace::{Arrival, Subject, Tracer, UpstreamTrace},
};

/// Between attempts to reach an upstream.
const FIRST_RETRY: Duration = Duration::from_secs(1);
const LONGEST_RETRY: Duration = Duration::from_secs(300);
/// A session that lasted so long was worth it, whatever ended it.
const PRODUCTIVE: Duration = Duration::from_secs(60);
/// Between looks at how far it is.
const TICK: Duration = Duration::from_secs(1);
/// Looks until that is written, at most.
const SAVE_EVERY: u32 = 5;
/// After so long an upstream is asked again how much may be asked of it.
const MANNERS_LAST: Duration = Duration::from_secs(3_600);
/// How long the last words may take.
const LAST_WORDS: Duration = Duration::from_secs(2);
/// How often it is noted at least, in the time after which another node takes it that it is not.
const BEATS: u32 = 3;

/// What readers work with.
#[derive(Clone)]
pub struct ReaderParts {
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
    /// Without a word of another node for so long, this one reads what it has read.
    pub takeover: Duration,
    /// Where nodes have beats, that is who reads what: the time after which one without beats is gone.
    pub gone: Option<Duration>,
    /// Name of this node.
    pub node: Arc<str>,
}

/// Reads an upstream.
pub struct Reader {
    parts: ReaderParts,
    id: UpstreamId,
    /// As traces call it.
    name: Arc<str>,
    upstream: Upstream,
    endpoint: Endpoint,
    /// When it was asked for its manners.
    asked: Option<Instant>,
    /// What the upstream is asked for.
    filters: Vec<Filter>,
    counts: Arc<Counts>,
    status: Arc<Status>,
    refused: Refused,
    /// Somebody wants it to be compared again.
    compare: Arc<Notify>,
    /// Whether it is to stop.
    stop: watch::Receiver<bool>,
    /// Events that catching up has queued.
    put: AtomicU64,
    /// Whether the session has queued something, since it was subscribed.
    has_queued: AtomicBool,
    inner: Mutex<Inner>,
}

struct Inner {
    flight: Flight,
    progress: Progress,
    pace: Pace,
    /// What was received, could not be queued, and will not come again by itself.
    left_out: Vec<Key>,
    lease: Lease,
    silence: Silence,
    /// Those who are followed, and whose past has not been read here yet.
    new: Vec<PublicKey>,
    phantoms: Phantoms,
    trust: Trust,
    /// Of the session.
    trace: UpstreamTrace,
}

/// For how long it was tried to reach an upstream, in vain. Time in which nobody tried does not count.
#[derive(Debug, Default)]
struct Silence {
    /// Seconds, up to the last try.
    noted: u64,
    last: Option<Instant>,
}

impl Silence {
    /// It was tried in vain.
    fn go_on(&mut self, now: Instant) {
        let since = self.last.replace(now).map_or(Duration::ZERO, |last| now - last);
        self.noted += since.as_secs();
    }
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
    #[error(
        "over 1 % of its last 1,000 events are forged, or over half are nothing that was asked for; it is read on in an hour"
    )]
    Distrusted,
    #[error("it names events and does not send them")]
    Phantoms,
    #[error("as much came as may come today")]
    Spent,
    #[error("the queue has lost what was on its way; it is read again")]
    Broken,
    #[error("it is to be read no more")]
    Told,
    #[error("how far it has been read is not known: {0}")]
    Cursor(#[from] NotKept),
    #[error("whose past has been read can not be noted: {0}")]
    Noted(super::registry::Refused),
    #[error("cannot read what is stored here: {0}")]
    Store(#[from] crate::store::StoreError),
}

/// Waits until a reader is to stop.
async fn is_told(mut stop: watch::Receiver<bool>) {
    // Nor where nobody is left who could say so.
    drop(stop.wait_for(|is_told| *is_told).await);
}

impl Reader {
    pub fn new(
        parts: ReaderParts,
        upstream: Upstream,
        endpoint: Endpoint,
        counts: Arc<Counts>,
        status: Arc<Status>,
        compare: Arc<Notify>,
        stop: watch::Receiver<bool>,
    ) -> Self {
        let (id, name, filters) = (upstream.id(), upstream.url.shown().into(), upstream.asked());
        let refused = Refused::new(id, &filters, parts.most_refused);
        let inner = Mutex::new(Inner {
            flight: Flight::new(parts.overlap),
            progress: Progress::default(),
            pace: Pace::new(upstream.limits, Spent::default(), std::time::Instant::now()),
            left_out: Vec::new(),
            lease: Lease::default(),
            silence: Silence::default(),
            new: upstream.followed.as_ref().map(|read| read.new.clone()).unwrap_or_default(),
            phantoms: Phantoms::default(),
            trust: Trust::default(),
            trace: UpstreamTrace::default(),
        });
        Self {
            parts,
            id,
            name,
            upstream,
            endpoint,
            asked: None,
            filters,
            counts,
            status,
            refused,
            compare,
            stop,
            put: AtomicU64::new(0),
            has_queued: AtomicBool::new(false),
            inner,
        }
    }

    /// Reads until it is told to stop.
    pub async fn run(mut self) {
        let (mut kept, cursor) = select! {
            loaded = self.cursor() => loaded,
            () = self.told() => return,
        };
        self.counts.note(cursor.progress.through);
        // One that was never read is behind since now.
        self.counts.note_whole(match cursor.progress.through {
            0 => clock::now(),
            through => through,
        });
        self.go_on_from(cursor);
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            self.status.set(State::Connecting);
            let stop = self.stop.clone();
            select! {
                () = self.learn_manners() => {}
                () = is_told(stop) => break,
            }
            let begun = Instant::now();
            let ended = self.session(&mut kept).await;
            if begun.elapsed() >= PRODUCTIVE || self.has_queued.load(Relaxed) {
                backoff.succeed();
            }
            select! {
                () = self.rest(ended, &mut backoff, &mut kept) => {}
                () = self.told() => break,
            }
        }
        // What was finished since. What can not be noted now is read again.
        let _ = timeout(LAST_WORDS, self.save(&mut kept)).await;
    }

    /// Reads on from there.
    fn go_on_from(&self, cursor: Cursor) {
        let inner = &mut *self.inner.lock();
        inner.flight = Flight::new(self.parts.overlap);
        inner.progress = cursor.progress;
        inner.pace = Pace::new(self.upstream.limits, cursor.spent, std::time::Instant::now());
        inner.left_out = cursor.late.iter().map(|&(created_at, id)| Key { created_at, id }).collect();
        let epoch = cursor.lease.epoch;
        inner.lease = cursor.lease.hand_over(&self.parts.node);
        inner.silence = Silence { noted: cursor.silent, ..Silence::default() };
        if inner.lease.epoch > epoch {
            self.parts.metrics.upstream_takeovers.inc();
        }
    }

    /// Looks at how far it is until that is written: often enough for others not to take it that nobody reads.
    fn save_every(&self) -> u32 {
        ((self.parts.takeover / BEATS).as_secs() as u32).clamp(1, SAVE_EVERY)
    }

    /// It is to be read no more.
    async fn told(&self) {
        is_told(self.stop.clone()).await;
    }

    /// The cursor, once it can be read.
    async fn cursor(&self) -> (Kept, Cursor) {
        let mut backoff = Backoff::new(FIRST_RETRY, LONGEST_RETRY);
        loop {
            match Kept::load(self.parts.store.records(), self.id, self.parts.takeover / BEATS).await {
                Ok((kept, mut cursor)) => {
                    if cursor.asked.is_some_and(|asked| asked != self.upstream.asked_digest()) {
                        info!(upstream = %self.upstream.url, "something else is read of it: from the beginning");
                        cursor.progress = Progress::default();
                    }
                    return (kept, cursor);
                }
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

    /// Waits until more may come.
    async fn wait_for_pace(&self) {
        let wait = self.inner.lock().pace.wait(std::time::Instant::now());
        if !wait.is_zero() {
            sleep(wait).await;
        }
    }

    /// Something has come, and was judged.
    fn note<T>(&self, judged: Result<T, Refusal>) -> Result<T, Refusal> {
        let inner = &mut *self.inner.lock();
        inner.trust.note_use(!matches!(judged, Err(Refusal::Shape | Refusal::Unasked)));
        judged.inspect_err(|refusal| {
            inner.trace.arrival().refuse(refusal.name());
            self.counts.settle(Verdict::Refused(*refusal));
        })
    }

    fn entry(&self, number: u64, event: &Event, received: Timestamp, arrival: &mut Arrival) -> Entry {
        let text = event.json();
        let subject = || Subject::Event { id: event.id(), kind: event.kind(), bytes: text.len() };
        let (id, trace) = (event.id(), arrival.queue(subject));
        Entry { upstream: self.id, number, id, text: text.into(), received, trace, place: None }
    }

    /// Hears what is finished.
    ///
    /// # Errors
    /// The queue has lost what was on its way. It is not, any more.
    fn finish(&self, words: Result<Vec<(Number, Verdict)>, Broken>) -> Result<(), Broken> {
        let inner = &mut *self.inner.lock();
        let words = words.inspect_err(|Broken| {
            // Windows that were not finished are read again, but those of other times are in none.
            inner.left_out.extend(inner.flight.late());
            inner.flight = Flight::new(self.parts.overlap);
        })?;
        for (number, verdict) in words {
            inner.trust.note(verdict == Verdict::Refused(Refusal::Forged));
            if let Some(finished) = inner.flight.finish(number, &mut inner.progress) {
                self.remember(finished.compared, finished.key, verdict);
            }
        }
        Ok(())
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
            let (progress, lease) = (inner.progress.clone(), inner.lease.clone());
            let (spent, silent) = (inner.pace.spent(), inner.silence.noted);
            Cursor { progress, late, spent, lease, silent, asked: Some(self.upstream.asked_digest()) }
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
