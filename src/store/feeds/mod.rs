//! Home feeds from memory: in front of a store that several nodes write to, the newest events of the
//! authors that this node hears without a break.
//!
//! `{"authors":[…500 follows],"kinds":[1,6],"limit":100}` is the question that clients ask most, and the
//! dearest: it reads hundreds of partitions. An author is kept while everything of them comes to this node
//! anyway, because clients here are subscribed to them. What is kept is filled from the store once, and kept
//! true by the events that come. Whatever can not be told from it, the store is asked.

mod author;
mod authors;
mod scan;

use std::{
    cmp::Reverse,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::future::BoxFuture;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

pub use self::authors::Authors;
use self::{
    author::{Place, end_of},
    authors::Wanted,
};
use super::{
    Counted, Cursor, End, Identity, Load, Outcome, Page, Position, Query, Store, StoreError, Written,
    log::Log, records::Records,
};
use crate::{
    clock, config,
    protocol::{
        Event, Filter, ParsedEvent, PublicKey, Timestamp,
        kind::{self, Class},
    },
    telemetry::Metrics,
};

/// Tells one time of listening to an author from another: between them something may have been missed.
pub type Hearing = (u64, u64);

/// How each author of a question is heard now. Who is not in it is not.
type Heard = HashMap<PublicKey, Hearing, foldhash::fast::RandomState>;

/// Tells of each author how it is heard at this time, if it is: that everything written from here on comes.
pub type Listener = Arc<dyn Fn(&[PublicKey]) -> Vec<Option<Hearing>> + Send + Sync>;

/// A store with the newest events of some authors in front of it.
pub struct Feeds {
    store: Arc<dyn Store>,
    authors: Arc<Authors>,
    listener: Listener,
    /// What this node wrote is among the authors' up to there.
    head: AtomicU64,
    /// Reads for the authors that may be under way.
    fills: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Feeds {
    /// `authors`: to be told of what other nodes write.
    pub fn new(
        store: Arc<dyn Store>,
        authors: Arc<Authors>,
        listener: Listener,
        config: &config::Feeds,
        metrics: Arc<Metrics>,
    ) -> Self {
        let head = AtomicU64::new(store.head());
        let fills = Arc::new(Semaphore::new(config.max_fills));
        Self { store, authors, listener, head, fills, metrics }
    }

    /// How the authors of a question are heard.
    fn heard(&self, query: &Query) -> Heard {
        let authors = query.filters.iter().flat_map(|(filter, _)| filter.authors.iter().flatten());
        let mut authors: Vec<PublicKey> = authors.copied().collect();
        authors.sort_unstable();
        authors.dedup();
        let heard = (self.listener)(&authors);
        authors.into_iter().zip(heard).filter_map(|(author, heard)| Some((author, heard?))).collect()
    }

    /// Reads what would have been needed, in the background, unless too much is being read.
    fn fill(&self, query: &Query, heard: &Heard) {
        let Ok(permit) = Arc::clone(&self.fills).try_acquire_owned() else { return };
        let wanted = self.authors.want(query, heard);
        if !wanted.is_empty() {
            let filling = Filling { authors: Arc::clone(&self.authors), wanted, _permit: permit };
            tokio::spawn(filling.run(Arc::clone(&self.store)));
        }
    }
}

impl Store for Feeds {
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        until: Instant,
    ) -> BoxFuture<'_, Result<Written, StoreError>> {
        Box::pin(async move {
            let written = self.store.write(Arc::clone(&batch), now, until).await;
            match &written {
                Ok(Written { outcomes, head, .. }) => {
                    let those = |wanted| {
                        let all = batch.iter().zip(outcomes);
                        all.filter(move |(_, outcome)| **outcome == wanted).map(|(event, _)| event)
                    };
                    self.authors.take(those(Outcome::Stored), *head, 0);
                    // By another node, perhaps just now.
                    self.authors.take(those(Outcome::Duplicate), 0, clock::millis());
                    // Only now: what is not routed to a subscription because it was stored before, is found.
                    self.head.fetch_max(*head, Ordering::AcqRel);
                }
                Err(_) => self.authors.forget(batch.iter().map(|event| event.pubkey())),
            }
            written
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        if query.filters.is_empty() || !query.filters.iter().all(|(filter, _)| is_feed(filter)) {
            return self.store.query(query, cursor);
        }
        let heard = self.heard(&query);
        if let Some(page) = self.authors.answer(&query, cursor.clone(), &heard) {
            self.metrics.feed_hits.inc();
            return Box::pin(std::future::ready(Ok(page)));
        }
        self.metrics.feed_misses.inc();
        self.fill(&query, &heard);
        self.store.query(query, cursor)
    }

    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>> {
        self.store.count(query)
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        self.store.maintain(now)
    }

    fn abandoned(&self, tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        self.store.abandoned(tried_for)
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        self.store.leave()
    }

    fn head(&self) -> Position {
        self.head.load(Ordering::Acquire)
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        self.store.log()
    }

    fn records(&self) -> &dyn Records {
        self.store.records()
    }

    fn identity(&self) -> Identity {
        self.store.identity()
    }

    fn load(&self) -> Load {
        self.store.load()
    }
}

/// Whether a filter names authors and kinds, and nothing but a window beside them.
fn is_feed(filter: &Filter) -> bool {
    /// Feeds of one filter: what memory answers on the thread that asks.
    const MOST: usize = 4_000;
    let Filter { ids: None, authors: Some(authors), kinds: Some(kinds), tags, .. } = filter else {
        return false;
    };
    tags.is_empty() && authors.len() * kinds.len() <= MOST && kinds.iter().all(|&kind| is_kept(kind))
}

/// Kinds of which every event is stored, for everybody. What supersedes a version need not be heard of: one
/// that is refused as deleted counts too (see [`Outcome::Deleted`]), and is routed nowhere.
fn is_kept(kind: u16) -> bool {
    kind::class(kind) == Class::Regular && !kind::is_private(kind)
}

/// Reads for the authors. Gives them up when it is dropped.
struct Filling {
    authors: Arc<Authors>,
    wanted: Vec<Wanted>,
    _permit: OwnedSemaphorePermit,
}

impl Filling {
    async fn run(mut self, store: Arc<dyn Store>) {
        while let Some(wanted) = self.wanted.last() {
            let to = match self.read(&*store, wanted).await {
                Ok(to) => to,
                Err(error) => return debug!("feeds can not be filled: {}", error.detail()),
            };
            self.authors.end(wanted, to);
            self.wanted.pop();
        }
    }

    /// Reads everything wanted. Down to where that is complete.
    async fn read(&self, store: &dyn Store, wanted: &Wanted) -> Result<Option<Place>, StoreError> {
        let Wanted { fill, query } = wanted;
        let mut cursor = Cursor::start(query);
        let mut to = None;
        loop {
            let page = store.query(Arc::clone(query), cursor).await?;
            for entry in page.iter() {
                // It is what a node stored.
                let Ok(parsed) = serde_json::from_str::<ParsedEvent>(entry.json) else { continue };
                self.authors.fill(*fill, &parsed.trust(), entry.position, entry.accepted_at);
                to = Some((Reverse(entry.created_at), entry.id));
            }
            match page.next {
                Some(next) => cursor = next,
                None if page.end == End::Finish => {
                    let since = query.filters.iter().find_map(|(filter, _)| filter.since);
                    return Ok(Some(end_of(since.unwrap_or_default())));
                }
                None => return Ok(to),
            }
        }
    }
}

impl Drop for Filling {
    fn drop(&mut self) {
        for wanted in &self.wanted {
            self.authors.end(wanted, None);
        }
    }
}
