//! The way between nodes. One node alone has none.

use std::{sync::Arc, time::Instant};

use futures_util::future::BoxFuture;

use super::key::RoutingKey;
use crate::{
    protocol::{Event, PublicKey},
    store::{log::Sequence, records::RecordKind, tap::Hearing},
    trace::Traced,
};

/// Events that are published together.
#[derive(Debug, Clone)]
pub struct Publication {
    pub events: Arc<[Arc<Event>]>,
    /// Whether the events are in no store.
    pub ephemeral: bool,
    /// The number of their batch in the log, where there is one: a node that misses the batch finds it there.
    pub sequence: Option<Sequence>,
    pub traced: Traced,
    /// When the bus was given them.
    pub since: Instant,
}

/// Says which record has changed, and not what it holds now: what comes on a bus is not believed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    pub kind: RecordKind,
    pub key: String,
    pub version: u64,
}

/// Carries events to the other nodes that asked for one of their keys, and theirs to this node's
/// routers (which an implementation is given when it is made). Delivery to local sessions never
/// goes through it, and never waits for it.
pub trait Bus: Send + Sync + 'static {
    /// Publishes a batch that is committed, or ephemeral events. Never waits: it is the bus that makes
    /// good for a lost connection, or says that there is a gap.
    fn publish(&self, publication: Publication);

    /// Tells the other nodes that a record has changed, so that they read it. Never waits, and may get lost: they read
    /// it again after a while all the same.
    fn changed(&self, change: Changed);

    /// A batch may have come into the log that is not published, because it is not known to be written.
    fn skip(&self);

    /// Resolves when every key is subscribed and acknowledged: from then on no event that carries
    /// one of them is missed. Counted: the same key may be asked for several times.
    ///
    /// # Errors
    /// When the acknowledgement does not come in time, or there is no connection. The interest stays;
    /// until it is acknowledged, what is committed from now on comes from the log of the store, or, where
    /// there is none, the routers are told of the gap when the bus is back.
    fn subscribe(&self, keys: Vec<RoutingKey>) -> BoxFuture<'static, Result<(), BusError>>;

    /// Takes back one count of each key. The bus may keep them a little longer.
    fn unsubscribe(&self, keys: Vec<RoutingKey>);

    /// Whether the node may be given clients, as far as `bus.ready` makes that depend on the bus.
    fn is_ready(&self) -> bool;

    /// Of each author, how it is certain that everything of theirs that other nodes store comes here; `None` where it is
    /// not. [Taps](crate::store::tap::Tap) ask this.
    fn hears(&self, authors: &[PublicKey]) -> Vec<Option<Hearing>>;

    /// The node shuts down: resolves when what was published before is on its way, and the others
    /// know that no more will come.
    fn leave(&self) -> BoxFuture<'static, ()>;
}

/// Why keys are not known to be subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    #[error("the bus did not acknowledge in time")]
    Timeout,
    #[error("the bus is not connected")]
    Away,
}
