//! Taps: who is told of what is stored and removed, before any of it is routed. One of them may know an answer for that.
//!
//! Whoever stands behind a tap can say of every live subscription: what it was not sent, the tap had been told.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use futures_util::future::BoxFuture;

use super::{BatchOutcome, Cursor, Outcome, Page, Position, Query, Removed, Store, StoreError, Wrapper};
use crate::{
    clock::Moment,
    protocol::{
        Event, PublicKey, Timestamp,
        kind::{self, Class},
    },
};

/// Tells one time of listening to an author from another: between them something may have been missed. The first number
/// is that of the node, and changes with each doubt; the second is that of the author, and only ever larger ones are
/// given.
pub type Hearing = (u64, u64);

/// Tells of each author how it is heard at this time, if it is: that everything that other nodes write of it from here
/// on comes to this one.
pub type Listener = Arc<dyn Fn(&[PublicKey]) -> Vec<Option<Hearing>> + Send + Sync>;

/// Who wrote an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WrittenBy {
    /// This node; the last of those that are told together stands at that position.
    Here(Position),
    /// Another one, which was heard of at that moment.
    Elsewhere { heard_at: Moment },
}

/// Is told of what the store holds. Whoever tells it waits, and everybody behind: it takes note, and works elsewhere.
pub trait Tap: Send + Sync + 'static {
    /// The store holds these events. They are told before they are routed, and what this node wrote before its
    /// publisher is answered. An event may be told more than once, and late; of what other nodes write, those that some
    /// client of this one has asked for by routing key.
    fn stored(&self, events: &[&Arc<Event>], writer: WrittenBy);

    /// A batch of this node took these away. What requests of other nodes take away is told by those requests alone,
    /// and what expires is told by nobody: the event says when.
    fn removed(&self, _removed: &Removed) {}

    /// This node failed to write these: they may be stored all the same, and what they take away may be gone.
    fn doubted(&self, _events: &[Arc<Event>]) {}

    /// The next page of a query, if this tap can tell it.
    fn answer(
        &self,
        _query: &Arc<Query>,
        _cursor: &Cursor,
    ) -> Option<BoxFuture<'_, Result<Page, StoreError>>> {
        None
    }

    /// There is a bus to other nodes. Said once, before there are clients.
    fn listen(&self, _listener: Listener) {}
}

/// All taps of a node.
#[derive(Clone, Default)]
pub struct Taps(Arc<[Arc<dyn Tap>]>);

impl FromIterator<Arc<dyn Tap>> for Taps {
    fn from_iter<I: IntoIterator<Item = Arc<dyn Tap>>>(taps: I) -> Self {
        Self(taps.into_iter().collect())
    }
}

impl Taps {
    pub fn listen(&self, listener: &Listener) {
        for tap in &*self.0 {
            tap.listen(Arc::clone(listener));
        }
    }

    /// The bus brings events that other nodes wrote to the common store. To be told before they are routed.
    pub fn heard(&self, events: &[Arc<Event>]) {
        if self.0.is_empty() {
            return;
        }
        let is_stored = |event: &&Arc<Event>| kind::class(event.kind()) != Class::Ephemeral;
        let stored: Vec<&Arc<Event>> = events.iter().filter(is_stored).collect();
        self.stored(&stored, WrittenBy::Elsewhere { heard_at: Moment::now() });
    }

    fn stored(&self, events: &[&Arc<Event>], writer: WrittenBy) {
        if !events.is_empty() {
            self.0.iter().for_each(|tap| tap.stored(events, writer));
        }
    }

    /// The store with these taps; the store itself, if there are none.
    pub fn on(self, store: Arc<dyn Store>) -> Arc<dyn Store> {
        if self.0.is_empty() {
            return store;
        }
        let head = AtomicU64::new(store.head());
        Arc::new(Tapped { store, taps: self, head })
    }
}

/// A store with taps.
struct Tapped {
    store: Arc<dyn Store>,
    taps: Taps,
    /// The taps were told of what this node wrote up to there.
    head: AtomicU64,
}

impl Tapped {
    fn tell(&self, batch: &[Arc<Event>], BatchOutcome { outcomes, head, removed, .. }: &BatchOutcome) {
        let select = |wanted| -> Vec<&Arc<Event>> {
            let all = batch.iter().zip(outcomes);
            all.filter(|(_, outcome)| **outcome == wanted).map(|(event, _)| event).collect()
        };
        self.taps.stored(&select(Outcome::Stored), WrittenBy::Here(*head));
        // Another node has stored these, perhaps just now.
        let heard_at = Moment::now();
        self.taps.stored(&select(Outcome::Duplicate), WrittenBy::Elsewhere { heard_at });
        if removed.many || !removed.ids.is_empty() {
            self.taps.0.iter().for_each(|tap| tap.removed(removed));
        }
    }
}

impl Wrapper for Tapped {
    fn inner(&self) -> &dyn Store {
        &*self.store
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Box::pin(async move {
            let written = self.store.write(Arc::clone(&batch), now, until).await;
            match &written {
                Ok(written) => {
                    self.tell(&batch, written);
                    // Raised only now: a subscription that is not sent an event because it was stored before finds it.
                    self.head.fetch_max(written.head, Ordering::AcqRel);
                }
                Err(_) => self.taps.0.iter().for_each(|tap| tap.doubted(&batch)),
            }
            written
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        let answer = self.taps.0.iter().find_map(|tap| tap.answer(&query, &cursor));
        answer.unwrap_or_else(|| self.store.query(query, cursor))
    }

    fn head(&self) -> Position {
        self.head.load(Ordering::Acquire)
    }
}
