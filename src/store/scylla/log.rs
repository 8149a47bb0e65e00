//! The log of what this node wrote, and that of the others: see [`Log`].

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::{Mutex, MutexGuard};

use super::{
    CqlConnection,
    cql::{Cql, Failure, blob, large, stamp},
    drafts::Drafts,
    writers::words,
};
use crate::{
    clock::{self, Moment},
    protocol::{Event, EventId},
    store::{
        StoreError,
        log::{Digests, Heartbeat, Log, LogEntry, Logged, Origin, Sequence},
    },
};

/// Batches of a partition, as bits.
const PART_BITS: u32 = 6;

/// Digests that are listed of one event; of more, none is. A count of that byte says so.
const MOST_DIGESTS: usize = 64;
const NOT_LISTED: u8 = u8::MAX;

/// How long rows of the table `log` live, less what clocks and pauses may take.
pub const KEPT_FOR: Duration = Duration::from_secs(3_600 - 60);

/// Where this node's batches are noted.
pub struct OwnLog {
    cql: Arc<Cql>,
    digests: Digests,
    drafts: Arc<Drafts>,
    /// The number that was given out last.
    last: AtomicU64,
    /// Every batch up to there is known to be in the log.
    head: AtomicU64,
    heartbeats: AtomicU64,
    /// Timestamp of the last heartbeat, in microseconds. Timestamps never go back.
    heartbeat_at: AtomicI64,
    state: Mutex<State>,
    telling: AtomicBool,
}

#[derive(Default)]
struct State {
    /// When this process began to list itself, the last time that it did.
    listed: Option<Moment>,
    last_heartbeat: Option<Instant>,
}

/// For so long a process counts as listed, which is a part of the time for which the others remember its heartbeats.
const LISTED_FOR: Duration = Duration::from_secs(30 * 60);

/// Until the others are told what is settled, they look at each row: they are told within so long while something is
/// written, and sooner where that is much.
const LATEST: Duration = Duration::from_secs(1);
const MUCH: usize = 64;
const SOONEST: Duration = Duration::from_millis(100);

/// The log as the bus sees it.
pub struct CqlLog {
    pub connection: Arc<CqlConnection>,
    pub written: Arc<OwnLog>,
    /// How long a batch may take.
    pub deadline: Duration,
}

impl OwnLog {
    pub fn new(cql: Arc<Cql>, digests: Digests, drafts: Arc<Drafts>) -> Self {
        Self {
            cql,
            digests,
            drafts,
            last: AtomicU64::new(0),
            head: AtomicU64::new(0),
            heartbeats: AtomicU64::new(0),
            heartbeat_at: AtomicI64::new(0),
            state: Mutex::default(),
            telling: AtomicBool::new(false),
        }
    }

    /// This process.
    pub fn origin(&self) -> Origin {
        self.drafts.origin
    }

    /// Notes a batch before any of it is committed: its number, or `None` for an empty one.
    ///
    /// # Errors
    /// When the servers refuse. The number is not used again.
    pub async fn append(&self, events: &[Arc<Event>]) -> Result<Option<Sequence>, Failure> {
        if events.is_empty() {
            return Ok(None);
        }
        self.be_listed().await?;
        let sequence = self.last.fetch_add(1, Ordering::Relaxed) + 1;
        let entries = encode(events, self.digests);
        let values =
            vec![large(self.drafts.origin), part(sequence), large(sequence), blob(entries), micros_now()];
        self.cql.write(&self.cql.statements.put_log, values).await?;
        self.head.fetch_max(sequence, Ordering::Relaxed);
        Ok(Some(sequence))
    }

    /// Sees to it that this process is listed among those that may have left something half written. To be asked
    /// before rows are written: whoever has been silent for hours is struck off the list. `false`: it had to list
    /// itself anew, and what it began before that may have been finished by others.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn be_listed(&self) -> Result<bool, Failure> {
        let listed = self.state().listed;
        if listed.is_some_and(|listed| listed.elapsed() < LISTED_FOR) {
            return Ok(true);
        }
        let begun = Moment::now();
        // In this order: who finds it listed finds its heartbeat.
        self.send_heartbeat().await?;
        self.list(self.drafts.told().floor()).await?;
        self.state().listed = Some(begun);
        Ok(false)
    }

    /// Lists this process among those that may have left something, and up to where nothing is left.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn list(&self, floor: u64) -> Result<(), Failure> {
        let row = vec![large(self.drafts.origin), large(floor), stamp(self.next_stamp())];
        self.cql.write(&self.cql.statements.put_writer, row).await
    }

    /// This process lists itself again before it writes anything more; `false`: it was not listed.
    pub fn unlist(&self) -> bool {
        self.state().listed.take().is_some()
    }

    /// Strikes this process off the list: everything that it began is settled.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn strike(&self) -> Result<(), Failure> {
        let row = vec![stamp(self.next_stamp()), large(self.drafts.origin)];
        self.cql.write(&self.cql.statements.remove_writer, row).await
    }

    /// Tells the others what is settled, if they have not been told lately.
    pub fn tell(self: &Arc<Self>) {
        let pause = if self.drafts.news() < MUCH { LATEST } else { SOONEST };
        let lately = self.state().last_heartbeat.is_some_and(|at| at.elapsed() < pause);
        if lately || self.telling.swap(true, Ordering::Relaxed) {
            return;
        }
        let written = Arc::clone(self);
        tokio::spawn(async move {
            // If it fails, the next heartbeat says as much.
            let _ = written.cql.within(written.send_heartbeat()).await;
            written.telling.store(false, Ordering::Relaxed);
        });
    }

    /// Tells the others that this process lives, and what of its batches is settled.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn send_heartbeat(&self) -> Result<(), Failure> {
        let count = self.heartbeats.fetch_add(1, Ordering::Relaxed) + 1;
        let at = self.next_stamp();
        let (head, settled) = (self.head.load(Ordering::Relaxed), self.drafts.tell());
        let values =
            vec![large(self.drafts.origin), large(head), large(count), blob(settled.to_bytes()), stamp(at)];
        self.cql.write(&self.cql.statements.put_heartbeat, values).await?;
        self.state().last_heartbeat = Some(Instant::now());
        Ok(())
    }

    /// A timestamp for rows that this process alone writes: later than the one before.
    fn next_stamp(&self) -> i64 {
        let now = clock::millis() as i64 * 1_000;
        let advance = |before: i64| Some(now.max(before + 1));
        let before = self.heartbeat_at.fetch_update(Ordering::Relaxed, Ordering::Relaxed, advance);
        now.max(before.unwrap_or_default() + 1)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl CqlLog {
    fn run<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Failure>> + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        let cql = Arc::clone(&self.written.cql);
        self.connection.threads.run(async move { cql.within(work).await }, || StoreError::Closed).boxed()
    }
}

impl Log for CqlLog {
    fn origin(&self) -> Origin {
        self.written.drafts.origin
    }

    fn send_heartbeat(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        let written = Arc::clone(&self.written);
        self.run(async move { written.send_heartbeat().await })
    }

    fn heartbeats(&self) -> BoxFuture<'_, Result<Vec<Heartbeat>, StoreError>> {
        let cql = Arc::clone(&self.written.cql);
        self.run(async move { Ok(words(&cql).await?.into_iter().map(|word| word.heartbeat).collect()) })
    }

    fn read(
        &self,
        origin: Origin,
        after: Sequence,
        up_to: Sequence,
    ) -> BoxFuture<'_, Result<Vec<Logged>, StoreError>> {
        let cql = Arc::clone(&self.written.cql);
        self.run(async move {
            let mut from = after + 1;
            loop {
                let values = vec![large(origin), part(from), large(from)];
                let rows: Vec<(i64, Vec<u8>)> = cql.read(&cql.statements.get_log, values).await?;
                if !rows.is_empty() {
                    let read = |(sequence, entries): (i64, Vec<u8>)| {
                        let entries = decode(&entries).ok_or_else(|| Failure::answer(Malformed))?;
                        Ok(Logged { sequence: sequence as u64, entries })
                    };
                    return rows.into_iter().map(read).collect();
                }
                if from >> PART_BITS >= up_to >> PART_BITS {
                    return Ok(Vec::new());
                }
                // Nothing of this partition could be written.
                from = ((from >> PART_BITS) + 1) << PART_BITS;
            }
        })
    }

    fn settles_in(&self) -> Duration {
        // Half is the writer's, which takes a new number when it has taken longer; half is for pauses of whoever
        // measures.
        self.deadline * 2
    }

    fn kept_for(&self) -> Duration {
        KEPT_FOR
    }
}

#[derive(Debug, thiserror::Error)]
#[error("a batch in the log is malformed")]
struct Malformed;

/// The id and the digests of each event.
fn encode(events: &[Arc<Event>], digests: Digests) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(events.len() * 96);
    for event in events {
        bytes.extend_from_slice(&event.id().0);
        let mut digests = digests(event);
        digests.sort_unstable();
        digests.dedup();
        if digests.len() > MOST_DIGESTS {
            bytes.push(NOT_LISTED);
            continue;
        }
        bytes.push(digests.len() as u8);
        digests.iter().for_each(|digest| bytes.extend_from_slice(&digest.to_be_bytes()));
    }
    bytes
}

fn decode(mut bytes: &[u8]) -> Option<Vec<LogEntry>> {
    let mut entries = Vec::new();
    while !bytes.is_empty() {
        let (id, rest) = bytes.split_first_chunk::<32>()?;
        let (&count, rest) = rest.split_first()?;
        let listed = if count == NOT_LISTED { 0 } else { usize::from(count) * 8 };
        let (digests, rest) = rest.split_at_checked(listed)?;
        let digests =
            digests.chunks_exact(8).filter_map(|chunk| chunk.try_into().ok().map(u64::from_be_bytes));
        let digests = (count != NOT_LISTED).then(|| digests.collect());
        entries.push(LogEntry { id: EventId(*id), digests });
        bytes = rest;
    }
    Some(entries)
}

fn part(sequence: Sequence) -> scylla::value::CqlValue {
    large(sequence >> PART_BITS)
}

fn micros_now() -> scylla::value::CqlValue {
    stamp(clock::millis() as i64 * 1_000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    #[test]
    fn batches_come_back() {
        let keys = Keys::generate();
        let events: Vec<Arc<Event>> =
            (0..3).map(|n| Arc::new(keys.sign(1_000, n, Tags::default(), ""))).collect();
        let digests: Digests = |event| match event.kind() {
            0 => vec![],
            1 => vec![3, u64::MAX, 3],
            _ => (0..100).collect(),
        };
        let bytes = encode(&events, digests);
        let entries = decode(&bytes).unwrap();
        let ids: Vec<EventId> = entries.iter().map(|entry| entry.id).collect();
        assert_eq!(ids, events.iter().map(|event| event.id()).collect::<Vec<_>>());
        let digests: Vec<_> = entries.into_iter().map(|entry| entry.digests).collect();
        assert_eq!(digests, [Some(vec![]), Some(vec![3, u64::MAX]), None]);
        assert_eq!(decode(&bytes[..bytes.len() - 1]), None);
    }
}
