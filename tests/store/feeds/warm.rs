//! A store that must answer from memory, for the contract.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use rookery::{
    config,
    protocol::{Event, PublicKey, Timestamp},
    store::{BatchOutcome, Cursor, Page, Query, Store, StoreError, Wrapper, tap::Tap},
    telemetry::Metrics,
};

use super::{feeds, question, settle, whole};

/// Every question is asked twice, so that it is answered from memory where that can be. After every batch
/// the feeds of all authors must be those of the store.
pub struct Warm {
    store: Arc<dyn Store>,
    feeds: Arc<dyn Store>,
    home: Arc<dyn Tap>,
    metrics: Arc<Metrics>,
    /// An event of each author.
    authors: Mutex<BTreeMap<PublicKey, Arc<Event>>>,
}

impl Warm {
    pub fn over(store: impl Store, page_bytes: usize) -> Self {
        let store: Arc<dyn Store> = Arc::new(store);
        let config = config::Feeds { max_bytes: 1 << 30, page_bytes, ..config::Feeds::default() };
        let hearing = Arc::new(Mutex::new(Some((0, 0))));
        let (feeds, home, metrics) = feeds(Arc::clone(&store), config, Duration::ZERO, hearing);
        Self { store, feeds, home, metrics, authors: Mutex::default() }
    }

    async fn compare(&self, now: Timestamp) {
        let authors: Vec<PublicKey> = self.authors.lock().unwrap().keys().copied().collect();
        for limit in [1, 3, 1_000] {
            let query = question(authors.clone(), limit, now);
            let hits = self.metrics.feed_hits.get();
            assert_eq!(whole(self, &query).await, whole(&*self.store, &query).await);
            assert!(self.metrics.feed_hits.get() > hits, "not answered from memory");
        }
    }
}

impl Wrapper for Warm {
    fn inner(&self) -> &dyn Store {
        &*self.feeds
    }

    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Box::pin(async move {
            self.authors
                .lock()
                .unwrap()
                .extend(batch.iter().map(|event| (event.pubkey(), Arc::clone(event))));
            let written = self.feeds.write(batch, now, until).await?;
            self.compare(now).await;
            Ok(written)
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move {
            self.feeds.query(Arc::clone(&query), cursor.clone()).await?;
            settle().await;
            self.feeds.query(query, cursor).await
        })
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        // A story may go back in time, and what was swept is gone by then.
        let of_each: Vec<Arc<Event>> = self.authors.lock().unwrap().values().cloned().collect();
        self.home.doubted(&of_each);
        self.feeds.maintain(now)
    }
}
