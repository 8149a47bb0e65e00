//! What comes too late: it is refused before the store has it, or answered while the store has it.

use std::time::Instant;

use super::{
    EphemeralPublisher, Persister,
    answer::{Answer, Answers},
    queue::{Refused, Waiting},
};
use crate::{
    protocol::Reason,
    telemetry::{BoundedQueue, Stage},
};

impl Persister {
    /// Takes out the events that will not be stored in time, and says so to their publishers.
    pub(super) fn refuse_excess(&self) {
        self.refuse(self.parts.queue.shed(Instant::now()));
    }

    /// Takes out the events that nobody waits for any more, so that they are not stored.
    pub(super) fn refuse_late(&self) {
        let deadline = self.config.deadline();
        self.refuse(self.parts.queue.take_late(deadline, Instant::now()));
    }

    /// Answers that events were taken out.
    pub(super) fn refuse(&self, refused: Vec<Refused>) {
        let mut answers = Answers::default();
        for Refused { id, from, since, mut trace } in refused {
            self.parts.metrics.stages.of(Stage::Answer).observe(since.elapsed().as_secs_f64());
            self.parts.metrics.queue_full.of(BoundedQueue::Persister).inc();
            trace.fail("overloaded");
            answers.add(from, id, Answer::Overloaded, trace);
        }
        answers.send();
    }

    /// Notes how long the publisher of an event has waited, which is answered now, unless it was at the deadline.
    pub(super) fn observe_answer(&self, waiting: &Waiting) {
        let Some(from) = &waiting.from else { return };
        let now = Instant::now();
        let taken = now.saturating_duration_since(waiting.since);
        self.parts.metrics.stages.of(Stage::Answer).observe(taken.as_secs_f64());
        if from.is_client() {
            self.parts.queue.waits().note(taken, now);
        }
    }

    /// Answers the publishers of events that are being written for too long: these may be stored all the same, and are
    /// routed then. Events that still wait for the store are taken out.
    pub(super) fn check_deadline(&mut self) {
        let deadline = self.config.deadline();
        let mut answers = Answers::default();
        let of_failed = self.parts_of_failed.iter_mut().flatten();
        for waiting in self.writing.iter_mut().chain(of_failed) {
            let waited = waiting.since.elapsed();
            if waited >= deadline && waiting.from.is_some() {
                self.parts.metrics.stages.of(Stage::Answer).observe(waited.as_secs_f64());
                let reason = Reason::error("the store did not answer in time; try again");
                let mut trace = waiting.trace.take();
                trace.lap("persist");
                answers.add(waiting.from.take(), waiting.event.id(), Answer::Failed(reason), trace);
            }
        }
        for (id, EphemeralPublisher { from, trace, .. }) in self.on_the_way.late(deadline, Instant::now()) {
            let reason = Reason::error("it was not delivered in time; try again");
            answers.add(Some(from), id, Answer::Failed(reason), trace);
        }
        answers.send();
        self.refuse_late();
        self.refuse_excess();
    }
}
