//! The way between nodes. One node alone has none.

use std::sync::Arc;

use futures_util::future::BoxFuture;

use super::key::RoutingKey;
use crate::{protocol::Event, trace::Traced};

/// Carries events to the other nodes that asked for one of their keys, and theirs to this node's
/// routers (which an implementation is given when it is made). Delivery to local sessions never
/// goes through it, and never waits for it.
pub trait Bus: Send + Sync + 'static {
    /// Publishes a batch that is committed, or ephemeral events. Never waits: it is the bus that makes
    /// good for a lost connection, or says that there is a gap.
    fn publish(&self, events: Arc<[Arc<Event>]>, ephemeral: bool, traced: Traced);

    /// Resolves when every key is subscribed and acknowledged: from then on no event that carries
    /// one of them is missed. Counted: the same key may be asked for several times.
    ///
    /// # Errors
    /// When the acknowledgement does not come in time. The interest stays, and when the bus is back,
    /// the routers are told of the gap.
    fn subscribe(&self, keys: Vec<RoutingKey>) -> BoxFuture<'static, Result<(), BusError>>;

    /// Takes back one count of each key. The bus may keep them a little longer.
    fn unsubscribe(&self, keys: Vec<RoutingKey>);

    /// The node shuts down: resolves when what was published before is on its way, and the others
    /// know that no more will come.
    fn leave(&self) -> BoxFuture<'static, ()>;
}

/// Why keys are not known to be subscribed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    #[error("the bus did not acknowledge in time")]
    Timeout,
}
