//! The embedded store: LMDB, one writing thread, several reading threads.
//!
//! LMDB calls block, so none happens on a thread that serves clients: questions go through bounded
//! queues to threads of this store, answers come back as futures.

mod folder;
mod hidden;
mod migrate;
mod plan;
mod read;
mod records;
mod room;
mod scan;
mod schema;
mod stored_event;
mod write;

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, Sender, TrySendError, bounded, select};
use futures_util::{FutureExt, future::BoxFuture};
use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tracing::{Instrument, error, warn};

pub use folder::{Access, FolderError};

use self::{
    folder::Folder,
    hidden::Hidden,
    read::{QueryBounds, Reader},
    records::RecordRange,
    room::Reserve,
    schema::{TABLES, Tables},
    write::{Slice, Writer},
};
use super::{
    BatchOutcome, Counted, Cursor, Identity, Load, Page, Position, Query, Shortage, Store, StoreError,
    door::{Cost, Door},
    records::{Conditional, Listed, Race, Record, RecordKind, Records},
};
use crate::{
    config,
    protocol::{Event, Timestamp},
    telemetry::Pulse,
    trace::within,
};

/// Batches and sweeps that may wait for the writing thread. The persister sends one of each at a time.
const WRITE_QUEUE: usize = 8;

/// Changes of records that are one commit.
const CHANGES: usize = 256;

/// Slots for read transactions, those of other processes that read the folder included. Whoever opens
/// it first decides, so it is the same for all; the configuration allows fewer threads.
const MAX_READERS: u32 = 1_024;

/// The embedded store.
pub struct Lmdb {
    writes: Sender<Write>,
    changes: Sender<Change>,
    reads: Sender<Read>,
    door: Arc<Door>,
    head: Arc<AtomicU64>,
    identity: Identity,
    map_bytes: usize,
    threads: Vec<thread::JoinHandle<()>>,
    /// Of those that read.
    pulses: Vec<Arc<Pulse>>,
}

type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

enum Write {
    Batch(Arc<[Arc<Event>]>, Timestamp, Reply<BatchOutcome>),
    Maintain(Timestamp, Reply<bool>),
}

/// A conditional write of a record.
struct Change {
    conditional: Conditional,
    reply: Reply<Race>,
}

enum Read {
    Page(Arc<Query>, Cursor, Reply<Page>),
    Count(Arc<Query>, Reply<Counted>),
    Record(RecordKind, String, Reply<Option<Record>>),
    Records(RecordRange, Reply<Listed>),
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot open the store: {0}")]
    Engine(#[from] heed::Error),
    #[error(
        "the data folder has to be changed to format {to}, which takes {needed} bytes for a while, and {free} are free on the disk and in store.map_bytes; nothing was changed"
    )]
    NoRoomToMigrate { to: u32, needed: u64, free: u64 },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl Lmdb {
    /// Opens the store in `path`; with [`Access::Exclusive`] it is made when it is missing. With
    /// [`Access::Shared`] every write is refused as [`StoreError::Closed`].
    pub fn open(path: &Path, config: &config::Store, access: Access) -> Result<Self, OpenError> {
        let folder = Folder::open(path, access)?;
        let readers = match config.readers {
            0 => 2 * thread::available_parallelism().map_or(1, usize::from),
            readers => readers,
        };
        let env = open_env(path, config)?;
        let tables = match access {
            Access::Exclusive => {
                migrate::migrate(&env, &folder)?;
                let tables = Tables::create(&env)?;
                folder.sync()?;
                tables
            }
            Access::Shared => {
                migrate::check(&env, &folder)?;
                Tables::open(&env)?
            }
        };
        let hidden = Hidden::default();
        let writer = Writer::new(env.clone(), tables, hidden.clone())?;
        let head = Arc::new(AtomicU64::new(writer.head()));
        let map_bytes = env.info().map_size;
        let reader = Reader::new(env, tables, hidden, QueryBounds::from(config));

        let (writes, receive) = bounded(WRITE_QUEUE);
        let (changes, receive_changes) = bounded(config.max_waiting_records);
        let work = WriteLoop {
            writer,
            folder,
            reserve: Reserve::from(config),
            map_bytes,
            told: None,
            slice: Slice::from(config),
            head: Arc::clone(&head),
        };
        let (mut threads, mut pulses) = (Vec::new(), Vec::new());
        if access == Access::Exclusive {
            threads.push(spawn("lmdb-write", move || work.run(&receive, &receive_changes))?);
        }
        let (reads, receive) = bounded(config.max_waiting_queries);
        for _ in 0..readers {
            let (reader, receive, pulse) = (reader.clone(), receive.clone(), Arc::<Pulse>::default());
            pulses.push(Arc::clone(&pulse));
            threads.push(spawn("lmdb-read", move || read_loop(&reader, &receive, &pulse))?);
        }
        let room = readers.saturating_mul(config.question_ranges);
        let patience = Duration::from_millis(config.question_wait_ms);
        // One for each thread, and one that waits for it.
        let door = Arc::new(Door::new(config.max_waiting_queries, room, 2 * readers, patience));
        let identity = tables.tag_hash.identity();
        Ok(Self { writes, changes, reads, door, head, identity, map_bytes, threads, pulses })
    }

    /// How large the file may become, which may be less than the configuration asks for.
    pub fn map_bytes(&self) -> usize {
        self.map_bytes
    }

    fn ask<T: Send + 'static, R>(
        queue: &Sender<R>,
        question: impl FnOnce(Reply<T>) -> R,
    ) -> BoxFuture<'static, Result<T, StoreError>> {
        let (reply, answer) = oneshot::channel();
        let sent = queue.try_send(question(reply)).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::Overloaded,
            TrySendError::Disconnected(_) => StoreError::Closed,
        });
        async move {
            sent?;
            answer.await.map_err(|_| StoreError::Closed)?
        }
        .boxed()
    }

    /// Has a question answered, when its turn has come.
    fn read<T: Send + 'static>(
        &self,
        work: Cost,
        question: impl FnOnce(Reply<T>) -> Read + Send + 'static,
    ) -> BoxFuture<'_, Result<T, StoreError>> {
        async move {
            let _admitted = self.door.enter(work, work.ranges).await?;
            Self::ask(&self.reads, question).await
        }
        .boxed()
    }
}

impl Store for Lmdb {
    fn write(
        &self,
        batch: Arc<[Arc<Event>]>,
        now: Timestamp,
        _until: Instant,
    ) -> BoxFuture<'_, Result<BatchOutcome, StoreError>> {
        let written = Self::ask(&self.writes, |reply| Write::Batch(batch, now, reply));
        async move { written.instrument(within("lmdb", "transaction")).await }.boxed()
    }

    fn query(&self, query: Arc<Query>, cursor: Cursor) -> BoxFuture<'_, Result<Page, StoreError>> {
        let work = Cost::of(&query, Some(&cursor));
        self.read(work, |reply| Read::Page(query, cursor, reply))
    }

    fn count(&self, query: Arc<Query>) -> BoxFuture<'_, Result<Counted, StoreError>> {
        let work = Cost::of(&query, None);
        self.read(work, |reply| Read::Count(query, reply))
    }

    fn maintain(&self, now: Timestamp) -> BoxFuture<'_, Result<bool, StoreError>> {
        Self::ask(&self.writes, |reply| Write::Maintain(now, reply))
    }

    fn head(&self) -> Position {
        self.head.load(Ordering::Acquire)
    }

    fn records(&self) -> &dyn Records {
        self
    }

    fn identity(&self) -> Identity {
        self.identity
    }

    fn load(&self) -> Load {
        let stuck = self.pulses.iter().map(|pulse| pulse.age()).max().unwrap_or_default();
        Load { questions: self.door.fill(), stuck, ..Load::default() }
    }
}

impl Drop for Lmdb {
    /// Waits for what is under way, so that the folder is free afterwards.
    fn drop(&mut self) {
        (self.writes, _) = bounded(0);
        (self.changes, _) = bounded(0);
        (self.reads, _) = bounded(0);
        for thread in self.threads.drain(..) {
            // Nothing is left to do about one that panicked.
            let _ = thread.join();
        }
    }
}

/// The smallest map that is worth a try.
const MIN_MAP_BYTES: usize = 1 << 24;

/// With the map that is configured, or as large a one as the address space has room for: it may have 39 bits, or
/// be limited (`ulimit -v`). Half of what is there is left to everything else.
fn open_env(path: &Path, config: &config::Store) -> heed::Result<Env<WithoutTls>> {
    let mut size = config.map_bytes;
    let mut env = map(path, size);
    while env.as_ref().is_err_and(is_out_of_memory) && size > MIN_MAP_BYTES {
        size /= 2;
        env = map(path, size);
    }
    let mut env = env?;
    if size < config.map_bytes {
        env.prepare_for_closing().wait();
        env = map(path, size / 2)?;
        let (wanted, taken) = (config.map_bytes, env.info().map_size);
        warn!(
            "no room in the address space for store.map_bytes = {wanted}: the store may grow to {taken} bytes"
        );
    }
    env.clear_stale_readers()?;
    Ok(env)
}

#[expect(unsafe_code, reason = "LMDB maps the file: sound as long as nothing else writes to it")]
fn map(path: &Path, size: usize) -> heed::Result<Env<WithoutTls>> {
    /// LMDB wants whole pages, and no system has larger ones.
    const PAGE: usize = 64 * 1024;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size / PAGE * PAGE).max_dbs(TABLES + migrate::MORE_TABLES).max_readers(MAX_READERS);
    // SAFETY: the folder's lock keeps other relays away, and tools open it for reading only. No
    // flag is set that gives up durability or locking.
    unsafe { options.flags(EnvFlags::empty()).open(path) }
}

fn is_out_of_memory(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Io(io) if io.kind() == std::io::ErrorKind::OutOfMemory)
}

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(OpenError::Thread)
}

struct WriteLoop {
    writer: Writer,
    folder: Folder,
    reserve: Reserve,
    map_bytes: usize,
    /// When it was last said that there is no room.
    told: Option<Instant>,
    slice: Slice,
    head: Arc<AtomicU64>,
}

/// How often it is said that there is no room, while it lasts.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl WriteLoop {
    /// Batches and changes of records take turns as they come.
    fn run(mut self, writes: &Receiver<Write>, changes: &Receiver<Change>) {
        loop {
            select! {
                recv(writes) -> write => match write {
                    Ok(write) => self.carry_out(write),
                    Err(_) => break,
                },
                recv(changes) -> change => match change {
                    Ok(change) => self.change(change, changes),
                    Err(_) => break,
                },
            }
        }
        // The store is being closed: what waits, and no more comes.
        writes.iter().for_each(|write| self.carry_out(write));
        changes.iter().for_each(|change| self.change(change, changes));
    }

    fn carry_out(&mut self, write: Write) {
        // A reply that nobody waits for any more is dropped.
        match write {
            Write::Batch(events, now, reply) => {
                let _ = reply.send(self.batch(&events, now));
            }
            Write::Maintain(now, reply) => {
                let _ = reply.send(self.maintain(now));
            }
        }
    }

    /// Decides about records in one transaction: the first, and those that wait behind it.
    fn change(&mut self, first: Change, others: &Receiver<Change>) {
        let all: Vec<Change> = std::iter::once(first).chain(others.try_iter().take(CHANGES - 1)).collect();
        let conditionals = all.iter().map(|change| &change.conditional);
        match self.change_all(conditionals) {
            Ok(races) => {
                for (change, race) in all.into_iter().zip(races) {
                    let _ = change.reply.send(Ok(race));
                }
            }
            Err(error) => {
                for change in all {
                    let _ = change.reply.send(Err(error.clone()));
                }
            }
        }
    }

    /// Where there is room for deletions there is room for records: a list of those who are banned may be what helps.
    fn change_all<'c>(&self, all: impl Iterator<Item = &'c Conditional>) -> Result<Vec<Race>, StoreError> {
        let room = self.writer.room(&self.reserve, &self.folder).map_err(engine_error)?;
        if let Some(shortage) = room.shortage_for(true) {
            return Err(StoreError::NoSpace(shortage));
        }
        self.writer.change_records(all).map_err(|error| match self.shortage(&error) {
            Some(shortage) => StoreError::NoSpace(shortage),
            None => engine_error(error),
        })
    }

    /// Writes what there is room for; if that turns out to be less than was thought, what makes room.
    fn batch(&mut self, events: &[Arc<Event>], now: Timestamp) -> Result<BatchOutcome, StoreError> {
        let mut room = self.writer.room(&self.reserve, &self.folder).map_err(engine_error)?;
        let mut is_turned = false;
        loop {
            let error = match self.writer.write(events, now, room) {
                Ok(written) => {
                    self.head.store(written.head, Ordering::Release);
                    if let Some(shortage) = room.shortage_for(false) {
                        self.tell(shortage);
                    }
                    return Ok(written);
                }
                Err(error) => error,
            };
            let Some(shortage) = self.shortage(&error) else { return Err(engine_error(error)) };
            // Pages that the last commit freed are of use after another one, which may never come.
            if !std::mem::replace(&mut is_turned, true) && self.writer.turn().is_ok() {
                continue;
            }
            match room.after(shortage) {
                Some(less) => room = less,
                None => return Err(StoreError::NoSpace(shortage)),
            }
        }
    }

    /// Where there is hardly any room, in steps as small as it takes.
    fn maintain(&mut self, now: Timestamp) -> Result<bool, StoreError> {
        let mut slice = self.slice;
        loop {
            let error = match self.writer.maintain(now, slice) {
                Ok(more) => return Ok(more),
                Err(error) => error,
            };
            match (self.shortage(&error), slice.half()) {
                (Some(_), Some(half)) => slice = half,
                (Some(shortage), None) => return Err(StoreError::NoSpace(shortage)),
                (None, _) => return Err(engine_error(error)),
            }
        }
    }

    /// What has run out. LMDB says EIO where a write was cut short, which is how the end of a disk shows first.
    fn shortage(&self, error: &heed::Error) -> Option<Shortage> {
        /// Less than what a batch may write.
        const NO_ROOM: u64 = 16 * 1024 * 1024;
        match error {
            heed::Error::Mdb(heed::MdbError::MapFull) => Some(Shortage::Map),
            heed::Error::Io(io) if io.kind() == std::io::ErrorKind::StorageFull => Some(Shortage::Disk),
            heed::Error::Io(io) if io.raw_os_error() == Some(Errno::IO.raw_os_error()) => {
                self.folder.free_bytes().is_ok_and(|free| free < NO_ROOM).then_some(Shortage::Disk)
            }
            _ => None,
        }
    }

    /// Says what to do about it, now and then.
    fn tell(&mut self, shortage: Shortage) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        match shortage {
            Shortage::Disk => error!(
                "the disk is full: hardly anything but deletions is stored until store.min_free_bytes are free on it"
            ),
            Shortage::Map => error!(
                map_bytes = self.map_bytes,
                "the store is full: hardly anything but deletions is stored; raise store.map_bytes and restart"
            ),
        }
    }
}

fn read_loop(reader: &Reader, receive: &Receiver<Read>, pulse: &Pulse) {
    for read in receive {
        pulse.beat();
        match read {
            Read::Page(query, cursor, reply) => {
                // Who asked may be gone by now.
                if !reply.is_closed() {
                    let _ = reply.send(reader.page(&query, cursor).map_err(engine_error));
                }
            }
            Read::Count(query, reply) => {
                if !reply.is_closed() {
                    let _ = reply.send(reader.count(&query).map_err(engine_error));
                }
            }
            Read::Record(kind, key, reply) => {
                let _ = reply.send(reader.record(kind, &key).map_err(engine_error));
            }
            Read::Records(span, reply) => {
                let _ = reply.send(reader.records(&span).map_err(engine_error));
            }
        }
        pulse.rest();
    }
}

fn engine_error(error: heed::Error) -> StoreError {
    StoreError::Engine(Arc::new(error))
}
