//! The persister: an actor that takes everything that arrived while the last batch was being
//! written as the next batch. No timer, so no delay when there is little to do.
//!
//! It answers the publishers, and hands what was stored to the routers in the order of the commits.

mod answer;
mod budget;
mod dispatch;
mod ephemeral;
mod late;
mod outlook;
mod pace;
mod queue;
mod settle;
mod sweep;
mod unsettled;
mod workers;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, Message, ResponseFuture, WrapFuture};
use tokio::sync::{Notify, mpsc, oneshot};
use tracing::{Instrument, warn};

pub use self::{
    answer::{ACCOUNTS, Answer, CONSUMERS, Publisher, Written, explain},
    budget::{Place, Share},
    dispatch::Others,
    queue::{Full, Queue},
    sweep::Sweeps,
    workers::Workers,
};
use self::{
    dispatch::Dispatch,
    ephemeral::{Ephemeral, EphemeralPublisher, OnTheWay},
    pace::{Lap, Pace},
    queue::{BatchBounds, Waiting},
    unsettled::Unsettled,
};
use crate::{
    clock, config,
    ingest::Admission,
    protocol::Event,
    route::Routers,
    store::Store,
    telemetry::{BoundedQueue, Metrics, Stage, measure_lag},
    trace::{Tracer, Write},
};

/// Something waits in the queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Wake;

/// Resolves when everything that waited is stored and routed.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Flush;

/// What a persister works with.
pub struct PersisterParts {
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
    parts: PersisterParts,
    pace: Pace,
    config: config::Persister,
    sweeps: Sweeps,
    /// Notified, it has removals begin at once.
    sweep: Arc<Notify>,
    dispatch: Option<mpsc::Sender<Dispatch>>,
    /// The batch that the store is writing.
    writing: Vec<Waiting>,
    /// Whether the batch is tried again, after its publishers were told that it failed.
    retrying: bool,
    /// Parts of a batch that failed as a whole; the last is next.
    parts_of_failed: Vec<Vec<Waiting>>,
    /// Whether the last batch was one event that is more than a batch, or is to be alone.
    was_large: bool,
    /// Whether the store is at work for this actor.
    busy: bool,
    /// Rows of the last batch, and when it was done.
    last: (usize, Instant),
    /// Whether the next batch waits until there is more of it.
    stands_back: bool,
    unsettled: Unsettled,
    on_the_way: OnTheWay<EphemeralPublisher>,
    /// Whether the store looks for what others left half written.
    is_looking: bool,
    flushes: Vec<oneshot::Sender<()>>,
}

impl Persister {
    pub fn new(parts: PersisterParts, config: config::Persister, sweeps: Sweeps) -> Self {
        Self {
            pace: Pace::new(config.max_batch_rows, config.batch_time()),
            unsettled: Unsettled::new(&config, Arc::clone(&parts.metrics)),
            parts,
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
                // Whoever asked for the flush may be gone.
                let _ = flush.send(());
            }
        }
    }

    /// Lets the threads that serve clients go first where they need all processors, while much is written: what they
    /// bring meanwhile makes the batch larger, and an event cheaper. Other programs on
    /// the machine are not looked at, and get nothing of it.
    fn stand_back(&mut self, ctx: &mut Context<Self>) -> bool {
        /// The pause between two looks at the threads.
        const MOMENT: Duration = Duration::from_millis(1);
        /// Rows of a batch from which on more of them make it cheaper.
        const MANY: usize = 256;
        if self.stands_back {
            return true;
        }
        let (rows, done) = self.last;
        let longest = self.config.stand_back();
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

    /// The events that are written next: what is left of a batch that failed, then what is tried again, then what
    /// waits in the queue.
    fn next_batch(&mut self) -> Vec<Waiting> {
        self.retrying = false;
        while let Some(part) = self.parts_of_failed.pop() {
            let (awaited, answered): (Vec<_>, Vec<_>) =
                part.into_iter().partition(|waiting| waiting.from.is_some());
            self.settle_later(answered);
            if !awaited.is_empty() {
                return awaited;
            }
        }
        let rows = self.pace.limit();
        let bounds = BatchBounds { rows, bytes: self.config.max_batch_bytes, spare_large: self.was_large };
        let retried = self.unsettled.take(bounds, Instant::now());
        if !retried.is_empty() {
            self.retrying = true;
            return retried;
        }
        self.refuse_late();
        let batch = self.parts.queue.take(bounds);
        self.was_large = batch.first().is_some_and(|first| first.is_alone || first.rows > rows);
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
            // An event that fails alone, or has failed before, says more of itself than of the store.
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
        let deadline = self.config.deadline();
        let awaited = self.writing.iter().filter(|waiting| waiting.from.is_some());
        let left = left_to_most(awaited.map(|waiting| waiting.since).collect(), deadline, now);
        let left = left.min(self.parts.queue.budget().utmost());
        if self.writing.len() > 1 { left / 2 } else { left }
    }

    /// Looks for events that another process, or this one, began to write and left.
    fn look_for_abandoned(&mut self, ctx: &mut Context<Self>) {
        if std::mem::replace(&mut self.is_looking, true) {
            return;
        }
        let store = Arc::clone(&self.parts.store);
        /// An event that was left is tried for so long, also where the configuration says that what fails is not.
        const AT_LEAST: Duration = Duration::from_secs(60);
        let tried_for = self.config.retry().max(AT_LEAST);
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
}

/// How long the publisher in the middle will still wait, of those who began to wait at these times: neither does an old
/// one cut the time of all others short, nor does a young one let them be late.
fn left_to_most(mut since: Vec<Instant>, deadline: Duration, now: Instant) -> Duration {
    since.sort_unstable();
    let middle = since.get(since.len() / 2).copied().unwrap_or(now);
    (middle + deadline).saturating_duration_since(now)
}

impl Actor for Persister {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        /// How often within a deadline events that have waited for too long are looked for.
        const CHECKS: u32 = 16;
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
        let check = (self.config.deadline() / CHECKS).max(Duration::from_millis(1));
        self.parts.queue.pulse.beat();
        ctx.run_interval(check, |this, _| {
            this.parts.queue.pulse.beat();
            this.check_deadline();
        });
        ctx.run_interval(self.config.deadline(), |this, ctx| {
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

impl Handler<Flush> for Persister {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, _: Flush, ctx: &mut Self::Context) -> Self::Result {
        let (stored, when_stored) = oneshot::channel();
        self.flushes.push(stored);
        self.next(ctx);
        let dispatch = self.dispatch.clone();
        Box::pin(async move {
            // Either sender may be gone only when there is nothing left to wait for.
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
mod stage;
#[cfg(test)]
mod tests;
