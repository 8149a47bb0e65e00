//! The authors whose newest events this node keeps in memory.

use std::{cmp::Reverse, sync::Arc, time::Duration};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Heard,
    author::{Author, Fill, Found, Item, Place, end_of},
    scan::Scan,
};
use crate::{
    clock::Moment,
    config,
    protocol::{Event, Fields, Filter, PublicKey, Timestamp, kind},
    store::{
        Content, Cursor, End, Entry, FilterProgress, Limit, Page, Position, Query, Viewer, tap::WrittenBy,
    },
    telemetry::Metrics,
};

/// The newest events of some authors. Whoever hears of an event tells it here, before the event is routed.
pub struct Authors {
    config: config::Feeds,
    /// How late an event may be heard of.
    lateness: Duration,
    state: Mutex<State>,
    metrics: Arc<Metrics>,
}

struct State {
    /// The authors, those asked for last at the front.
    authors: LruCache<PublicKey, Author, foldhash::fast::RandomState>,
    bytes: usize,
    last_fill: Fill,
}

/// A read of the store that is to be made.
pub struct Wanted {
    pub fill: Fill,
    /// One filter, of the authors of whom something is missing.
    pub query: Arc<Query>,
}

impl Authors {
    /// `lateness`: for how long after it was stored an event may be heard of.
    pub fn new(config: config::Feeds, lateness: Duration, metrics: Arc<Metrics>) -> Self {
        let authors = LruCache::unbounded_with_hasher(Default::default());
        let state = Mutex::new(State { authors, bytes: 0, last_fill: 0 });
        Self { config, lateness, state, metrics }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    /// Takes up events that the store holds. To be told before they are routed: then whoever subscribed too late
    /// to hear them finds them here.
    pub fn take(&self, events: &[&Arc<Event>], writer: WrittenBy) {
        let (position, accepted_at) = match writer {
            WrittenBy::Here(position) => (position, None),
            WrittenBy::Elsewhere { heard_at } => (0, Some(heard_at)),
        };
        let mut state = self.state();
        for event in events {
            state.change(&event.pubkey(), |author| {
                match event.kind() {
                    kind::DELETION => author.delete(event),
                    kind::VANISH => author.vanish(event),
                    _ => {}
                }
                author.insert(event, position, accepted_at, self.config.max_events);
            });
            let has_too_many = |author: &Author| author.deletions() > self.config.max_events;
            if state.authors.peek(&event.pubkey()).is_some_and(has_too_many) {
                state.forget(&event.pubkey());
            }
        }
        self.settle(state);
    }

    /// Forgets authors of whom nobody knows what became of something that they wrote.
    pub fn forget(&self, authors: impl IntoIterator<Item = PublicKey>) {
        let mut state = self.state();
        for author in authors {
            state.forget(&author);
        }
        self.settle(state);
    }

    /// The next page, if it can be told from memory.
    pub fn answer(&self, query: &Query, mut cursor: Cursor, heard: &Heard) -> Option<Page> {
        let mut state = self.state();
        for author in query.filters.iter().flat_map(|(filter, _)| filter.authors.iter().flatten()) {
            state.authors.promote(author);
        }
        let mut scan = Scan::new(&state.authors, query, &cursor, heard)?;
        let mut page = Page::new();
        while let Some(found) = scan.next() {
            let Found { place, item, .. } = found;
            if scan.is_barred(&cursor.progress, Some(place)) {
                return None;
            }
            if found.is_expired(query.now) {
                continue;
            }
            let filters = query.filters.iter().enumerate();
            let matching: Vec<usize> =
                filters.filter(|(_, (filter, _))| filter.matches(&found)).map(|(index, _)| index).collect();
            let (Reverse(created_at), id) = place;
            if FilterProgress::offer(&mut cursor.progress, &matching, created_at) {
                let Item { position, accepted_at, json, .. } = item;
                page.push(Entry { id, created_at, position: *position, accepted_at: *accepted_at, json });
            }
            cursor.scanned += 1;
            if !cursor.progress.iter().any(FilterProgress::is_open) {
                break;
            }
            if page.bytes() >= self.config.page_bytes {
                cursor.after = Some((created_at, id));
                page.next = Some(cursor);
                return Some(page);
            }
        }
        if scan.is_barred(&cursor.progress, None) {
            return None;
        }
        page.end = End::of(&cursor.progress);
        Some(page)
    }

    /// What is to be read so that such a question can be answered the next time. An author is listened
    /// to first, for as long as an event may be late: one that was deleted before the store is read, and is
    /// heard of after that, is then known to be deleted.
    pub fn want(&self, query: &Query, heard: &Heard) -> Vec<Wanted> {
        let mut state = self.state();
        let mut wanted = Vec::new();
        for (filter, limit) in query.filters.iter().filter(|(_, limit)| limit.events > 0) {
            // One more than may be sent: whether there is more is to be known, too.
            let limit = limit.most().saturating_add(1);
            let is_newest = filter.until.is_none_or(|until| until >= query.now);
            if limit <= self.config.max_events && is_newest {
                let filter = Filter { until: None, ..filter.clone() };
                let asked = (filter, limit);
                wanted.extend(state.want(asked, query.now, heard, self.lateness));
            }
        }
        self.settle(state);
        wanted
    }

    /// Takes up an event that a read of the store found.
    pub fn fill(&self, fill: Fill, event: &Event, position: Position, accepted_at: Option<Moment>) {
        self.state().change(&event.pubkey(), |author| {
            if author.is_filled_by(event.kind(), fill) {
                author.insert(event, position, accepted_at, self.config.max_events);
            }
        });
    }

    /// Notes that a read of the store is over. `to`: every event down to there was found; `None`: the read failed.
    pub fn end(&self, Wanted { fill, query }: &Wanted, to: Option<Place>) {
        let mut state = self.state();
        for author in query.filters.iter().flat_map(|(filter, _)| filter.authors.iter().flatten()) {
            state.change(author, |author| {
                if let Some(to) = to {
                    author.complete(*fill, to, self.config.max_events);
                }
                author.end(*fill);
            });
        }
        self.settle(state);
    }

    /// Keeps the memory within its bounds, and shows how much there is.
    fn settle(&self, mut state: MutexGuard<'_, State>) {
        while state.bytes > self.config.bytes()
            && let Some((_, author)) = state.authors.pop_lru()
        {
            state.bytes -= author.bytes();
        }
        self.metrics.feed_bytes.set(state.bytes as i64);
        self.metrics.feed_authors.set(state.authors.len() as i64);
    }
}

impl State {
    /// Changes an author who is kept.
    fn change(&mut self, author: &PublicKey, change: impl FnOnce(&mut Author)) {
        if let Some(author) = self.authors.peek_mut(author) {
            let before = author.bytes();
            change(author);
            self.bytes = self.bytes - before + author.bytes();
        }
    }

    fn forget(&mut self, author: &PublicKey) {
        if let Some(author) = self.authors.pop(author) {
            self.bytes -= author.bytes();
        }
    }

    fn want(
        &mut self,
        (mut filter, limit): (Filter, usize),
        now: Timestamp,
        heard: &Heard,
        lateness: Duration,
    ) -> Option<Wanted> {
        let (authors, kinds) = (filter.authors.take()?, filter.kinds.clone()?);
        let floor = end_of(filter.since.unwrap_or_default());
        let (mut cold, mut short) = (Vec::new(), Vec::new());
        for &author in &authors {
            let Some(&hearing) = heard.get(&author) else { continue };
            if self.authors.peek(&author).is_none_or(|known| known.hearing != hearing) {
                self.forget(&author);
                let newcomer = Author::new(author, hearing);
                self.bytes += newcomer.bytes();
                self.authors.put(author, newcomer);
            }
            let Some(known) = self.authors.get(&author) else { continue };
            if known.since.elapsed() < lateness || kinds.iter().any(|&kind| known.is_filling(kind)) {
                continue;
            }
            if kinds.iter().any(|&kind| known.feed(kind).is_none()) {
                cold.push(author);
            } else if !kinds.iter().all(|&kind| known.reaches(kind, floor)) {
                short.push(author);
            }
        }
        // Those who are not there at all are likely what was missing.
        let authors = if cold.is_empty() { short } else { cold };
        if authors.is_empty() {
            return None;
        }
        self.last_fill += 1;
        let fill = self.last_fill;
        for author in &authors {
            self.change(author, |author| kinds.iter().for_each(|&kind| author.begin(kind, fill)));
        }
        filter.authors = Some(authors.into());
        let filters = vec![(filter, Limit::exactly(limit))];
        Some(Wanted {
            fill,
            query: Arc::new(Query { filters, viewer: Viewer::Operator, now, content: Content::Events }),
        })
    }
}
