//! The index rows of an event: under which keys they stand, and in which buckets. Writes them and takes
//! them away; reading them is for [`super::merge`].

use std::{
    collections::{HashMap, HashSet},
    num::NonZeroUsize,
    sync::Arc,
};

use lru::LruCache;
use parking_lot::Mutex;
use scylla::value::CqlValue;

use super::{
    batch::BatchId,
    bucket::{Bucket, Directory, Sampling},
    cql::{Cql, Failure, Values, blob, kind, limit, stamp, text, time},
    key,
    statements::{IndexStatements, Statements},
};
use crate::protocol::{Event, EventId, PublicKey, Timestamp};

/// Keys that are remembered to be busy, and pairs of author and kind that are known to be listed.
const REMEMBERED: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// What rows of an index stand under.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Key {
    Author(PublicKey, u16),
    Kind(u16),
    /// A letter, and the value as [`key::tag_value`] makes it.
    Tag(u8, Box<[u8]>),
    Time,
}

impl Key {
    pub fn tag(letter: u8, value: &str) -> Self {
        Self::Tag(letter, key::tag_value(value).into())
    }

    /// All keys of an event, each once.
    pub fn of(event: &Event) -> Vec<Self> {
        let mut keys = vec![Self::Author(event.pubkey(), event.kind()), Self::Kind(event.kind()), Self::Time];
        keys.extend(event.tags().indexed().map(|(letter, value)| Self::tag(letter, value)));
        keys.sort_unstable();
        keys.dedup();
        keys
    }

    /// The name of the index that the key is in.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Author(..) => "by_author",
            Self::Kind(_) => "by_kind",
            Self::Tag(..) => "by_tag",
            Self::Time => "by_time",
        }
    }

    pub fn index<'s>(&self, statements: &'s Statements) -> &'s IndexStatements {
        match self {
            Self::Author(..) => &statements.by_author,
            Self::Kind(_) => &statements.by_kind,
            Self::Tag(..) => &statements.by_tag,
            Self::Time => &statements.by_time,
        }
    }

    /// Whether the rows have the text of the event; else its kind and author.
    pub fn has_text(&self) -> bool {
        matches!(self, Self::Author(..) | Self::Kind(_))
    }

    /// The columns of a partition.
    pub fn partition(&self, bucket: Bucket) -> Values {
        let mut values = match self {
            Self::Author(author, of_kind) => vec![blob(author.0), kind(*of_kind)],
            Self::Kind(of_kind) => vec![kind(*of_kind)],
            Self::Tag(letter, value) => vec![text(char::from(*letter)), blob(value)],
            Self::Time => Vec::new(),
        };
        values.push(text(bucket));
        values
    }
}

/// When and in which batch events were accepted.
#[derive(Debug, Clone, Copy)]
pub struct Accepted {
    /// When, in milliseconds since 1970 by the clock of the servers.
    pub at: u64,
    pub batch: BatchId,
}

/// What is known of the indexes, so that it need not be asked for at each write.
pub struct Indexes {
    sampling: Sampling,
    busy: Mutex<LruCache<Key, Directory>>,
    listed_kinds: Mutex<LruCache<(PublicKey, u16), ()>>,
}

impl Indexes {
    pub fn new(sampling: Sampling) -> Self {
        let (busy, kinds) = (LruCache::new(REMEMBERED), LruCache::new(REMEMBERED));
        Self { sampling, busy: Mutex::new(busy), listed_kinds: Mutex::new(kinds) }
    }

    /// Writes the row of an event under one of its keys; what leads to the row is listed before.
    /// `at` is the timestamp of the row.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn put(
        &self,
        cql: &Cql,
        key: Key,
        event: Arc<Event>,
        accepted: Accepted,
        at: i64,
    ) -> Result<(), Failure> {
        let (id, created_at) = (event.id(), event.created_at());
        if let Key::Author(author, of_kind) = key {
            self.list_kind(cql, author, of_kind).await?;
        }
        let index = key.index(&cql.statements);
        let known = self.busy.lock().get(&key).cloned();
        let directory = known.unwrap_or_default();
        let bucket = directory.place(created_at, &id);
        if !directory.is_listed(bucket) {
            let mut values = vec![CqlValue::Set(vec![text(bucket)])];
            values.extend(key.partition(Bucket::BASE));
            cql.write(&index.list, values).await?;
            if let Some(directory) = self.busy.lock().get_mut(&key) {
                directory.list(bucket);
            }
        }
        let mut values = key.partition(bucket);
        values.extend([time(created_at), blob(id.0)]);
        match key.has_text() {
            true => values.extend([text(event.json()), time(accepted.at), blob(accepted.batch.to_bytes())]),
            false => values.extend([kind(event.kind()), blob(event.pubkey().0)]),
        }
        values.push(stamp(at));
        cql.write(&index.put, values).await?;
        if self.sampling.takes(&id) {
            self.sample(cql, key, bucket, &id).await?;
        }
        Ok(())
    }

    /// Counts a row, and learns whether its partition is busy.
    async fn sample(&self, cql: &Cql, key: Key, bucket: Bucket, id: &EventId) -> Result<(), Failure> {
        let index = key.index(&cql.statements);
        let mut values = vec![CqlValue::Set(vec![blob(&id.0[..8])])];
        values.extend(key.partition(bucket));
        cql.write(&index.sample, values).await?;
        let (samples, finer) = directory(cql, &key, bucket).await?;
        let finer = if bucket == Bucket::BASE { finer } else { directory(cql, &key, Bucket::BASE).await?.1 };
        let is_busy = self.sampling.is_busy(samples);
        if is_busy || !finer.is_empty() {
            let mut busy = self.busy.lock();
            let directory = busy.get_or_insert_mut(key, Directory::default);
            finer.into_iter().for_each(|bucket| directory.list(bucket));
            if is_busy {
                directory.mark_busy(bucket);
            }
        }
        Ok(())
    }

    async fn list_kind(&self, cql: &Cql, author: PublicKey, of_kind: u16) -> Result<(), Failure> {
        if self.listed_kinds.lock().get(&(author, of_kind)).is_some() {
            return Ok(());
        }
        cql.write(&cql.statements.put_kind, vec![blob(author.0), kind(of_kind)]).await?;
        self.listed_kinds.lock().put((author, of_kind), ());
        Ok(())
    }
}

/// The buckets in which rows stand that are to be taken away, by key. Asked once for many events: where the newest
/// rows of a partition were removed, the servers step over all of them for each answer.
pub struct Places(HashMap<Key, Vec<Bucket>>);

impl Places {
    /// The places of events whose rows are there already: a bucket is listed before its first row.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn of(cql: &Cql, events: impl Iterator<Item = &Event>) -> Result<Self, Failure> {
        let keys: HashSet<Key> = events.flat_map(Key::of).collect();
        let found = keys.into_iter().map(async |key| Ok((key.clone(), buckets(cql, &key).await?)));
        Ok(Self(cql.all(found).await?.into_iter().collect()))
    }
}

/// Takes the row of an event away, from every bucket where it may stand.
///
/// # Errors
/// When the servers refuse.
pub async fn remove(cql: &Cql, key: &Key, event: &Event, places: &Places, at: i64) -> Result<(), Failure> {
    let (id, created_at) = (event.id(), event.created_at());
    let buckets = places.0.get(key).into_iter().flatten();
    for &bucket in buckets.filter(|bucket| bucket.holds(created_at, &id)) {
        let mut values = vec![stamp(at)];
        values.extend(key.partition(bucket));
        values.extend([time(created_at), blob(id.0)]);
        cql.write(&key.index(&cql.statements).remove, values).await?;
    }
    Ok(())
}

/// How many rows without a text the first partition of a key has, counted up to `most`.
///
/// # Errors
/// When the servers refuse.
pub async fn rows_up_to(cql: &Cql, key: Key, most: usize) -> Result<usize, Failure> {
    type Fields = (i64, Vec<u8>, Option<i32>, Option<Vec<u8>>);
    let mut values = key.partition(Bucket::BASE);
    values.extend([time(0), time(Timestamp::MAX), limit(most)]);
    let rows: Vec<Fields> = cql.read(&key.index(&cql.statements).newest, values).await?;
    Ok(rows.len())
}

/// The buckets of a key, the base first.
///
/// # Errors
/// When the servers refuse.
pub async fn buckets(cql: &Cql, key: &Key) -> Result<Vec<Bucket>, Failure> {
    let (_, finer) = directory(cql, key, Bucket::BASE).await?;
    Ok([vec![Bucket::BASE], finer].concat())
}

/// How many rows of a partition were sampled, and which finer buckets are listed there.
async fn directory(cql: &Cql, key: &Key, bucket: Bucket) -> Result<(usize, Vec<Bucket>), Failure> {
    type Sets = (Option<Vec<String>>, Option<Vec<Vec<u8>>>);
    let statement = &key.index(&cql.statements).directory;
    let row: Option<Sets> = cql.first(statement, key.partition(bucket)).await?;
    let (buckets, sample) = row.unwrap_or_default();
    let buckets = buckets.unwrap_or_default();
    let buckets = buckets.iter().filter_map(|text| Bucket::parse(text)).collect();
    Ok((sample.map_or(0, |sample| sample.len()), buckets))
}

/// The kinds that an author has written.
///
/// # Errors
/// When the servers refuse.
pub async fn kinds(cql: &Cql, author: &PublicKey) -> Result<Vec<u16>, Failure> {
    let rows: Vec<(i32,)> = cql.read(&cql.statements.get_kinds, vec![blob(author.0)]).await?;
    Ok(rows.into_iter().filter_map(|(kind,)| kind.try_into().ok()).collect())
}
