//! EVENT: admitted here, stored by the persister, answered when that has answered.

use std::sync::Arc;

use actix::{Addr, AsyncContext, Handler};

use super::{Context, Session};
use crate::{
    clock,
    ingest::Admitted,
    persist::{Answer, Publisher, Write, Written},
    protocol::{Event, EventId, ParsedEvent, Reason, message::ok},
    store::Outcome,
    telemetry::EventResult,
};

impl Session {
    pub(super) fn publish(&mut self, parsed: ParsedEvent<'_>, ctx: &mut Context) {
        let id = parsed.id;
        if let Err(reason) = self.may_use() {
            return self.refuse_event(&id, reason);
        }
        match self.shared.admission.admit(parsed, self.auth.keys(), clock::now()) {
            Ok(Admitted::Known) => self.answer(&id, Answer::Outcome(Outcome::Duplicate)),
            Ok(Admitted::Store(event)) => self.hand_on(event, false, ctx.address()),
            Ok(Admitted::Ephemeral(event)) => self.hand_on(event, true, ctx.address()),
            Err(reason) => self.refuse_event(&id, reason),
        }
    }

    fn hand_on(&mut self, event: Arc<Event>, ephemeral: bool, session: Addr<Session>) {
        let id = event.id();
        let overloaded = || Reason::error("overloaded, try again later");
        let Some(permit) = self.shared.budget.take(event.json().len()) else {
            return self.refuse_event(&id, overloaded());
        };
        let from = Publisher { id: self.id, session };
        match self.shared.persister.try_send(Write { event, ephemeral, from, permit }) {
            Ok(()) => self.window.take(),
            Err(_) => self.refuse_event(&id, overloaded()),
        }
    }

    /// Answers an event that was not handed on.
    pub(super) fn refuse_event(&mut self, id: &EventId, reason: Reason) {
        self.shared.metrics.count_event(EventResult::from(reason.prefix));
        self.outbox.text(&ok(id, Err(reason)));
    }

    fn answer(&mut self, id: &EventId, answer: Answer) {
        let (result, label) = match answer {
            Answer::Outcome(outcome) => (explain(outcome), label(outcome)),
            Answer::Routed => (Ok(None), EventResult::Ephemeral),
            Answer::Failed(reason) => (Err(reason), EventResult::Error),
        };
        self.shared.metrics.count_event(label);
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

fn label(outcome: Outcome) -> EventResult {
    match outcome {
        Outcome::Stored => EventResult::Stored,
        Outcome::Duplicate => EventResult::Duplicate,
        Outcome::Superseded => EventResult::Superseded,
        Outcome::Deleted | Outcome::Vanished => EventResult::Deleted,
        Outcome::Expired => EventResult::Invalid,
    }
}

impl Handler<Written> for Session {
    type Result = ();

    fn handle(&mut self, Written(answers): Written, ctx: &mut Self::Context) {
        self.window.give_back(answers.len());
        for (id, answer) in answers {
            self.answer(&id, answer);
        }
        self.finish_if_done(ctx);
    }
}
