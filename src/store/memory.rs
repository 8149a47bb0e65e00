//! The naive store: everything in memory, every question a walk over all of it.
//!
//! It is what the other stores are tested against, so it has no index and no cache: it says in the
//! fewest words what is current and what is found.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Mutex, MutexGuard};

use super::{
    BatchOutcome, Counted, Cursor, End, Entry, FilterProgress, Identity, Load, Outcome, Page, Position,
    Query, Removed, Store, StoreError,
    log::Log,
    records::{self, Conditional, Gathering, Listed, Race, Record, RecordKind, Records},
};
use crate::{
    clock,
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, event, hll::HyperLogLog, kind},
};

/// A store in memory. Nothing in it is durable.
pub struct Memory {
    page: usize,
    identity: Identity,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// In the order of their positions. Expired events may be among them until [`Store::maintain`].
    events: Vec<Stored>,
    head: Position,
    /// The best version ever known of each address, whether or not it is still stored.
    ranks: BTreeMap<Address, Rank>,
    deleted_ids: BTreeSet<(EventId, PublicKey)>,
    deleted_addresses: BTreeMap<Address, Timestamp>,
    vanished: BTreeMap<PublicKey, Timestamp>,
    records: BTreeMap<(RecordKind, String), Lasting>,
}

/// A record, and until when it is one, in milliseconds.
struct Lasting {
    record: Record,
    until: Option<u64>,
}

struct Stored {
    event: Arc<Event>,
    position: Position,
}

/// Kind, author and `d`.
type Address = (u16, PublicKey, String);

/// The greater one wins its address: newest first, ties by lowest id (NIP-01).
type Rank = (Timestamp, Reverse<EventId>);

impl Memory {
    pub fn new() -> Self {
        Self::with_page(256)
    }

    /// `page`: how many events a page holds at most; at least one.
    pub fn with_page(page: usize) -> Self {
        Self { page: page.max(1), identity: Identity::Own(rand::random()), state: Mutex::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for Memory {
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        _until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        Box::pin(async move {
            let mut state = self.state();
            let mut ids = Vec::new();
            let outcomes = batch.iter().map(|event| state.write(event, now, &mut ids)).collect();
            Ok(BatchOutcome {
                outcomes,
                head: state.head,
                removed: Removed { ids, many: false },
                sequence: None,
                again: Vec::new(),
            })
        })
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        Box::pin(async move { Ok(self.state().query(&query, cursor, self.page)) })
    }

    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>> {
        Box::pin(async move { Ok(self.state().count(&query)) })
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Box::pin(async move {
            let mut state = self.state();
            state.remove(|event| event.is_expired(now));
            let swept = now.saturating_mul(1_000);
            state.records.retain(|_, lasting| lasting.until.is_none_or(|until| until > swept));
            Ok(false)
        })
    }

    fn abandoned(&self, _tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn head(&self) -> Position {
        self.state().head
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        None
    }

    fn records(&self) -> &dyn Records {
        self
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn load(&self) -> Load {
        Load::default()
    }
}

impl Records for Memory {
    fn get(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let record = self.state().record(kind, key);
        Box::pin(async move { Ok(record) })
    }

    fn list(
        &self,
        kind: RecordKind,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listed, StoreError>> {
        let listed = self.state().list(kind, prefix, after, limit);
        Box::pin(async move { Ok(listed) })
    }

    fn change(&self, conditional: Conditional) -> BoxFuture<'_, Race> {
        Box::pin(async move { self.state().change(conditional) })
    }
}

impl State {
    fn record(&self, kind: RecordKind, key: &str) -> Option<Record> {
        let Lasting { record, until } = self.records.get(&(kind, key.to_owned()))?;
        until.is_none_or(|until| until > clock::millis()).then(|| record.clone())
    }

    fn list(&self, kind: RecordKind, prefix: &str, after: Option<&str>, limit: usize) -> Listed {
        let mut page = Gathering::new(limit);
        let of_this = self.records.keys().filter(|(of, key)| {
            *of == kind && key.starts_with(prefix) && after.is_none_or(|after| &**key > after)
        });
        let mut there = of_this.filter_map(|(kind, key)| self.record(*kind, key));
        let is_more = !there.all(|record| page.push(record));
        page.end(is_more)
    }

    /// Puts another record in place of the expected version, or none.
    fn change(&mut self, conditional: Conditional) -> Race {
        let Conditional { kind, key, expected, version, value, expires_in } = conditional;
        let found = self.record(kind, &key);
        if found.as_ref().map(|found| found.version) != expected {
            return Race::Overtaken(found);
        }
        match value {
            Some(value) => {
                let until = expires_in.map(records::expires_at);
                let record = Record { key: key.clone(), value, version };
                self.records.insert((kind, key), Lasting { record, until })
            }
            None => self.records.remove(&(kind, key)),
        };
        Race::Won(version)
    }

    /// Writes one event: the first reason to refuse it counts.
    fn write(&mut self, event: &Arc<Event>, now: Timestamp, removed: &mut Vec<EventId>) -> Outcome {
        if event.is_expired(now) {
            return Outcome::Expired;
        }
        // Not expired by the line above: what is stored is served.
        if self.events.iter().any(|stored| stored.event.id() == event.id()) {
            return Outcome::Duplicate;
        }
        if self.has_vanished(event) {
            return Outcome::Vanished;
        }
        if self.is_deleted(event) {
            removed.extend(self.note_rank(event));
            return Outcome::Deleted;
        }
        if address(event).is_some_and(|address| self.ranks.get(&address) > Some(&rank(event))) {
            return Outcome::Superseded;
        }
        removed.extend(self.note_rank(event));
        match event.kind() {
            kind::DELETION => removed.extend(self.delete(event)),
            kind::VANISH => removed.extend(self.vanish(event)),
            _ => {}
        }
        self.head += 1;
        self.events.push(Stored { event: event.clone(), position: self.head });
        Outcome::Stored
    }

    fn has_vanished(&self, event: &Event) -> bool {
        self.vanished.iter().any(|(author, mark)| event.vanishes_with(author, *mark))
    }

    fn is_deleted(&self, event: &Event) -> bool {
        let by_id =
            self.deleted_ids.iter().any(|(id, deleter)| *id == event.id() && event.is_deletable_by(deleter));
        let mark = address(event).and_then(|address| self.deleted_addresses.get(&address));
        by_id || mark.is_some_and(|mark| event.created_at() <= *mark)
    }

    /// Remembers the version of the event's address if it is the best so far, and removes the one
    /// that it beats. A version refused as deleted counts too: whatever the order of arrival, what
    /// the deleted winner had superseded is not served.
    fn note_rank(&mut self, event: &Event) -> Vec<EventId> {
        let Some(address) = address(event) else { return Vec::new() };
        let rank = rank(event);
        let best = self.ranks.entry(address.clone()).or_insert(rank);
        *best = rank.max(*best);
        let best = *best;
        self.remove(|stored| self::address(stored).as_ref() == Some(&address) && self::rank(stored) < best)
    }

    /// Carries out a deletion request (NIP-09).
    fn delete(&mut self, request: &Event) -> Vec<EventId> {
        let author = request.pubkey();
        let mut removed = Vec::new();
        for id in request.tags().values("e").filter_map(EventId::from_hex) {
            self.deleted_ids.insert((id, author));
            removed.extend(self.remove(|event| event.id() == id && event.is_deletable_by(&author)));
        }
        for named in request.tags().values("a").filter_map(event::Address::parse) {
            if named.pubkey != author {
                continue;
            }
            let named = (named.kind, named.pubkey, named.identifier.to_owned());
            let mark = self.deleted_addresses.entry(named.clone()).or_default();
            *mark = request.created_at().max(*mark);
            let mark = *mark;
            removed.extend(
                self.remove(|event| address(event).as_ref() == Some(&named) && event.created_at() <= mark),
            );
        }
        removed
    }

    /// Carries out a request to vanish (NIP-62).
    fn vanish(&mut self, request: &Event) -> Vec<EventId> {
        let author = request.pubkey();
        let mark = self.vanished.entry(author).or_default();
        *mark = request.created_at().max(*mark);
        let mark = *mark;
        self.remove(|event| event.vanishes_with(&author, mark))
    }

    fn remove(&mut self, gone: impl Fn(&Event) -> bool) -> Vec<EventId> {
        self.events.extract_if(.., |stored| gone(&stored.event)).map(|stored| stored.event.id()).collect()
    }

    fn query(&self, query: &Query, mut cursor: Cursor, limit: usize) -> Page {
        let mut page = Page::of(query.content);
        for Stored { event, position } in self.served(query) {
            let (id, created_at) = (event.id(), event.created_at());
            if cursor.after.is_some_and(|(at, last)| (Reverse(created_at), id) <= (Reverse(at), last)) {
                continue;
            }
            if !cursor.progress.iter().any(|progress| progress.is_open()) {
                break;
            }
            if page.len() == limit {
                page.end = End::Unknown;
                page.next = Some(cursor);
                return page;
            }
            let filters = query.filters.iter().enumerate();
            let matching: Vec<usize> =
                filters.filter(|(_, (filter, _))| filter.matches(&**event)).map(|(index, _)| index).collect();
            let wanted = FilterProgress::offer(&mut cursor.progress, &matching, created_at);
            if wanted {
                page.push(Entry {
                    id,
                    created_at,
                    position: *position,
                    accepted_at: None,
                    json: &query.content.text(event.json(), &event.pubkey()),
                });
            }
            cursor.after = Some((created_at, id));
            cursor.scanned += 1;
        }
        page.end = End::of(&cursor.progress);
        page
    }

    fn count(&self, query: &Query) -> Counted {
        let mut hll = match &query.filters[..] {
            [(filter, _)] => HyperLogLog::for_filter(filter),
            _ => None,
        };
        let mut count = 0;
        for Stored { event, .. } in self.served(query) {
            if query.filters.iter().any(|(filter, _)| filter.matches(&**event)) {
                count += 1;
                if let Some(hll) = &mut hll {
                    hll.add(&event.pubkey());
                }
            }
        }
        Counted { count, approximate: false, hll }
    }

    /// All that the viewer may be served at the time of the query: newest first, ties by lowest id.
    fn served(&self, query: &Query) -> Vec<&Stored> {
        let mut served: Vec<&Stored> =
            self.events.iter().filter(|stored| query.may_serve(&*stored.event)).collect();
        served.sort_by_key(|stored| (Reverse(stored.event.created_at()), stored.event.id()));
        served
    }
}

fn address(event: &Event) -> Option<Address> {
    let identifier = event.address_identifier()?;
    Some((event.kind(), event.pubkey(), identifier.to_owned()))
}

fn rank(event: &Event) -> Rank {
    (event.created_at(), Reverse(event.id()))
}
