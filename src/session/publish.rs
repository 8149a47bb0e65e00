//! EVENT: admitted here, stored by the persister, answered when that has answered.

use std::{sync::Arc, time::Instant};

use actix::{AsyncContext, Handler};

use super::{Context, Session};
use crate::{
    clock,
    config::Limits,
    ingest::Admitted,
    persist::{Answer, Full, Publisher, Written},
    protocol::{EventId, ParsedEvent, Reason, message::ok},
    store::Outcome,
    telemetry::{BoundedQueue, Cache, EventResult, Stage},
    trace::Trace,
};

impl Session {
    pub(super) fn publish(
        &mut self,
        parsed: ParsedEvent<'_>,
        bytes: usize,
        limits: &Limits,
        mut trace: Trace,
        ctx: &mut Context,
    ) {
        let id = parsed.id;
        if let Err(reason) = self.may_use(limits) {
            trace.refuse(&reason);
            return self.refuse_event(&id, reason);
        }
        let begun = Instant::now();
        // First, so that nothing is done for what is too much. Dropped, and so given back, where it is not wanted.
        let Ok(place) = self.shared.queue.place(&self.share, parsed.kind, &parsed.tags, bytes, begun) else {
            trace.fail("overloaded");
            return self.overloaded(&id);
        };
        let admitted = self.shared.admission.admit(parsed, limits, self.auth.keys(), clock::now());
        trace.lap("admit");
        let metrics = &self.shared.metrics;
        metrics.stages.of(Stage::Admit).observe(begun.elapsed().as_secs_f64());
        match &admitted {
            Ok(Admitted::Known) => metrics.cache_hits.of(Cache::RecentIds).inc(),
            Ok(_) => metrics.cache_misses.of(Cache::RecentIds).inc(),
            // Most of these are refused before anybody looks there.
            Err(_) => 0,
        };
        match admitted {
            Ok(Admitted::Known) => self.answer(&id, Answer::Outcome(Outcome::Duplicate), trace),
            Ok(Admitted::Store(event)) => {
                let from = self.publisher(ctx);
                self.shared.queue.store(event, place, from, trace);
                self.window.take();
            }
            Ok(Admitted::Ephemeral(event)) => {
                let from = self.publisher(ctx);
                match self.shared.queue.route(event, place, from, trace) {
                    Ok(()) => self.window.take(),
                    Err(Full) => self.overloaded(&id),
                }
            }
            Err(reason) => {
                trace.refuse(&reason);
                self.refuse_event(&id, reason);
            }
        }
    }

    /// Made with the first event: most connections never publish.
    fn publisher(&mut self, ctx: &mut Context) -> Publisher {
        let id = self.id;
        let new = || Publisher { id, session: Arc::new(ctx.address().recipient()) };
        self.publisher.get_or_insert_with(new).clone()
    }

    /// Answers an event for which there is no place.
    fn overloaded(&mut self, id: &EventId) {
        let metrics = &self.shared.metrics;
        metrics.queue_full.of(BoundedQueue::Persister).inc();
        metrics.events.of(EventResult::Overloaded).inc();
        self.outbox.text(&ok(id, Answer::Overloaded.explain()));
    }

    /// Answers an event that was not handed on.
    pub(super) fn refuse_event(&mut self, id: &EventId, reason: Reason) {
        self.shared.metrics.events.of(EventResult::from(reason.prefix)).inc();
        self.outbox.text(&ok(id, Err(reason)));
    }

    /// The way of the event ends here, when its answer is in the outbox.
    fn answer(&mut self, id: &EventId, answer: Answer, mut trace: Trace) {
        let label = answer.label();
        let result = answer.explain();
        if let Err(reason) = &result {
            trace.refuse(reason);
        }
        self.shared.metrics.events.of(label).inc();
        self.outbox.text(&ok(id, result));
    }
}

impl Handler<Written> for Session {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, ctx: &mut Self::Context) {
        self.window.give_back(answers.len());
        for (id, answer, trace) in answers {
            self.answer(&id, answer, trace);
        }
        self.finish_if_done(ctx);
    }
}
