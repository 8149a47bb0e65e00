//! What this node has begun to write and does not know to be finished. The events of each batch are in the
//! tables before its first row is, so that whoever lives can finish it. Here is known, too, what this node is
//! finishing of what dead processes left.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

use super::{
    batch::{BatchId, Told},
    cql::{Cql, Failure, large, number, text},
    tables,
    writers::ListedWriter,
};
use crate::{
    protocol::{Event, EventId},
    store::log::Origin,
};

/// Batches of a partition of drafts, as bits. The partition is removed when all of them are settled.
const PART_BITS: u32 = 6;
/// About how many bytes of events a row has.
const ROW_BYTES: usize = 256 * 1024;
/// Ids that are remembered of batches whose write failed. A batch whose ids are forgotten stays open until this process
/// ends and another one finishes it.
const UNSETTLED: usize = 65_536;

pub struct Drafts {
    cql: Arc<Cql>,
    /// This process.
    pub origin: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The batch that was begun last.
    last: u64,
    open: BTreeMap<u64, Open>,
    /// What this node is finishing of dead processes.
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
    /// Whether its events are written down. Before that it has no row.
    written: bool,
    /// When its write failed, or it was handed out to be written again.
    failed: Option<Instant>,
}

/// What is being finished of a process that is gone.
struct Adopted {
    ids: HashSet<EventId>,
    since: Instant,
    /// All batches up to there are settled when nothing is left.
    up_to: u64,
}

/// How far the work for a dead process has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Adoption {
    None,
    /// Its events were handed out at that time.
    Open(Instant),
    /// All batches up to there are settled.
    Done(u64),
}

impl State {
    fn told(&self) -> Told {
        Told::new(self.last, self.open.keys().copied())
    }

    fn begin(&mut self, ids: impl Iterator<Item = EventId>) -> u64 {
        self.last += 1;
        let open = Open { ids: Some(ids.collect()), written: false, failed: None };
        self.open.insert(self.last, open);
        self.last
    }

    fn settle(&mut self, number: u64, ids: impl Iterator<Item = EventId>) {
        self.open.remove(&number);
        for id in ids {
            self.news += 1;
            let open = self.open.values_mut().filter_map(|open| open.ids.as_mut());
            for ids in open.chain(self.adopted.values_mut().map(|adopted| &mut adopted.ids)) {
                ids.remove(&id);
            }
        }
        self.open.retain(|_, open| open.ids.as_ref().is_none_or(|ids| !ids.is_empty()));
    }

    fn fail(&mut self, now: Instant) {
        // Of a batch that could not be written down nothing is left.
        self.open.retain(|_, open| open.written);
        self.open.values_mut().for_each(|open| _ = open.failed.get_or_insert(now));
        let mut room = UNSETTLED;
        for open in self.open.values_mut().rev() {
            let count = open.ids.as_ref().map_or(0, HashSet::len);
            match room.checked_sub(count) {
                Some(left) => room = left,
                None => open.ids = None,
            }
        }
    }

    fn is_unsettled(&self, id: &EventId) -> bool {
        let failed =
            |open: &Open| open.failed.is_some() && open.ids.as_ref().is_some_and(|ids| ids.contains(id));
        self.open.values().any(failed) || self.adopted.values().any(|adopted| adopted.ids.contains(id))
    }

    fn adoption(&self, origin: Origin) -> Adoption {
        match self.adopted.get(&origin) {
            None => Adoption::None,
            Some(adopted) if adopted.ids.is_empty() => Adoption::Done(adopted.up_to),
            Some(adopted) => Adoption::Open(adopted.since),
        }
    }
}

impl Drafts {
    pub fn new(cql: Arc<Cql>) -> Self {
        Self { cql, origin: rand::random(), state: Mutex::default() }
    }

    /// Begins a batch: which it is.
    pub fn begin(&self, batch: &[Arc<Event>]) -> BatchId {
        let number = self.state().begin(batch.iter().map(|event| event.id()));
        BatchId { origin: self.origin, number }
    }

    /// Writes the events of a batch down. Rows of it may be written after that only.
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

    /// Notes that a batch is written, and everything is known of its events. What earlier tries have left of those in
    /// `later` is cleared away at another time.
    pub fn settle(&self, of: BatchId, batch: &[Arc<Event>], later: &HashSet<EventId>) {
        let known = batch.iter().map(|event| event.id()).filter(|id| !later.contains(id));
        self.state().settle(of.number, known);
    }

    /// Notes that what is open has failed, or was given up: batches are written one after the other.
    pub fn fail(&self) {
        self.state().fail(Instant::now());
    }

    /// Whether a part of the event may be in the tables that nobody answers for: of a write that failed, or of
    /// a process that is gone.
    pub fn is_unsettled(&self, id: &EventId) -> bool {
        self.state().is_unsettled(id)
    }

    /// Whether a batch of this process is settled.
    pub fn covers(&self, batch: u64) -> bool {
        let state = self.state();
        batch <= state.last && !state.open.contains_key(&batch)
    }

    /// What may be told to the other processes: which batches are settled.
    pub fn told(&self) -> Told {
        self.state().told()
    }

    /// The same, to be told now.
    pub fn tell(&self) -> Told {
        let mut state = self.state();
        state.news = 0;
        state.told()
    }

    /// Events settled since the others were told.
    pub fn news(&self) -> usize {
        self.state().news
    }

    /// Up to where all batches are settled, if that lets drafts be removed.
    pub fn clearable(&self) -> Option<u64> {
        let state = self.state();
        let floor = state.told().floor();
        ((floor + 1) >> PART_BITS > state.kept_from).then_some(floor)
    }

    /// Removes the drafts that are settled up to there.
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

    /// Removes the drafts that are settled up to there, to the last, now that the process ends.
    ///
    /// # Errors
    /// As [`Self::clear`].
    pub async fn clear_all(&self, floor: u64) -> Result<(), Failure> {
        self.clear(floor).await?;
        self.remove_until(self.origin, floor).await
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

    /// Notes that this node finishes what a process that is gone has left.
    pub fn adopt(&self, origin: Origin, events: &[Arc<Event>], up_to: u64) {
        let ids = events.iter().map(|event| event.id()).collect();
        self.state().adopted.insert(origin, Adopted { ids, since: Instant::now(), up_to });
    }

    pub fn adoption(&self, origin: Origin) -> Adoption {
        self.state().adoption(origin)
    }

    /// Forgets what was taken over of processes that are not silent any more, or of which nothing is left: what is
    /// to be finished of one that falls silent again is another thing.
    pub fn keep_adopted(&self, silent: &[ListedWriter]) {
        self.state().adopted.retain(|origin, _| silent.iter().any(|writer| writer.origin == *origin));
    }

    /// Removes the drafts of a process that are settled up to there, and told to be. `from`: what was settled before.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn release(&self, origin: Origin, from: u64, up_to: u64) -> Result<(), Failure> {
        self.remove(origin, (from + 1) >> PART_BITS, (up_to + 1) >> PART_BITS).await?;
        self.remove_until(origin, up_to).await?;
        self.state().adopted.remove(&origin);
        Ok(())
    }

    /// Removes drafts up to there. Those behind, in the last partition, stay: they may not be read yet, or not be
    /// written.
    async fn remove_until(&self, origin: Origin, up_to: u64) -> Result<(), Failure> {
        let until = vec![large(origin), large((up_to + 1) >> PART_BITS), large(up_to)];
        self.cql.write(&self.cql.statements.remove_drafts_until, until).await
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OTHER: Origin = 7;

    fn id(n: u8) -> EventId {
        EventId([n; 32])
    }

    fn ids(numbers: impl IntoIterator<Item = u8>) -> impl Iterator<Item = EventId> {
        numbers.into_iter().map(id)
    }

    /// A state in which a batch of these events was written down and failed.
    fn failed(numbers: impl IntoIterator<Item = u8>) -> State {
        let mut state = State::default();
        let number = state.begin(ids(numbers));
        state.open.get_mut(&number).unwrap().written = true;
        state.fail(Instant::now());
        state
    }

    #[test]
    fn a_batch_is_settled_when_everything_is_known_of_its_events() {
        let mut state = failed([1, 2]);
        let second = state.begin(ids([1, 3]));
        state.settle(second, ids([1, 3]));
        assert_eq!((state.told().floor(), state.told().covers(2)), (0, true));
        assert!(!state.is_unsettled(&id(1)) && state.is_unsettled(&id(2)));
        let third = state.begin(ids([2]));
        state.settle(third, ids([2]));
        assert_eq!(state.told().floor(), 3);
    }

    #[test]
    fn what_is_cleared_away_later_is_not_settled_yet() {
        let mut state = failed([1]);
        let again = state.begin(ids([1]));
        // Refused, and what the first try has left has to stay for now.
        state.settle(again, ids([]));
        assert!(state.is_unsettled(&id(1)));
        assert_eq!((state.told().floor(), state.told().covers(again)), (0, true));
    }

    #[test]
    fn what_could_not_be_written_down_has_left_nothing() {
        let mut state = State::default();
        state.begin(ids([1]));
        state.fail(Instant::now());
        assert!(!state.is_unsettled(&id(1)));
        assert_eq!(state.told().floor(), 1);
    }

    #[test]
    fn what_was_taken_over_is_done_when_all_of_it_is_settled() {
        let mut state = State::default();
        let adopted = Adopted { ids: ids([1, 2]).collect(), since: Instant::now(), up_to: 5 };
        state.adopted.insert(OTHER, adopted);
        assert!(matches!(state.adoption(OTHER), Adoption::Open(_)));
        let number = state.begin(ids([1, 2]));
        state.settle(number, ids([1, 2]));
        assert_eq!(state.adoption(OTHER), Adoption::Done(5));
    }
}
