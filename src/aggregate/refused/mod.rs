//! What an upstream has and this relay does not take: remembered, so that it is not fetched again whenever everything
//! is compared.
//!
//! A comparison with the upstream puts these keys beside those of what is stored. They count nowhere else: not for
//! another upstream, nor for a client, nor for what comes live. So who sends something false under the id of an event
//! keeps nobody from that event but who asks them.
//!
//! They stand in records of many: `<upstream>/<filter>/<series><time>`. A record is only added to, by a conditional
//! write, or removed. Two who write for the same upstream each have what both wrote, at most twice. What is lost with
//! the process is fetched once more.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    time::Duration,
};

use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    counts::{Refusal, Verdict},
    cursor::NotKept,
    upstream::UpstreamId,
};
use crate::{
    clock,
    protocol::{EventId, Filter, Timestamp, negentropy::Key},
    store::{
        StoreError,
        records::{MAX_VALUE_BYTES, Race, Record, RecordKind, RecordPages, Records},
    },
};

/// Bytes of an entry in a record: the date, the id, until when it counts, and why.
const ENTRY_BYTES: usize = 8 + 32 + 8 + 1;
/// Entries of a record.
const CHUNK: usize = (MAX_VALUE_BYTES - 4 * 1024) / ENTRY_BYTES;
/// Entries that may wait to be written. What is more is fetched again.
const MAX_WAITING: usize = 20_000;
/// Records that are read at once: some are as large as records may be.
const PAGE: usize = 16;

const HOUR: u64 = 3_600;
const DAY: u64 = 24 * HOUR;
/// What holds for longer stands in records of its own, so that the others can expire as a whole.
const LONG: u64 = 30 * DAY;
const FOR_EVER: Timestamp = Timestamp::MAX;

/// A filter of an upstream, as keys of records name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FilterId(u64);

impl From<&Filter> for FilterId {
    fn from(filter: &Filter) -> Self {
        Self(xxh3_64(filter.to_string().as_bytes()))
    }
}

impl fmt::Display for FilterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// Until when an event is not to be fetched again, which was asked for and of which this has become; `None`: it is
/// here.
fn until(verdict: Verdict, created_at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    match verdict {
        Verdict::Stored | Verdict::Known => None,
        // A dead letter is replayed by its own text.
        Verdict::Routed | Verdict::Dead => Some(FOR_EVER),
        Verdict::Refused(refusal) => Some(match refusal {
            Refusal::Superseded | Refusal::Deleted | Refusal::Expired => FOR_EVER,
            // That is changed by who runs the relay.
            Refusal::Policy => now + DAY,
            Refusal::Ahead => created_at,
            // Nothing is known of the event of that id: three attempts a day.
            Refusal::Forged | Refusal::Shape | Refusal::TooLarge | Refusal::Unasked => now + 8 * HOUR,
        }),
    }
}

/// One event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Entry {
    key: Key,
    until: Timestamp,
    /// For whoever looks into the records.
    why: u8,
}

impl Entry {
    fn write(&self, to: &mut Vec<u8>) {
        to.extend(self.key.created_at.to_be_bytes());
        to.extend(self.key.id.0);
        to.extend(self.until.to_be_bytes());
        to.push(self.why);
    }

    fn read(bytes: &[u8; ENTRY_BYTES]) -> Self {
        let number = |at: usize| {
            let mut number = [0; 8];
            number.copy_from_slice(&bytes[at..at + 8]);
            u64::from_be_bytes(number)
        };
        let mut id = [0; 32];
        id.copy_from_slice(&bytes[8..40]);
        let key = Key { created_at: number(0), id: EventId(id) };
        Self { key, until: number(40), why: bytes[48] }
    }
}

/// What is not whole is not read.
fn entries(value: &[u8]) -> impl Iterator<Item = Entry> {
    value.as_chunks::<ENTRY_BYTES>().0.iter().map(Entry::read)
}

/// Records that are filled one after the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Series {
    filter: FilterId,
    is_long: bool,
}

/// A record: the time at which it was begun, in milliseconds, so that the oldest comes first, and its series.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Chunk {
    begun: u64,
    series: Series,
}

impl Chunk {
    fn key(self, upstream: UpstreamId) -> String {
        let Self { begun, series: Series { filter, is_long } } = self;
        format!("{upstream}/{filter}/{}{begun:016x}", if is_long { 'l' } else { 's' })
    }

    fn parse(key: &str) -> Option<Self> {
        let mut parts = key.split('/').skip(1);
        let filter = FilterId(u64::from_str_radix(parts.next()?, 16).ok()?);
        let rest = parts.next()?;
        let is_long = rest.starts_with('l');
        let begun = u64::from_str_radix(rest.get(1..)?, 16).ok()?;
        Some(Self { begun, series: Series { filter, is_long } })
    }
}

/// What was refused of an upstream. In memory is only what is not written yet, and where the rest is.
pub struct Refused {
    upstream: UpstreamId,
    /// Of all others that there may be records.
    filters: Vec<FilterId>,
    /// Most entries of records.
    most: usize,
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    waiting: HashMap<Series, Vec<Entry>>,
    /// How many entries each record has; `None`: nobody has looked.
    chunks: Option<BTreeMap<Chunk, usize>>,
}

impl Inner {
    fn waiting(&self) -> usize {
        self.waiting.values().map(Vec::len).sum()
    }

    fn note_chunk(&mut self, chunk: Chunk, entries: usize) {
        self.chunks.get_or_insert_default().insert(chunk, entries);
    }
}

impl Refused {
    /// `most`: of how many events that is kept.
    pub fn new(upstream: UpstreamId, filters: &[Filter], most: usize) -> Self {
        Self { upstream, filters: filters.iter().map(Into::into).collect(), most, inner: Mutex::default() }
    }

    /// Notes what has become of an event that a comparison by this filter has brought.
    pub fn note(&self, filter: FilterId, key: Key, verdict: Verdict) {
        let now = clock::now();
        let Some(until) = until(verdict, key.created_at, now) else { return };
        let why = match verdict {
            Verdict::Refused(refusal) => refusal as u8,
            Verdict::Stored | Verdict::Known | Verdict::Routed | Verdict::Dead => u8::MAX,
        };
        let series = Series { filter, is_long: until > now + LONG };
        let mut inner = self.inner.lock();
        if inner.waiting() < MAX_WAITING {
            inner.waiting.entry(series).or_default().push(Entry { key, until, why });
        }
    }

    /// The keys that are not to be fetched by this filter.
    ///
    /// # Errors
    /// The store fails.
    pub async fn keys(&self, records: &dyn Records, filter: &Filter) -> Result<Vec<Key>, StoreError> {
        if self.inner.lock().chunks.is_none() {
            self.look(records).await?;
        }
        let (id, now, begun) = (FilterId::from(filter), clock::now(), clock::millis());
        let (mut keys, mut found) = (Vec::new(), BTreeMap::new());
        let prefix = format!("{}/{id}/", self.upstream);
        self.visit(records, &prefix, async |chunk, record| {
            keys.extend(entries(&record.value).filter(|entry| entry.until > now).map(|entry| entry.key));
            found.extend(chunk.map(|chunk| (chunk, record.value.len() / ENTRY_BYTES)));
        })
        .await?;
        let mut inner = self.inner.lock();
        if let Some(chunks) = &mut inner.chunks {
            // Some have expired, others were made by somebody else.
            chunks.retain(|chunk, _| chunk.series.filter != id || chunk.begun >= begun);
            chunks.append(&mut found);
        }
        for (series, waiting) in &inner.waiting {
            if series.filter == id {
                keys.extend(waiting.iter().map(|entry| entry.key));
            }
        }
        Ok(keys)
    }

    /// Finds the records that there are, and removes those of filters that the upstream has no more.
    async fn look(&self, records: &dyn Records) -> Result<(), StoreError> {
        let mut chunks = BTreeMap::new();
        self.visit(records, &format!("{}/", self.upstream), async |chunk, record| {
            match chunk {
                Some(chunk) if self.filters.contains(&chunk.series.filter) => {
                    chunks.insert(chunk, record.value.len() / ENTRY_BYTES);
                }
                _ => {
                    // Who overtakes this has removed it, or uses it.
                    records.remove(RecordKind::Refused, &record.key, record.version).await;
                }
            }
        })
        .await?;
        self.inner.lock().chunks.get_or_insert_default().append(&mut chunks);
        Ok(())
    }

    async fn visit(
        &self,
        records: &dyn Records,
        prefix: &str,
        mut visit: impl AsyncFnMut(Option<Chunk>, &Record),
    ) -> Result<(), StoreError> {
        let mut pages = RecordPages::of(records, RecordKind::Refused, prefix, PAGE);
        while let Some(page) = pages.next().await? {
            for record in &page {
                visit(Chunk::parse(&record.key), record).await;
            }
        }
        Ok(())
    }

    /// Writes what waits, and removes the oldest of what is too much.
    ///
    /// # Errors
    /// The store fails. What is not written waits.
    pub async fn save(&self, records: &dyn Records) -> Result<(), NotKept> {
        loop {
            let next = {
                let inner = self.inner.lock();
                let waiting = inner.waiting.iter().find(|(_, waiting)| !waiting.is_empty());
                waiting.map(|(series, waiting)| (*series, waiting[..waiting.len().min(CHUNK)].to_vec()))
            };
            let Some((series, waiting)) = next else { break };
            let written = self.append(records, series, &waiting).await?;
            if let Some(waiting) = self.inner.lock().waiting.get_mut(&series) {
                waiting.drain(..written);
            }
        }
        self.trim(records).await
    }

    /// Writes the first of these entries: how many.
    async fn append(
        &self,
        records: &dyn Records,
        series: Series,
        waiting: &[Entry],
    ) -> Result<usize, NotKept> {
        let newest = self.with_room(series);
        let chunk = newest.unwrap_or_else(|| Chunk { begun: clock::millis(), series });
        let key = chunk.key(self.upstream);
        let found = match newest {
            Some(_) => records.get(RecordKind::Refused, &key).await?,
            None => None,
        };
        let (version, mut value) =
            found.map_or_else(Default::default, |found| (Some(found.version), found.value));
        let count = waiting.len().min(CHUNK.saturating_sub(value.len() / ENTRY_BYTES));
        waiting[..count].iter().for_each(|entry| entry.write(&mut value));
        let expires_in = (!series.is_long).then(|| {
            let last = entries(&value).map(|entry| entry.until).max().unwrap_or_default();
            Duration::from_secs(last.saturating_sub(clock::now()).clamp(1, LONG))
        });
        let filled = value.len() / ENTRY_BYTES;
        match records.put(RecordKind::Refused, &key, version, value, expires_in).await? {
            Race::Won(_) => {
                self.inner.lock().note_chunk(chunk, filled);
                Ok(count)
            }
            // Somebody else fills it: another one is begun.
            Race::Overtaken(_) => {
                self.inner.lock().note_chunk(chunk, CHUNK);
                Ok(0)
            }
            // Written twice it does no harm.
            Race::Unknown(error) => Err(error.into()),
        }
    }

    /// The newest record of a series, if it is not full.
    fn with_room(&self, series: Series) -> Option<Chunk> {
        let inner = self.inner.lock();
        let mut newest = inner.chunks.iter().flatten().rev().filter(|(chunk, _)| chunk.series == series);
        newest.next().filter(|(_, entries)| **entries < CHUNK).map(|(chunk, _)| *chunk)
    }

    /// Removes the oldest records while there are too many entries.
    async fn trim(&self, records: &dyn Records) -> Result<(), NotKept> {
        loop {
            let oldest = {
                let inner = self.inner.lock();
                let Some(chunks) = &inner.chunks else { return Ok(()) };
                let is_too_much = chunks.len() > 1 && chunks.values().sum::<usize>() > self.most;
                is_too_much.then(|| chunks.first_key_value().map(|(chunk, _)| *chunk)).flatten()
            };
            let Some(oldest) = oldest else { return Ok(()) };
            let key = oldest.key(self.upstream);
            if let Some(found) = records.get(RecordKind::Refused, &key).await? {
                records.remove(RecordKind::Refused, &key, found.version).await;
            }
            self.inner.lock().chunks.as_mut().map(|chunks| chunks.remove(&oldest));
        }
    }
}

#[cfg(test)]
mod tests;
