//! What was taken from the queue and is not finished.

use std::time::Instant;

use super::queue::Entry;

/// An event that came through the queue.
pub struct Taken {
    pub entry: Entry,
    /// Since when it is here.
    pub since: Instant,
}
