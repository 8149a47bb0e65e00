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
mod tests {
    use super::*;
    use crate::{
        aggregate::upstream::RelayUrl,
        store::{Store, memory::Memory},
    };

    const DELETED: Verdict = Verdict::Refused(Refusal::Deleted);

    fn upstream(host: &str) -> UpstreamId {
        RelayUrl::parse(&format!("ws://{host}")).unwrap().id()
    }

    fn filter(json: &str) -> Filter {
        serde_json::from_str(json).unwrap()
    }

    fn key(n: usize) -> Key {
        let mut id = [0; 32];
        id[..8].copy_from_slice(&n.to_be_bytes());
        Key { created_at: n as u64, id: EventId(id) }
    }

    fn one(most: usize) -> Refused {
        Refused::new(upstream("a"), &[filter("{}"), filter(r#"{"kinds":[1]}"#)], most)
    }

    async fn found(refused: &Refused, store: &Memory, of: &str) -> Vec<Key> {
        let mut keys = refused.keys(store.records(), &filter(of)).await.unwrap();
        keys.sort_by_key(|key| key.created_at);
        keys
    }

    async fn records(store: &Memory) -> usize {
        store.records().list(RecordKind::Refused, "", None, 1_000).await.unwrap().records.len()
    }

    #[test]
    fn each_reason_holds_for_its_time() {
        let (at, now) = (5_000, 1_000);
        for (verdict, expected) in [
            (Verdict::Stored, None),
            (Verdict::Known, None),
            (Verdict::Routed, Some(FOR_EVER)),
            (Verdict::Dead, Some(FOR_EVER)),
            (Verdict::Refused(Refusal::Superseded), Some(FOR_EVER)),
            (DELETED, Some(FOR_EVER)),
            (Verdict::Refused(Refusal::Expired), Some(FOR_EVER)),
            (Verdict::Refused(Refusal::Policy), Some(now + 86_400)),
            (Verdict::Refused(Refusal::Ahead), Some(at)),
            (Verdict::Refused(Refusal::Forged), Some(now + 28_800)),
            (Verdict::Refused(Refusal::Unasked), Some(now + 28_800)),
        ] {
            assert_eq!(until(verdict, at, now), expected, "{verdict:?}");
        }
    }

    #[tokio::test]
    async fn it_is_known_to_this_upstream_and_filter_after_a_restart() {
        let (store, of_all, of_notes) = (Memory::new(), "{}", r#"{"kinds":[1]}"#);
        let refused = one(1_000);
        assert_eq!(found(&refused, &store, of_all).await, []);
        let forged = Verdict::Refused(Refusal::Forged);
        for (n, verdict) in [(1, DELETED), (2, forged), (3, Verdict::Stored), (4, Verdict::Known)] {
            refused.note((&filter(of_all)).into(), key(n), verdict);
        }
        // Its time has come already.
        refused.note((&filter(of_all)).into(), key(5), Verdict::Refused(Refusal::Ahead));
        refused.note((&filter(of_notes)).into(), key(6), DELETED);
        assert_eq!(found(&refused, &store, of_all).await.len(), 3, "before it is written, too");
        refused.save(store.records()).await.unwrap();
        refused.note((&filter(of_all)).into(), key(7), DELETED);
        refused.save(store.records()).await.unwrap();
        for refused in [refused, one(1_000)] {
            assert_eq!(found(&refused, &store, of_all).await, [key(1), key(2), key(7)]);
            assert_eq!(found(&refused, &store, of_notes).await, [key(6)]);
        }
        assert_eq!(records(&store).await, 3, "one a series");
        let other = Refused::new(upstream("b"), &[filter("{}")], 1_000);
        assert_eq!(found(&other, &store, of_all).await, []);
        // What was noted for a filter that is no more is gone.
        let narrower = Refused::new(upstream("a"), &[filter(of_notes)], 1_000);
        assert_eq!(found(&narrower, &store, of_notes).await, [key(6)]);
        assert_eq!(records(&store).await, 1);
    }

    #[tokio::test]
    async fn the_oldest_of_what_is_too_much_falls_out() {
        let (store, refused) = (Memory::new(), one(2 * CHUNK));
        for n in 0..3 * CHUNK + 10 {
            refused.note((&filter("{}")).into(), key(n), DELETED);
        }
        refused.save(store.records()).await.unwrap();
        let expected: Vec<Key> = (2 * CHUNK..3 * CHUNK + 10).map(key).collect();
        for refused in [refused, one(2 * CHUNK)] {
            assert!(found(&refused, &store, "{}").await == expected);
        }
        assert_eq!(records(&store).await, 2);
        // In memory there is a bound as well.
        let refused = one(10);
        (0..MAX_WAITING + 9).for_each(|n| refused.note((&filter("{}")).into(), key(n), DELETED));
        assert_eq!(refused.inner.lock().waiting(), MAX_WAITING);
    }

    #[tokio::test]
    async fn two_who_write_for_the_same_upstream_do_no_harm() {
        let (store, all) = (Memory::new(), filter("{}"));
        let both = [one(100_000), one(100_000)];
        for round in 0..20 {
            for (nth, refused) in both.iter().enumerate() {
                refused.note((&all).into(), key(2 * round + nth), DELETED);
            }
            let [a, b] = both.each_ref().map(|refused| refused.save(store.records()));
            let (a, b) = tokio::join!(a, b);
            a.and(b).unwrap();
        }
        let expected: Vec<Key> = (0..40).map(key).collect();
        for refused in both {
            let mut keys = found(&refused, &store, "{}").await;
            keys.dedup();
            assert_eq!(keys, expected);
        }
    }

    #[test]
    fn records_are_found_again() {
        let series = Series { filter: (&filter("{}")).into(), is_long: true };
        let chunk = Chunk { begun: 1_900_000_000_000, series };
        assert_eq!(Chunk::parse(&chunk.key(upstream("a"))), Some(chunk));
        let entry = Entry { key: key(77), until: 1 << 40, why: 3 };
        let mut value = Vec::new();
        [entry, entry].iter().for_each(|entry| entry.write(&mut value));
        assert_eq!(entries(&value).collect::<Vec<_>>(), [entry, entry]);
        const { assert!((CHUNK + 1) * ENTRY_BYTES < MAX_VALUE_BYTES) };
        // As written before: what is stored has to be found.
        assert_eq!(FilterId::from(&filter("{}")).to_string(), "1349cde127705c16");
    }
}
