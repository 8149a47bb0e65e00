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
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::debug;

use self::{
    author::{Place, end_of},
    authors::{Authors, Wanted},
};
use super::{
    Content, Cursor, End, Page, Query, Store, StoreError,
    tap::{Hearing, Listener, Tap, WrittenBy},
};
use crate::{
    config,
    protocol::{
        Event, Filter, ParsedEvent, PublicKey,
        kind::{self, Class},
    },
    telemetry::Metrics,
};

/// How each author of a question is heard now. An author who is not in it is not heard.
type Heard = HashMap<PublicKey, Hearing, foldhash::fast::RandomState>;

/// The newest events of some authors, in front of a store.
pub struct Home {
    store: Arc<dyn Store>,
    authors: Arc<Authors>,
    listener: OnceLock<Listener>,
    /// How many reads of the store may be under way.
    fills: Arc<Semaphore>,
    metrics: Arc<Metrics>,
}

impl Home {
    /// `lateness`: an event that is heard of later than that after it was stored is a doubt of the bus.
    pub fn new(
        store: Arc<dyn Store>,
        config: config::Feeds,
        lateness: Duration,
        metrics: Arc<Metrics>,
    ) -> Self {
        let fills = Arc::new(Semaphore::new(config.max_fills));
        let authors = Arc::new(Authors::new(config, lateness, Arc::clone(&metrics)));
        Self { store, authors, listener: OnceLock::new(), fills, metrics }
    }

    /// How the authors of a question are heard.
    fn heard(&self, query: &Query, listener: &Listener) -> Heard {
        let authors = query.filters.iter().flat_map(|(filter, _)| filter.authors.iter().flatten());
        let mut authors: Vec<PublicKey> = authors.copied().collect();
        authors.sort_unstable();
        authors.dedup();
        let heard = listener(&authors);
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

impl Tap for Home {
    /// What takes an author's events away comes as requests of that author, so removals tell nothing new.
    fn stored(&self, events: &[&Arc<Event>], writer: WrittenBy) {
        self.authors.take(events, writer);
    }

    fn doubted(&self, events: &[Arc<Event>]) {
        self.authors.forget(events.iter().map(|event| event.pubkey()));
    }

    fn answer(&self, query: &Arc<Query>, cursor: &Cursor) -> Option<BoxFuture<'_, Result<Page, StoreError>>> {
        let listener = self.listener.get()?;
        // A set of keys has to be whole, and authors are asked for of kinds that are not kept.
        if query.content != Content::Events
            || query.filters.is_empty()
            || !query.filters.iter().all(|(filter, _)| is_feed(filter))
        {
            return None;
        }
        let heard = self.heard(query, listener);
        if let Some(page) = self.authors.answer(query, cursor.clone(), &heard) {
            self.metrics.feed_hits.inc();
            return Some(std::future::ready(Ok(page)).boxed());
        }
        self.metrics.feed_misses.inc();
        self.fill(query, &heard);
        None
    }

    fn listen(&self, listener: Listener) {
        // It is said once that there is a bus.
        let _ = self.listener.set(listener);
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
    kind::class(kind) == Class::Regular && !kind::is_private(kind) && kind != kind::ACTIVITY
}

/// A read that fills feeds. Gives its authors up when it is dropped.
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

    /// Reads everything wanted: down to where that is complete.
    async fn read(&self, store: &dyn Store, wanted: &Wanted) -> Result<Option<Place>, StoreError> {
        let Wanted { fill, query } = wanted;
        let mut cursor = Cursor::start(query);
        let mut to = None;
        loop {
            let page = store.query(Arc::clone(query), cursor).await?;
            for entry in page.iter() {
                // A node has stored it, so it is one.
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
