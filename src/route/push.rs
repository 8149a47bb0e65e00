//! What a router tells those who subscribe, a session or another.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use actix::Message;

use super::Generation;
use crate::{protocol::Event, store::Position};

/// One message to whoever subscribes.
#[derive(Message)]
#[rtype(result = "()")]
pub enum Push {
    Deliver(Deliver),
    /// Events of other nodes may have been missed.
    Missed,
    /// The node shuts down: the session is to answer everything, and to be gone after that time.
    GoAway {
        after: Duration,
    },
}

/// What one session gets of a batch: one message, however many events.
pub struct Deliver {
    pub events: Vec<(Generation, Arc<Event>)>,
    /// As in [`Route`](super::Route).
    pub position: Option<Position>,
    pub last: bool,
    /// Bytes of all events. The session takes them off the lag of its [`ClientLink`](super::ClientLink) when it has
    /// handled them.
    pub bytes: usize,
    /// When the router sent this.
    pub sent: Instant,
}
