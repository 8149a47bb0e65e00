//! Walks the candidates of one filter, newest first, ties by lowest id: several ranges of an index
//! merged, or a list of known events.

use std::{
    cmp::{Ordering, Reverse},
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use heed::{RoRange, RoTxn, types::Bytes};

use super::{
    plan::{Plan, plan, window},
    schema::{Key, Row, Table, Tables, Tail, between, number},
    stored_event::StoredEvent,
};
use crate::protocol::{Fields, Filter};

/// The candidates of a filter: `peek` and `step`.
pub struct Scan<'t> {
    ranges: Vec<RoRange<'t, Bytes, Bytes>>,
    /// The head of each range that has one.
    heads: BinaryHeap<Reverse<Head>>,
    /// The index that is read, and how many ranges of it.
    pub source: (&'static str, usize),
}

/// A candidate, and the range that it came from.
#[derive(Debug, Clone, Copy)]
pub struct Head {
    pub tail: Tail,
    pub row: Row,
    range: usize,
}

impl<'t> Scan<'t> {
    /// Begins after `after`. Candidates of another kind than the filter's may be among them.
    pub fn new(filter: &Filter, tables: &Tables, txn: &'t RoTxn, after: Option<Tail>) -> heed::Result<Self> {
        let mut scan = Self { ranges: Vec::new(), heads: BinaryHeap::new(), source: ("none", 0) };
        match plan(filter, tables, txn)? {
            Plan::Nothing => {}
            Plan::Ids => {
                scan.source = ("id", filter.ids.as_ref().map_or(0, |ids| ids.len()));
                for id in filter.ids.iter().flatten() {
                    let position = tables.id.get(txn, &id.0)?.and_then(number);
                    scan.add_known(position, filter, tables, txn, after)?;
                }
            }
            Plan::Ranges { index, table, prefixes } => {
                scan.source = (index, prefixes.len());
                scan.ranges.reserve_exact(prefixes.len());
                for prefix in prefixes {
                    scan.add_range(table, window(filter, prefix, after), after, txn)?;
                }
            }
        }
        Ok(scan)
    }

    /// An event whose place is known.
    fn add_known(
        &mut self,
        position: Option<u64>,
        filter: &Filter,
        tables: &Tables,
        txn: &'t RoTxn,
        after: Option<Tail>,
    ) -> heed::Result<()> {
        let Some(position) = position else { return Ok(()) };
        let bytes = tables.event.get(txn, &position.to_be_bytes())?;
        let Some(record) = bytes.and_then(StoredEvent::decode) else { return Ok(()) };
        let tail = Tail::new(record.created_at(), record.id());
        if after.is_none_or(|after| tail > after) && filter.matches(&record) {
            let row = Row { position, kind: record.kind() };
            self.heads.push(Reverse(Head { tail, row, range: usize::MAX }));
        }
        Ok(())
    }

    fn add_range(
        &mut self,
        table: Table,
        (first, last): (Key, Key),
        after: Option<Tail>,
        txn: &'t RoTxn,
    ) -> heed::Result<()> {
        if first > last {
            return Ok(());
        }
        let mut range = table.range(txn, &between(&first, &last))?;
        let at = self.ranges.len();
        let mut head = next(&mut range, at)?;
        if head.is_some_and(|head| Some(head.tail) == after) {
            head = next(&mut range, at)?;
        }
        if let Some(head) = head {
            self.ranges.push(range);
            self.heads.push(Reverse(head));
        }
        Ok(())
    }

    /// The next candidate.
    pub fn peek(&self) -> Option<Head> {
        self.heads.peek().map(|Reverse(head)| *head)
    }

    /// Steps over the candidate, also where several ranges have it: which it was.
    pub fn step(&mut self) -> heed::Result<Option<Head>> {
        let Some(stepped) = self.peek() else { return Ok(None) };
        while let Some(mut top) = self.heads.peek_mut() {
            if top.0.tail != stepped.tail {
                break;
            }
            let following = match self.ranges.get_mut(top.0.range) {
                Some(range) => next(range, top.0.range)?,
                None => None,
            };
            match following {
                Some(head) => *top = Reverse(head),
                None => {
                    PeekMut::pop(top);
                }
            }
        }
        Ok(Some(stepped))
    }
}

fn next(range: &mut RoRange<'_, Bytes, Bytes>, at: usize) -> heed::Result<Option<Head>> {
    let Some(entry) = range.next() else { return Ok(None) };
    let (key, value) = entry?;
    Ok(Tail::of_key(key).zip(Row::from_bytes(value)).map(|(tail, row)| Head { tail, row, range: at }))
}

impl PartialEq for Head {
    fn eq(&self, other: &Self) -> bool {
        self.tail == other.tail
    }
}

impl Eq for Head {}

impl PartialOrd for Head {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Head {
    fn cmp(&self, other: &Self) -> Ordering {
        self.tail.cmp(&other.tail)
    }
}
