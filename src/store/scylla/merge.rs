//! Walks the rows under many keys at once, newest first, ties by lowest id. A partition is opened when the
//! walk comes to the newest row that it may hold, and read in chunks: what is not reached is not read.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, VecDeque, binary_heap::PeekMut},
};

use futures_util::future::try_join;
use smallvec::SmallVec;

use super::{
    batch::BatchId,
    bucket::Bucket,
    cql::{Cql, Failure, blob, limit, time},
    index::{Key, buckets},
    key,
};
use crate::protocol::{EventId, PublicKey, Timestamp};

/// A candidate.
#[derive(Debug, Clone)]
pub struct Row {
    pub created_at: Timestamp,
    pub id: EventId,
    pub body: Body,
}

/// What its row says of it.
#[derive(Debug, Clone)]
pub enum Body {
    Text {
        text: String,
        accepted_at: u64,
        /// Of whoever wrote the row.
        batch: Option<BatchId>,
        /// Whether its event is known to be committed.
        committed: bool,
    },
    Fields {
        kind: u16,
        pubkey: PublicKey,
    },
    /// Nothing but the id.
    Unread,
}

/// Where a row stands in the answer; the smaller one comes first.
type Place = (Reverse<Timestamp>, EventId);

/// Seconds, both ends included.
pub type TimeWindow = (Timestamp, Timestamp);

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
    /// Whoever asks.
    pub group: usize,
    pub keys: Vec<Key>,
    pub window: TimeWindow,
    /// About how many rows of it will be asked for.
    pub wanted: usize,
}

/// One partition, or rows that were known beforehand.
#[derive(Debug, Clone)]
struct Source {
    /// Whoever asked for it.
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

/// What is to be read of a partition.
struct Question {
    source: usize,
    key: Key,
    bucket: Bucket,
    window: TimeWindow,
    after: Option<(Timestamp, EventId)>,
    rows: usize,
}

struct Chunk {
    source: usize,
    rows: Vec<Row>,
    finished: bool,
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

    /// Pauses at a place, behind which these rows were read too, but not looked at.
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

    /// Nothing is left of it.
    fn is_over(&self) -> bool {
        self.finished && self.rows.is_empty()
    }

    /// Lets go of texts, and of rows that can be read again.
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

impl Question {
    /// How many it takes.
    fn statements(&self) -> usize {
        let (since, until) = self.window;
        match self.after {
            Some((at, _)) if at < since => 0,
            Some((at, _)) if at <= until && at > since => 2,
            _ => 1,
        }
    }
}

impl Row {
    fn without_text(self) -> Self {
        let body = match self.body {
            Body::Text { .. } => Body::Unread,
            small => small,
        };
        Self { body, ..self }
    }

    fn place(&self) -> Place {
        place((self.created_at, self.id))
    }

    fn bytes(&self) -> usize {
        match &self.body {
            Body::Text { text, .. } => text.len(),
            Body::Fields { .. } | Body::Unread => 64,
        }
    }
}

fn place((created_at, id): (Timestamp, EventId)) -> Place {
    (Reverse(created_at), id)
}

/// Reads a chunk. What comes after a row is the rest of its second and the older ones: two statements,
/// since no server orders by a time descending and an id ascending in one comparison.
async fn read(cql: &Cql, question: Question) -> Result<Chunk, Failure> {
    let Question { source, key, bucket, window: (since, until), after, rows: count } = question;
    let index = key.index(&cql.statements);
    let select = |statement, mut values: Vec<_>, key: &Key| {
        let mut all = key.partition(bucket);
        all.append(&mut values);
        all.push(limit(count));
        let has_text = key.has_text();
        async move { rows(cql, statement, all, has_text).await }
    };
    let after = after.filter(|(at, _)| *at <= until);
    let Some((at, id)) = after else {
        let rows = select(&index.newest, vec![time(since), time(until)], &key).await?;
        return Ok(Chunk { source, finished: rows.len() < count, rows });
    };
    if at < since {
        return Ok(Chunk { source, rows: Vec::new(), finished: true });
    }
    let rest = select(&index.rest, vec![time(at), blob(id.0)], &key);
    if at == since {
        let rows = rest.await?;
        return Ok(Chunk { source, finished: rows.len() < count, rows });
    }
    let older = select(&index.newest, vec![time(since), time(at - 1)], &key);
    let (mut rows, older) = try_join(rest, older).await?;
    let mut finished = false;
    if rows.len() < count {
        finished = older.len() < count;
        rows.extend(older);
    }
    Ok(Chunk { source, rows, finished })
}

async fn rows(
    cql: &Cql,
    statement: &scylla::statement::prepared::PreparedStatement,
    values: super::cql::Values,
    has_text: bool,
) -> Result<Vec<Row>, Failure> {
    let row = |created_at: i64, id: &[u8], body: Option<Body>| {
        let body = body.unwrap_or(Body::Unread);
        Some(Row { created_at: key::seconds(created_at), id: key::id(id)?, body })
    };
    if has_text {
        type Texts = (i64, Vec<u8>, Option<String>, Option<i64>, Option<Vec<u8>>);
        let body = |text: Option<String>, accepted_at: Option<i64>, batch: Option<Vec<u8>>| {
            let accepted_at = key::seconds(accepted_at.unwrap_or_default());
            let batch = batch.as_deref().and_then(BatchId::parse);
            Some(Body::Text { text: text?, accepted_at, batch, committed: false })
        };
        let rows: Vec<Texts> = cql.read(statement, values).await?;
        let rows = rows
            .into_iter()
            .filter_map(|(at, id, text, accepted_at, batch)| row(at, &id, body(text, accepted_at, batch)));
        return Ok(rows.collect());
    }
    type Fields = (i64, Vec<u8>, Option<i32>, Option<Vec<u8>>);
    let fields = |kind: Option<i32>, pubkey: Option<Vec<u8>>| {
        Some(Body::Fields { kind: kind?.try_into().ok()?, pubkey: key::pubkey(&pubkey?)? })
    };
    let rows: Vec<Fields> = cql.read(statement, values).await?;
    Ok(rows.into_iter().filter_map(|(at, id, kind, pubkey)| row(at, &id, fields(kind, pubkey))).collect())
}
