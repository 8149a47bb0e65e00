//! What publishers are told, and who they are.

use std::{collections::HashMap, sync::Arc};

use actix::{Message, Recipient};

use crate::{
    protocol::{EventId, Reason},
    route::SessionId,
    store::Outcome,
    telemetry::EventResult,
    trace::Trace,
};

/// Publishers that are no sessions have numbers from here on: consumers of upstreams,
pub const CONSUMERS: SessionId = 1 << 63;
/// and from here on whoever publishes for an account.
pub const ACCOUNTS: SessionId = CONSUMERS | 1 << 62;

/// A session that waits for an answer.
#[derive(Clone)]
pub struct Publisher {
    pub id: SessionId,
    /// Shared, as a recipient is boxed and goes with each event.
    pub session: Arc<Recipient<Written>>,
}

impl Publisher {
    /// Whether it is a client, or an account: nobody who works in the background.
    pub(super) fn is_client(&self) -> bool {
        !(CONSUMERS..ACCOUNTS).contains(&self.id)
    }
}

/// What became of events of one session: one message a batch.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Written(pub Vec<(EventId, Answer, Trace)>);

/// The answer to an event.
#[derive(Debug, Clone)]
pub enum Answer {
    Outcome(Outcome),
    /// The event is ephemeral, and was handed to whoever wanted it.
    Routed,
    /// The event is not known to be stored.
    Failed(Reason),
    /// The event would be stored too late, so it is not.
    Overloaded,
}

impl Answer {
    /// What it means to the publisher: the words of `OK`, true or false.
    ///
    /// # Errors
    /// The event was not accepted.
    pub fn explain(self) -> Result<Option<Reason>, Reason> {
        match self {
            Self::Outcome(outcome) => explain(outcome),
            Self::Routed => Ok(None),
            Self::Failed(reason) => Err(reason),
            // Nothing was stored, so trying again later may help.
            Self::Overloaded => Err(Reason::error("overloaded, try again later")),
        }
    }

    /// What it counts as in the metrics.
    pub fn label(&self) -> EventResult {
        match self {
            Self::Outcome(outcome) => label(*outcome),
            Self::Routed => EventResult::Ephemeral,
            Self::Failed(_) => EventResult::Error,
            Self::Overloaded => EventResult::Overloaded,
        }
    }
}

/// What an outcome means to the publisher.
///
/// # Errors
/// The event was not accepted.
pub fn explain(outcome: Outcome) -> Result<Option<Reason>, Reason> {
    match outcome {
        Outcome::Stored => Ok(None),
        Outcome::Duplicate => Ok(Some(Reason::duplicate("already have this event"))),
        Outcome::Superseded => Err(Reason::duplicate("a newer version is known")),
        Outcome::Deleted => Err(Reason::blocked("its author has deleted it")),
        Outcome::Vanished => Err(Reason::blocked("its author has asked to vanish")),
        Outcome::Expired => Err(Reason::invalid("the event has expired")),
        Outcome::NoSpace(shortage) => Err(Reason::error(shortage.to_string())),
    }
}

fn label(outcome: Outcome) -> EventResult {
    match outcome {
        Outcome::Stored => EventResult::Stored,
        Outcome::Duplicate => EventResult::Duplicate,
        Outcome::Superseded => EventResult::Superseded,
        Outcome::Deleted | Outcome::Vanished => EventResult::Deleted,
        Outcome::Expired => EventResult::Invalid,
        Outcome::NoSpace(_) => EventResult::Error,
    }
}

/// Answers, gathered by session.
#[derive(Default)]
pub(super) struct Answers(HashMap<SessionId, (Arc<Recipient<Written>>, Written)>);

impl Answers {
    pub fn add(&mut self, to: Option<Publisher>, id: EventId, answer: Answer, trace: Trace) {
        let Some(Publisher { id: session_id, session }) = to else { return };
        self.0
            .entry(session_id)
            .or_insert_with(|| (session, Written(Vec::new())))
            .1
            .0
            .push((id, answer, trace));
    }

    pub fn send(self) {
        for (session, answers) in self.0.into_values() {
            #[expect(
                clippy::disallowed_methods,
                reason = "at most one for each place in the session's window"
            )]
            session.do_send(answers);
        }
    }
}
