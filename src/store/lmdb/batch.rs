//! A batch: decides what each of its events does to the store, in one transaction.

use std::sync::Arc;

use heed::{PutFlags, RwTxn};

use super::{
    room::Room,
    rows::Rows,
    schema::{AddressKey, NEXT, Rank, Tables, address_key, address_key_of, deleted_id_key, number},
    stored_event::{self, StoredEvent},
};
use crate::{
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, event::Address, kind},
    store::{Outcome, Position, Removed},
};

type Result<T> = heed::Result<T>;

/// One transaction, and what it is going to put into the indexes.
pub struct Batch<'w, 't> {
    pub txn: &'t mut RwTxn<'w>,
    pub tables: &'t Tables,
    pub now: Timestamp,
    pub rows: Rows,
    next: Position,
    room: Room,
    removed: Removed,
    /// Authors whose events are to be hidden from now on, and up to when.
    vanishing: Vec<(PublicKey, Timestamp)>,
}

/// What is to be known of a batch when its transaction is committed.
pub struct Finished {
    pub next: Position,
    pub removed: Removed,
    pub vanishing: Vec<(PublicKey, Timestamp)>,
}

impl<'w, 't> Batch<'w, 't> {
    /// `next`: the position of the next event that is stored.
    pub fn new(
        txn: &'t mut RwTxn<'w>,
        tables: &'t Tables,
        next: Position,
        now: Timestamp,
        room: Room,
    ) -> Self {
        Self {
            txn,
            tables,
            now,
            rows: Rows::default(),
            next,
            room,
            removed: Removed::default(),
            vanishing: Vec::new(),
        }
    }

    /// Writes down what was collected. The transaction is yet to be committed.
    pub fn finish(mut self) -> Result<Finished> {
        // A batch that changes nothing needs no room.
        let next = self.next.to_be_bytes();
        if self.tables.meta.get(self.txn, NEXT)? != Some(&next) {
            self.tables.meta.put(self.txn, NEXT, &next)?;
        }
        self.apply_rows()?;
        Ok(Finished { next: self.next, removed: self.removed, vanishing: self.vanishing })
    }

    /// Writes the index rows that were collected up to here.
    pub fn apply_rows(&mut self) -> Result<()> {
        std::mem::take(&mut self.rows).apply(self.txn, self.tables)
    }

    /// Decides about one event. The order of the questions is the contract of `Store::write`.
    pub fn event(&mut self, event: &Arc<Event>) -> Result<Outcome> {
        if event.is_expired(self.now) {
            return Ok(Outcome::Expired);
        }
        if let Some(mark) = self.vanished_with(event)?
            && event.created_at() <= mark
        {
            return Ok(Outcome::Vanished);
        }
        let id = event.id();
        if self.tables.id.get(self.txn, &id.0)?.is_some() {
            return Ok(Outcome::Duplicate);
        }
        let rank = Rank { created_at: event.created_at(), id, position: self.next };
        let address = address_key_of(event);
        let is_deletion = matches!(event.kind(), kind::DELETION | kind::VANISH);
        let shortage = self.room.shortage_for(is_deletion);
        if self.is_deleted(event, address.as_ref())? {
            if shortage.is_none()
                && let Some(address) = &address
            {
                self.note_rank(address, Rank { position: 0, ..rank })?;
            }
            return Ok(Outcome::Deleted);
        }
        if let Some(address) = &address
            && self.rank(address)?.is_some_and(|best| best.is_better_than(&rank))
        {
            return Ok(Outcome::Superseded);
        }
        if let Some(shortage) = shortage {
            return Ok(Outcome::NoSpace(shortage));
        }
        if let Some(address) = &address {
            self.note_rank(address, rank)?;
        }
        self.insert(event)?;
        match event.kind() {
            kind::DELETION => self.delete(event)?,
            kind::VANISH => self.vanish(event)?,
            _ => {}
        }
        Ok(Outcome::Stored)
    }

    fn rank(&self, address: &AddressKey) -> Result<Option<Rank>> {
        Ok(self.tables.address.get(self.txn, address)?.and_then(Rank::from_bytes))
    }

    /// Notes a rank if it is the best so far, and takes away the version that it supersedes.
    fn note_rank(&mut self, address: &AddressKey, rank: Rank) -> Result<()> {
        let best = self.rank(address)?;
        if best.is_some_and(|best| best.is_better_than(&rank)) {
            return Ok(());
        }
        if let Some(best) = best
            && best.position != 0
        {
            self.remove(best.position)?;
        }
        self.tables.address.put(self.txn, address, &rank.to_bytes())
    }

    /// The newest request to vanish that would take this event away.
    fn vanished_with(&self, event: &Event) -> Result<Option<Timestamp>> {
        if event.kind() == kind::VANISH {
            return Ok(None);
        }
        let mark = |key: &PublicKey| -> Result<Option<Timestamp>> {
            Ok(self.tables.vanished.get(self.txn, &key.0)?.and_then(number))
        };
        let mut newest = mark(&event.pubkey())?;
        if event.kind() == kind::GIFT_WRAP {
            for recipient in event.tags().values("p").filter_map(PublicKey::from_hex) {
                newest = newest.max(mark(&recipient)?);
            }
        }
        Ok(newest)
    }

    fn is_deleted(&self, event: &Event, address: Option<&AddressKey>) -> Result<bool> {
        if let Some(address) = address {
            let mark = self.tables.deleted_address.get(self.txn, address)?.and_then(number);
            if mark.is_some_and(|mark| event.created_at() <= mark) {
                return Ok(true);
            }
        }
        let by = |author: &PublicKey| -> Result<bool> {
            let key = deleted_id_key(&event.id(), author);
            Ok(event.is_deletable_by(author) && self.tables.deleted_id.get(self.txn, &key)?.is_some())
        };
        if by(&event.pubkey())? {
            return Ok(true);
        }
        if event.kind() == kind::GIFT_WRAP {
            for recipient in event.tags().values("p").filter_map(PublicKey::from_hex) {
                if by(&recipient)? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    fn insert(&mut self, event: &Event) -> Result<()> {
        let position = self.next;
        self.next += 1;
        let bytes = stored_event::encode(event);
        self.tables.event.put_with_flags(self.txn, PutFlags::APPEND, &position.to_be_bytes(), &bytes)?;
        self.tables.id.put(self.txn, &event.id().0, &position.to_be_bytes())?;
        if let Some(record) = StoredEvent::decode(&bytes) {
            self.rows.change(&record, position, true, self.tables.tag_hash);
        }
        Ok(())
    }

    /// Takes an event away, with all its rows, if it is there. Its rank stays: positions are never
    /// used again, so that a rank may point to nothing.
    pub fn remove(&mut self, position: Position) -> Result<()> {
        let key = position.to_be_bytes();
        let Some(bytes) = self.tables.event.get(self.txn, &key)? else { return Ok(()) };
        let Some(record) = StoredEvent::decode(bytes) else { return Ok(()) };
        self.rows.change(&record, position, false, self.tables.tag_hash);
        let id = *record.id();
        self.removed.ids.push(id);
        self.tables.id.delete(self.txn, &id.0)?;
        self.tables.event.delete(self.txn, &key)?;
        Ok(())
    }

    /// Carries out a deletion request (NIP-09).
    fn delete(&mut self, request: &Event) -> Result<()> {
        let author = request.pubkey();
        for id in request.tags().values("e").filter_map(EventId::from_hex) {
            self.tables.deleted_id.put(self.txn, &deleted_id_key(&id, &author), &[])?;
            let Some(position) = self.tables.id.get(self.txn, &id.0)?.and_then(number) else { continue };
            let record =
                self.tables.event.get(self.txn, &position.to_be_bytes())?.and_then(StoredEvent::decode);
            if record.is_some_and(|record| record.is_deletable_by(&author)) {
                self.remove(position)?;
            }
        }
        for address in request.tags().values("a").filter_map(Address::parse) {
            if address.pubkey != author {
                continue;
            }
            let key = address_key(&author, address.kind, address.identifier);
            let mark = self.tables.deleted_address.get(self.txn, &key)?.and_then(number);
            let mark = mark.unwrap_or_default().max(request.created_at());
            self.tables.deleted_address.put(self.txn, &key, &mark.to_be_bytes())?;
            if let Some(rank) = self.rank(&key)?
                && rank.position != 0
                && rank.created_at <= mark
            {
                self.remove(rank.position)?;
            }
        }
        Ok(())
    }

    /// Takes up a request to vanish (NIP-62): marks the author and leaves the removal, which may be long, to sweeps.
    fn vanish(&mut self, request: &Event) -> Result<()> {
        let author = request.pubkey();
        let mark = self.tables.vanished.get(self.txn, &author.0)?.and_then(number);
        let mark = mark.unwrap_or_default().max(request.created_at());
        self.tables.vanished.put(self.txn, &author.0, &mark.to_be_bytes())?;
        self.tables.vanishing.put(self.txn, &author.0, &mark.to_be_bytes())?;
        self.vanishing.push((author, mark));
        self.removed.many = true;
        Ok(())
    }
}
