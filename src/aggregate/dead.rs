//! Dead letters: events that the store took in no attempt, while it took others. Each is a record, `<upstream>/<id>`,
//! before it counts as finished.

use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;
use utoipa::ToSchema;

use super::{
    counts::{Counts, Verdict},
    cursor::NotKept,
    flight::Number,
    queue::{Entry, Queue},
    upstream::UpstreamId,
};
use crate::{
    clock,
    protocol::{EventId, Timestamp},
    store::{
        Store, StoreError,
        records::{MAX_VALUE_BYTES, Race, Record, RecordKind, RecordPages, Records, Version},
    },
};

/// Numbers of entries that are replayed begin here: no reader has as many.
const REPLAYED: Number = 1 << 63;
/// How often it is looked whether there is a place again, in seconds.
const LOOK_AGAIN: u64 = 60;
/// Records that are read at once where they are counted.
const PAGE: usize = 16;

/// An event that could not be stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DeadLetter {
    /// The event, as the upstream sent it; `null` where it is too long for a record: it is fetched again to be replayed.
    #[schema(value_type = Option<String>)]
    pub text: Option<Box<str>>,
    /// How long it is.
    pub bytes: usize,
    /// Attempts to store it alone, while others were stored.
    pub attempts: u32,
    pub first_error: String,
    pub first_at: Timestamp,
    pub last_error: String,
    pub last_at: Timestamp,
}

/// Where a dead letter is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Address {
    pub upstream: UpstreamId,
    pub event: EventId,
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.upstream, self.event.to_hex())
    }
}

impl Address {
    fn key(self) -> String {
        self.to_string()
    }

    /// Reads it as it is written.
    pub fn parse(key: &str) -> Option<Self> {
        let (upstream, event) = key.split_once('/')?;
        Some(Self { upstream: upstream.parse().ok()?, event: EventId::from_hex(event)? })
    }
}

/// Whether there is a dead letter.
///
/// # Errors
/// The store fails.
pub async fn is_dead(records: &dyn Records, at: Address) -> Result<bool, StoreError> {
    Ok(records.get(RecordKind::DeadLetters, &at.key()).await?.is_some())
}

/// Why there is no dead letter.
#[derive(Debug, thiserror::Error)]
pub enum NotBuried {
    #[error("there are as many dead letters of it as there may be")]
    Full,
    #[error(transparent)]
    NotKept(#[from] NotKept),
}

/// What became of a replay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replay {
    /// It is on its way into the store. The record goes when it is stored or refused.
    Queued,
    /// There is none.
    Unknown,
    /// It has no text, and the upstream did not send it.
    NoText,
    /// The queue is full.
    Full,
}

/// The dead letters of a node's store.
pub struct DeadLetters {
    store: Arc<dyn Store>,
    /// Of an upstream.
    most: usize,
    /// How many there are of each upstream that has had one, and when they were counted.
    counted: Mutex<HashMap<UpstreamId, (usize, Timestamp)>>,
    replayed: AtomicU64,
    /// Those that are on their way into the store again.
    on_the_way: Mutex<HashMap<Number, Address>>,
}

impl DeadLetters {
    /// `most`: of an upstream.
    pub fn new(store: Arc<dyn Store>, most: usize) -> Self {
        Self {
            store,
            most,
            counted: Mutex::default(),
            replayed: AtomicU64::new(REPLAYED),
            on_the_way: Mutex::default(),
        }
    }

    fn records(&self) -> &dyn Records {
        self.store.records()
    }

    /// Keeps one. If there is one of the event already, this takes its place.
    ///
    /// # Errors
    /// There are too many, or the store fails: it is not kept, as far as is known.
    pub async fn keep(&self, at: Address, mut letter: DeadLetter) -> Result<(), NotBuried> {
        let mut value = serde_json::to_vec(&letter).map_err(NotKept::from)?;
        if value.len() > MAX_VALUE_BYTES {
            letter.text = None;
            value = serde_json::to_vec(&letter).map_err(NotKept::from)?;
        }
        let key = at.key();
        let found = self.records().get(RecordKind::DeadLetters, &key).await.map_err(NotKept::from)?;
        let expected = found.map(|record| record.version);
        if expected.is_none() && self.count(at.upstream).await? >= self.most {
            return Err(NotBuried::Full);
        }
        let put = self.records().put(RecordKind::DeadLetters, &key, expected, value, None).await;
        match put.map_err(NotKept::from)? {
            Race::Won(_) => {
                self.note(at.upstream, usize::from(expected.is_none()));
                Ok(())
            }
            // Another node has kept it.
            Race::Overtaken(Some(_)) => Ok(()),
            Race::Overtaken(None) => Err(NotKept::Overtaken.into()),
            Race::Unknown(error) => Err(NotKept::from(error).into()),
        }
    }

    /// How many there are of an upstream. Where it is full, they are counted again after a while: another node may have
    /// let go of some.
    async fn count(&self, upstream: UpstreamId) -> Result<usize, NotBuried> {
        let now = clock::now();
        let known = self.counted.lock().get(&upstream).copied();
        if let Some((count, at)) = known
            && (count < self.most || now < at.saturating_add(LOOK_AGAIN))
        {
            return Ok(count);
        }
        let (prefix, mut count) = (format!("{upstream}/"), 0);
        let mut pages = RecordPages::of(self.records(), RecordKind::DeadLetters, &prefix, PAGE);
        while let Some(page) = pages.next().await.map_err(NotKept::from)? {
            count += page.len();
        }
        self.counted.lock().insert(upstream, (count, now));
        Ok(count)
    }

    fn note(&self, upstream: UpstreamId, more: usize) {
        if let Some((count, _)) = self.counted.lock().get_mut(&upstream) {
            *count += more;
        }
    }

    /// The dead letters of an upstream, or of all: those after this one, at most so many, and after which the list goes
    /// on.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list(
        &self,
        upstream: Option<UpstreamId>,
        after: Option<Address>,
        limit: usize,
    ) -> Result<(Vec<(Address, DeadLetter)>, Option<Address>), StoreError> {
        let prefix = upstream.map_or_else(String::new, |upstream| format!("{upstream}/"));
        let after = after.map(Address::key);
        let page = self.records().list(RecordKind::DeadLetters, &prefix, after.as_deref(), limit).await?;
        let next = page.next.as_deref().and_then(Address::parse);
        Ok((page.records.iter().filter_map(read).map(|(at, letter, _)| (at, letter)).collect(), next))
    }

    /// One of them.
    ///
    /// # Errors
    /// The store fails.
    pub async fn get(&self, at: Address) -> Result<Option<DeadLetter>, StoreError> {
        Ok(self.find(at).await?.map(|(letter, _)| letter))
    }

    async fn find(&self, at: Address) -> Result<Option<(DeadLetter, Version)>, StoreError> {
        let found = self.records().get(RecordKind::DeadLetters, &at.key()).await?;
        Ok(found.as_ref().and_then(read).map(|(_, letter, version)| (letter, version)))
    }

    /// Lets go of one: whether there was one. Its event is not asked for again.
    ///
    /// # Errors
    /// The store fails, or does not say what it has done.
    pub async fn remove(&self, at: Address) -> Result<bool, StoreError> {
        let Some((_, version)) = self.find(at).await? else { return Ok(false) };
        match self.records().remove(RecordKind::DeadLetters, &at.key(), version).await {
            Race::Won(_) => {
                if let Some((count, _)) = self.counted.lock().get_mut(&at.upstream) {
                    *count = count.saturating_sub(1);
                }
                Ok(true)
            }
            Race::Overtaken(_) => Ok(false),
            Race::Unknown(error) => Err(error),
        }
    }

    /// Puts one into the queue again, which counts as another message of its upstream. One without its text is asked of
    /// `fetch`.
    ///
    /// # Errors
    /// The store fails.
    pub async fn replay(
        &self,
        queue: &dyn Queue,
        at: Address,
        counts: &Counts,
        fetch: impl AsyncFnOnce(EventId) -> Option<Box<str>>,
    ) -> Result<Replay, StoreError> {
        let Some((letter, _)) = self.find(at).await? else { return Ok(Replay::Unknown) };
        let text = match letter.text {
            Some(text) => text,
            None => match fetch(at.event).await {
                Some(text) => text,
                None => return Ok(Replay::NoText),
            },
        };
        let number = self.replayed.fetch_add(1, Relaxed);
        counts.receive(text.len());
        self.on_the_way.lock().insert(number, at);
        let (upstream, id, received) = (at.upstream, at.event, clock::now());
        if queue.offer(Entry { upstream, number, id, text, received, trace: None, place: None }).is_err() {
            counts.give_up(1);
            self.on_the_way.lock().remove(&number);
            return Ok(Replay::Full);
        }
        Ok(Replay::Queued)
    }

    /// An entry has come to this; `None`: it is lost. If it was replayed, its record goes, unless it is lost or a dead
    /// letter once more.
    pub async fn decided(&self, number: Number, verdict: Option<Verdict>) {
        let Some(at) = self.on_the_way.lock().remove(&number) else { return };
        if verdict.is_some_and(|verdict| verdict != Verdict::Dead)
            && let Err(error) = self.remove(at).await
        {
            warn!(event = %at.event.to_hex(), "a dead letter that was replayed stays: {}", error.detail());
        }
    }
}

/// Whether a number is of a dead letter that is tried again.
pub fn is_replayed(number: Number) -> bool {
    number >= REPLAYED
}

/// What can not be read is left out.
fn read(record: &Record) -> Option<(Address, DeadLetter, Version)> {
    Some((Address::parse(&record.key)?, serde_json::from_slice(&record.value).ok()?, record.version))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{
            queue::{Deaf, memory},
            upstream::RelayUrl,
        },
        store,
    };

    fn stage(most: usize) -> (DeadLetters, Arc<dyn Queue>) {
        let queue: Arc<dyn Queue> = Arc::new(memory::Memory::new(1 << 20, Arc::new(Deaf)));
        (DeadLetters::new(Arc::new(store::memory::Memory::new()), most), queue)
    }

    fn at(host: &str, byte: u8) -> Address {
        let upstream = RelayUrl::parse(&format!("ws://{host}")).unwrap().id();
        Address { upstream, event: EventId([byte; 32]) }
    }

    fn letter(text: &str) -> DeadLetter {
        DeadLetter {
            text: Some(text.into()),
            bytes: text.len(),
            attempts: 5,
            first_error: "first".into(),
            first_at: 1,
            last_error: "last".into(),
            last_at: 2,
        }
    }

    #[tokio::test]
    async fn they_are_kept_listed_and_let_go_of() {
        let (dead, _) = stage(3);
        for n in 1..=3 {
            dead.keep(at("a", n), letter(&n.to_string())).await.unwrap();
        }
        assert!(matches!(dead.keep(at("a", 4), letter("4")).await, Err(NotBuried::Full)));
        // Once more is the same one, and of another upstream there is a place.
        dead.keep(at("a", 2), letter("again")).await.unwrap();
        dead.keep(at("b", 1), letter("b")).await.unwrap();
        let of_a = Some(at("a", 1).upstream);
        let (page, next) = dead.list(of_a, None, 2).await.unwrap();
        assert_eq!(page, [(at("a", 1), letter("1")), (at("a", 2), letter("again"))]);
        let (page, end) = dead.list(of_a, next, 2).await.unwrap();
        assert_eq!((page, end), (vec![(at("a", 3), letter("3"))], None));
        assert_eq!(dead.list(None, None, 10).await.unwrap().0.len(), 4);
        assert!(dead.remove(at("a", 1)).await.unwrap() && !dead.remove(at("a", 1)).await.unwrap());
        assert_eq!(dead.get(at("a", 1)).await.unwrap(), None);
        dead.keep(at("a", 4), letter("4")).await.unwrap();
        assert_eq!(dead.get(at("a", 4)).await.unwrap(), Some(letter("4")));
    }

    #[tokio::test]
    async fn one_is_replayed_and_gone_when_it_is_taken() {
        let ((dead, queue), counts) = (stage(9), Counts::default());
        let long = "x".repeat(MAX_VALUE_BYTES);
        dead.keep(at("a", 1), letter("1")).await.unwrap();
        dead.keep(at("a", 2), letter(&long)).await.unwrap();
        assert_eq!(dead.get(at("a", 2)).await.unwrap(), Some(DeadLetter { text: None, ..letter(&long) }));
        let nothing = async |_| None;
        assert_eq!(dead.replay(&*queue, at("a", 3), &counts, nothing).await.unwrap(), Replay::Unknown);
        assert_eq!(dead.replay(&*queue, at("a", 2), &counts, nothing).await.unwrap(), Replay::NoText);
        let fetch = async |_| Some(long.clone().into());
        assert_eq!(dead.replay(&*queue, at("a", 2), &counts, fetch).await.unwrap(), Replay::Queued);
        assert_eq!(dead.replay(&*queue, at("a", 1), &counts, nothing).await.unwrap(), Replay::Queued);
        let entries = queue.take(2).await;
        assert!(entries.iter().all(|entry| is_replayed(entry.number)) && entries[0].text.len() == long.len());
        assert_eq!(counts.at_this_moment().waiting, 2);
        dead.decided(entries[0].number, Some(Verdict::Stored)).await;
        dead.decided(entries[1].number, Some(Verdict::Dead)).await;
        assert_eq!(dead.get(at("a", 2)).await.unwrap(), None);
        assert_eq!(dead.get(at("a", 1)).await.unwrap(), Some(letter("1")));
    }
}
