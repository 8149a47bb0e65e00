//! Writes batches: decides what each event does to the store, in one transaction a batch.
//!
//! Rows of the large indexes are collected and put in the order of their keys, which is most of
//! what makes a batch cheaper than its events one by one.

use std::{
    ops::Bound,
    sync::Arc,
    time::{Duration, Instant},
};

use heed::{Env, PutFlags, RwTxn, WithoutTls};

use super::{
    folder::Folder,
    hidden::Hidden,
    records,
    room::{Reserve, Room},
    schema::{
        AddressKey, Key, NEXT, Rank, Row, Table, Tables, TagHash, Tail, address_key, address_key_of,
        deleted_id_key, number,
    },
    stored_event::{self, StoredEvent},
};
use crate::{
    config,
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, event::Address, kind},
    store::{
        BatchOutcome, Outcome, Position, Removed,
        records::{Conditional, Race},
    },
};

/// The one that writes. Owned by the writing thread.
pub struct Writer {
    env: Env<WithoutTls>,
    tables: Tables,
    hidden: Hidden,
    next: Position,
    /// Where the removal of what vanished goes on.
    walk: Option<Walk>,
}

/// How much is removed in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    events: usize,
    time: Duration,
}

/// What is left of a slice.
struct SliceLeft {
    events: usize,
    until: Instant,
}

/// Events that are removed before the clock is looked at again.
const GROUP: usize = 32;

/// How far the rows have been looked through that may be of an author who vanishes. Nothing can join them, so
/// once is enough. A relay that is started again begins anew.
#[derive(Debug, Clone, Copy)]
struct Walk {
    author: PublicKey,
    until: Timestamp,
    part: Part,
    /// The last row of the part that was looked at.
    after: Option<Tail>,
}

/// The rows of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    Written,
    /// Gift wraps to the author are among these.
    Mentions,
}

/// One transaction, and what it is going to put into the indexes.
struct Batch<'w, 't> {
    txn: &'t mut RwTxn<'w>,
    tables: &'t Tables,
    next: Position,
    now: Timestamp,
    room: Room,
    rows: Rows,
    removed: Removed,
    /// Authors whose events are to be hidden from now on, and up to when.
    vanishing: Vec<(PublicKey, Timestamp)>,
}

/// What is to be known of a batch when its transaction is committed.
struct Finished {
    next: Position,
    removed: Removed,
    vanishing: Vec<(PublicKey, Timestamp)>,
}

/// Changes to the indexes, in the order in which they were decided. `None` takes a key away.
#[derive(Default)]
struct Rows {
    author: Vec<(Key, Option<Row>)>,
    author_kind: Vec<(Key, Option<Row>)>,
    kind: Vec<(Key, Option<Row>)>,
    tag: Vec<(Key, Option<Row>)>,
    time: Vec<(Key, Option<Row>)>,
    expiration: Vec<(Key, Option<Row>)>,
}

type Result<T> = heed::Result<T>;

impl Writer {
    pub fn new(env: Env<WithoutTls>, tables: Tables, hidden: Hidden) -> Result<Self> {
        let txn = env.read_txn()?;
        let next = tables.meta.get(&txn, NEXT)?.and_then(number).unwrap_or(1);
        drop(txn);
        hidden.reload(&env, &tables)?;
        Ok(Self { env, tables, hidden, next, walk: None })
    }

    /// Position of the last event written.
    pub fn head(&self) -> Position {
        self.next - 1
    }

    /// What there is room for.
    pub fn room(&self, reserve: &Reserve, folder: &Folder) -> Result<Room> {
        reserve.look(&self.env, &self.tables, folder)
    }

    /// Writes a batch, as far as there is room, and syncs it.
    pub fn write(&mut self, events: &[Arc<Event>], now: Timestamp, room: Room) -> Result<BatchOutcome> {
        let mut txn = self.env.write_txn()?;
        let mut batch = Batch::new(&mut txn, &self.tables, self.next, now);
        batch.room = room;
        let outcomes = events.iter().map(|event| batch.event(event)).collect::<Result<Vec<_>>>()?;
        let Finished { next, removed, vanishing } = batch.finish()?;
        // Hidden before anybody can read the request to vanish, and shown again if it fails.
        self.hidden.add(&vanishing);
        if let Err(error) = txn.commit() {
            self.hidden.reload(&self.env, &self.tables)?;
            return Err(error);
        }
        self.next = next;
        Ok(BatchOutcome { outcomes, head: self.head(), removed, sequence: None, again: Vec::new() })
    }

    /// Decides about records, and syncs.
    pub fn change_records<'c>(&self, all: impl Iterator<Item = &'c Conditional>) -> Result<Vec<Race>> {
        records::change(&self.env, &self.tables, all)
    }

    /// Commits once, with nothing new.
    pub fn turn(&mut self) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.tables.meta.put(&mut txn, NEXT, &self.next.to_be_bytes())?;
        txn.commit()
    }

    /// Removes some events that have expired or vanished; `true`: there may be more.
    pub fn maintain(&mut self, now: Timestamp, slice: Slice) -> Result<bool> {
        let mut budget = SliceLeft { events: slice.events, until: Instant::now() + slice.time };
        // Begun anew if the transaction fails.
        let mut walk = self.walk.take();
        let mut txn = self.env.write_txn()?;
        let mut batch = Batch::new(&mut txn, &self.tables, self.next, now);
        batch.remove_expired(&mut budget)?;
        batch.remove_expired_records(&mut budget)?;
        let struck = batch.remove_vanished(&mut walk, &mut budget)?;
        if budget.events < slice.events || struck {
            batch.finish()?;
            txn.commit()?;
        }
        if struck {
            self.hidden.reload(&self.env, &self.tables)?;
        }
        self.walk = walk;
        Ok(struck || walk.is_some() || budget.is_spent())
    }
}

impl From<&config::Store> for Slice {
    fn from(config: &config::Store) -> Self {
        Self { events: config.sweep_batch, time: Duration::from_millis(config.sweep_ms) }
    }
}

impl Slice {
    /// Half of it, if there is one.
    pub fn half(self) -> Option<Self> {
        (self.events > 1).then_some(Self { events: self.events / 2, ..self })
    }
}

impl SliceLeft {
    fn is_spent(&self) -> bool {
        self.events == 0 || Instant::now() >= self.until
    }

    /// Takes as many events as are removed next, at most.
    fn group(&self) -> usize {
        self.events.min(GROUP)
    }
}

impl Walk {
    fn begin(author: PublicKey, until: Timestamp) -> Self {
        Self { author, until, part: Part::Written, after: None }
    }

    /// What comes after the part; `None`: nothing.
    fn next_part(self) -> Option<Self> {
        let next = Self { part: Part::Mentions, after: None, ..self };
        (self.part == Part::Written).then_some(next)
    }
}

impl<'w, 't> Batch<'w, 't> {
    fn new(txn: &'t mut RwTxn<'w>, tables: &'t Tables, next: Position, now: Timestamp) -> Self {
        Self {
            txn,
            tables,
            next,
            now,
            room: Room::Plenty,
            rows: Rows::default(),
            removed: Removed::default(),
            vanishing: Vec::new(),
        }
    }

    fn finish(mut self) -> Result<Finished> {
        // A batch that changes nothing needs no room.
        let next = self.next.to_be_bytes();
        if self.tables.meta.get(self.txn, NEXT)? != Some(&next) {
            self.tables.meta.put(self.txn, NEXT, &next)?;
        }
        self.apply_rows()?;
        Ok(Finished { next: self.next, removed: self.removed, vanishing: self.vanishing })
    }

    fn apply_rows(&mut self) -> Result<()> {
        let Rows { author, author_kind, kind, tag, time, expiration } = std::mem::take(&mut self.rows);
        for (table, rows) in [
            (self.tables.author, author),
            (self.tables.author_kind, author_kind),
            (self.tables.kind, kind),
            (self.tables.tag, tag),
            (self.tables.time, time),
            (self.tables.expiration, expiration),
        ] {
            apply(self.txn, table, rows)?;
        }
        Ok(())
    }

    /// Decides about one event. The order of the questions is the contract of `Store::write`.
    fn event(&mut self, event: &Arc<Event>) -> Result<Outcome> {
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
    fn remove(&mut self, position: Position) -> Result<()> {
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

    /// NIP-09.
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

    /// NIP-62: marks the author and leaves the removal, which may be long, to `maintain`.
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

    fn remove_expired(&mut self, budget: &mut SliceLeft) -> Result<()> {
        while !budget.is_spent() {
            let expired = self.expired(budget.group())?;
            if expired.is_empty() {
                break;
            }
            budget.events -= expired.len();
            for (at, position) in expired {
                self.remove(position)?;
                // Also where the event was gone before, or the row would be met again for ever.
                self.rows.expiration.push((Key::expiration(at, position), None));
            }
            self.apply_rows()?;
        }
        Ok(())
    }

    fn remove_expired_records(&mut self, budget: &mut SliceLeft) -> Result<()> {
        let by = self.now.saturating_mul(1_000);
        while !budget.is_spent() {
            let removed = records::sweep(self.txn, self.tables, by, budget.group())?;
            if removed == 0 {
                break;
            }
            budget.events -= removed;
        }
        Ok(())
    }

    /// The first that have expired, and when.
    fn expired(&self, most: usize) -> Result<Vec<(Timestamp, Position)>> {
        let mut expired = Vec::new();
        for row in self.tables.expiration.iter(self.txn)?.take(most) {
            let (key, _) = row?;
            let (Some(at), Some(position)) = (key.get(..8).and_then(number), key.get(8..).and_then(number))
            else {
                continue;
            };
            if at > self.now {
                break;
            }
            expired.push((at, position));
        }
        Ok(expired)
    }

    /// Goes on with the first vanishing author. `true`: nothing is left of one, who was struck off the list.
    fn remove_vanished(&mut self, walk: &mut Option<Walk>, budget: &mut SliceLeft) -> Result<bool> {
        let Some((author, until)) = self.first_vanishing()? else {
            *walk = None;
            return Ok(false);
        };
        let is_of_this = |walk: &Walk| (walk.author, walk.until) == (author, until);
        let from = walk.filter(is_of_this).unwrap_or(Walk::begin(author, until));
        *walk = self.walk_on(from, budget)?;
        if walk.is_none() {
            self.tables.vanishing.delete(self.txn, &author.0)?;
        }
        Ok(walk.is_none())
    }

    /// Removes what is on the way, as far as the budget goes: where it goes on, `None` if nowhere.
    fn walk_on(&mut self, mut walk: Walk, budget: &mut SliceLeft) -> Result<Option<Walk>> {
        while !budget.is_spent() {
            let (found, last) = self.look(&walk, budget)?;
            budget.events -= found.len();
            for position in found {
                self.remove(position)?;
            }
            self.apply_rows()?;
            let next = match last {
                Some(_) => Some(Walk { after: last, ..walk }),
                None => walk.next_part(),
            };
            match next {
                Some(next) => walk = next,
                None => return Ok(None),
            }
        }
        Ok(Some(walk))
    }

    /// Finds some events that are to be removed. Also the last row looked at, if it is not the last of all.
    fn look(&self, walk: &Walk, budget: &SliceLeft) -> Result<(Vec<Position>, Option<Tail>)> {
        let Walk { author, until, part, after } = walk;
        let (table, prefix) = match part {
            Part::Written => (self.tables.author, Key::author(author)),
            Part::Mentions => (self.tables.tag, Key::tag(self.tables.tag_hash.of(b'p', &author.to_hex()))),
        };
        let first = prefix.tail(after.unwrap_or(Tail::first_at(*until)));
        let first = match after {
            Some(_) => Bound::Excluded(first.as_bytes()),
            None => Bound::Included(first.as_bytes()),
        };
        let last = prefix.tail(Tail::MAX);
        let mut found = Vec::new();
        for row in table.range(self.txn, &(first, Bound::Included(last.as_bytes())))? {
            let (key, row) = row?;
            if let Some(row) = Row::from_bytes(row)
                && self.vanishes(row, *part, (author, *until))?
            {
                found.push(row.position);
            }
            if found.len() >= budget.group() || budget.is_spent() {
                return Ok((found, Tail::of_key(key)));
            }
        }
        Ok((found, None))
    }

    fn vanishes(&self, row: Row, part: Part, (author, until): (&PublicKey, Timestamp)) -> Result<bool> {
        if row.kind == kind::VANISH || part == Part::Mentions && row.kind != kind::GIFT_WRAP {
            return Ok(false);
        }
        let bytes = self.tables.event.get(self.txn, &row.position.to_be_bytes())?;
        Ok(bytes.and_then(StoredEvent::decode).is_some_and(|record| record.vanishes_with(author, until)))
    }

    fn first_vanishing(&self) -> Result<Option<(PublicKey, Timestamp)>> {
        let Some((key, value)) = self.tables.vanishing.first(self.txn)? else { return Ok(None) };
        Ok(key.try_into().ok().map(PublicKey).zip(number(value)))
    }
}

impl Rows {
    /// Puts (or takes away) every index row of an event.
    fn change(&mut self, record: &StoredEvent<'_>, position: Position, put: bool, hash: TagHash) {
        let kind = record.kind();
        let row = put.then_some(Row { position, kind });
        let tail = Tail::new(record.created_at(), record.id());
        self.author.push((Key::author(record.pubkey()).tail(tail), row));
        self.author_kind.push((Key::author_kind(record.pubkey(), kind).tail(tail), row));
        self.kind.push((Key::kind(kind).tail(tail), row));
        self.time.push((Key::time().tail(tail), row));
        self.tag
            .extend(record.tags().map(|(letter, value)| (Key::tag(hash.of(letter, value)).tail(tail), row)));
        if let Some(at) = record.expiration() {
            self.expiration.push((Key::expiration(at, position), row));
        }
    }
}

/// Changes a table in the order of its keys. Of several changes to one key, the last one holds.
fn apply(txn: &mut RwTxn<'_>, table: Table, mut rows: Vec<(Key, Option<Row>)>) -> Result<()> {
    rows.sort_by_key(|(key, _)| *key);
    let mut rows = rows.into_iter().peekable();
    while let Some((key, row)) = rows.next() {
        if rows.peek().is_some_and(|(next, _)| *next == key) {
            continue;
        }
        match row {
            Some(row) => table.put(txn, key.as_bytes(), &row.to_bytes())?,
            None => {
                table.delete(txn, key.as_bytes())?;
            }
        }
    }
    Ok(())
}
