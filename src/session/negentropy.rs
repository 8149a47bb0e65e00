//! NEG-OPEN, NEG-MSG, NEG-CLOSE: finds out with a client which events only one of the two has (NIP-77).
//!
//! The keys of what the filter matches are read once, page by page, in turn with the subscriptions of the connection,
//! and kept while the reconciliation is open. Each message of the client is answered from them, by a thread that
//! serves nobody else.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    task::spawn_blocking,
};
use tracing::error;

use super::{
    Context, Session,
    query::{Number, Work},
};
use crate::{
    clock,
    config::{self, Settings},
    protocol::{
        Filter, Reason, RelayMessage,
        negentropy::{Filling, KeySet},
    },
    store::{Content, Cursor, End, Kept, Limit, Page, Query, StoreError},
    telemetry::{BoundedQueue, Metrics, Stage},
};

/// What the reconciliations of all connections share.
pub struct Room {
    /// One for each key that is kept.
    keys: Arc<Semaphore>,
    /// One for each message that is being answered.
    threads: Arc<Semaphore>,
}

impl Room {
    pub fn new(config: &config::Sync, metrics: &Metrics) -> Self {
        let threads = match config.threads {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            threads => threads,
        };
        let most = config.max_events_of_all;
        let keys = Arc::new(Semaphore::new(most));
        let room = Arc::downgrade(&keys);
        metrics.before_scrapes(move |metrics| {
            let free = room.upgrade().map_or(most, |room| room.available_permits());
            metrics.queue_fill.of(BoundedQueue::Sync).set(1.0 - free as f64 / most as f64);
        });
        Self { keys, threads: Arc::new(Semaphore::new(threads)) }
    }
}

/// A reconciliation that a client has opened.
pub(super) struct Reconciliation {
    number: Number,
    id: Box<str>,
    /// When the client said something about it last.
    heard: Instant,
    phase: Phase,
}

enum Phase {
    /// The keys are being read; then the first message is answered.
    Reading(Box<Reading>),
    /// A message is being answered.
    Answering(Held),
    /// The client has the answer.
    Answered(Held),
}

struct Reading {
    query: Arc<Query>,
    cursor: Cursor,
    /// Whether the client asked for so many of the newest, and no more.
    is_limited: bool,
    keys: Filling,
    /// Of the room of all: as much as there are keys.
    place: Option<OwnedSemaphorePermit>,
    message: Vec<u8>,
}

/// The keys, and their part of the room.
#[derive(Clone)]
struct Held(Arc<(KeySet, Option<OwnedSemaphorePermit>)>);

impl Session {
    pub(super) fn open_reconciliation(
        &mut self,
        id: &str,
        filter: Filter,
        message: Vec<u8>,
        settings: &Settings,
        ctx: &mut Context,
    ) {
        let Settings { limits, sync, .. } = settings;
        self.end_reconciliation(id);
        let filters = std::slice::from_ref(&filter);
        if let Err(reason) = self.check_filters(filters, limits).and_then(|()| self.check_open(sync)) {
            return self.refuse_reconciliation(id, &reason);
        }
        let limit = filter.limit.filter(|&limit| limit <= sync.max_events);
        let query = Arc::new(Query {
            filters: vec![(filter, Limit::exactly(limit.unwrap_or(sync.max_events)))],
            viewer: self.auth.viewer().clone(),
            now: clock::now(),
            content: Content::Keys,
        });
        self.last_reconciliation += 1;
        let number = self.last_reconciliation;
        let cursor = Cursor::start(&query);
        let (keys, place) = (Filling::default(), None);
        let reading = Reading { query, cursor, is_limited: limit.is_some(), keys, place, message };
        self.reconciliations.push(Reconciliation {
            number,
            id: id.into(),
            heard: Instant::now(),
            phase: Phase::Reading(Box::new(reading)),
        });
        self.shared.metrics.reconciliations.inc();
        self.work.push_back(Work::Keys(number));
        self.read_next(ctx);
    }

    fn check_open(&self, sync: &config::Sync) -> Result<(), Reason> {
        match sync.max_open {
            0 => Err(Reason::error("negentropy is not supported")),
            most if self.reconciliations.len() >= most => {
                Err(Reason::rate_limited(format!("more than {most} reconciliations")))
            }
            _ => Ok(()),
        }
    }

    /// Reads the next page of keys.
    pub(super) fn read_keys(&mut self, number: Number, ctx: &mut Context) {
        let Some(Phase::Reading(reading)) = self.reconciliation(number).map(|open| &mut open.phase) else {
            return;
        };
        let (query, cursor) = (Arc::clone(&reading.query), reading.cursor.clone());
        reading.cursor.kept = Kept::default();
        if !cursor.progress.iter().any(|progress| progress.is_open()) {
            // None is wanted.
            return self.keys_are_read(number, ctx);
        }
        self.reading = true;
        let page = self.ask_for_page(query, cursor, Stage::Keys);
        ctx.spawn(page.into_actor(self).map(move |page, this, ctx| {
            this.reading = false;
            match page {
                Ok(page) => this.take_keys(number, page, ctx),
                Err(error) => this.keys_failed(number, &error),
            }
            this.read_next(ctx);
        }));
    }

    fn take_keys(&mut self, number: Number, page: Page, ctx: &mut Context) {
        let room = Arc::clone(&self.shared.reconciliations.keys);
        let max_events = self.shared.live.load().sync.max_events;
        let Some(Phase::Reading(reading)) = self.reconciliation(number).map(|open| &mut open.phase) else {
            return;
        };
        let Ok(more) = room.try_acquire_many_owned(page.len() as u32) else {
            self.shared.metrics.queue_full.of(BoundedQueue::Sync).inc();
            return self.fail_reconciliation(number, &Reason::error("overloaded, try again later"), None);
        };
        match &mut reading.place {
            Some(place) => place.merge(more),
            place => *place = Some(more),
        }
        for entry in page.iter() {
            reading.keys.push(entry.key());
        }
        let is_whole = page.end == End::Finish || reading.is_limited && page.end == End::More;
        match page.next {
            Some(cursor) => {
                reading.cursor = cursor;
                self.work.push_back(Work::Keys(number));
            }
            None if is_whole => self.keys_are_read(number, ctx),
            None => {
                // In the words that other relays use, which clients look for.
                let reason = Reason::blocked("too many query results");
                self.fail_reconciliation(number, &reason, Some(max_events));
            }
        }
    }

    fn keys_are_read(&mut self, number: Number, ctx: &mut Context) {
        let Some(open) = self.reconciliation(number) else { return };
        let Phase::Reading(reading) = &mut open.phase else { return };
        let keys = std::mem::take(&mut reading.keys).finish();
        let held = Held(Arc::new((keys, reading.place.take())));
        let message = std::mem::take(&mut reading.message);
        open.phase = Phase::Answering(held.clone());
        self.answer_reconciliation(number, held, message, ctx);
    }

    pub(super) fn go_on_reconciling(&mut self, id: &str, message: Vec<u8>, ctx: &mut Context) {
        let Some(open) = self.reconciliations.iter_mut().find(|open| &*open.id == id) else {
            return self.refuse_reconciliation(id, &Reason::closed("unknown subscription handle"));
        };
        open.heard = Instant::now();
        let Phase::Answered(held) = &open.phase else {
            let reason = Reason::invalid("the message before has no answer yet");
            self.end_reconciliation(id);
            return self.refuse_reconciliation(id, &reason);
        };
        let (number, held) = (open.number, held.clone());
        open.phase = Phase::Answering(held.clone());
        self.answer_reconciliation(number, held, message, ctx);
    }

    /// Finds the answer to a message, which takes longer the more it asks.
    fn answer_reconciliation(&mut self, number: Number, held: Held, message: Vec<u8>, ctx: &mut Context) {
        let threads = Arc::clone(&self.shared.reconciliations.threads);
        let frame_bytes = self.shared.live.load().sync.frame_bytes;
        let metrics = Arc::clone(&self.shared.metrics);
        let answer = async move {
            let begun = Instant::now();
            let Ok(_thread) = threads.acquire_owned().await else { return None };
            let answer = spawn_blocking(move || held.0.0.answer(&message, frame_bytes)).await.ok();
            metrics.stages.of(Stage::Reconcile).observe(begun.elapsed().as_secs_f64());
            answer
        };
        ctx.spawn(answer.into_actor(self).map(move |answer, this, _| match answer {
            Some(Ok(answer)) => this.send_answer(number, &answer),
            Some(Err(bad)) => this.fail_reconciliation(number, &Reason::invalid(bad.to_string()), None),
            None => this.fail_reconciliation(number, &Reason::error("the relay is restarting"), None),
        }));
    }

    fn send_answer(&mut self, number: Number, answer: &[u8]) {
        let outbox = self.outbox.clone();
        let Some(open) = self.reconciliation(number) else { return };
        let Phase::Answering(held) = &open.phase else { return };
        open.phase = Phase::Answered(held.clone());
        let message = hex::encode(answer);
        outbox.text(&RelayMessage::NegMsg { subscription: &open.id, message: &message }.to_string());
    }

    fn reconciliation(&mut self, number: Number) -> Option<&mut Reconciliation> {
        self.reconciliations.iter_mut().find(|open| open.number == number)
    }

    /// Ends the reconciliation of this id, if there is one.
    pub(super) fn end_reconciliation(&mut self, id: &str) {
        if let Some(at) = self.reconciliations.iter().position(|open| &*open.id == id) {
            let number = self.reconciliations.swap_remove(at).number;
            self.work.retain(|work| !matches!(work, Work::Keys(other) if *other == number));
            self.shared.metrics.reconciliations.dec();
            if self.reconciliations.is_empty() {
                // Few connections have any.
                self.reconciliations = Vec::new();
            }
        }
    }

    /// Ends those of which the client has said nothing for long. It is asked nothing while it has no answer.
    pub(super) fn end_idle_reconciliations(&mut self) {
        let patience = Duration::from_secs(self.shared.live.load().sync.idle_seconds);
        let is_idle = |open: &&Reconciliation| {
            matches!(open.phase, Phase::Answered(_)) && open.heard.elapsed() >= patience
        };
        while let Some(number) = self.reconciliations.iter().find(is_idle).map(|open| open.number) {
            self.fail_reconciliation(number, &Reason::closed("you took too long to respond!"), None);
        }
    }

    pub(super) fn end_all_reconciliations(&mut self) {
        self.shared.metrics.reconciliations.dec_by(self.reconciliations.len() as i64);
        self.reconciliations.clear();
    }

    fn keys_failed(&mut self, number: Number, failure: &StoreError) {
        self.count_store_error(failure);
        error!("could not read keys: {}", failure.detail());
        self.fail_reconciliation(number, &Reason::error(failure.to_string()), None);
    }

    /// Ends one that can not be kept. `most`: how many events one may have.
    fn fail_reconciliation(&mut self, number: Number, reason: &Reason, most: Option<usize>) {
        let Some(id) = self.reconciliation(number).map(|open| open.id.clone()) else { return };
        self.end_reconciliation(&id);
        self.tell_refusal(&id, reason, most);
    }

    /// Tells the client that there is no reconciliation of this id (any more), and why. Its ids are not those of
    /// subscriptions.
    pub(super) fn refuse_reconciliation(&mut self, id: &str, reason: &Reason) {
        self.end_reconciliation(id);
        self.tell_refusal(id, reason, None);
    }

    fn tell_refusal(&self, id: &str, reason: &Reason, most: Option<usize>) {
        self.shared.metrics.reconciliations_refused.of(reason.prefix.into()).inc();
        self.outbox.text(&RelayMessage::NegErr { subscription: id, reason, most }.to_string());
    }
}
