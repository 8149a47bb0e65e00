//! The consumer: an actor that publishes what waits in the queue, as a client would, and says what is finished.
//!
//! It has a window of unanswered events. What the store does not take for now is held and tried again, and meanwhile
//! nothing new is taken: a store that is away costs time and no event.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use prometheus_client::metrics::counter::Counter;
use tracing::warn;

use super::{
    counts::{Counts, Refusal, Verdict},
    queue::{Entry, Queue},
    upstream::UpstreamId,
};
use crate::{
    backoff::Backoff,
    clock,
    config::Live,
    ingest::{Admission, Admitted},
    persist::{self, Answer, Publisher, Share, Written},
    protocol::{EventId, ParsedEvent},
    route::SessionId,
    store::Outcome,
    telemetry::Metrics,
    trace::{Subject, Trace, Tracer},
};

/// Publishers that are no sessions have numbers from here on.
const NO_SESSION: SessionId = 1 << 63;
/// Between attempts while the store takes nothing.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// What a consumer works with.
#[derive(Clone)]
pub struct Parts {
    pub queue: Arc<dyn Queue>,
    /// The way into the store.
    pub events: Arc<persist::Queue>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    /// Of each upstream that is read.
    pub counts: Arc<dyn Fn(UpstreamId) -> Option<Arc<Counts>> + Send + Sync>,
    /// What it is called.
    pub names: Arc<dyn Fn(UpstreamId) -> Option<Arc<str>> + Send + Sync>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
}

/// An event that came through the queue.
struct Taken {
    entry: Entry,
    /// Since when it is here.
    since: Instant,
}

/// The store did not take an event for now.
const AGAIN: &str = "again";

/// Publishes what upstreams have sent.
pub struct Consumer {
    parts: Parts,
    number: u64,
    window: usize,
    publisher: Option<Publisher>,
    shares: HashMap<UpstreamId, Arc<Share>>,
    /// Events that the persister has, and whose they are. A copy is finished when the event is.
    with_persister: HashMap<EventId, Vec<Taken>>,
    /// Taken from the queue, and for now not taken by the store.
    held: VecDeque<Taken>,
    /// How many events came to what.
    outcomes: Vec<(&'static str, Counter)>,
    pause: Backoff,
    /// Whether it waits for the queue, or for the end of a pause.
    is_waiting: bool,
}

impl Consumer {
    /// `number` tells the consumers of a node apart; `window`: how many events may be without an answer.
    pub fn new(parts: Parts, number: u64, window: usize) -> Self {
        let outcomes = parts.metrics.consumer_outcomes(&[&[AGAIN][..], &Verdict::names()].concat());
        Self {
            parts,
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
        while !self.is_waiting && self.with_persister.len() < self.window {
            if let Some(taken) = self.held.pop_front() {
                if let Err(taken) = self.publish(taken) {
                    self.held.push_front(taken);
                    return self.rest(ctx);
                }
                continue;
            }
            self.is_waiting = true;
            let queue = Arc::clone(&self.parts.queue);
            let most = self.window - self.with_persister.len();
            let taken = async move { queue.take(most).await };
            ctx.spawn(taken.into_actor(self).map(|entries, this, ctx| {
                this.is_waiting = false;
                let since = Instant::now();
                this.held.extend(entries.into_iter().map(|entry| Taken { entry, since }));
                this.next(ctx);
            }));
        }
    }

    /// Waits before it tries again.
    fn rest(&mut self, ctx: &mut Context<Self>) {
        self.is_waiting = true;
        ctx.run_later(self.pause.fail(), |this, ctx| {
            this.is_waiting = false;
            this.next(ctx);
        });
    }

    /// Hands an event to the persister, unless it is refused or known at once.
    ///
    /// # Errors
    /// The event, where the store takes no more for now.
    fn publish(&mut self, mut taken: Taken) -> Result<(), Taken> {
        let entry = &mut taken.entry;
        let Ok(parsed) = serde_json::from_str::<ParsedEvent<'_>>(&entry.text) else {
            self.settle(&taken, Verdict::Refused(Refusal::Shape));
            return Ok(());
        };
        let share = self.shares.entry(entry.upstream).or_default();
        let place = self.parts.events.place(share, &parsed, entry.text.len(), Instant::now());
        let Ok(place) = place else { return Err(taken) };
        let (names, upstream) = (&self.parts.names, entry.upstream);
        let subject = Subject::Event { id: parsed.id, kind: parsed.kind, bytes: entry.text.len() };
        let mut trace = self.parts.tracer.consume(entry.trace.as_deref_mut(), || names(upstream), subject);
        let admitted =
            self.parts.admission.admit_relayed(parsed, &self.parts.live.load().limits, clock::now());
        trace.lap("admit");
        match admitted {
            Ok(Admitted::Known) => self.settle(&taken, Verdict::Known),
            Ok(Admitted::Store(event)) => {
                let same = self.with_persister.entry(event.id()).or_default();
                same.push(taken);
                if let [_] = same[..]
                    && let Some(publisher) = self.publisher.clone()
                {
                    self.parts.events.store(event, place, publisher, trace);
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

    /// An event is finished, and counted.
    fn settle(&self, Taken { entry, since }: &Taken, verdict: Verdict) {
        self.count(verdict.name());
        self.parts.metrics.consumer.observe(since.elapsed().as_secs_f64());
        if let Some(counts) = (self.parts.counts)(entry.upstream) {
            counts.settle(verdict);
        }
        self.parts.queue.finish(entry.upstream, entry.number, verdict);
    }

    fn count(&self, outcome: &str) {
        if let Some((_, counter)) = self.outcomes.iter().find(|(name, _)| *name == outcome) {
            counter.inc();
        }
    }

    fn hear(&mut self, id: EventId, answer: Answer, mut trace: Trace) -> bool {
        let Some(entries) = self.with_persister.remove(&id) else { return true };
        let verdict = match answer {
            Answer::Outcome(Outcome::NoSpace(shortage)) => Err(shortage.to_string()),
            Answer::Failed(reason) => Err(reason.to_string()),
            Answer::Overloaded => Err("overloaded".to_owned()),
            Answer::Outcome(outcome) => Ok(outcome.into()),
            Answer::Routed => Ok(Verdict::Routed),
        };
        let verdict = match verdict {
            Ok(verdict) => verdict,
            Err(failure) => {
                trace.fail(failure);
                self.count(AGAIN);
                self.held.extend(entries);
                return false;
            }
        };
        if let Verdict::Refused(refusal) = verdict {
            trace.refused(refusal.name());
        }
        for (nth, entry) in entries.iter().enumerate() {
            // Of copies that came together one is stored.
            let is_copy = nth > 0 && matches!(verdict, Verdict::Stored | Verdict::Routed);
            self.settle(entry, if is_copy { Verdict::Known } else { verdict });
        }
        true
    }
}

impl Actor for Consumer {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        ctx.set_mailbox_capacity(self.window.max(16));
        let session = Arc::new(ctx.address().recipient());
        self.publisher = Some(Publisher { id: NO_SESSION + self.number, session });
        self.next(ctx);
    }
}

impl Handler<Written> for Consumer {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, ctx: &mut Context<Self>) {
        let (mut taken, mut left) = (0_usize, 0_usize);
        for (id, answer, trace) in answers {
            match self.hear(id, answer, trace) {
                true => taken += 1,
                false => left += 1,
            }
        }
        if taken > 0 {
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
