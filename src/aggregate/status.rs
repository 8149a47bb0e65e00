//! How it stands with an upstream.

use parking_lot::Mutex;

/// What its reader does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum State {
    #[default]
    Connecting,
    /// What comes is read, and what was missed is being read.
    CatchingUp,
    /// What comes is read, and nothing was missed.
    Live,
    /// More came than the store takes.
    Behind,
    /// It could not be read, and is tried again.
    Waiting,
    /// Events of it can not be stored, and there is no place for another dead letter of it.
    DeadLettersFull,
    /// Somebody else writes its cursor.
    Elsewhere,
    /// It is this relay itself, or a node of its cluster: nothing is read.
    Ourselves,
}

/// How it stands with an upstream.
#[derive(Debug, Default)]
pub struct Status(Mutex<State>);

impl Status {
    /// What it does from now on.
    pub fn set(&self, state: State) {
        *self.0.lock() = state;
    }

    /// Whether it does that.
    pub fn is(&self, state: State) -> bool {
        *self.0.lock() == state
    }

    /// Whether something is read.
    pub fn is_up(&self) -> bool {
        matches!(*self.0.lock(), State::CatchingUp | State::Live)
    }
}
