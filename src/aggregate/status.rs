//! How it stands with an upstream.

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::{clock, protocol::Timestamp};

/// What the reader of an upstream does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum State {
    #[default]
    Connecting,
    /// What comes is read, and what was missed is being read.
    CatchingUp,
    /// What comes is read, and nothing was missed.
    Live,
    /// More came than the store takes.
    Behind,
    /// As much came as may come today.
    Spent,
    /// It could not be read, and is tried again.
    Waiting,
    /// Too many of its events are forged.
    Distrusted,
    /// Events of it can not be stored, and there is no place for another dead letter of it.
    DeadLettersFull,
    /// Another node reads it.
    Elsewhere,
    /// It is this relay itself, or a node of its cluster: nothing is read.
    Ourselves,
    /// It is not to be read for now.
    Paused,
}

/// What catching up has brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CatchUp {
    /// When it began, in seconds since 1970.
    pub begun: Timestamp,
    pub seconds: u64,
    /// Events that were missing.
    pub events: u64,
}

/// How it stands with an upstream.
#[derive(Debug)]
pub struct Status(Mutex<Standing>);

/// The same at a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub state: State,
    /// Since when, in seconds since 1970.
    pub since: Timestamp,
    /// Why it was not read when that was so last, and when.
    pub error: Option<(Timestamp, String)>,
    /// The last one that came to its end.
    pub caught_up: Option<CatchUp>,
}

impl Default for Status {
    fn default() -> Self {
        let (state, since) = (State::default(), clock::now());
        Self(Mutex::new(Standing { state, since, error: None, caught_up: None }))
    }
}

impl Status {
    /// What it does from now on.
    pub fn set(&self, state: State) {
        let mut standing = self.0.lock();
        if standing.state != state {
            (standing.state, standing.since) = (state, clock::now());
        }
    }

    /// It could not be read; whether for another reason than before.
    pub fn fail(&self, error: String) -> bool {
        let before = self.0.lock().error.replace((clock::now(), error.clone()));
        before.is_none_or(|(_, before)| before != error)
    }

    pub fn caught_up(&self, caught_up: CatchUp) {
        self.0.lock().caught_up = Some(caught_up);
    }

    pub fn at_this_moment(&self) -> Standing {
        self.0.lock().clone()
    }

    /// Whether it is this node that is to read it.
    pub fn is_ours(&self) -> bool {
        !matches!(self.0.lock().state, State::Paused | State::Elsewhere)
    }

    /// Whether something is read.
    pub fn is_up(&self) -> bool {
        matches!(self.0.lock().state, State::CatchingUp | State::Live)
    }
}
