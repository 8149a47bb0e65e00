//! What becomes of a batch that the store has had: its events are answered and handed on, tried in parts, or tried
//! again.

use std::{sync::Arc, time::Instant};

use opentelemetry::TraceId;
use tokio::sync::mpsc;
use tracing::{error, warn};

use super::{
    Persister,
    answer::{Answer, Answers},
    dispatch::Dispatch,
    queue::Waiting,
};
use crate::{
    protocol::{Event, Reason},
    store::{BatchOutcome, Outcome, StoreError},
    trace::Traced,
};

impl Persister {
    /// The store is done with the batch that it had.
    pub(super) fn written(
        &mut self,
        place: Option<mpsc::OwnedPermit<Dispatch>>,
        result: Result<BatchOutcome, StoreError>,
    ) {
        let mut batch = std::mem::take(&mut self.writing);
        let mut answers = Answers::default();
        match result {
            Ok(BatchOutcome { outcomes, head, removed, sequence, again }) => {
                let again = again.into_iter().map(|index| Arc::clone(&batch[index].event)).collect();
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
    pub(super) fn note_shortage(&self, batch: &mut [Waiting], outcomes: &[Outcome]) {
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

    /// A batch failed. Those of its events that publishers still wait for are tried in parts, if they are several; of
    /// the others the publishers are answered.
    pub(super) fn failed(&mut self, mut batch: Vec<Waiting>, error: &StoreError) {
        if batch.len() > 1 && matches!(error, StoreError::Engine(_) | StoreError::Late(_)) {
            let deadline = self.config.deadline();
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

    /// Keeps events whose publishers were told that they failed: where other nodes write to the store too, they may be
    /// stored all the same.
    pub(super) fn settle_later(&mut self, batch: Vec<Waiting>) {
        if self.parts.store.log().is_some() && !batch.is_empty() {
            self.unsettled.add(batch);
            self.forget_unsettled();
        }
    }

    /// Forgets events that were tried for long enough, and what is too many of them.
    pub(super) fn forget_unsettled(&mut self) {
        let forgotten = self.unsettled.forget(Instant::now());
        if forgotten > 0 {
            warn!(events = forgotten, "not tried again: whether they are stored is unknown");
        }
    }

    /// Takes up events that another process began to write: they are tried like those that failed here.
    pub(super) fn adopt(&mut self, events: Vec<Arc<Event>>) {
        self.unsettled.add(events.into_iter().map(Waiting::adopted));
    }
}

/// A batch in parts: the largest event alone, and the others in halves.
fn parts(mut batch: Vec<Waiting>) -> Vec<Vec<Waiting>> {
    let largest = batch.iter().enumerate().max_by_key(|(_, waiting)| waiting.rows).map(|(place, _)| place);
    let largest: Vec<Waiting> = largest.map(|place| batch.remove(place)).into_iter().collect();
    let second = batch.split_off(batch.len() / 2);
    let parts = [largest, second, batch];
    parts.into_iter().filter(|part| !part.is_empty()).collect()
}

/// Notes that events failed, and why: how many, and a trace in which that can be seen, for the log.
fn fail<'w, W: ToString>(failed: impl Iterator<Item = (&'w mut Waiting, W)>) -> (usize, Option<TraceId>) {
    failed.fold((0, None), |(events, trace_id), (waiting, why)| {
        // Each of the events is to have its spans, though one trace is told.
        let own_id = waiting.trace.fail(why.to_string());
        (events + 1, trace_id.or(own_id))
    })
}
