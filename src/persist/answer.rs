//! What publishers are told, and who they are.

use std::{collections::HashMap, sync::Arc};

use actix::{Message, Recipient};

use crate::{
    protocol::{EventId, Reason},
    route::SessionId,
    store::Outcome,
    trace::Trace,
};

/// A session that waits for an answer.
#[derive(Clone)]
pub struct Publisher {
    pub id: SessionId,
    /// Shared, as a recipient is boxed and goes with each event.
    pub session: Arc<Recipient<Written>>,
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
