//! Sweeps: removes by and by what has expired, and what is of authors who vanished.

use std::{
    ops::Bound,
    time::{Duration, Instant},
};

use super::{
    batch::Batch,
    records,
    schema::{Key, Row, Tail, number},
    stored_event::StoredEvent,
};
use crate::{
    config,
    protocol::{Fields, PublicKey, Timestamp, kind},
    store::Position,
};

type Result<T> = heed::Result<T>;

/// How much is removed in one transaction.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    events: usize,
    time: Duration,
}

/// Some sweeping, in one transaction.
pub struct Sweep {
    /// What may still be removed, and until when.
    events_left: usize,
    until: Instant,
    /// Where the removal of what vanished goes on; `None`: with whoever vanishes first.
    walk: Option<Walk>,
    has_removed: bool,
    is_author_done: bool,
}

/// Events that are removed before the clock is looked at again.
const GROUP: usize = 32;

/// How far the rows have been looked through that may be of an author who vanishes. Nothing can join them, so
/// once is enough. A relay that is started again begins anew.
#[derive(Debug, Clone, Copy)]
pub struct Walk {
    author: PublicKey,
    until: Timestamp,
    part: Part,
    /// The last row of the part that was looked at.
    after: Option<Tail>,
}

/// The rows of an author.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Rows of events that the author has written.
    Written,
    /// Rows of events that mention the author: gift wraps are among these.
    Mentions,
}

impl From<&config::Lmdb> for Slice {
    fn from(config: &config::Lmdb) -> Self {
        Self { events: config.sweep_batch, time: Duration::from_millis(config.sweep_ms) }
    }
}

impl Slice {
    /// Half of the slice, if there is one.
    pub fn half(self) -> Option<Self> {
        (self.events > 1).then_some(Self { events: self.events / 2, ..self })
    }
}

impl Walk {
    fn begin(author: PublicKey, until: Timestamp) -> Self {
        Self { author, until, part: Part::Written, after: None }
    }

    /// The walk through the next part of the rows; `None`: this was the last.
    fn next_part(self) -> Option<Self> {
        let next = Self { part: Part::Mentions, after: None, ..self };
        (self.part == Part::Written).then_some(next)
    }

    /// Whether the event of a row vanishes.
    fn takes(&self, batch: &Batch<'_, '_>, row: Row) -> Result<bool> {
        if row.kind == kind::VANISH || self.part == Part::Mentions && row.kind != kind::GIFT_WRAP {
            return Ok(false);
        }
        let bytes = batch.tables.event.get(batch.txn, &row.position.to_be_bytes())?;
        let record = bytes.and_then(StoredEvent::decode);
        Ok(record.is_some_and(|record| record.vanishes_with(&self.author, self.until)))
    }
}

impl Sweep {
    pub fn new(slice: Slice, walk: Option<Walk>) -> Self {
        let (has_removed, is_author_done) = (false, false);
        Self {
            events_left: slice.events,
            until: Instant::now() + slice.time,
            walk,
            has_removed,
            is_author_done,
        }
    }

    /// Removes what there is, as far as the slice goes.
    pub fn run(&mut self, batch: &mut Batch<'_, '_>) -> Result<()> {
        self.remove_expired(batch)?;
        self.remove_expired_records(batch)?;
        self.remove_vanished(batch)
    }

    /// Whether there is anything to commit.
    pub fn has_changes(&self) -> bool {
        self.has_removed || self.is_author_done
    }

    /// Whether nothing is left of an author who vanished and was struck off the list.
    pub fn is_author_done(&self) -> bool {
        self.is_author_done
    }

    /// Whether there may be more to do.
    pub fn is_more(&self) -> bool {
        self.is_author_done || self.walk.is_some() || self.is_spent()
    }

    /// Where the next sweep goes on.
    pub fn into_walk(self) -> Option<Walk> {
        self.walk
    }

    fn is_spent(&self) -> bool {
        self.events_left == 0 || Instant::now() >= self.until
    }

    /// How many events are removed next, at most.
    fn group(&self) -> usize {
        self.events_left.min(GROUP)
    }

    fn note_removed(&mut self, count: usize) {
        self.events_left -= count;
        self.has_removed |= count > 0;
    }

    fn remove_expired(&mut self, batch: &mut Batch<'_, '_>) -> Result<()> {
        while !self.is_spent() {
            let expired = first_expired(batch, self.group())?;
            if expired.is_empty() {
                break;
            }
            self.note_removed(expired.len());
            for (at, position) in expired {
                batch.remove(position)?;
                // Also where the event was gone before: or the row would be met again for ever.
                batch.rows.forget_expiration(at, position);
            }
            batch.apply_rows()?;
        }
        Ok(())
    }

    fn remove_expired_records(&mut self, batch: &mut Batch<'_, '_>) -> Result<()> {
        let by = batch.now.saturating_mul(1_000);
        while !self.is_spent() {
            let removed = records::sweep(batch.txn, batch.tables, by, self.group())?;
            if removed == 0 {
                break;
            }
            self.note_removed(removed);
        }
        Ok(())
    }

    /// Goes on with the first author who vanishes, and strikes off the list of whom nothing is left.
    fn remove_vanished(&mut self, batch: &mut Batch<'_, '_>) -> Result<()> {
        let Some((author, until)) = first_vanishing(batch)? else {
            self.walk = None;
            return Ok(());
        };
        let is_of_this = |walk: &Walk| (walk.author, walk.until) == (author, until);
        let from = self.walk.filter(is_of_this).unwrap_or(Walk::begin(author, until));
        self.walk = self.walk_on(batch, from)?;
        if self.walk.is_none() {
            batch.tables.vanishing.delete(batch.txn, &author.0)?;
            self.is_author_done = true;
        }
        Ok(())
    }

    /// Removes what is on the way, as far as the slice goes: where it goes on, `None` if nowhere.
    fn walk_on(&mut self, batch: &mut Batch<'_, '_>, mut walk: Walk) -> Result<Option<Walk>> {
        while !self.is_spent() {
            let (found, last) = self.look(batch, &walk)?;
            self.note_removed(found.len());
            for position in found {
                batch.remove(position)?;
            }
            batch.apply_rows()?;
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
    fn look(&self, batch: &Batch<'_, '_>, walk: &Walk) -> Result<(Vec<Position>, Option<Tail>)> {
        let (table, prefix) = match walk.part {
            Part::Written => (batch.tables.author, Key::author(&walk.author)),
            Part::Mentions => {
                let recipient = batch.tables.tag_hash.of(b'p', &walk.author.to_hex());
                (batch.tables.tag, Key::tag(recipient))
            }
        };
        let first = prefix.tail(walk.after.unwrap_or(Tail::first_at(walk.until)));
        let first = match walk.after {
            Some(_) => Bound::Excluded(first.as_bytes()),
            None => Bound::Included(first.as_bytes()),
        };
        let last = prefix.tail(Tail::MAX);
        let mut found = Vec::new();
        for row in table.range(batch.txn, &(first, Bound::Included(last.as_bytes())))? {
            let (key, row) = row?;
            if let Some(row) = Row::from_bytes(row)
                && walk.takes(batch, row)?
            {
                found.push(row.position);
            }
            if found.len() >= self.group() || self.is_spent() {
                return Ok((found, Tail::of_key(key)));
            }
        }
        Ok((found, None))
    }
}

/// The first that have expired, and when.
fn first_expired(batch: &Batch<'_, '_>, most: usize) -> Result<Vec<(Timestamp, Position)>> {
    let mut expired = Vec::new();
    for row in batch.tables.expiration.iter(batch.txn)?.take(most) {
        let (key, _) = row?;
        let (Some(at), Some(position)) = (key.get(..8).and_then(number), key.get(8..).and_then(number))
        else {
            continue;
        };
        if at > batch.now {
            break;
        }
        expired.push((at, position));
    }
    Ok(expired)
}

/// Who vanishes first, and up to when.
fn first_vanishing(batch: &Batch<'_, '_>) -> Result<Option<(PublicKey, Timestamp)>> {
    let Some((key, value)) = batch.tables.vanishing.first(batch.txn)? else { return Ok(None) };
    Ok(key.try_into().ok().map(PublicKey).zip(number(value)))
}
