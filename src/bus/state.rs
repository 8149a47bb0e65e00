//! What the tasks of the bus share, and what any of them may find out.

use std::{
    collections::HashSet,
    fmt::Display,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use parking_lot::{Mutex, MutexGuard};
use tokio::{
    sync::Notify,
    time::{Interval, MissedTickBehavior, interval},
};
use tracing::{debug, info, warn};

use super::{
    BusParts, channel::Channel, clocks::Clocks, envelope::Card, interest::Interest, origins::Origins,
    transport::Transport, up::Up,
};
use crate::{
    clock::{self, Moment, Standing},
    config,
    protocol::verify::Verifier,
    route::Gap,
    store::{Identity, log::Origin},
};

/// What the tasks of the bus share.
pub(super) struct BusState {
    pub config: config::Bus,
    pub transport: Box<dyn Transport>,
    /// The number of this process.
    pub origin: Origin,
    /// The identity of this node's store.
    pub store: Identity,
    /// Stores of other nodes that the log of this program has named already.
    pub strangers: Mutex<HashSet<Identity>>,
    pub clocks: Mutex<Clocks>,
    pub interest: Mutex<Interest>,
    pub origins: Mutex<Origins>,
    /// Notified when something may have been missed.
    pub in_doubt: Notify,
    /// Notified when a link that is up does not bring what it should.
    pub suspicion: Notify,
    /// Counts the batches that were never published. Watermarks tell the count: where it has grown, they prove nothing.
    pub lost: AtomicU64,
    /// Whether the link carries something, and whether one ever did.
    pub carries: AtomicBool,
    pub has_carried: AtomicBool,
    /// Whether the log of this program has already named a message that is not understood.
    pub puzzled: AtomicBool,
    pub parts: BusParts,
}

impl BusState {
    pub fn interest(&self) -> MutexGuard<'_, Interest> {
        self.interest.lock()
    }

    pub fn origins(&self) -> MutexGuard<'_, Origins> {
        self.origins.lock()
    }

    pub fn watermark_interval(&self) -> Interval {
        let mut interval = interval(Duration::from_millis(self.config.watermark_ms));
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        interval
    }

    /// A subscription begins before these channels are acknowledged. Until they are, watermarks do not prove that
    /// what it wants has come.
    pub fn go_on_without(&self, channels: &[Channel]) {
        self.interest().give_up(channels);
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// Compares the clock of a process with this one's, unless nodes share a store, which compares them itself.
    fn compare_clocks(&self, card: &Card) {
        let Some(told) = card.at.filter(|_| self.parts.log.is_none() && card.origin != self.origin) else {
            return;
        };
        let mut clocks = self.clocks.lock();
        let news = clocks.hear(card.origin, told, clock::millis(), Instant::now());
        self.parts.metrics.clock_ahead.set(clocks.standing().seconds_ahead());
        match news {
            Some(far @ Standing::Far(_)) => warn!("{far}: events expire here when they do not there"),
            Some(standing) => info!("{standing}"),
            None => {}
        }
    }

    /// A process says of itself who it is. One that has another store is not listened to, or clients would hear
    /// of events that nobody finds.
    pub fn meet(&self, card: &Card) {
        /// Most stores that the log of this program names.
        const MOST: usize = 100;
        let Some(store) = card.store.filter(|store| !self.store.meets(*store)) else {
            if let Some(waits) = card.waits.filter(|_| card.origin != self.origin) {
                self.parts.waits.hear(card.origin, f64::from(waits) / 100.0, Instant::now());
            }
            return self.compare_clocks(card);
        };
        self.parts.metrics.bus_strangers.inc();
        self.origins().estrange(card.origin, Moment::now());
        let mut named = self.strangers.lock();
        if named.len() < MOST && named.insert(store) {
            let (own, name) = (self.store, self.transport.name());
            match (own, store) {
                (Identity::Own(_), Identity::Shared(_)) => warn!(
                    "this node has a store of its own ({own}), and others on this {name} share one ({store}): it \
                     hears nothing of them, nor they of it. Name the shared store with --scylla and --keyspace, or \
                     choose another bus.prefix"
                ),
                _ => warn!(
                    "a node on this {name} has another store ({store}) than this one ({own}): neither hears of the \
                     other. Nodes that do not belong together need a bus.prefix each"
                ),
            }
        }
    }

    /// Something may have been missed.
    pub fn doubt(&self, why: &str) {
        warn!("events of other nodes may have been missed: {why}");
        self.parts.metrics.bus_gaps.inc();
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// A message of another node is not understood, nor what it was.
    pub fn miss_what_is_not_understood(&self, why: &dyn Display) {
        self.parts.metrics.bus_malformed.inc();
        self.puzzle(why);
        // The log is read when the next watermark is due: others may follow.
        self.origins().doubt();
    }

    /// Something is wrong with the messages of another node: said once, as there may be many.
    pub fn puzzle(&self, why: &dyn Display) {
        if !self.puzzled.swap(true, Ordering::Relaxed) {
            warn!("a message of another node is not understood, and others may follow (said once): {why}");
        }
    }

    /// A link has brought something back, on every path.
    pub fn carries(&self, up: &Up) {
        if up.echoes().have_come() && !self.carries.swap(true, Ordering::AcqRel) {
            self.has_carried.store(true, Ordering::Release);
            self.parts.metrics.bus_connected.set(1);
        }
    }

    /// Verifies what comes, where that is wanted.
    pub fn verifier(&self) -> Option<Verifier> {
        self.config.verify.then(|| Verifier::new(self.parts.hot_authors))
    }

    /// Events that other nodes have published are not in the store. They may have been deleted or replaced since;
    /// or this node reads what is older, or another store.
    pub fn miss(&self, events: usize) {
        debug!(events, "not found in the store");
        self.parts.metrics.bus_unfetched.inc_by(events as u64);
        self.origins().doubt();
        self.in_doubt.notify_one();
    }

    /// Tells every router that events of other nodes were missed, and can not be found. Counted once all have been told:
    /// what is subscribed to after that is whole.
    pub async fn tell_of_gap(&self, why: &str) {
        warn!("subscriptions end, because events of other nodes may have been missed {why}");
        // A router that is gone has no sessions.
        join_all(self.parts.routers.all().iter().map(|router| router.send(Gap))).await;
        self.parts.metrics.bus_gaps_told.inc();
    }
}
