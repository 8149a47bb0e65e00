//! How an account publishes: by the same door as clients do. An event is admitted, waits in the persister's queue, is
//! stored, and only then answered.

use std::{
    num::NonZeroUsize,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use actix::{Actor, ActorContext, Context, Handler};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::{sync::oneshot, time::timeout};

use super::error::FeedError;
use crate::{
    clock,
    config::{Limits, Live},
    ingest::{Admission, Admitted},
    persist::{self, ACCOUNTS, Answer, Place, Publisher, Share, Written},
    protocol::{Event, ParsedEvent, PublicKey, Reason, Timestamp},
    store::Outcome,
    telemetry::{EventResult, Metrics},
    token_bucket::TokenBucket,
    trace::{Subject, Trace, Tracer},
};

/// What a door is made of.
#[derive(Clone)]
pub struct Ways {
    pub events: Arc<persist::Queue>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// How long the persister may take for an answer.
    pub deadline: Duration,
}

/// The way into the store. One a node.
pub struct Door {
    ways: Ways,
    accounts: Mutex<LruCache<PublicKey, OfAccount>>,
    /// How many have waited for an answer.
    waited: AtomicU64,
}

/// What is remembered of an account that publishes.
struct OfAccount {
    bucket: TokenBucket,
    /// What it has waiting.
    share: Arc<Share>,
}

/// What became of an event that was accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Published {
    Stored,
    /// It was stored before.
    Duplicate,
}

/// An event that may enter, and its place in the queue. Dropped, it does not.
pub struct Entering<'d> {
    door: &'d Door,
    /// `None`: it is stored already.
    event: Option<(Arc<Event>, Place)>,
    trace: Trace,
}

/// Accounts that are remembered.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

impl Door {
    pub fn new(ways: Ways) -> Self {
        Self { ways, accounts: Mutex::new(LruCache::new(REMEMBERED)), waited: AtomicU64::new(0) }
    }

    /// Whether an account may ask for one more thing to be written, at the rate of any client.
    ///
    /// # Errors
    /// It is too fast.
    pub fn knock(&self, account: PublicKey) -> Result<(), FeedError> {
        let (settings, now) = (self.ways.live.load(), Instant::now());
        let (rate, burst) = (settings.rate.messages_per_second, settings.rate.messages_burst);
        let mut accounts = self.accounts.lock();
        let new = || OfAccount { bucket: TokenBucket::full(burst, now), share: Arc::default() };
        match accounts.get_or_insert_mut(account, new).bucket.take(rate, burst, now) {
            true => Ok(()),
            false => Err(FeedError::TooFast { seconds: 1 }),
        }
    }

    /// Publishes an event of an account: when this is `Ok`, it is stored.
    ///
    /// # Errors
    /// It is refused, or is not known to be stored.
    pub async fn publish(&self, event: Event) -> Result<Published, FeedError> {
        self.publish_since(event, Instant::now()).await
    }

    /// Publishes an event of an account that was asked for at `begun`: when this is `Ok`, it is stored.
    ///
    /// # Errors
    /// It is refused, or is not known to be stored.
    pub async fn publish_since(&self, event: Event, begun: Instant) -> Result<Published, FeedError> {
        self.admit_at(event, clock::now(), begun)?.enter().await
    }

    /// Publishes what this relay has made itself, in the name of an account.
    ///
    /// # Errors
    /// It is refused, or is not known to be stored.
    pub async fn publish_own(&self, event: Event) -> Result<Published, FeedError> {
        let (place, trace) = self.begin(&event, Instant::now())?;
        let settings = self.ways.live.load();
        let admitted = self.ways.admission.admit_own(event, &settings.limits, clock::now());
        drop(settings);
        self.entering(admitted, place, trace)?.enter().await
    }

    /// Asks everything that can be asked before an event is stored, and takes a place in the queue. The event is dated
    /// after what it replaces or takes away: a date that another node's clock gave to that is no fault of this one.
    ///
    /// # Errors
    /// It is refused. Nothing was done.
    pub fn admit_in_order(&self, event: Event) -> Result<Entering<'_>, FeedError> {
        let at = event.created_at().max(clock::now());
        self.admit_at(event, at, Instant::now())
    }

    /// A place for an event that was asked for at `begun`, and what is noted on its way.
    fn begin(&self, event: &Event, begun: Instant) -> Result<(Place, Trace), FeedError> {
        let (id, kind, bytes) = (event.id(), event.kind(), event.json().len());
        let mut trace = self.ways.tracer.said(begun, Subject::Event { id, kind, bytes });
        let place = self.place(event).inspect_err(|_| {
            trace.fail("overloaded");
        })?;
        Ok((place, trace))
    }

    fn admit_at(&self, event: Event, now: Timestamp, begun: Instant) -> Result<Entering<'_>, FeedError> {
        let Ok(parsed) = serde_json::from_str::<ParsedEvent<'_>>(event.json()) else {
            return Err(FeedError::Refused(Reason::invalid("it is no event")));
        };
        let settings = self.ways.live.load();
        let (most, bytes) = (settings.limits.max_message_bytes, event.json().len());
        if bytes > most {
            return Err(self.refuse(Reason::invalid(format!("an event has at most {most} bytes"))));
        }
        let (place, trace) = self.begin(&event, begun)?;
        // The account is whoever has shown that it is: protected events are its own to publish.
        let keys = [event.pubkey()];
        // Work would be this node's own, and proves nothing of who has an account here (NIP-13).
        let limits = Limits { min_pow_difficulty: 0, ..settings.limits.clone() };
        let admitted = self.ways.admission.admit(parsed, &limits, &keys, now);
        self.entering(admitted, place, trace)
    }

    fn place(&self, event: &Event) -> Result<Place, FeedError> {
        let share = self.share(event.pubkey());
        let place =
            self.ways.events.place(&share, event.kind(), event.tags(), event.json().len(), Instant::now());
        place.map_err(|_| {
            self.count(EventResult::Overloaded);
            FeedError::Overloaded
        })
    }

    fn entering(
        &self,
        admitted: Result<Admitted, Reason>,
        place: Place,
        mut trace: Trace,
    ) -> Result<Entering<'_>, FeedError> {
        trace.lap("admit");
        let refuse = |reason: Reason| {
            trace.refuse(&reason);
            self.refuse(reason)
        };
        let event = match admitted.map_err(refuse)? {
            Admitted::Known => None,
            Admitted::Store(event) => Some((event, place)),
            Admitted::Ephemeral(_) => {
                return Err(FeedError::unfit("kind", "events of that kind are not kept"));
            }
        };
        Ok(Entering { door: self, event, trace })
    }

    fn share(&self, account: PublicKey) -> Arc<Share> {
        self.accounts.lock().peek(&account).map_or_else(Arc::default, |known| Arc::clone(&known.share))
    }

    fn refuse(&self, reason: Reason) -> FeedError {
        self.count(EventResult::from(reason.prefix));
        FeedError::Refused(reason)
    }

    fn count(&self, result: EventResult) {
        self.ways.metrics.events.of(result).inc();
    }

    fn told(&self, answer: Answer) -> Result<Published, FeedError> {
        self.count(answer.label());
        match answer {
            Answer::Outcome(Outcome::Stored) | Answer::Routed => Ok(Published::Stored),
            Answer::Outcome(Outcome::Duplicate) => Ok(Published::Duplicate),
            Answer::Overloaded => Err(FeedError::Overloaded),
            // What has failed may be stored all the same.
            Answer::Failed(_) => Err(FeedError::Unknown),
            Answer::Outcome(_) => match answer.explain() {
                Ok(_) => Ok(Published::Stored),
                Err(reason) => Err(FeedError::Refused(reason)),
            },
        }
    }
}

impl Entering<'_> {
    /// Has it stored.
    ///
    /// # Errors
    /// It is refused, or is not known to be stored.
    pub async fn enter(self) -> Result<Published, FeedError> {
        /// The persister answers within its deadline, and looks at it some times within.
        const SLACK: u32 = 2;
        let Self { door, event, trace } = self;
        let Some((event, place)) = event else { return door.told(Answer::Outcome(Outcome::Duplicate)) };
        let (answer, answered) = oneshot::channel();
        let address = Waiter(Some(answer)).start();
        let id = ACCOUNTS | door.waited.fetch_add(1, Ordering::Relaxed);
        let publisher = Publisher { id, session: Arc::new(address.recipient()) };
        door.ways.events.store(event, place, publisher, trace);
        match timeout(door.ways.deadline * SLACK, answered).await {
            Ok(Ok(answer)) => door.told(answer),
            _ => Err(FeedError::Unknown),
        }
    }
}

/// Waits for one answer. It ends with it, or when nobody can give it any more.
struct Waiter(Option<oneshot::Sender<Answer>>);

impl Actor for Waiter {
    type Context = Context<Self>;
}

impl Handler<Written> for Waiter {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, ctx: &mut Context<Self>) {
        for (_, answer, mut trace) in answers {
            if let Err(reason) = answer.clone().explain() {
                trace.refuse(&reason);
            }
            if let Some(waits) = self.0.take() {
                // Whoever waited may be gone.
                let _ = waits.send(answer);
            }
        }
        ctx.stop();
    }
}
