//! Writes: one transaction a batch, one a sweep, one for records that are changed together.

use std::sync::Arc;

use heed::{Env, WithoutTls};

use super::{
    batch::{Batch, Finished},
    folder::Folder,
    hidden::Hidden,
    records,
    room::{Reserve, Room},
    schema::{NEXT, Tables, number},
    sweep::{Slice, Sweep, Walk},
};
use crate::{
    protocol::{Event, Timestamp},
    store::{
        BatchOutcome, Position,
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
        let mut batch = Batch::new(&mut txn, &self.tables, self.next, now, room);
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

    /// Makes conditional writes of records, as far as they are not overtaken, and syncs.
    pub fn change_records<'c>(&self, all: impl Iterator<Item = &'c Conditional>) -> Result<Vec<Race>> {
        records::change(&self.env, &self.tables, all)
    }

    /// Commits once, with nothing new, so that pages which the last commit freed are of use.
    pub fn turn(&mut self) -> Result<()> {
        let mut txn = self.env.write_txn()?;
        self.tables.meta.put(&mut txn, NEXT, &self.next.to_be_bytes())?;
        txn.commit()
    }

    /// Removes some events that have expired or vanished; `true`: there may be more.
    pub fn maintain(&mut self, now: Timestamp, slice: Slice) -> Result<bool> {
        // The walk is begun anew if the transaction fails.
        let mut sweep = Sweep::new(slice, self.walk.take());
        let mut txn = self.env.write_txn()?;
        let mut batch = Batch::new(&mut txn, &self.tables, self.next, now, Room::Plenty);
        sweep.run(&mut batch)?;
        if sweep.has_changes() {
            batch.finish()?;
            txn.commit()?;
        }
        if sweep.is_author_done() {
            self.hidden.reload(&self.env, &self.tables)?;
        }
        let is_more = sweep.is_more();
        self.walk = sweep.into_walk();
        Ok(is_more)
    }
}
