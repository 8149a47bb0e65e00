//! The embedded store: LMDB, one writing thread, several reading threads.
//!
//! LMDB calls block, so none happens on a thread that serves clients: questions go through bounded
//! queues to threads of this store, answers come back as futures.

mod batch;
mod env;
mod folder;
mod hidden;
mod migrate;
mod plan;
mod read;
mod records;
mod room;
mod rows;
mod scan;
mod schema;
mod stored_event;
mod sweep;
mod threads;
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

use crossbeam_channel::{Sender, TrySendError, bounded};
use futures_util::{FutureExt, future::BoxFuture};
use tokio::sync::oneshot;
use tracing::Instrument;

pub use folder::{Access, FolderError};

use self::{
    folder::Folder,
    hidden::Hidden,
    read::{QueryBounds, Reader},
    records::RecordRange,
    room::Reserve,
    schema::Tables,
    sweep::Slice,
    threads::{Change, Read, Reply, Write, WriteLoop, read_loop},
    write::Writer,
};
use super::{
    BatchOutcome, Counted, Cursor, Identity, Load, Page, Position, Query, Store, StoreError,
    door::{Cost, Door},
    log::Log,
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
    /// Of the threads that read.
    pulses: Vec<Arc<Pulse>>,
}

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(transparent)]
    Folder(#[from] FolderError),
    #[error("cannot open the store: {0}")]
    Engine(#[from] heed::Error),
    #[error(
        "the data folder has to be changed to format {to}, which takes {needed} bytes for a while, and {free} are free on the disk and in lmdb.map_bytes; nothing was changed"
    )]
    NoRoomToMigrate { to: u32, needed: u64, free: u64 },
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}

impl Lmdb {
    /// Opens the store in `path`; with [`Access::Exclusive`] it is made when it is missing. With
    /// [`Access::Shared`] every write is refused as [`StoreError::Closed`].
    pub fn open(path: &Path, config: &config::Lmdb, access: Access) -> Result<Self, OpenError> {
        let folder = Folder::open(path, access)?;
        let readers = match config.readers {
            0 => 2 * thread::available_parallelism().map_or(1, usize::from),
            readers => readers,
        };
        let env = env::open(path, config)?;
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
        // Under way are a question for each thread, and one that waits for that thread.
        let door = Arc::new(Door::new(config.max_waiting_queries, room, 2 * readers, patience));
        let identity = tables.tag_hash.identity();
        Ok(Self { writes, changes, reads, door, head, identity, map_bytes, threads, pulses })
    }

    /// How large the file may become. It may be less than the configuration asks for.
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

    fn abandoned(&self, _tried_for: Duration) -> BoxFuture<'_, Result<Vec<Arc<Event>>, StoreError>> {
        std::future::ready(Ok(Vec::new())).boxed()
    }

    fn leave(&self) -> BoxFuture<'_, Result<(), StoreError>> {
        std::future::ready(Ok(())).boxed()
    }

    fn head(&self) -> Position {
        self.head.load(Ordering::Acquire)
    }

    fn log(&self) -> Option<Arc<dyn Log>> {
        None
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

impl Records for Lmdb {
    fn get(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let key = key.to_owned();
        Self::ask(&self.reads, |reply| Read::Record(kind, key, reply))
    }

    fn list(
        &self,
        kind: RecordKind,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listed, StoreError>> {
        let span = RecordRange { kind, prefix: prefix.to_owned(), after: after.map(str::to_owned), limit };
        Self::ask(&self.reads, |reply| Read::Records(span, reply))
    }

    fn change(&self, conditional: Conditional) -> BoxFuture<'_, Race> {
        let changed = Self::ask(&self.changes, |reply| Change { conditional, reply });
        changed.map(|changed| changed.unwrap_or_else(Race::Unknown)).boxed()
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

fn spawn(name: &str, work: impl FnOnce() + Send + 'static) -> Result<thread::JoinHandle<()>, OpenError> {
    thread::Builder::new().name(name.into()).spawn(work).map_err(OpenError::Thread)
}
