//! Reads the store for a connection, a page at a time, its subscriptions in turn.
//!
//! The next page is asked for when the last has been handed to the socket: an actor whose socket is
//! full is not polled, so at most one page waits in the outbox and one on its way.

use std::{collections::VecDeque, sync::Arc, time::Instant};

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use tracing::{debug, error, field::display};

use super::{Context, Session, subscription::Phase};
use crate::{
    protocol::{Reason, RelayMessage, message::Hint},
    route::Generation,
    store::{Cursor, End, Kept, Page, Query, StoreError},
    telemetry::{BoundedQueue, Stage},
};

/// Tells the reconciliations of a connection apart, also those of one id.
pub(super) type Number = u64;

/// Something to be read for a connection.
pub(super) enum Work {
    /// The next page of a subscription.
    Page(Generation),
    /// The next page of keys of a reconciliation.
    Keys(Number),
    /// Whose doings the client may see.
    Circle,
    /// A COUNT of that id, and how many bytes its message had.
    Count { id: Box<str>, query: Arc<Query>, bytes: usize },
}

impl Session {
    /// Asks the store for what is next, if it is not at work for this connection already.
    pub(super) fn read_next(&mut self, ctx: &mut Context) {
        while !self.reading {
            match self.work.pop_front() {
                Some(Work::Page(generation)) => self.read_page(generation, ctx),
                Some(Work::Circle) => self.read_circle(ctx),
                Some(Work::Keys(number)) => self.read_keys(number, ctx),
                Some(Work::Count { id, query, .. }) => self.read_count(id, query, ctx),
                None => {
                    // Most connections are idle most of the time: nothing is kept for them.
                    self.work = VecDeque::new();
                    return;
                }
            }
        }
    }

    /// The next page, and notes how long it takes.
    pub(super) fn ask_for_page(
        &self,
        query: Arc<Query>,
        cursor: Cursor,
        stage: Stage,
    ) -> impl Future<Output = Result<Page, StoreError>> + use<> {
        let store = Arc::clone(&self.shared.store);
        let metrics = Arc::clone(&self.shared.metrics);
        async move {
            let begun = Instant::now();
            let page = store.query(query, cursor).await;
            metrics.stages.of(stage).observe(begun.elapsed().as_secs_f64());
            page
        }
    }

    fn read_page(&mut self, generation: Generation, ctx: &mut Context) {
        let viewer = self.watch.is_some().then(|| self.auth.viewer().clone());
        let Some(subscription) = self.subscription(generation) else { return };
        let Phase::Stored(reading) = &mut subscription.phase else { return };
        if let Some(viewer) = viewer.filter(|_| subscription.wants_activity) {
            // What is known by now.
            Arc::make_mut(&mut reading.query).viewer = viewer;
        }
        let (query, cursor) = (Arc::clone(&reading.query), reading.cursor.clone());
        // The store has it alone, and need not copy it.
        reading.cursor.kept = Kept::default();
        if !cursor.progress.iter().any(|progress| progress.is_open()) {
            // No stored event is wanted.
            return self.finish_reading(generation, End::of(&cursor.progress));
        }
        self.reading = true;
        let page = self.ask_for_page(query, cursor, Stage::Query);
        ctx.spawn(page.into_actor(self).map(move |page, this, ctx| {
            this.reading = false;
            match page {
                Ok(page) => this.send_page(generation, page),
                Err(error) => this.store_failed(generation, &error),
            }
            this.read_next(ctx);
        }));
    }

    fn send_page(&mut self, generation: Generation, page: Page) {
        let outbox = self.outbox.clone();
        let since = self.shared.late_since();
        let max_bytes = self.shared.live.load().limits.max_answer_bytes;
        let Some(subscription) = self.subscription(generation) else { return };
        let Phase::Stored(reading) = &mut subscription.phase else { return };
        reading.trace.page(page.len(), page.effort.rows, &page.effort);
        if reading.bytes >= max_bytes && !page.is_empty() {
            return self.finish_reading(generation, End::More);
        }
        for entry in page.iter() {
            outbox.event(&subscription.quoted, entry.json);
            if entry.position > reading.routed || entry.accepted_at > Some(since) {
                reading.recent.note(&entry, reading.routed);
            }
        }
        reading.sent += page.len();
        reading.bytes += page.bytes();
        self.shared.metrics.sent.inc_by(page.len() as u64);
        match page.next {
            Some(cursor) => {
                if let Some(subscription) = self.subscription(generation)
                    && let Phase::Stored(reading) = &mut subscription.phase
                {
                    reading.cursor = cursor;
                }
                self.work.push_back(Work::Page(generation));
            }
            None => self.finish_reading(generation, page.end),
        }
    }

    /// EOSE, then what was held back, then live.
    fn finish_reading(&mut self, generation: Generation, end: End) {
        let outbox = self.outbox.clone();
        let Some(subscription) = self.subscription(generation) else { return };
        let Phase::Stored(reading) = &mut subscription.phase else { return };
        let hint = match end {
            End::Finish => Some(Hint::Finish),
            End::More => Some(Hint::More),
            End::Unknown => None,
        };
        outbox.text(&RelayMessage::Eose { subscription: &subscription.id, hint }.to_string());
        let (complete, begun) = (reading.is_complete(), reading.begun);
        let mut recent = std::mem::take(&mut reading.recent);
        recent.settle();
        let mut held = std::mem::take(&mut reading.held.events);
        held.retain(|event| !recent.contains(&event.id()));
        reading.trace.lap("eose");
        subscription.phase = Phase::Live(recent);
        for event in held {
            self.send_live(generation, event);
        }
        self.shared.metrics.stages.of(Stage::Eose).observe(begun.elapsed().as_secs_f64());
        if complete {
            // It can match nothing more, so nobody need look.
            self.forget(generation);
        }
    }

    fn store_failed(&mut self, generation: Generation, error: &StoreError) {
        self.count_store_error(error);
        let trace_id = self.subscription(generation).and_then(|subscription| match &mut subscription.phase {
            Phase::Stored(reading) => reading.trace.fail(error.to_string()),
            Phase::Live(_) => None,
        });
        let trace_id = trace_id.map(display);
        match error {
            // The metrics count them, and there are many together.
            StoreError::Overloaded => debug!(trace_id, "could not read: {error}"),
            _ => error!(trace_id, "could not read: {}", error.detail()),
        }
        self.fail(generation, &Reason::error(error.to_string()));
    }

    pub(super) fn count_store_error(&self, error: &StoreError) {
        let metrics = &self.shared.metrics;
        metrics.store_errors.inc();
        if matches!(error, StoreError::Overloaded) {
            metrics.queue_full.of(BoundedQueue::Query).inc();
        }
    }
}
