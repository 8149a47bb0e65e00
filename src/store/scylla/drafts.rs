//! What this node has begun to write and does not know to be finished. The events of each batch are in the
//! tables before its first row is, so that whoever lives can finish it; of what dead processes left, too,
//! it is known here what this node is finishing.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use super::{
    batch::{BatchId, Told},
    cql::{Cql, Failure, large, number, text},
    tables,
};
use crate::{
    protocol::{Event, EventId},
    store::log::Origin,
};

/// Batches of a partition, as bits. It is removed when all of them are settled.
const PART_BITS: u32 = 6;
/// About how many bytes of events a row has.
const ROW_BYTES: usize = 256 * 1024;
/// Ids that are remembered of batches whose write failed. What is forgotten stays open until this process ends
/// and another one finishes it.
const UNSETTLED: usize = 65_536;

pub struct Drafts {
    cql: Arc<Cql>,
    /// This process.
    pub origin: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// Begun last.
    last: u64,
    open: BTreeMap<u64, Open>,
    /// Of dead processes.
    adopted: HashMap<Origin, Adopted>,
    /// Partitions before this one are removed.
    kept_from: u64,
    /// Events settled since the others were told.
    news: usize,
}

/// A batch that is not settled.
struct Open {
    /// Events of which nothing is known yet; `None`: forgotten.
    ids: Option<HashSet<EventId>>,
    /// Whether it is written down. Before that it has no row.
    written: bool,
    /// When its write failed, or it was handed out to be written again.
    failed: Option<Instant>,
}

/// What is being finished of a process that is gone.
struct Adopted {
    ids: HashSet<EventId>,
    since: Instant,
    /// Everything up to there is settled when nothing is left.
    up_to: u64,
}

/// How far the work for a dead process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    None,
    /// Handed out at that time.
    Open(Instant),
    /// Everything up to there is settled.
    Done(u64),
}

impl State {
    fn told(&self) -> Told {
        Told::new(self.last, self.open.keys().copied())
    }
}

impl Drafts {
    pub fn new(cql: Arc<Cql>) -> Self {
        Self { cql, origin: rand::random(), state: Mutex::default() }
    }

    /// A batch begins.
    pub fn begin(&self, batch: &[Arc<Event>]) -> BatchId {
        let mut state = self.state();
        state.last += 1;
        let number = state.last;
        let ids = Some(batch.iter().map(|event| event.id()).collect());
        state.open.insert(number, Open { ids, written: false, failed: None });
        BatchId { origin: self.origin, number }
    }

    /// Writes its events down. Rows of it may be written after that only.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn put(
        &self,
        BatchId { origin, number: batch }: BatchId,
        events: &[Arc<Event>],
    ) -> Result<(), Failure> {
        let mut rows: Vec<String> = vec![String::new()];
        for event in events {
            if let Some(row) = rows.last()
                && row.len() + event.json().len() > ROW_BYTES
                && !row.is_empty()
            {
                rows.push(String::new());
            }
            if let Some(row) = rows.last_mut() {
                // No text has a line's end in it: JSON escapes them.
                row.push_str(event.json());
                row.push('\n');
            }
        }
        let rows = rows.into_iter().enumerate().map(|(nth, row)| {
            let key = [large(origin), large(batch >> PART_BITS), large(batch), number(nth as i32)];
            self.cql.write(&self.cql.statements.put_draft, [&key[..], &[text(row)]].concat())
        });
        self.cql.all(rows.collect::<Vec<_>>()).await?;
        if let Some(open) = self.state().open.get_mut(&batch) {
            open.written = true;
        }
        Ok(())
    }

    /// Everything is known of these events.
    pub fn settle(&self, batch: &[Arc<Event>]) {
        let mut state = self.state();
        state.news += batch.len();
        let State { open, adopted, .. } = &mut *state;
        open.retain(|_, open| match &mut open.ids {
            Some(ids) => {
                batch.iter().for_each(|event| _ = ids.remove(&event.id()));
                !ids.is_empty()
            }
            None => true,
        });
        for adopted in adopted.values_mut() {
            batch.iter().for_each(|event| _ = adopted.ids.remove(&event.id()));
        }
    }

    /// What is open has failed, or was given up: batches are written one after the other.
    pub fn fail(&self) {
        let mut state = self.state();
        let now = Instant::now();
        // Nothing is left of what could not be written down.
        state.open.retain(|_, open| open.written);
        state.open.values_mut().for_each(|open| _ = open.failed.get_or_insert(now));
        let mut room = UNSETTLED;
        for open in state.open.values_mut().rev() {
            let count = open.ids.as_ref().map_or(0, HashSet::len);
            match room.checked_sub(count) {
                Some(left) => room = left,
                None => open.ids = None,
            }
        }
    }

    /// Whether a part of the event may be in the tables that nobody answers for: of a write that failed, or of
    /// a process that is gone.
    pub fn is_unsettled(&self, id: &EventId) -> bool {
        let state = self.state();
        let failed =
            |open: &Open| open.failed.is_some() && open.ids.as_ref().is_some_and(|ids| ids.contains(id));
        state.open.values().any(failed) || state.adopted.values().any(|adopted| adopted.ids.contains(id))
    }

    /// Whether a batch of this process is settled.
    pub fn covers(&self, batch: u64) -> bool {
        let state = self.state();
        batch <= state.last && !state.open.contains_key(&batch)
    }

    /// What the others may know.
    pub fn told(&self) -> Told {
        self.state().told()
    }

    /// What the others are told.
    pub fn tell(&self) -> Told {
        let mut state = self.state();
        state.news = 0;
        state.told()
    }

    /// Events settled since the others were told.
    pub fn news(&self) -> usize {
        self.state().news
    }

    /// Up to where everything is settled, if that lets drafts be removed.
    pub fn clearable(&self) -> Option<u64> {
        let state = self.state();
        let floor = state.told().floor();
        ((floor + 1) >> PART_BITS > state.kept_from).then_some(floor)
    }

    /// Removes what is settled up to there.
    ///
    /// # Errors
    /// When the servers refuse; it is removed the next time then.
    pub async fn clear(&self, floor: u64) -> Result<(), Failure> {
        let from = self.state().kept_from;
        let keep_from = (floor + 1) >> PART_BITS;
        self.remove(self.origin, from, keep_from).await?;
        self.state().kept_from = keep_from;
        Ok(())
    }

    async fn remove(&self, origin: Origin, from: u64, to: u64) -> Result<(), Failure> {
        let parts = (from..to)
            .map(|part| self.cql.write(&self.cql.statements.remove_drafts, vec![large(origin), large(part)]));
        self.cql.all(parts.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// The events of a batch; none where there is no such batch.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn read(&self, BatchId { origin, number }: BatchId) -> Result<Vec<Arc<Event>>, Failure> {
        let key = vec![large(origin), large(number >> PART_BITS), large(number)];
        let rows: Vec<(Option<String>,)> = self.cql.read(&self.cql.statements.get_draft, key).await?;
        let rows = rows.iter().filter_map(|(row,)| row.as_deref());
        rows.flat_map(str::lines).map(tables::parse).collect()
    }

    /// Events of this node's own that failed that long ago and that nobody tries again any more.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn given_up(&self, after: Duration) -> Result<Vec<Arc<Event>>, Failure> {
        let is_due = |open: &Open| open.failed.is_some_and(|at| at.elapsed() >= after);
        let first = self.state().open.iter().find(|(_, open)| is_due(open)).map(|(&number, _)| number);
        let Some(number) = first else { return Ok(Vec::new()) };
        let events = self.read(BatchId { origin: self.origin, number }).await?;
        let mut state = self.state();
        let Some(open) = state.open.get_mut(&number) else { return Ok(Vec::new()) };
        open.ids = Some(events.iter().map(|event| event.id()).collect());
        open.failed = Some(Instant::now());
        Ok(events)
    }

    /// This node finishes what a process that is gone has left.
    pub fn adopt(&self, origin: Origin, events: &[Arc<Event>], up_to: u64) {
        let ids = events.iter().map(|event| event.id()).collect();
        self.state().adopted.insert(origin, Adopted { ids, since: Instant::now(), up_to });
    }

    pub fn adoption(&self, origin: Origin) -> Adoption {
        match self.state().adopted.get(&origin) {
            None => Adoption::None,
            Some(adopted) if adopted.ids.is_empty() => Adoption::Done(adopted.up_to),
            Some(adopted) => Adoption::Open(adopted.since),
        }
    }

    /// Everything of that process up to there is settled, and told to be. `from`: what was settled before.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn release(&self, origin: Origin, from: u64, up_to: u64) -> Result<(), Failure> {
        let last = (up_to + 1) >> PART_BITS;
        self.remove(origin, (from + 1) >> PART_BITS, last).await?;
        // Of the partition that has more, what is behind stays: it may not be read yet, or not be written.
        let until = vec![large(origin), large(last), large(up_to)];
        self.cql.write(&self.cql.statements.remove_drafts_until, until).await?;
        self.state().adopted.remove(&origin);
        Ok(())
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No step leaves it half done.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
