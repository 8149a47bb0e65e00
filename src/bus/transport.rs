//! What carries messages between nodes: Redis ([`super::redis`]), or whatever else can do this.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::BoxFuture;
use tokio::sync::mpsc;

use super::channel::Channel;

/// Makes links, one after the other.
pub trait Transport: Send + Sync + 'static {
    /// What operators call it.
    fn name(&self) -> &'static str;

    /// Connects, and subscribes to what goes to all nodes: watermarks, cards, changes of records, and
    /// [`Destination::Everybody`]. What comes goes to `incoming` and never waits: what finds no room there has
    /// [overflown](Link::has_overflown).
    fn connect(&self, incoming: mpsc::Sender<Incoming>) -> BoxFuture<'_, anyhow::Result<Box<dyn Link>>>;
}

/// A connection to the other nodes. It lives until anything about it fails; then all of it is made anew.
///
/// It has one or more paths. Each keeps the order of what is published on it, which is what a watermark rests on.
pub trait Link: Send + Sync {
    /// How many paths there are.
    fn paths(&self) -> usize;

    /// Whether something came that found no room: what came after it proves nothing.
    fn has_overflown(&self) -> bool;

    /// Publishes the messages in this order.
    ///
    /// # Errors
    /// When it is not known that all are published.
    fn publish<'a>(&'a self, messages: &'a [(Destination, Arc<[u8]>)]) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Publishes a watermark on every path, behind everything that was published before, and before it a card on one.
    ///
    /// # Errors
    /// When it is not known that all are published.
    fn publish_watermark<'a>(
        &'a self,
        watermark: &'a [u8],
        card: &'a [u8],
    ) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Subscribes to the channels; resolves when all are acknowledged.
    ///
    /// # Errors
    /// When one is not.
    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, anyhow::Result<()>>;

    /// Ends the subscription to these channels.
    ///
    /// # Errors
    /// When the link has failed.
    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, anyhow::Result<()>>;
}

/// Whom a message is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Destination {
    /// Those who want what is published there.
    Channel(Channel),
    /// All nodes.
    Everybody,
    /// All nodes, about records that have changed.
    Records,
}

/// What a link brings.
#[derive(Debug)]
pub enum Incoming {
    Event {
        payload: Vec<u8>,
        bytes: QueuedBytes,
    },
    Watermark {
        path: usize,
        payload: Vec<u8>,
    },
    Card(Vec<u8>),
    /// A record has changed.
    Change(Vec<u8>),
    /// Nothing more will come on this link.
    Lost(&'static str),
}

/// Bytes that wait to be handled, bounded together.
#[derive(Debug)]
pub struct QueuedBytes {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl QueuedBytes {
    /// Counts these bytes among those that wait. `None`: they would be more than `most`.
    pub fn take(taken: &Arc<AtomicUsize>, bytes: usize, most: usize) -> Option<Self> {
        let queued = Self { taken: Arc::clone(taken), bytes };
        (taken.fetch_add(bytes, Ordering::Relaxed) + bytes <= most).then_some(queued)
    }
}

impl Drop for QueuedBytes {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}
