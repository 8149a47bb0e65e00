//! The way of an event into the store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::setting::{HOUR, section, whole};

section! {
    /// The way of an event into the store.
    Persister {
        /// Events that may wait to be stored; beyond, they read "error: overloaded".
        queue: fixed usize = 32_768 => whole(1, 1 << 24),
        /// Bytes of events that may wait to be stored.
        queue_bytes: fixed usize = 256 * 1024 * 1024 => whole(1, 1 << 40),
        /// Most rows of one batch, which is one commit. An event is some, and one more for each indexed tag; one
        /// of more rows is a batch of its own.
        max_batch_rows: fixed usize = 65_536 => whole(1, 1 << 24),
        /// Milliseconds that a batch should take: as many rows are written at once.
        batch_ms: fixed u64 = 250 => whole(1, 60_000),
        /// Most milliseconds that a batch waits for more while the threads that serve clients need all processors
        /// and much is written: batches grow then, and an event costs less. 0: none waits.
        stand_back_ms: fixed u64 = 250 => whole(0, 60_000),
        /// Most bytes of one batch. A single larger event is a batch of its own.
        max_batch_bytes: fixed usize = 16 * 1024 * 1024 => whole(1, 1 << 32),
        /// Most events that are routed to sessions at once, so that no worker is held up for long.
        route_batch: fixed usize = 256 => whole(1, 1 << 16),
        /// Milliseconds after which an event that is not stored yet reads "error: …". An event that would wait
        /// longer than half of it for the store is refused at once, as "error: overloaded"; of a client with
        /// little waiting, three quarters.
        deadline_ms: fixed u64 = 2_000 => whole(1, HOUR * 1_000),
        /// Seconds for which events are tried again whose write failed, where several nodes share a store:
        /// what failed may be stored all the same, and whoever waits for it must hear of it.
        retry_seconds: fixed u64 = 60 => whole(0, HOUR / 2),
        /// Events that may wait to be tried again; beyond, the oldest are not.
        retry_events: fixed usize = 8_192 => whole(0, 1 << 24),
        /// Bytes of events that may wait to be tried again.
        retry_bytes: fixed usize = 64 * 1024 * 1024 => whole(0, 1 << 40),
        /// Ids of stored events that are remembered, so that copies are cheap. Where several nodes share
        /// a store, of ephemeral ones only, as another node may delete what this one has stored.
        recent_ids: fixed usize = 65_536 => whole(1, 1 << 24),
        /// Authors whose decoded keys each worker remembers.
        hot_authors: fixed usize = 16_384 => whole(1, 1 << 20),
    }
}

impl Persister {
    /// How long an event may take until it is stored.
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// How long a batch should take.
    pub fn batch_time(&self) -> Duration {
        Duration::from_millis(self.batch_ms)
    }

    /// How long a batch waits for more at most.
    pub fn stand_back(&self) -> Duration {
        Duration::from_millis(self.stand_back_ms)
    }

    /// For how long events are tried again.
    pub fn retry(&self) -> Duration {
        Duration::from_secs(self.retry_seconds)
    }
}
