//! The order in which this node accepted events. Other nodes write to the same store, so a position says
//! something of this node's events alone: only those are routed here by their position.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use crate::{protocol::EventId, store::Position};

/// Events whose positions are remembered: many times what may wait to be routed. What is older has been
/// routed, as has everything from before this node started and everything of other nodes' that is not
/// delivered by position; all of that stands at 0.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(131_071);

pub struct Positions(Mutex<State>);

struct State {
    /// The position that was given out last.
    last: Position,
    /// The position of the event that was written last.
    head: Position,
    recent: LruCache<EventId, Position>,
}

impl Positions {
    pub fn new() -> Self {
        Self(Mutex::new(State { last: 0, head: 0, recent: LruCache::new(REMEMBERED) }))
    }

    /// Gives each event a position, before anybody can read it. Returns the last one.
    pub fn assign(&self, ids: impl IntoIterator<Item = EventId>) -> Position {
        let mut state = self.state();
        for id in ids {
            state.last += 1;
            let position = state.last;
            state.recent.put(id, position);
        }
        state.last
    }

    /// Notes that every event up to there is written.
    pub fn reach(&self, head: Position) {
        self.state().head = head;
    }

    pub fn head(&self) -> Position {
        self.state().head
    }

    pub fn of(&self, id: &EventId) -> Position {
        self.state().recent.peek(id).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock()
    }
}
