//! Walks the rows under many keys at once, newest first, ties by lowest id. A partition is opened when the
//! walk comes to the newest row that it may hold, and read in chunks: what is not reached is not read.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
};

use futures_util::future::try_join;
use smallvec::SmallVec;

use super::{
    bucket::Bucket,
    chunk::{Body, Place, Question, Row, TimeWindow, place, read},
    cql::{Cql, Failure},
    index::{Key, buckets},
};
use crate::protocol::{EventId, Timestamp};

/// About how many bytes of events a chunk has.
const CHUNK_BYTES: usize = 64 * 1024;
/// Rows of the first chunk of a partition at the most, when nothing is known of their size.
const FIRST_CHUNK: usize = 32;
const SMALLEST_CHUNK: usize = 2;
/// Rows of a partition that are kept between two pages. Most of many keys have no more.
const KEPT: usize = 2;
/// The group of rows that nobody alone asked for.
const NOBODY: usize = usize::MAX;

/// The walk.
pub struct Merge<'c> {
    cql: &'c Cql,
    sources: Vec<Source>,
    heap: BinaryHeap<Reverse<Entry>>,
    after: Option<(Timestamp, EventId)>,
    /// Rows of a chunk at the most.
    most: usize,
    /// Statements that were sent since the page began.
    pub statements: usize,
    /// The index that each filter is looked up in, and how many of its keys.
    pub plan: SmallVec<[(&'static str, usize); 1]>,
}

/// What is kept of a walk between two pages: of each partition where its walk stands, of very many keys little.
/// Whatever has been read to its end is not asked about again.
#[derive(Debug, Clone)]
pub struct Paused {
    /// The last place that was looked at.
    pub at: Option<(Timestamp, EventId)>,
    /// How many bytes an event had so far; 0 where none was served.
    pub event_bytes: usize,
    sources: Vec<Source>,
    after: Option<(Timestamp, EventId)>,
    plan: SmallVec<[(&'static str, usize); 1]>,
}

/// What is asked for.
pub struct Asked {
    /// Who asks: the filter, by its number.
    pub group: usize,
    pub keys: Vec<Key>,
    pub window: TimeWindow,
    /// About how many rows of it will be asked for.
    pub wanted: usize,
}

/// One partition, or rows that were known beforehand.
#[derive(Debug, Clone)]
struct Source {
    /// The group that asked for it.
    group: usize,
    partition: Option<(Key, Bucket)>,
    window: TimeWindow,
    rows: VecDeque<Row>,
    chunk: usize,
    finished: bool,
    last: Option<(Timestamp, EventId)>,
}

/// A source by the place of its next row, or by the first place where one may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    place: Place,
    /// Whether the row is there. Sources that have to be read first come first.
    ready: bool,
    source: usize,
}

impl<'c> Merge<'c> {
    /// Begins after `after`. `most`: rows of a chunk.
    pub fn new(cql: &'c Cql, after: Option<(Timestamp, EventId)>, most: usize) -> Self {
        Self {
            cql,
            sources: Vec::new(),
            heap: BinaryHeap::new(),
            after,
            most,
            statements: 0,
            plan: SmallVec::new(),
        }
    }

    /// Goes on where a walk was when it paused.
    pub fn resume(cql: &'c Cql, paused: Paused, most: usize) -> Self {
        let Paused { sources, after, plan, .. } = paused;
        let mut merge = Self { plan, ..Self::new(cql, after, most) };
        sources.into_iter().for_each(|source| merge.push(source));
        merge
    }

    /// Pauses at a place. `unseen`: rows behind it that were read, too, but not looked at.
    pub fn pause(
        self,
        at: (Timestamp, EventId),
        unseen: Vec<(Timestamp, EventId)>,
        event_bytes: usize,
    ) -> Paused {
        let rows = unseen.into_iter().map(|(created_at, id)| Row { created_at, id, body: Body::Unread });
        let unseen = Source::of_rows(NOBODY, rows.collect(), (0, Timestamp::MAX));
        let sources = self.sources.into_iter().map(Source::pause).chain([unseen]);
        let sources = sources.filter(|source| !source.is_over()).collect();
        Paused { at: Some(at), event_bytes, sources, after: self.after, plan: self.plan }
    }

    /// Adds what stands under these keys.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn add(&mut self, asked: Vec<Asked>) -> Result<(), Failure> {
        let (cql, after, most) = (self.cql, self.after, self.most);
        let keys = asked.into_iter().flat_map(|Asked { group, keys, window, wanted }| {
            let share = (wanted.saturating_mul(2) / keys.len().max(1)).saturating_add(SMALLEST_CHUNK);
            let chunk = share.min(FIRST_CHUNK).min(most.max(SMALLEST_CHUNK));
            keys.into_iter().map(move |key| (group, key, window, chunk))
        });
        let keys: Vec<_> = keys.collect();
        // The base is read while its list of buckets is: most keys have no other.
        let found = keys.into_iter().map(|(group, key, window, chunk)| async move {
            let base = Question { source: 0, key, bucket: Bucket::BASE, window, after, rows: chunk };
            let (key, statements) = (base.key.clone(), 1 + base.statements());
            let (buckets, base) = try_join(buckets(cql, &key), read(cql, base)).await?;
            Ok::<_, Failure>((group, key, window, chunk, buckets, base, statements))
        });
        for (group, key, window, chunk, buckets, mut base, statements) in cql.all(found).await? {
            self.statements += statements;
            for &bucket in &buckets {
                let (first, last) = bucket.window();
                let window = (window.0.max(first), window.1.min(last));
                let partition = Some((key.clone(), bucket));
                let finished = window.0 > window.1;
                let rows = VecDeque::new();
                let mut source = Source { group, partition, window, rows, chunk, finished, last: None };
                if bucket == Bucket::BASE {
                    source.fill(std::mem::take(&mut base.rows), base.finished, self.most);
                }
                self.push(source);
            }
        }
        Ok(())
    }

    /// Adds rows that are known.
    pub fn add_rows(&mut self, group: usize, mut rows: Vec<Row>, window: TimeWindow) {
        let after = self.after.map(place);
        rows.retain(|row| {
            let in_window = window.0 <= row.created_at && row.created_at <= window.1;
            in_window && after.is_none_or(|after| row.place() > after)
        });
        rows.sort_by_key(Row::place);
        rows.dedup_by_key(|row| row.place());
        self.push(Source::of_rows(group, rows.into(), window));
    }

    /// Reads no more for a group.
    pub fn close(&mut self, group: usize) {
        for source in self.sources.iter_mut().filter(|source| source.group == group) {
            source.finished = true;
            source.rows.clear();
        }
        let open: Vec<bool> = self.sources.iter().map(|source| source.group != group).collect();
        self.heap.retain(|Reverse(entry)| open[entry.source]);
    }

    /// The next rows, at most `count`; none when the walk is over.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn take(&mut self, count: usize) -> Result<Vec<Row>, Failure> {
        let mut rows = Vec::new();
        while rows.len() < count {
            self.read_ahead().await?;
            match self.pop() {
                Some(row) => rows.push(row),
                None => break,
            }
        }
        Ok(rows)
    }

    fn push(&mut self, source: Source) {
        let index = self.sources.len();
        self.sources.push(source);
        self.enter(index);
    }

    /// Puts a source where it belongs.
    fn enter(&mut self, index: usize) {
        let source = &self.sources[index];
        let (place, ready) = match source.rows.front() {
            Some(row) => (row.place(), true),
            None if source.finished => return,
            None => (source.bound(self.after), false),
        };
        self.heap.push(Reverse(Entry { place, ready, source: index }));
    }

    /// Reads until the first entry has its row: all partitions at once that may hold the next one.
    async fn read_ahead(&mut self) -> Result<(), Failure> {
        while let Some(&Reverse(first)) = self.heap.peek()
            && !first.ready
        {
            let mut due = Vec::new();
            while let Some(top) = self.heap.peek_mut()
                && !top.0.ready
                && top.0.place == first.place
            {
                let Reverse(entry) = PeekMut::pop(top);
                due.extend(self.sources[entry.source].question(entry.source, self.after));
            }
            self.statements += due.iter().map(Question::statements).sum::<usize>();
            let cql = self.cql;
            for chunk in cql.all(due.into_iter().map(|question| read(cql, question))).await? {
                self.sources[chunk.source].fill(chunk.rows, chunk.finished, self.most);
                self.enter(chunk.source);
            }
        }
        Ok(())
    }

    /// Steps over the first row, also where several sources have it. All that come first are ready.
    fn pop(&mut self) -> Option<Row> {
        let Reverse(first) = *self.heap.peek()?;
        let mut taken: Option<Row> = None;
        let mut stepped = Vec::new();
        while let Some(Reverse(entry)) = self.heap.peek().copied()
            && entry.place == first.place
            && entry.ready
        {
            self.heap.pop();
            let row = self.sources[entry.source].rows.pop_front();
            // The one that needs no second look is the better one.
            if !matches!(taken, Some(Row { body: Body::Text { .. }, .. })) {
                taken = row.or(taken);
            }
            stepped.push(entry.source);
        }
        // Only now: a source without rows stands at this same place, before those that are ready.
        stepped.into_iter().for_each(|source| self.enter(source));
        taken
    }
}

impl Source {
    /// Rows that are known, in their order.
    fn of_rows(group: usize, rows: VecDeque<Row>, window: TimeWindow) -> Self {
        Self { group, partition: None, window, rows, chunk: 0, finished: true, last: None }
    }

    /// Whether nothing is left of it.
    fn is_over(&self) -> bool {
        self.finished && self.rows.is_empty()
    }

    /// What is kept of it between two pages: no texts, and few of the rows that can be read again.
    fn pause(mut self) -> Self {
        let kept = if self.partition.is_some() { KEPT } else { self.rows.len() };
        if self.rows.len() > kept {
            self.finished = false;
            self.last = self.rows.get(kept - 1).map(|row| (row.created_at, row.id));
        }
        self.rows = self.rows.into_iter().take(kept).map(Row::without_text).collect();
        self
    }

    /// The first place where a row may be that was not read yet.
    fn bound(&self, after: Option<(Timestamp, EventId)>) -> Place {
        let first = place((self.window.1, EventId([0; 32])));
        let read = [after, self.last].into_iter().flatten().map(place).max();
        read.map_or(first, |read| read.max(first))
    }

    fn question(&mut self, source: usize, after: Option<(Timestamp, EventId)>) -> Option<Question> {
        let (key, bucket) = self.partition.clone()?;
        let after = [after, self.last].into_iter().flatten().max_by_key(|&at| place(at));
        Some(Question { source, key, bucket, window: self.window, after, rows: self.chunk })
    }

    fn fill(&mut self, rows: Vec<Row>, finished: bool, most: usize) {
        self.finished = finished;
        if let Some(last) = rows.last() {
            self.last = Some((last.created_at, last.id));
            let bytes: usize = rows.iter().map(Row::bytes).sum();
            let size = (bytes / rows.len()).max(1);
            self.chunk = (CHUNK_BYTES / size).min(most).max(SMALLEST_CHUNK);
        }
        self.rows = rows.into();
    }
}
