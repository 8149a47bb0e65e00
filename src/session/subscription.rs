//! A subscription of a connection: what is being read for it, what is held back, what may come twice.

use std::{hash::BuildHasher, sync::Arc, time::Instant};

use crate::{
    clock::{self, Moment},
    config::Limits,
    protocol::{Event, EventId, Filter, Viewer, kind},
    route::Generation,
    store::{Content, Cursor, Entry, Limit, Position, Query},
    trace::Trace,
};

/// The part of a limit that may be sent beyond it, so that the last second is whole: a tenth.
const BOUNDARY_PART: usize = 10;

/// One subscription of a connection.
pub(super) struct Subscription {
    pub generation: Generation,
    pub id: Box<str>,
    /// The id as JSON.
    pub quoted: Box<str>,
    /// What the store held when the REQ came. Of that, the answer of the store is the whole: an event
    /// that is routed only now, because its publisher is answered first, is not live for this one.
    pub stored: Position,
    /// Routing keys, counted against the connection's bound.
    pub keys: usize,
    /// How long the message was, counted likewise: what its filters take grows with it.
    pub bytes: usize,
    /// Whether it names activity, which not everybody may see.
    pub wants_activity: bool,
    pub phase: Phase,
}

pub(super) enum Phase {
    /// Stored events are being read and sent; live ones are held back.
    Stored(Box<Reading>),
    /// Live events are sent at once.
    Live(SentIds),
}

/// Ids of stored events that were sent and may yet come live: they were committed while the
/// subscription began, or accepted by another node not long ago. Of each a hash of 8 bytes is kept, keyed so
/// that nobody can make an id that is mistaken for another: there may be thousands for an hour.
#[derive(Default)]
pub(super) struct SentIds {
    /// Sorted by [`Self::settle`].
    ids: Vec<u64>,
    hasher: foldhash::quality::RandomState,
    /// Once everything of this node up to here is routed, none of its own comes any more; 0 then.
    position: Position,
    /// When the last of them was accepted; `None` where there are no other nodes.
    accepted_at: Option<Moment>,
}

/// Live events held back while stored ones are sent.
#[derive(Default)]
pub(super) struct Held {
    pub events: Vec<Arc<Event>>,
    pub bytes: usize,
}

/// Where a subscription stands whose stored events are being sent.
pub(super) struct Reading {
    pub begun: Instant,
    pub query: Arc<Query>,
    pub cursor: Cursor,
    /// Everything up to here had been routed when the subscription began.
    pub routed: Position,
    pub held: Held,
    pub recent: SentIds,
    pub sent: usize,
    pub bytes: usize,
    pub trace: Trace,
}

impl Reading {
    pub fn new(filters: &[Filter], limits: &Limits, viewer: &Viewer, trace: Trace) -> Self {
        let query = Arc::new(query(filters, limits, viewer));
        let cursor = Cursor::start(&query);
        let (held, recent) = (Held::default(), SentIds::default());
        Self { begun: Instant::now(), query, cursor, routed: 0, held, recent, sent: 0, bytes: 0, trace }
    }

    /// Whether everything that the filters can ever match was sent: ids, all of them found.
    pub fn is_complete(&self) -> bool {
        match &*self.query.filters {
            [(filter, limit)] => {
                filter.ids.as_ref().is_some_and(|ids| ids.len() == self.sent && self.sent <= limit.events)
            }
            _ => false,
        }
    }
}

/// Whether one of the filters names activity.
pub(super) fn wants_activity<'a>(filters: impl IntoIterator<Item = &'a Filter>) -> bool {
    filters.into_iter().any(|filter| filter.matches_kind(kind::ACTIVITY))
}

/// The question to the store: limits put in, and how much more completes a second.
pub(super) fn query(filters: &[Filter], limits: &Limits, viewer: &Viewer) -> Query {
    let limit = |filter: &Filter| {
        let events = filter.limit.unwrap_or(limits.default_limit).min(limits.max_limit);
        Limit { events, boundary: (events / BOUNDARY_PART).min(limits.max_boundary_events) }
    };
    Query {
        filters: filters.iter().map(|filter| (filter.clone(), limit(filter))).collect(),
        viewer: viewer.clone(),
        now: clock::now(),
        content: Content::Events,
    }
}

impl SentIds {
    /// Whether the event was sent as a stored one.
    pub fn contains(&self, id: &EventId) -> bool {
        !self.ids.is_empty() && self.ids.binary_search(&self.hasher.hash_one(id.0)).is_ok()
    }

    /// Everything of this node up to `routed` had been routed when the subscription began.
    pub fn note(&mut self, entry: &Entry<'_>, routed: Position) {
        self.ids.push(self.hasher.hash_one(entry.id.0));
        if entry.position > routed {
            self.position = self.position.max(entry.position);
        }
        self.accepted_at = self.accepted_at.max(entry.accepted_at);
    }

    /// Sorts the ids, once all of them are noted.
    pub fn settle(&mut self) {
        self.ids.sort_unstable();
        self.ids.shrink_to_fit();
    }

    /// Lets go of ids that can not come live any more: of this node, if everything up to `position` is routed; of any
    /// node, if everything accepted up to that time has come.
    pub fn forget(&mut self, position: Option<Position>, accepted_at: Moment) {
        if position.is_some_and(|position| position >= self.position) {
            self.position = 0;
        }
        if self.position == 0 && Some(accepted_at) >= self.accepted_at {
            self.ids = Vec::new();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(seconds: u64) -> Moment {
        Moment::new(Duration::from_secs(seconds))
    }

    fn entry(nth: u16, position: Position, accepted_at: u64) -> Entry<'static> {
        let accepted_at = Some(at(accepted_at));
        let mut id = EventId([7; 32]);
        id.0[..2].copy_from_slice(&nth.to_be_bytes());
        Entry { id, created_at: 0, position, accepted_at, json: "" }
    }

    #[test]
    fn ids_are_known_while_they_may_come_and_take_eight_bytes() {
        let mut recent = SentIds::default();
        // Most were written elsewhere; one by this node while the subscription began.
        (0..5_000).for_each(|nth| recent.note(&entry(nth, 0, 1_000), 10));
        recent.note(&entry(5_000, 11, 900), 10);
        recent.settle();
        assert!((0..=5_000).all(|nth| recent.contains(&entry(nth, 0, 0).id)));
        assert!((5_001..9_000).all(|nth| !recent.contains(&entry(nth, 0, 0).id)));
        assert_eq!(recent.ids.capacity() * size_of::<u64>(), 40_008);
        recent.forget(Some(10), at(2_000));
        recent.forget(Some(11), at(999));
        assert!(recent.contains(&entry(5_000, 0, 0).id));
        // Nothing of this node is awaited any more, so nobody need deliver anything of it.
        recent.forget(None, at(1_000));
        assert_eq!(recent.ids.capacity(), 0);
    }
}
