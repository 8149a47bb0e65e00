//! Stores that stand before another one.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;

use super::{
    BatchOutcome, Counted, Cursor, Identity, Load, Page, Position, Query, Store, StoreError, log::Log,
    records::Records,
};
use crate::protocol::{Event, Timestamp};

/// A store that stands before another one, and writes down only what it does differently. These are the methods of
/// [`Store`] that anybody changes; the inner store alone answers to the others.
pub trait Wrapper: Send + Sync + 'static {
    /// The store behind this one.
    fn inner(&self) -> &dyn Store;

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        self.inner().write(batch, now, until)
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        self.inner().query(query, cursor)
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.inner().maintain(now)
    }

    fn head(&self) -> Position {
        self.inner().head()
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        self.inner().log()
    }
}

impl<W: Wrapper> Store for W {
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Wrapper::write(self, batch, now, until)
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        Wrapper::query(self, query, cursor)
    }

    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>> {
        self.inner().count(query)
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Wrapper::maintain(self, now)
    }

    fn abandoned(&self, tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        self.inner().abandoned(tried_for)
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.inner().leave()
    }

    fn head(&self) -> Position {
        Wrapper::head(self)
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        Wrapper::log(self)
    }

    fn records(&self) -> &dyn Records {
        self.inner().records()
    }

    fn identity(&self) -> Identity {
        self.inner().identity()
    }

    fn load(&self) -> Load {
        self.inner().load()
    }
}
