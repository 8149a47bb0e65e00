//! Other relays that are read.

use serde::{Deserialize, Serialize};

use super::setting::{DAY, HOUR, part, section, whole};

/// What of reading other relays a process does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AggregatorRole {
    Both,
    Read,
    Consume,
    None,
}

impl AggregatorRole {
    /// Whether it reads upstreams.
    pub fn reads(self) -> bool {
        matches!(self, Self::Both | Self::Read)
    }

    /// Whether it stores what was read.
    pub fn consumes(self) -> bool {
        matches!(self, Self::Both | Self::Consume)
    }
}

/// Where events of upstreams wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QueueKind {
    Memory,
    Redis,
}

/// What decides which partition an event of an upstream is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PartitionBy {
    Id,
    Upstream,
}

section! {
    /// Other relays that are read, and whose events are stored here as if clients had published them.
    Aggregator {
        /// URLs of relays that are read, whole, such as ["wss://relay.example.com"].
        upstreams: fixed Vec<String> = Vec::new(),
        /// Whether an upstream may have an address that is not public.
        allow_private: fixed bool = false,
        /// What this process does of it: "both" reads them and stores what they send, "read" and "consume" are one of the
        /// two, with queue = "redis", and "none" leaves it to other processes.
        role: fixed AggregatorRole = AggregatorRole::Both,
        /// Where their events wait for the store: "memory" of this process, or "redis", streams that processes share.
        queue: fixed QueueKind = QueueKind::Memory,
        /// Streams in Redis. At most so many processes store what is read. The same at all of them.
        partitions: fixed u16 = 8 => whole(1, 128),
        /// "id" spreads the events of each upstream over all partitions; "upstream" keeps those of one in the order in
        /// which it sent them. The same at all processes.
        partition_by: fixed PartitionBy = PartitionBy::Id,
        /// Bytes of events that a process may have taken from streams before it stores them.
        taken_bytes: fixed usize = 8 * 1024 * 1024 => whole(65_536, 1 << 32),
        /// Seconds after which it is looked whether an event that is not finished is still in its stream, and for which
        /// a process that has got a partition waits for the one that had it.
        redeliver_seconds: fixed u64 = 60 => whole(1, HOUR),
        /// Milliseconds between the beats of a process in Redis. After three that fail to come, others do its work.
        beat_ms: fixed u64 = 2_000 => whole(100, 60_000),
        /// Bytes of their events that may wait for the store. Beyond, what comes live is read later.
        queue_bytes: fixed usize = 64 * 1024 * 1024 => whole(65_536, 1 << 40),
        /// Their events that may be on their way into the store at once.
        window: fixed usize = 512 => whole(1, 1 << 16),
        /// Seconds by which what was missed is read again before it: for so much later than it is dated an event may
        /// come, and be found after any break.
        overlap_seconds: fixed u64 = 3_600 => whole(0, 365 * DAY),
        /// Seconds without a word of whoever reads an upstream, after which another node of the store does so.
        takeover_seconds: fixed u64 = 60 => whole(5, HOUR),
        /// Seconds between looks for upstreams that were added, changed or removed at another node.
        look_seconds: fixed u64 = 5 => whole(1, HOUR),
        /// Minutes after which an upstream is compared again while it is read, so that what it has swallowed is found.
        compare_minutes: fixed u64 = 60 => whole(1, 365 * DAY / 60),
        /// Upstreams that metrics call by their names. Beyond so many they are counted together, as `other`.
        metrics_upstreams: fixed usize = 100 => whole(0, 10_000),
        /// Seconds between additions to what is counted of each upstream by hour, which is kept for a month.
        count_seconds: fixed u64 = 60 => whole(1, HOUR),
        /// Events of an upstream that are remembered as not taken, so that they are not fetched whenever it is compared.
        /// 49 bytes each in the store.
        refused: fixed usize = 1_000_000 => whole(0, 100_000_000),
        /// Attempts to store an event alone, while others are stored, that make it a dead letter.
        attempts: fixed u32 = 5 => whole(1, 1_000),
        /// Dead letters of an upstream. Beyond, what can not be stored waits, and the upstream is not read.
        dead_letters: fixed usize = 10_000 => whole(0, 10_000_000),
        /// Processors that looking at ids and signatures of their events may take, all together.
        verify_cores: fixed f64 = 0.5 => part(0.01, 1_024.0),
        /// How many times as long as at best clients of any node may wait for the store, before what upstreams send is
        /// stored more slowly. 0: however long.
        clients_wait: fixed f64 = 2.0 => part(0.0, 1_000.0),
        /// Events a second that a process stores of them all the same.
        least_per_second: fixed u32 = 20 => whole(1, 1_000_000),
    }
}
