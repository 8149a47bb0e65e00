//! What every store promises: one trait, its questions and its answers.
//!
//! A store decides what is current: it replaces, deletes, vanishes and expires. It never routes,
//! and it never asks who may write.

pub mod circle;
mod door;
pub mod home;
mod keys;
pub mod lmdb;
pub mod log;
pub mod memory;
mod page;
mod question;
pub mod records;
pub mod scylla;
pub mod secrets;
pub mod tap;
mod wrapper;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;

pub use crate::{
    clock::Moment,
    protocol::{Identity, Viewer},
};
pub use keys::{keys, keys_and};
pub use page::{Effort, Entry, Page};
pub use question::{Content, Cursor, End, FilterProgress, Kept, Limit, Query};
pub use wrapper::Wrapper;

use self::{
    log::{Log, Sequence},
    records::Records,
};

use crate::{
    protocol::{Event, EventId, Tags, Timestamp, hll::HyperLogLog, kind},
    told::told,
};

/// Where an event stands in the order in which a store accepted events. A subscription that knows
/// the position up to which events had been routed when it began knows which stored events may
/// reach it a second time, live: those behind it.
pub type Position = u64;

/// A store of events. Reads see every write that was answered before they began.
///
/// The order of all answers is newest first, ties by lowest id. Superseded, deleted, vanished and
/// expired events are never in them.
pub trait Store: Send + Sync + 'static {
    /// Writes a batch: when this resolves to `Ok`, all of it is durable, and what [`Outcome`] says
    /// of each event holds. On `Err` nothing is known of any; writing again changes nothing that
    /// had been written. After `until` nobody waits any more, and a store that can gives up.
    ///
    /// Ephemeral events do not belong in a store; callers keep them out.
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>>;

    /// Reads the next page of a query, beginning at [`Cursor::start`].
    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Counts what matches any of the filters. Their limits have no meaning here.
    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>>;

    /// Removes what has expired, and carries on with what a request to vanish left to do: a bounded
    /// piece of work. `true`: there is more.
    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Events that some process has begun to write and will not finish, a bounded count of them: to be written again,
    /// like copies. A store of one process has none. Whoever asks tries each for `tried_for`, and is not given it again
    /// meanwhile.
    fn abandoned(&self, tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>>;

    /// This process writes nothing more: leaves nothing for others to finish.
    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>>;

    /// The position of the event written last.
    fn head(&self) -> Position;

    /// What all nodes wrote lately, where the store is that of several nodes.
    fn log(&self) -> Option<Arc<dyn Log>>;

    /// The records of the relay itself.
    fn records(&self) -> &dyn Records;

    /// Which store it is.
    fn identity(&self) -> Identity;

    /// How busy the store is, for operators.
    fn load(&self) -> Load;
}

/// Rows that an event takes in a store, about: itself and its indexes, one for each indexed tag. What a deletion
/// request names is read and taken away with its own rows.
pub fn rows(of_kind: u16, tags: &Tags) -> usize {
    const INDEXES: usize = 6;
    const TARGET: usize = 10;
    let tags = tags.indexed().count();
    INDEXES + if of_kind == kind::DELETION { TARGET * tags } else { tags }
}

/// How busy a store is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Load {
    /// How much of the room for questions is taken, from 0 to 1.
    pub questions: f64,
    /// How much of the room for statements to other servers is taken, from 0 to 1.
    pub statements: f64,
    /// Statements sent to other servers, ever, and of them those that were tried again.
    pub sent: u64,
    pub retries: u64,
    /// Rows that came back, ever.
    pub rows: u64,
    /// For how long one of the store's threads has been at one thing.
    pub stuck: Duration,
    /// By how many seconds the clock of this node is ahead of those of the others; 0 while it is near them.
    pub clock_ahead: f64,
}

/// What became of an event in [`Store::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored,
    /// The event is stored already.
    Duplicate,
    /// A newer version of the event's address is known (NIP-01), even if that one is gone since.
    Superseded,
    /// A deletion request of the author covers the event (NIP-09).
    Deleted,
    /// A request to vanish covers the event (NIP-62).
    Vanished,
    /// The event has expired (NIP-40).
    Expired,
    /// There is too little room for the event, though there may be for others.
    NoSpace(Shortage),
}

/// What a store has run out of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Shortage {
    #[error("the disk is full")]
    Disk,
    /// The part of the address space that the embedded store may use.
    #[error("the store is full")]
    Map,
}

/// The answer to a batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BatchOutcome {
    /// One for each event, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// Position of the last event that was stored, of this batch or an earlier one.
    pub head: Position,
    pub removed: Removed,
    /// The number of the batch in the log, where there is one and the batch is in it.
    pub sequence: Option<Sequence>,
    /// Where in the batch duplicates are that another node may have written and not published. They are in the
    /// log once more.
    pub again: Vec<usize>,
}

/// Which events a batch took away, so that what remembers stored ids can forget them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removed {
    pub ids: Vec<EventId>,
    /// Whether there were more than are worth listing: forget everything.
    pub many: bool,
}

/// The answer to a COUNT.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counted {
    pub count: u64,
    /// Whether the budget ran out: there are at least `count`.
    pub approximate: bool,
    /// Registers for the one filter that NIP-45 defines them for.
    pub hll: Option<HyperLogLog>,
}

/// Why a store could not do what was asked. That says nothing about the event or the question.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// Too little free space; reads go on, and writes when there is room again.
    #[error(transparent)]
    NoSpace(Shortage),
    /// More is asked than can be answered in time.
    #[error("overloaded, try again later")]
    Overloaded,
    /// The store works, but not fast enough. What was to be written may be.
    #[error("overloaded: the store did not answer in time, try again later")]
    Late(#[source] Arc<dyn std::error::Error + Send + Sync>),
    /// The store is shutting down or its thread is gone.
    #[error("the store is closed")]
    Closed,
    /// The engine failed. The text is for the log, not for clients.
    #[error("the store failed")]
    Engine(#[source] Arc<dyn std::error::Error + Send + Sync>),
}

impl StoreError {
    /// The whole story, for the log.
    pub fn detail(&self) -> String {
        told(&self.clone().into())
    }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use super::*;

    #[test]
    fn an_error_tells_its_cause_once() {
        let failed = || StoreError::Engine(Arc::new(std::io::Error::other("no such disk")));
        assert_eq!(failed().source().map(ToString::to_string), Some("no such disk".to_owned()));
        assert_eq!(failed().detail(), "the store failed: no such disk");
        let error = anyhow::Error::from(failed()).context("can not read");
        assert_eq!(told(&error), "can not read: the store failed: no such disk");
        assert_eq!(StoreError::NoSpace(Shortage::Disk).detail(), "the disk is full");
    }
}
