//! EVENT: admitted here, stored by the persister, answered when that has answered.

use std::time::Instant;

use actix::{AsyncContext, Handler};

use super::{Context, Session};
use crate::{
    clock,
    ingest::Admitted,
    persist::{Answer, Full, Publisher, Written},
    protocol::{EventId, ParsedEvent, Reason, message::ok},
    store::Outcome,
    telemetry::{BoundedQueue, Cache, EventResult, Stage},
    trace::Trace,
};

impl Session {
    pub(super) fn publish(&mut self, parsed: ParsedEvent<'_>, mut trace: Trace, ctx: &mut Context) {
        let id = parsed.id;
        if let Err(reason) = self.may_use() {
            trace.refuse(&reason);
            return self.refuse_event(&id, reason);
        }
        let begun = Instant::now();
        let admitted = self.shared.admission.admit(parsed, self.auth.keys(), clock::now());
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
                let handed_on = self.shared.queue.store(event, self.publisher(ctx), trace);
                self.handed_on(&id, handed_on);
            }
            Ok(Admitted::Ephemeral(event)) => {
                let handed_on = self.shared.queue.route(event, self.publisher(ctx), trace);
                self.handed_on(&id, handed_on);
            }
            Err(reason) => {
                trace.refuse(&reason);
                self.refuse_event(&id, reason);
            }
        }
    }

    fn publisher(&self, ctx: &mut Context) -> Publisher {
        Publisher { id: self.id, session: ctx.address() }
    }

    fn handed_on(&mut self, id: &EventId, result: Result<(), Full>) {
        match result {
            Ok(()) => self.window.take(),
            Err(Full) => {
                let metrics = &self.shared.metrics;
                metrics.queue_full.of(BoundedQueue::Persister).inc();
                metrics.events.of(EventResult::Overloaded).inc();
                self.outbox.text(&ok(id, Err(Reason::error("overloaded, try again later"))));
            }
        }
    }

    /// Answers an event that was not handed on.
    pub(super) fn refuse_event(&mut self, id: &EventId, reason: Reason) {
        self.shared.metrics.events.of(EventResult::from(reason.prefix)).inc();
        self.outbox.text(&ok(id, Err(reason)));
    }

    /// The way of the event ends here, when its answer is in the outbox.
    fn answer(&mut self, id: &EventId, answer: Answer, mut trace: Trace) {
        let (result, label) = match answer {
            Answer::Outcome(outcome) => (explain(outcome), EventResult::from(outcome)),
            Answer::Routed => (Ok(None), EventResult::Ephemeral),
            Answer::Failed(reason) => (Err(reason), EventResult::Error),
        };
        if let Err(reason) = &result {
            trace.refuse(reason);
        }
        self.shared.metrics.events.of(label).inc();
        self.outbox.text(&ok(id, result));
    }
}

/// What the outcome means to the publisher.
pub fn explain(outcome: Outcome) -> Result<Option<Reason>, Reason> {
    match outcome {
        Outcome::Stored => Ok(None),
        Outcome::Duplicate => Ok(Some(Reason::duplicate("already have this event"))),
        Outcome::Superseded => Err(Reason::duplicate("a newer version is known")),
        Outcome::Deleted => Err(Reason::blocked("its author has deleted it")),
        Outcome::Vanished => Err(Reason::blocked("its author has asked to vanish")),
        Outcome::Expired => Err(Reason::invalid("the event has expired")),
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
