//! The consumer: an actor that publishes what waits in the queue, as a client would, and says what is finished.
//!
//! It has a window of unanswered events. Where the store takes nothing, one new event is tried now and then: a store
//! that is away costs time and no event. What the store did not take is tried alone, while others go on, and is a dead
//! letter after some attempts that count ([`super::suspects`]).

mod alone;

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
    courtesy::Courtesy,
    dead::DeadLetters,
    effort::Effort,
    queue::{Queue, Word},
    suspects::{Suspect, Suspects},
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
    /// How many times as long as at best clients may wait, and how many events a second are stored all the same.
    pub clients_wait: f64,
    pub least_per_second: u32,
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
    courtesy: Courtesy,
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
        let now = Instant::now();
        let effort = Effort::new(parts.verify_cores, now);
        let courtesy = Courtesy::new(parts.clients_wait, parts.least_per_second, now);
        Self {
            parts,
            effort,
            courtesy,
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
            let now = Instant::now();
            if let Some(pause) = self.effort.pause(now).or_else(|| self.pause_for_clients(now)) {
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

    /// For how long clients go first.
    fn pause_for_clients(&mut self, now: Instant) -> Option<Duration> {
        if self.courtesy.is_due(now) {
            self.courtesy.look(self.parts.events.waits().longest(now), now);
            self.parts.metrics.consumer_limit.set(self.courtesy.rate() as i64);
        }
        self.courtesy.pause(clock::now(), now)
    }

    /// Events of the window that are without an answer.
    fn under_way(&self) -> usize {
        self.with_persister.len() - usize::from(self.trial.is_some())
    }

    /// How many of them there may be: while the store takes nothing, one.
    fn allowed(&self) -> usize {
        if self.pause.attempts() == 0 { self.window } else { 1 }
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
        self.courtesy.spend();
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
mod tests;
