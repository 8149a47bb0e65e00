//! What nodes tell each other.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::setting::{DAY, HOUR, section, whole};

section! {
    /// The bus: how nodes share live events through Redis.
    Bus {
        /// Begins the name of every channel. Clusters of one Redis must have different ones.
        prefix: fixed String = "rookery".into(),
        /// Milliseconds within which Redis must answer; beyond, the connection is made anew.
        timeout_ms: fixed u64 = 1_000 => whole(1, HOUR * 1_000),
        /// Seconds within which Redis must be reached at the start, or the node ends. 0: it starts without,
        /// and goes on trying.
        start_seconds: fixed u64 = 0 => whole(0, DAY),
        /// What `/health/ready` asks of the bus. "once": the node is ready from when the bus has carried something
        /// for the first time; what it misses later comes from the log of the store, or clients are told. "while":
        /// only while the bus carries something, so without Redis no node is ready. "always": nothing.
        ready: fixed BusReady = BusReady::Once,
        /// Whether ids and signatures of events that come from other nodes are verified again. Whoever may publish
        /// in Redis can say anything to the clients otherwise.
        verify: fixed bool = false,
        /// Milliseconds for which a subscription waits until Redis has acknowledged its keys.
        acknowledge_ms: fixed u64 = 500 => whole(0, HOUR * 1_000),
        /// Milliseconds for which a key stays subscribed when no client wants it any more.
        linger_ms: fixed u64 = 1_000 => whole(0, HOUR * 1_000),
        /// Milliseconds between watermarks, by which other nodes know that they have missed nothing.
        watermark_ms: fixed u64 = 1_000 => whole(10, HOUR * 1_000),
        /// Watermarks that may be missing before something is taken to be missed.
        missing_watermarks: fixed u32 = 3 => whole(1, 1 << 16),
        /// Milliseconds before the first attempt to connect again; twice as many each time.
        min_backoff_ms: fixed u64 = 100 => whole(1, HOUR * 1_000),
        /// Most milliseconds between attempts to connect again.
        max_backoff_ms: fixed u64 = 5_000 => whole(1, HOUR * 1_000),
        /// Subscriptions that may wait to be sent to Redis; beyond, they wait longer.
        subscribe_queue: fixed usize = 4_096 => whole(1, 1 << 20),
        /// Batches that may wait to be published; beyond, other nodes find them in the log of the store.
        publish_queue: fixed usize = 256 => whole(1, 1 << 20),
        /// Messages that may wait to be handled; beyond, the connection is made anew, and the log is read.
        receive_queue: fixed usize = 65_536 => whole(16, 1 << 24),
        /// Bytes of messages that may wait to be handled.
        receive_queue_bytes: fixed usize = 64 * 1024 * 1024 => whole(1, 1 << 40),
        /// Bytes of messages that are given to Redis in one round trip.
        publish_bytes: fixed usize = 4 * 1024 * 1024 => whole(1, 1 << 32),
        /// Events with more routing keys are published by their id alone; whole and to all nodes where they
        /// can not be read from a shared store.
        inline_keys: fixed usize = 16 => whole(0, 1 << 16),
        /// The same for longer events, in bytes.
        inline_bytes: fixed usize = 8_192 => whole(0, 1 << 30),
        /// Seconds after which no event comes any more that another node accepted: as long as nodes can be
        /// cut off. What was sent as a stored event is remembered for so long.
        late_seconds: fixed u64 = 3_600 => whole(0, 7 * DAY),
        /// Events that are remembered so that each is routed once.
        seen_ids: fixed usize = 1 << 20 => whole(1_024, 1 << 30),
    }
}

/// What makes a node with a bus ready: see [`Bus::ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusReady {
    Always,
    Once,
    While,
}

impl Bus {
    /// How long the watermarks of a process may stay away before something is taken to be missed.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.watermark_ms) * self.missing_watermarks
    }
}
