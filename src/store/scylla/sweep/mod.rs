//! What is removed by and by: events that have expired, vanished, or were superseded and are still there.
//!
//! All of it goes on beside the batches of this node as it does beside those of others: what is taken away is
//! said by timestamps made from events, so nobody need be kept from writing. Each piece of work falls to one
//! node ([`Peers`]), is done in slices, and goes on where it stopped.

mod expired;
mod vanished;

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::Duration,
};

use futures_util::future::try_join;
use parking_lot::Mutex;
use tracing::{info, warn};

pub use expired::Removable;

use self::{
    expired::Front,
    vanished::{Request, Walk},
};
use super::{
    cql::Failure,
    hidden::Hidden,
    key,
    peers::{Peers, Word},
    tables::Tables,
    writers,
};
use crate::{
    clock::{self, Moment, Standing},
    config,
    protocol::{Event, Timestamp},
    store::{StoreError, log::Origin},
};

/// Superseded versions that readers came across, and no more than so many.
const LEFTOVERS: usize = 1_000;

/// Events that readers found to be superseded.
#[derive(Default)]
pub struct Leftovers(Mutex<VecDeque<Arc<Event>>>);

impl Leftovers {
    pub fn add(&self, event: Arc<Event>) {
        let mut events = self.0.lock();
        if events.len() < LEFTOVERS {
            events.push_back(event);
        }
    }

    fn take(&self, most: usize) -> Vec<Arc<Event>> {
        let mut events = self.0.lock();
        let count = most.min(events.len());
        events.drain(..count).collect()
    }
}

pub struct Sweeper {
    /// The tables, through room of their own.
    tables: Tables,
    hidden: Arc<Hidden>,
    leftovers: Arc<Leftovers>,
    removable: Arc<Removable>,
    peers: Peers,
    walks: Mutex<HashMap<Request, Walk>>,
    /// Where the removal of what has expired goes on; `None`: it is another node's, or has not begun.
    front: Mutex<Option<Front>>,
    bounds: SweepBounds,
}

/// How much is done at once.
#[derive(Debug, Clone, Copy)]
pub struct SweepBounds {
    /// Events that are removed before the place is noted.
    events: usize,
    /// Rows of one answer.
    rows: usize,
    /// After so long, another kind of work has its turn.
    slice: Duration,
    /// After this, a writer that had not seen a mark has finished or given up.
    deadline: Duration,
    /// How far clocks of nodes may be from each other.
    clocks: Duration,
}

impl From<&config::Scylla> for SweepBounds {
    fn from(config: &config::Scylla) -> Self {
        Self {
            events: config.sweep_batch,
            rows: config.sweep_rows,
            slice: Duration::from_millis(config.sweep_ms),
            deadline: Duration::from_millis(config.deadline_ms),
            clocks: Duration::from_secs(config.clock_tolerance_seconds),
        }
    }
}

impl Sweeper {
    pub fn new(
        tables: Tables,
        hidden: Arc<Hidden>,
        leftovers: Arc<Leftovers>,
        removable: Arc<Removable>,
        own: Origin,
        bounds: SweepBounds,
    ) -> Self {
        let (walks, front) = (Mutex::default(), Mutex::default());
        let peers = Peers::new(own, bounds.clocks);
        Self { tables, hidden, leftovers, removable, peers, walks, front, bounds }
    }

    /// Does a bounded piece of work; `true`: there may be more. What fails holds up nothing else.
    ///
    /// # Errors
    /// When the servers refuse; nothing is lost by it.
    pub async fn sweep(&self, now: Timestamp) -> Result<bool, StoreError> {
        let cql = &self.tables.cql;
        cql.within(self.look_around()).await?;
        let done = [
            cql.within(self.superseded()).await,
            cql.within(self.expired(now)).await,
            cql.within(self.vanished()).await,
        ];
        done.into_iter().try_fold(false, |more, done| Ok(more | done?))
    }

    async fn look_around(&self) -> Result<(), Failure> {
        let before = Moment::now();
        if !self.peers.is_due(before) {
            return Ok(());
        }
        let cql = &self.tables.cql;
        let read = |told: writers::LastWord| Word {
            origin: told.heartbeat.origin,
            count: told.heartbeat.count,
            at: key::seconds(told.at) / 1_000,
        };
        let (words, server) = try_join(writers::words(cql), cql.read_clock()).await?;
        let words: Vec<Word> = words.into_iter().map(read).collect();
        match self.peers.meet(&words, server.at, (before, Moment::now()), clock::offset()) {
            Some(far @ Standing::Far(_)) => {
                warn!("{far}: it removes nothing as expired until it is right");
            }
            Some(standing) => info!("{standing}"),
            None => {}
        }
        Ok(())
    }

    /// What is known of this node's clock.
    pub fn clock(&self) -> Standing {
        self.peers.standing(clock::offset(), Moment::now())
    }

    async fn superseded(&self) -> Result<bool, Failure> {
        let events = self.leftovers.take(self.bounds.events);
        let more = events.len() == self.bounds.events;
        self.tables.remove(events).await?;
        Ok(more)
    }
}
