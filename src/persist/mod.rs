//! The persister: an actor that takes everything that arrived while the last batch was being
//! written as the next batch. No timer, so no delay when there is little to do.
//!
//! It answers the publishers, and hands what was stored to the routers in the order of the commits.

mod budget;
mod dispatch;
mod ephemeral;
mod outlook;
mod pace;
mod queue;
mod sweep;
mod unsettled;
mod workers;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{
    Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, Recipient, ResponseFuture, WrapFuture,
};
use opentelemetry::TraceId;
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{Instrument, error, warn};

pub use self::{
    budget::{Place, Share},
    dispatch::Others,
    queue::{Full, Queue},
    sweep::Sweeps,
    workers::Workers,
};
use self::{
    dispatch::Dispatch,
    ephemeral::OnTheWay,
    pace::{Lap, Pace},
    queue::{Bounds, Refused, Waiting},
    unsettled::Unsettled,
};
use crate::{
    clock, config,
    ingest::Admission,
    protocol::{Event, EventId, Reason},
    route::{Routers, SessionId},
    store::{Outcome, Store, StoreError, Written as Batch},
    telemetry::{BoundedQueue, Metrics, Stage, measure_lag},
    trace::{Trace, Traced, Tracer, Write},
};

/// Something waits in the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

/// An event that is only to be routed, and who is to be answered.
#[derive(Message)]
#[rtype(result = "()")]
struct Ephemeral {
    event: Arc<Event>,
    from: Publisher,
    place: Place,
    trace: Trace,
}

/// Who sent an ephemeral event. The place is held until the answer.
struct Sender {
    from: Publisher,
    _place: Place,
    trace: Trace,
}

/// A session that waits for an answer.
#[derive(Clone)]
pub struct Publisher {
    pub id: SessionId,
    pub session: Recipient<Written>,
}

/// What became of events of one session: one message a batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Written(pub Vec<(EventId, Answer, Trace)>);

/// The answer to an event.
#[derive(Debug, Clone)]
pub enum Answer {
    Outcome(Outcome),
    /// It is ephemeral, and was handed to whoever wanted it.
    Routed,
    /// It is not known to be stored.
    Failed(Reason),
    /// It would be stored too late, so it is not.
    Overloaded,
}

/// Resolves when everything that waited is stored and routed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flush;

/// What a persister works with.
pub struct Parts {
    pub queue: Arc<Queue>,
    pub workers: Workers,
    pub store: Arc<dyn Store>,
    pub admission: Arc<Admission>,
    pub routers: Routers,
    pub others: Option<Others>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
}

/// Writes batches. One a node, on a thread of its own.
pub struct Persister {
    parts: Parts,
    pace: Pace,
    config: config::Persister,
    sweeps: Sweeps,
    /// Has removals begin at once.
    sweep: Arc<Notify>,
    dispatch: Option<mpsc::Sender<Dispatch>>,
    /// The batch that the store is writing.
    writing: Vec<Waiting>,
    /// Whether that is tried again though its publishers were told.
    retrying: bool,
    /// Parts of a batch that failed as a whole; the last is next.
    parts_of_failed: Vec<Vec<Waiting>>,
    /// Whether the last batch was one event that is more than a batch.
    was_large: bool,
    /// Whether the store is at work for this actor.
    busy: bool,
    /// Rows of the last batch, and when it was done.
    last: (usize, Instant),
    /// Whether the next batch waits until there is more of it.
    stands_back: bool,
    unsettled: Unsettled,
    on_the_way: OnTheWay<Sender>,
    /// Whether the store looks for what others left half written.
    is_looking: bool,
    flushes: Vec<oneshot::Sender<()>>,
}

/// Answers, gathered by session.
#[derive(Default)]
struct Answers(HashMap<SessionId, (Recipient<Written>, Written)>);

impl Persister {
    pub fn new(parts: Parts, config: config::Persister, sweeps: Sweeps) -> Self {
        Self {
            parts,
            pace: Pace::new(config.max_batch_rows, Duration::from_millis(config.batch_ms)),
            unsettled: Unsettled::new(&config),
            config,
            sweeps,
            sweep: Arc::default(),
            dispatch: None,
            writing: Vec::new(),
            retrying: false,
            parts_of_failed: Vec::new(),
            was_large: false,
            busy: false,
            on_the_way: OnTheWay::default(),
            is_looking: false,
            last: (0, Instant::now()),
            stands_back: false,
            flushes: Vec::new(),
        }
    }

    /// Gives the store its next work, if it has none.
    fn next(&mut self, ctx: &mut Context<Self>) {
        if self.busy || self.stand_back(ctx) {
            return;
        }
        self.writing = self.next_batch();
        if !self.writing.is_empty() {
            self.write(ctx);
        } else {
            for flush in self.flushes.drain(..) {
                // Whoever waited may be gone.
                let _ = flush.send(());
            }
        }
    }

    /// Lets the threads that serve clients go first where they need all processors, while much is written: what they
    /// bring meanwhile makes the batch larger, and an event cheaper. Of the processors' other users nothing is asked,
    /// and nothing is given to them.
    fn stand_back(&mut self, ctx: &mut Context<Self>) -> bool {
        /// Between two looks.
        const MOMENT: Duration = Duration::from_millis(1);
        /// Rows of a batch from which on more of them make it cheaper.
        const MANY: usize = 256;
        if self.stands_back {
            return true;
        }
        let (rows, done) = self.last;
        let longest = Duration::from_millis(self.config.stand_back_ms);
        self.stands_back = rows >= MANY
            && done.elapsed() < longest
            && self.flushes.is_empty()
            && (1..self.pace.limit()).contains(&self.parts.queue.budget().waiting())
            && self.parts.workers.fill_processors();
        if self.stands_back {
            ctx.run_later(MOMENT, |this, ctx| {
                this.stands_back = false;
                this.next(ctx);
            });
        }
        self.stands_back
    }

    /// What is left of a batch that failed, then what is tried again, then what waits.
    fn next_batch(&mut self) -> Vec<Waiting> {
        self.retrying = false;
        while let Some(part) = self.parts_of_failed.pop() {
            let (awaited, answered): (Vec<_>, Vec<_>) = part.into_iter().partition(|w| w.from.is_some());
            self.settle_later(answered);
            if !awaited.is_empty() {
                return awaited;
            }
        }
        let rows = self.pace.limit();
        let bounds = Bounds { rows, bytes: self.config.max_batch_bytes, spare_large: self.was_large };
        let retried = self.unsettled.take(bounds, Instant::now());
        if !retried.is_empty() {
            self.retrying = true;
            return retried;
        }
        self.refuse_late();
        let batch = self.parts.queue.take(bounds);
        self.was_large = batch.first().is_some_and(|first| first.rows > rows);
        batch
    }

    fn write(&mut self, ctx: &mut Context<Self>) {
        self.busy = true;
        let (metrics, now) = (&self.parts.metrics, Instant::now());
        let rows = self.writing.iter().map(|waiting| waiting.rows).sum();
        self.parts.queue.budget().outlook.begin(rows, self.pace.should_take(rows), now);
        metrics.batch.observe(self.writing.len() as f64);
        metrics.batch_rows.observe(rows as f64);
        let wait = metrics.stages.of(Stage::Wait);
        for waiting in self.writing.iter().filter(|waiting| waiting.from.is_some()) {
            wait.observe(now.duration_since(waiting.since).as_secs_f64());
        }
        let events: Arc<[Arc<Event>]> = self.writing.iter().map(|w| Arc::clone(&w.event)).collect();
        let store = Arc::clone(&self.parts.store);
        let metrics = Arc::clone(&self.parts.metrics);
        let (dispatch, allowed) = (self.dispatch.clone(), self.allowed(now));
        let span = self.parts.tracer.batch(self.writing.iter_mut().map(|w| &mut w.trace), events.len());
        let work = async move {
            // A place in the queue to the routers first, so that this actor never has more than one
            // batch that it can not hand on.
            let place = match dispatch {
                Some(dispatch) => {
                    if dispatch.capacity() == 0 {
                        metrics.queue_full.of(BoundedQueue::Dispatch).inc();
                    }
                    dispatch.reserve_owned().await.ok()
                }
                None => None,
            };
            let (begun, count) = (Instant::now(), events.len());
            let result = store.write(events, clock::now(), begun + allowed).instrument(span).await;
            let write = Write { begun, ended: Instant::now(), events: count };
            metrics.stages.of(Stage::Store).observe((write.ended - begun).as_secs_f64());
            (place, write, result)
        };
        ctx.spawn(work.into_actor(self).map(move |(place, write, result), this, ctx| {
            let took = write.ended - write.begun;
            let lap = Lap { rows, took, whole: write.ended - now, failed: result.is_err() };
            // What fails alone, or has failed before, says more of itself than of the store.
            if !(lap.failed && (this.retrying || write.events == 1)) {
                this.pace.learn(lap);
            }
            this.last = (rows, write.ended);
            this.parts.queue.budget().outlook.end(this.pace.rate());
            if this.retrying {
                let contended = !this.parts.queue.is_empty();
                this.unsettled.tried(write.events, took, lap.failed, contended, write.ended);
            }
            this.writing.iter_mut().for_each(|waiting| waiting.trace.written(write));
            this.written(place, result);
            this.refuse_excess();
            this.busy = false;
            this.next(ctx);
        }));
    }

    /// How long the store may try to write the batch. One of several events has half of what its publishers wait,
    /// so that its parts are tried in the other half.
    fn allowed(&self, now: Instant) -> Duration {
        let deadline = Duration::from_millis(self.config.deadline_ms);
        let awaited = self.writing.iter().filter(|waiting| waiting.from.is_some());
        let left = left_to_most(awaited.map(|waiting| waiting.since).collect(), deadline, now);
        let left = left.min(self.parts.queue.budget().utmost());
        if self.writing.len() > 1 { left / 2 } else { left }
    }

    fn written(&mut self, place: Option<mpsc::OwnedPermit<Dispatch>>, result: Result<Batch, StoreError>) {
        let mut batch = std::mem::take(&mut self.writing);
        let mut answers = Answers::default();
        match result {
            Ok(Batch { outcomes, head, removed, sequence, again }) => {
                let again = again.into_iter().map(|place| Arc::clone(&batch[place].event)).collect();
                let stays = batch.iter().zip(&outcomes).filter(|(_, outcome)| **outcome == Outcome::Stored);
                let traced = Traced::of(
                    stays.filter_map(|(waiting, _)| Some((waiting.event.id(), waiting.trace.context()?))),
                );
                self.note_shortage(&mut batch, &outcomes);
                let mut events = Vec::new();
                for (waiting, outcome) in batch.into_iter().zip(outcomes) {
                    self.observe_answer(&waiting);
                    answers.add(waiting.from, waiting.event.id(), Answer::Outcome(outcome), waiting.trace);
                    if outcome == Outcome::Stored {
                        events.push(waiting.event);
                    }
                }
                let stored = Dispatch { events, traced, again, position: Some(head), sequence, done: None };
                // Where others write to the store too, they may take away what this node has put there.
                if self.parts.store.log().is_none() {
                    let ids = stored.events.iter().map(|event| event.id());
                    self.parts.admission.recent.update(ids, &removed);
                }
                if removed.many {
                    // A request to vanish leaves work behind.
                    self.sweep.notify_one();
                }
                answers.send();
                if let (Some(place), false) = (place, stored.is_empty()) {
                    place.send(stored);
                }
            }
            Err(error) => {
                self.parts.metrics.store_errors.inc();
                if let Some(others) = &self.parts.others {
                    others.bus.skip();
                }
                let (events, trace_id) = fail(batch.iter_mut().map(|waiting| (waiting, &error)));
                error!(trace_id = trace_id.map(display), events, "could not write: {}", error.detail());
                self.failed(batch, &error);
            }
        }
    }

    /// Says that there was no room for events.
    fn note_shortage(&self, batch: &mut [Waiting], outcomes: &[Outcome]) {
        let short = batch.iter_mut().zip(outcomes).filter_map(|(waiting, outcome)| match outcome {
            Outcome::NoSpace(shortage) => Some((waiting, shortage)),
            _ => None,
        });
        let (events, trace_id) = fail(short);
        if events > 0 {
            self.parts.metrics.store_errors.inc();
            error!(trace_id = trace_id.map(display), events, "could not write: there is no room");
        }
    }

    /// A batch of several that are still waited for goes on in parts; what is left is answered.
    fn failed(&mut self, mut batch: Vec<Waiting>, error: &StoreError) {
        if batch.len() > 1 && matches!(error, StoreError::Engine(_) | StoreError::Late(_)) {
            let deadline = Duration::from_millis(self.config.deadline_ms);
            let is_awaited = |waiting: &Waiting| waiting.from.is_some() && waiting.since.elapsed() < deadline;
            let awaited = batch.extract_if(.., |waiting| is_awaited(waiting)).collect();
            self.parts_of_failed.extend(parts(awaited));
        }
        let mut answers = Answers::default();
        for waiting in &mut batch {
            self.observe_answer(waiting);
            let (from, trace) = (waiting.from.take(), waiting.trace.take());
            let reason = Reason::error(error.to_string());
            answers.add(from, waiting.event.id(), Answer::Failed(reason), trace);
        }
        answers.send();
        self.settle_later(batch);
    }

    /// Their publishers were told. Where other nodes write too, they may be stored all the same.
    fn settle_later(&mut self, batch: Vec<Waiting>) {
        if self.parts.store.log().is_some() && !batch.is_empty() {
            self.unsettled.add(batch);
            self.forget_unsettled();
        }
    }

    /// Those that were tried for long enough, and what is too many.
    fn forget_unsettled(&mut self) {
        let forgotten = self.unsettled.forget(Instant::now());
        if forgotten > 0 {
            warn!(events = forgotten, "not tried again: whether they are stored is unknown");
        }
        self.parts.metrics.unsettled.set(self.unsettled.len() as i64);
    }

    /// What somebody else began to write is tried like what failed here.
    fn adopt(&mut self, events: Vec<Arc<Event>>) {
        self.unsettled.add(events.into_iter().map(Waiting::adopted));
        self.parts.metrics.unsettled.set(self.unsettled.len() as i64);
    }

    /// What will not be stored in time is told so now, and taken out.
    fn refuse_excess(&self) {
        self.refuse(self.parts.queue.shed(Instant::now()));
    }

    /// What nobody waits for any more is not stored.
    fn refuse_late(&self) {
        let deadline = Duration::from_millis(self.config.deadline_ms);
        self.refuse(self.parts.queue.take_late(deadline, Instant::now()));
    }

    fn refuse(&self, refused: Vec<Refused>) {
        let mut answers = Answers::default();
        for Refused { id, from, since, mut trace } in refused {
            self.parts.metrics.stages.of(Stage::Answer).observe(since.elapsed().as_secs_f64());
            self.parts.metrics.queue_full.of(BoundedQueue::Persister).inc();
            trace.fail("overloaded");
            answers.add(from, id, Answer::Overloaded, trace);
        }
        answers.send();
    }

    /// Its publisher is about to be answered, unless it was at the deadline.
    fn observe_answer(&self, waiting: &Waiting) {
        if waiting.from.is_some() {
            let taken = waiting.since.elapsed();
            self.parts.metrics.stages.of(Stage::Answer).observe(taken.as_secs_f64());
        }
    }

    /// Looks for what somebody else began to write and left, and for what this node did.
    fn look_for_abandoned(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let store = Arc::clone(&self.parts.store);
        /// Where nothing is tried again at once, it is after that.
        const AT_LEAST: Duration = Duration::from_secs(60);
        let tried_for = Duration::from_secs(self.config.retry_seconds).max(AT_LEAST);
        let work = async move { store.abandoned(tried_for).await };
        ctx.spawn(work.into_actor(self).map(|abandoned, this, ctx| {
            this.is_looking = false;
            match abandoned {
                Ok(events) => this.adopt(events),
                Err(error) => warn!("could not look for what is half written: {}", error.detail()),
            }
            this.next(ctx);
        }));
    }

    /// Routes an ephemeral event: no store, no batch. A copy is not delivered a second time, and is answered as one
    /// only when the first has been routed.
    fn route(&mut self, Ephemeral { event, from, place, trace }: Ephemeral, ctx: &mut Context<Self>) {
        let id = event.id();
        if self.parts.admission.recent.contains(&id) {
            let mut answers = Answers::default();
            answers.add(Some(from), id, Answer::Outcome(Outcome::Duplicate), trace);
            return answers.send();
        }
        let traced = Traced::of(trace.context().map(|context| (id, context)).into_iter());
        if !self.on_the_way.wait(id, Sender { from, _place: place, trace }, Instant::now()) {
            return;
        }
        let dispatch = self.dispatch.clone();
        let work = async move {
            let (done, routed) = oneshot::channel();
            if let Some(dispatch) = dispatch {
                let events =
                    Dispatch { events: vec![event], traced, done: Some(done), ..Dispatch::default() };
                // Fails only when the task is gone, and then the answer below says so.
                let _ = dispatch.send(events).await;
            }
            routed.await.is_ok()
        };
        ctx.spawn(work.into_actor(self).map(move |is_routed, this, _| {
            let answer = match is_routed {
                true => {
                    this.parts.admission.recent.update([id], &Default::default());
                    Answer::Routed
                }
                false => Answer::Failed(Reason::error("it was not delivered")),
            };
            let mut answers = Answers::default();
            for Sender { from, trace, .. } in this.on_the_way.end(&id) {
                answers.add(Some(from), id, answer.clone(), trace);
            }
            answers.send();
        }));
    }

    /// Answers what is being written for too long: it may be stored all the same, and is routed then. What
    /// still waits is taken out.
    fn check_deadline(&mut self) {
        let deadline = Duration::from_millis(self.config.deadline_ms);
        let mut answers = Answers::default();
        let parts = self.parts_of_failed.iter_mut().flatten();
        for waiting in self.writing.iter_mut().chain(parts) {
            let since = waiting.since.elapsed();
            if since >= deadline && waiting.from.is_some() {
                self.parts.metrics.stages.of(Stage::Answer).observe(since.as_secs_f64());
                let reason = Reason::error("the store did not answer in time; try again");
                let mut trace = waiting.trace.take();
                trace.lap("persist");
                answers.add(waiting.from.take(), waiting.event.id(), Answer::Failed(reason), trace);
            }
        }
        for (id, Sender { from, trace, .. }) in self.on_the_way.late(deadline, Instant::now()) {
            let reason = Reason::error("it was not delivered in time; try again");
            answers.add(Some(from), id, Answer::Failed(reason), trace);
        }
        answers.send();
        self.refuse_late();
        self.refuse_excess();
    }
}

/// How long half of those will wait at least who began to wait then: neither does one that is old cut the time of all
/// others short, nor one that is young let them be late.
fn left_to_most(mut since: Vec<Instant>, deadline: Duration, now: Instant) -> Duration {
    since.sort_unstable();
    let middle = since.get(since.len() / 2).copied().unwrap_or(now);
    (middle + deadline).saturating_duration_since(now)
}

/// Notes that events failed, and why: how many, and a trace in which that can be seen, for the log.
fn fail<'w, W: ToString>(failed: impl Iterator<Item = (&'w mut Waiting, W)>) -> (usize, Option<TraceId>) {
    failed.fold((0, None), |(events, trace_id), (waiting, why)| {
        // Of all, as each is to have spans.
        let own = waiting.trace.fail(why.to_string());
        (events + 1, trace_id.or(own))
    })
}

/// The largest event apart, and the others in halves.
fn parts(mut batch: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let largest = batch.iter().enumerate().max_by_key(|(_, waiting)| waiting.rows).map(|(place, _)| place);
    let largest: Vec<Waiting> = largest.map(|place| batch.remove(place)).into_iter().collect();
    let second = batch.split_off(batch.len() / 2);
    let parts = [largest, second, batch];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

impl Answers {
    fn add(&mut self, to: Option<Publisher>, id: EventId, answer: Answer, trace: Trace) {
        let Some(Publisher { id: session_id, session }) = to else { return };
        self.0
            .entry(session_id)
            .or_insert_with(|| (session, Written(Vec::new())))
            .1
            .0
            .push((id, answer, trace));
    }

    fn send(self) {
        for (session, answers) in self.0.into_values() {
            #[expect(
                clippy::disallowed_methods,
                reason = "at most one for each place in the session's window"
            )]
            session.do_send(answers);
        }
    }
}

impl Actor for Persister {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        /// How often in a deadline the waiting are looked at.
        const CHECKS: u64 = 16;
        // Every ephemeral event in the mailbox holds a place.
        ctx.set_mailbox_capacity(self.config.queue);
        self.parts.queue.wakes(ctx.address());
        let (routers, others) = (self.parts.routers.clone(), self.parts.others.clone());
        let (metrics, tracer) = (&self.parts.metrics, self.parts.tracer.clone());
        let dispatch = dispatch::start(routers, others, tracer, Arc::clone(metrics), self.config.route_batch);
        metrics.watch(BoundedQueue::Dispatch, &dispatch);
        actix::spawn(measure_lag(metrics.lag_of("persister")));
        self.dispatch = Some(dispatch);
        self.sweep = self.sweeps.start(Arc::clone(&self.parts.store), Arc::clone(&self.parts.metrics));
        let check = Duration::from_millis((self.config.deadline_ms / CHECKS).max(1));
        self.parts.queue.pulse.beat();
        ctx.run_interval(check, |this, _| {
            this.parts.queue.pulse.beat();
            this.check_deadline();
        });
        ctx.run_interval(Duration::from_millis(self.config.deadline_ms.max(1)), |this, ctx| {
            this.forget_unsettled();
            this.next(ctx);
        });
        ctx.run_interval(self.sweeps.every, Self::look_for_abandoned);
        self.next(ctx);
    }
}

impl Handler<Wake> for Persister {
    type Result = ();

    fn handle(&mut self, _: Wake, ctx: &mut Self::Context) {
        self.next(ctx);
    }
}

impl Handler<Ephemeral> for Persister {
    type Result = ();

    fn handle(&mut self, ephemeral: Ephemeral, ctx: &mut Self::Context) {
        self.route(ephemeral, ctx);
    }
}

impl Handler<Flush> for Persister {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) -> Self::Result {
        let (stored, when_stored) = oneshot::channel();
        self.flushes.push(stored);
        self.next(ctx);
        let dispatch = self.dispatch.clone();
        Box::pin(async move {
            // Either may be gone only when there is nothing left to wait for.
            let _ = when_stored.await;
            let (done, when_routed) = oneshot::channel();
            if let Some(dispatch) = dispatch {
                let _ = dispatch.send(Dispatch { done: Some(done), ..Dispatch::default() }).await;
                let _ = when_routed.await;
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_old_event_does_not_cut_the_time_of_a_young_batch_short() {
        const SECOND: Duration = Duration::from_secs(1);
        let now = Instant::now() + 60 * SECOND;
        let left = |ages: &[u32]| {
            let since = ages.iter().map(|age| now - *age * SECOND / 10).collect();
            left_to_most(since, 2 * SECOND, now).as_millis()
        };
        assert_eq!(left(&[19, 0, 0, 0]), 2_000);
        assert_eq!(left(&[19, 18, 17, 0]), 300);
        assert_eq!((left(&[19]), left(&[25]), left(&[])), (100, 0, 2_000));
    }
}
