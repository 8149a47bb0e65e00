//! What the nodes of a cluster wrote lately, batch by batch. The bus delivers at most once, and a node may
//! die between commit and publication; whoever may have missed something finds it here.
//!
//! A batch is in the log before the first of its events is committed, under a number of its node's. So
//! what was published up to a number, and what is in the log behind it, is everything.

use std::time::Duration;

use futures_util::future::BoxFuture;

use super::StoreError;
use crate::protocol::{Event, EventId};

/// A process that writes: a number drawn at its start. Never the same for two, nor for one that was
/// started again.
pub type Origin = u64;

/// Numbers the batches of an origin, from 1. A number may be missing: its batch could not be written.
pub type Sequence = u64;

/// Hashes of what an event is subscribed to by, so that its readers need not read the event.
pub type Digests = fn(&Event) -> Vec<u64>;

/// A log of batches, shared by all nodes.
pub trait Log: Send + Sync + 'static {
    /// This process.
    fn origin(&self) -> Origin;

    /// Tells the others that this process is alive, and how far its log goes.
    fn send_heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// What the processes last told of themselves that wrote in the last hours, this one included. Each
    /// is listed before its first batch is committed.
    fn heartbeats(&self) -> BoxFuture<'_, Result<Vec<Heartbeat>, StoreError>>;

    /// The batches of an origin after a number, in order; a bounded count of them. An empty answer: there are no
    /// more. The log is known to go as far as `up_to`.
    fn read(
        &self,
        origin: Origin,
        after: Sequence,
        up_to: Sequence,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>>;

    /// A batch that has been in the log for so long is committed, or never will be under that number.
    fn settles_in(&self) -> Duration;

    /// For how long batches stay in the log.
    fn kept_for(&self) -> Duration;
}

/// What a process tells of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heartbeat {
    pub origin: Origin,
    /// How often the process has told something.
    pub count: u64,
    /// How far the log of the process goes at least.
    pub head: Sequence,
}

/// A batch in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Logged {
    pub sequence: Sequence,
    pub entries: Vec<LogEntry>,
}

/// An event of a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogEntry {
    pub id: EventId,
    /// `None`: there are too many to be listed. The event may be for anybody.
    pub digests: Option<Vec<u64>>,
}
