//! What every store promises: one trait, its questions and its answers.
//!
//! A store decides what is current: it replaces, deletes, vanishes and expires. It never routes,
//! and it never asks who may write.

mod door;
pub mod home;
pub mod lmdb;
pub mod log;
pub mod memory;
mod page;
pub mod records;
pub mod scylla;
pub mod tap;

use std::{
    any::Any,
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};

pub use crate::protocol::Identity;
pub use page::{Effort, Entry, Page};

use self::{
    log::{Log, Sequence},
    records::Records,
};

use crate::{
    protocol::{Event, EventId, Fields, Filter, PublicKey, Tags, Timestamp, hll::HyperLogLog, kind},
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
    ) -> BoxFuture<'_, Result<Written, StoreError>>;

    /// Reads the next page of a query, beginning at [`Cursor::start`].
    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>>;

    /// Counts what matches any of the filters. Their limits have no meaning here.
    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>>;

    /// Removes what has expired, and carries on with what a request to vanish left to do: a bounded
    /// piece of work. `true`: there is more.
    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>>;

    /// Events that somebody has begun to write and will not finish, a bounded count of them: to be written again,
    /// like copies. Whoever asks tries each for `tried_for`, and is not given it again meanwhile.
    fn abandoned(&self, _tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    /// Nothing more is to be written here: leaves nothing for others to finish.
    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    /// The position of the event written last.
    fn head(&self) -> Position;

    /// What all nodes wrote lately, where the store is that of several nodes.
    fn log(&self) -> Option<Arc<dyn Log>> {
        None
    }

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
    /// For how long one of its threads has been at one thing.
    pub stuck: Duration,
    /// By how many seconds the clock of this node is ahead of those of the others; 0 while it is near them.
    pub clock_ahead: f64,
}

/// What became of an event in [`Store::write`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Stored,
    /// It is stored already.
    Duplicate,
    /// A newer version of its address is known (NIP-01), even if that one is gone since.
    Superseded,
    /// A deletion request of its author covers it (NIP-09).
    Deleted,
    /// A request to vanish covers it (NIP-62).
    Vanished,
    /// Its time is over (NIP-40).
    Expired,
    /// There is too little room for it, though there may be for others.
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
pub struct Written {
    /// One for each event, in the order of the batch.
    pub outcomes: Vec<Outcome>,
    /// Position of the last event that was stored, of this batch or an earlier one.
    pub head: Position,
    pub removed: Removed,
    /// The number of the batch in the log, where there is one and the batch is in it.
    pub sequence: Option<Sequence>,
    /// Places of duplicates that another node may have written and not published. They are in the
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

/// A question: the events that match any of the filters. The `limit` inside a filter has no meaning
/// here; the one beside it has.
#[derive(Debug, Clone)]
pub struct Query {
    pub filters: Vec<(Filter, Limit)>,
    /// The keys that the asking client has authenticated as; private kinds are for their parties.
    pub viewer: Viewer,
    /// Events that expire at this time or before are not served.
    pub now: Timestamp,
}

/// How much of a filter is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many of its newest events.
    pub events: usize,
    /// How many beyond that number complete the last second (NIP-67).
    pub boundary: usize,
}

impl Limit {
    /// So many, whatever the last second has left.
    pub fn exactly(events: usize) -> Self {
        Self { events, boundary: 0 }
    }

    /// How many events there may be.
    pub fn most(self) -> usize {
        self.events.saturating_add(self.boundary)
    }
}

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// A client that has authenticated as these keys (none: as nobody).
    Client(Arc<[PublicKey]>),
    /// The operator: sees everything.
    Operator,
}

impl Viewer {
    pub fn may_see(&self, event: &impl Fields) -> bool {
        match self {
            Self::Client(keys) => event.is_visible_to(keys),
            Self::Operator => true,
        }
    }
}

/// Where a query stands between two pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last event that was looked at; what follows is older, or as old with a higher id.
    pub after: Option<(Timestamp, EventId)>,
    /// For each filter of the query.
    pub progress: Vec<Progress>,
    /// Index entries looked at so far.
    pub scanned: usize,
    /// What the store goes on with.
    pub kept: Kept,
}

/// What a store keeps between two pages so as not to read it again. It says nothing that the rest of the cursor does not:
/// without it, or where another page has been answered meanwhile, a store looks again. It must be small.
#[derive(Clone, Default)]
pub struct Kept(Option<Arc<dyn Any + Send + Sync>>);

impl Kept {
    pub fn new<T: Any + Send + Sync>(kept: T) -> Self {
        Self(Some(Arc::new(kept)))
    }

    /// What a store of this kind has kept.
    pub fn take<T: Any + Send + Sync + Clone>(&mut self) -> Option<T> {
        self.0.take()?.downcast().ok().map(Arc::unwrap_or_clone)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Kept" } else { "nothing" })
    }
}

impl PartialEq for Kept {
    /// The same page comes of either.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

/// How far a filter has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// So many events are still wanted, and then so many that complete a second.
    Wanted { left: usize, boundary: usize },
    /// The number is reached at this second; so many more may complete it.
    Boundary { second: Timestamp, left: usize },
    /// Cut off, and there is at least one more event that matches.
    More,
    /// None was wanted, so nobody looked.
    Unknown,
}

impl Cursor {
    pub fn start(query: &Query) -> Self {
        let progress = query
            .filters
            .iter()
            .map(|&(_, Limit { events, boundary })| match events {
                0 => Progress::Unknown,
                left => Progress::Wanted { left, boundary },
            })
            .collect();
        Self { after: None, progress, scanned: 0, kept: Kept::default() }
    }
}

impl Progress {
    /// Steps over an event that the filters numbered in `matching` match: `true` to send it. A filter
    /// that is cut off has more only where nobody else's limit sends the event either.
    pub fn offer(all: &mut [Self], matching: &[usize], created_at: Timestamp) -> bool {
        let mut wanted = false;
        for &filter in matching {
            wanted |= all[filter].take(created_at);
        }
        for &filter in matching {
            if !wanted && all[filter].is_open() {
                all[filter] = Self::More;
            }
        }
        wanted
    }

    fn take(&mut self, created_at: Timestamp) -> bool {
        match self {
            Self::Wanted { left: 1, boundary } => {
                *self = Self::Boundary { second: created_at, left: *boundary };
            }
            Self::Wanted { left, .. } => *left -= 1,
            Self::Boundary { second, left } if *second == created_at && *left > 0 => *left -= 1,
            Self::Boundary { .. } | Self::More | Self::Unknown => return false,
        }
        true
    }

    /// Whether events are still to be looked at for this filter.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Wanted { .. } | Self::Boundary { .. })
    }
}

/// Whether the events sent for a query are all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All were sent.
    Finish,
    /// There are more.
    More,
    /// Nobody looked that far.
    Unknown,
}

impl End {
    /// What holds when every filter has been followed as far as `progress` says, and no further
    /// events match those that are still open.
    pub fn of(progress: &[Progress]) -> Self {
        if progress.contains(&Progress::More) {
            Self::More
        } else if progress.contains(&Progress::Unknown) {
            Self::Unknown
        } else {
            Self::Finish
        }
    }
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

/// Why a store could not do what was asked. Says nothing about the event or the question.
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

    use proptest::prelude::*;

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

    /// What is sent of a query, and whether that is all, said at once of the whole answer and not step by step: no
    /// store works like that. An event is its second and the filters that match it, newest first.
    fn twin(events: &[(Timestamp, Vec<usize>)], limits: &[Limit]) -> (Vec<bool>, End) {
        let matches = |filter: usize| -> Vec<usize> {
            (0..events.len()).filter(|&event| events[event].1.contains(&filter)).collect()
        };
        let taken_by = |filter: usize| -> Vec<usize> {
            let (matching, Limit { events: limit, boundary }) = (matches(filter), limits[filter]);
            let Some(&last) = limit.checked_sub(1).and_then(|last| matching.get(last)) else {
                return if limit == 0 { Vec::new() } else { matching };
            };
            let completes = matching[limit..].iter().take_while(|&&event| events[event].0 == events[last].0);
            let count = limit + completes.count().min(boundary);
            matching[..count].to_vec()
        };
        let taken: Vec<Vec<usize>> = (0..limits.len()).map(taken_by).collect();
        let sent: Vec<bool> =
            (0..events.len()).map(|event| taken.iter().any(|taken| taken.contains(&event))).collect();
        let misses =
            |filter: usize| limits[filter].events > 0 && matches(filter).iter().any(|&event| !sent[event]);
        let end = if (0..limits.len()).any(misses) {
            End::More
        } else if limits.iter().any(|limit| limit.events == 0) {
            End::Unknown
        } else {
            End::Finish
        };
        (sent, end)
    }

    proptest! {
        #[test]
        fn progress_is_what_its_twin_says(
            limits in prop::collection::vec((0..5_usize, 0..4_usize), 1..4),
            mut events in prop::collection::vec((0..6_u64, prop::collection::btree_set(0..3_usize, 0..=3)), 0..20),
        ) {
            let limits: Vec<Limit> = limits.into_iter().map(|(events, boundary)| Limit { events, boundary }).collect();
            events.sort_by_key(|(second, _)| std::cmp::Reverse(*second));
            let count = limits.len();
            let of_these = |matching: std::collections::BTreeSet<usize>| matching.into_iter().filter(|f| *f < count).collect();
            let events: Vec<(Timestamp, Vec<usize>)> =
                events.into_iter().map(|(second, matching)| (second, of_these(matching))).collect();
            let query = Query {
                filters: limits.iter().map(|&limit| (Filter::default(), limit)).collect(),
                viewer: Viewer::Operator,
                now: 0,
            };
            let mut progress = Cursor::start(&query).progress;
            let offer = |(second, matching): &(Timestamp, Vec<usize>)| Progress::offer(&mut progress, matching, *second);
            let sent: Vec<bool> = events.iter().map(offer).collect();
            prop_assert_eq!((sent, End::of(&progress)), twin(&events, &limits));
        }
    }
}
