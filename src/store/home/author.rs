//! What is kept of one author: of some kinds the newest events, and what takes events away. A plain struct.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, HashSet, btree_map::Entry},
    time::Instant,
};

use crate::{
    clock::Moment,
    protocol::{Audience, Event, EventId, Fields, PublicKey, TagFilter, Timestamp},
    store::{Position, tap::Hearing},
};

/// Bytes that an author, an event and a remembered deletion take beside texts, about.
const AUTHOR_BYTES: usize = 256;
const FEED_BYTES: usize = 96;
const ITEM_BYTES: usize = 160;
const DELETED_BYTES: usize = 48;

/// Where an event stands in the order of answers: newest first, ties by lowest id.
pub type Place = (Reverse<Timestamp>, EventId);

/// Names a read of the store that fills feeds.
pub type Fill = u64;

/// The place before every event of a second.
pub const fn top_of(second: Timestamp) -> Place {
    (Reverse(second), EventId([0; 32]))
}

/// The place behind every event of a second.
pub const fn end_of(second: Timestamp) -> Place {
    (Reverse(second), EventId([u8::MAX; 32]))
}

/// An event of an author.
pub struct Found<'a> {
    pub place: Place,
    pub item: &'a Item,
    pub author: PublicKey,
    pub kind: u16,
}

/// One author, listened to without a break.
pub struct Author {
    key: PublicKey,
    /// The time of listening in which everything here came: another one means that there was a break.
    pub hearing: Hearing,
    pub since: Instant,
    feeds: Vec<Feed>,
    /// Ids that the author's deletion requests have named since (NIP-09). Their events may come later.
    deleted: HashSet<EventId>,
    /// The date of the newest request to vanish that has come since (NIP-62).
    vanished: Option<Timestamp>,
    bytes: usize,
}

/// The newest events of a kind.
pub struct Feed {
    kind: u16,
    pub items: BTreeMap<Place, Item>,
    /// Every event up to there is in `items`; `None`: nothing was read yet.
    pub complete_to: Option<Place>,
    filling: Option<Fill>,
}

/// An event, as far as it takes to serve it.
pub struct Item {
    pub expiration: Option<Timestamp>,
    /// As in [`Entry`](crate::store::Entry).
    pub position: Position,
    pub accepted_at: Option<Moment>,
    pub json: Box<str>,
}

impl Item {
    fn bytes(&self) -> usize {
        self.json.len() + ITEM_BYTES
    }
}

impl Author {
    pub fn new(key: PublicKey, hearing: Hearing) -> Self {
        Self {
            key,
            hearing,
            since: Instant::now(),
            feeds: Vec::new(),
            deleted: HashSet::new(),
            vanished: None,
            bytes: AUTHOR_BYTES,
        }
    }

    pub fn feed(&self, kind: u16) -> Option<&Feed> {
        self.feeds.iter().find(|feed| feed.kind == kind)
    }

    /// Whether every event of the kind is known down to the floor.
    pub fn reaches(&self, kind: u16, floor: Place) -> bool {
        self.feed(kind).and_then(|feed| feed.complete_to).is_some_and(|to| to >= floor)
    }

    pub fn is_filling(&self, kind: u16) -> bool {
        self.feed(kind).is_some_and(|feed| feed.filling.is_some())
    }

    pub fn is_filled_by(&self, kind: u16, fill: Fill) -> bool {
        self.feed(kind).is_some_and(|feed| feed.filling == Some(fill))
    }

    /// Keeps what comes of the kind from now on, while the store is read for it.
    pub fn begin(&mut self, kind: u16, fill: Fill) {
        match self.feeds.iter_mut().find(|feed| feed.kind == kind) {
            Some(feed) => feed.filling = Some(fill),
            None => {
                let items = BTreeMap::new();
                self.feeds.push(Feed { kind, items, complete_to: None, filling: Some(fill) });
                self.bytes += FEED_BYTES;
            }
        }
    }

    /// Notes that the store was read down to there.
    pub fn complete(&mut self, fill: Fill, to: Place, most: usize) {
        for feed in self.feeds.iter_mut().filter(|feed| feed.filling == Some(fill)) {
            feed.complete_to = feed.complete_to.max(Some(to));
            self.bytes -= feed.trim(most);
        }
    }

    /// Notes that a read of the store is over, however it ended.
    pub fn end(&mut self, fill: Fill) {
        for feed in self.feeds.iter_mut().filter(|feed| feed.filling == Some(fill)) {
            feed.filling = None;
        }
        // Nobody can be answered from a feed that was never read.
        let is_unread = |feed: &mut Feed| feed.filling.is_none() && feed.complete_to.is_none();
        for feed in self.feeds.extract_if(.., is_unread) {
            self.bytes -= FEED_BYTES + feed.items.values().map(Item::bytes).sum::<usize>();
        }
    }

    /// Takes up an event that the store holds. `most`: how many are kept of a kind.
    pub fn insert(&mut self, event: &Event, position: Position, accepted_at: Option<Moment>, most: usize) {
        let (kind, place) = (event.kind(), (Reverse(event.created_at()), event.id()));
        if self.hides(event) {
            return;
        }
        let Some(feed) = self.feeds.iter_mut().find(|feed| feed.kind == kind) else { return };
        if feed.filling.is_none() && feed.complete_to.is_some_and(|to| place > to) {
            return;
        }
        match feed.items.entry(place) {
            Entry::Occupied(mut known) => {
                let known = known.get_mut();
                known.position = known.position.max(position);
                known.accepted_at = known.accepted_at.max(accepted_at);
            }
            Entry::Vacant(vacant) => {
                let (expiration, json) = (event.expiration(), event.json().into());
                let item = Item { expiration, position, accepted_at, json };
                self.bytes += item.bytes();
                vacant.insert(item);
            }
        }
        if feed.filling.is_none() {
            self.bytes -= feed.trim(most);
        }
    }

    /// Carries out a request of the author to delete.
    pub fn delete(&mut self, request: &Event) {
        for id in request.tags().values("e").filter_map(EventId::from_hex) {
            if self.deleted.insert(id) {
                self.bytes += DELETED_BYTES;
            }
        }
        self.remove_hidden();
    }

    /// Carries out a request of the author to vanish.
    pub fn vanish(&mut self, request: &Event) {
        self.vanished = self.vanished.max(Some(request.created_at()));
        self.remove_hidden();
    }

    fn remove_hidden(&mut self) {
        let mut feeds = std::mem::take(&mut self.feeds);
        for feed in &mut feeds {
            let (author, kind) = (self.key, feed.kind);
            let hides =
                |place: &Place, item: &mut Item| self.hides(&Found { place: *place, item, author, kind });
            let hidden = feed.items.extract_if(.., hides);
            let freed: usize = hidden.map(|(_, item)| item.bytes()).sum();
            self.bytes -= freed;
        }
        self.feeds = feeds;
    }

    fn hides(&self, event: &impl Fields) -> bool {
        let deleted = self.deleted.contains(event.id()) && event.is_deletable_by(&self.key);
        deleted || self.vanished.is_some_and(|until| event.vanishes_with(&self.key, until))
    }

    /// How many ids are remembered as deleted.
    pub fn deletions(&self) -> usize {
        self.deleted.len()
    }

    /// The memory that the author takes, about.
    pub fn bytes(&self) -> usize {
        self.bytes
    }
}

impl Feed {
    /// Keeps the newest events only: how many bytes that gives back.
    fn trim(&mut self, most: usize) -> usize {
        let mut freed = 0;
        while self.items.len() > most.max(1)
            && let Some((_, oldest)) = self.items.pop_last()
        {
            freed += oldest.bytes();
            let last = self.items.last_key_value().map(|(place, _)| *place);
            self.complete_to = self.complete_to.min(last);
        }
        freed
    }
}

impl Fields for Found<'_> {
    fn id(&self) -> &EventId {
        &self.place.1
    }

    fn pubkey(&self) -> &PublicKey {
        &self.author
    }

    fn created_at(&self) -> Timestamp {
        self.place.0.0
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    /// Questions with tags are not answered from here.
    fn has_tag(&self, _: &TagFilter) -> bool {
        false
    }
    /// Events for those who are mentioned only are not kept.
    fn mentions(&self, _: &[PublicKey]) -> bool {
        false
    }

    fn expiration(&self) -> Option<Timestamp> {
        self.item.expiration
    }

    /// What is for an audience is not kept.
    fn audience(&self) -> Option<Audience> {
        None
    }
}
