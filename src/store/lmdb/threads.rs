//! What the threads of the store do: one writes, several read.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use crossbeam_channel::{Receiver, select};
use rustix::io::Errno;
use tokio::sync::oneshot;
use tracing::error;

use super::{folder::Folder, read::Reader, records::RecordRange, room::Reserve, sweep::Slice, write::Writer};
use crate::{
    protocol::{Event, Timestamp},
    store::{
        BatchOutcome, Counted, Cursor, Page, Query, Shortage, StoreError,
        records::{Conditional, Listed, Race, Record, RecordKind},
    },
    telemetry::Pulse,
};

/// Changes of records that are one commit.
const CHANGES: usize = 256;

pub type Reply<T> = oneshot::Sender<Result<T, StoreError>>;

/// What is to be written.
pub enum Write {
    Batch(Arc<[Arc<Event>]>, Timestamp, Reply<BatchOutcome>),
    Maintain(Timestamp, Reply<bool>),
}

/// A conditional write of a record.
pub struct Change {
    pub conditional: Conditional,
    pub reply: Reply<Race>,
}

/// What is asked.
pub enum Read {
    Page(Arc<Query>, Cursor, Reply<Page>),
    Count(Arc<Query>, Reply<Counted>),
    Record(RecordKind, String, Reply<Option<Record>>),
    Records(RecordRange, Reply<Listed>),
}

/// The thread that writes.
pub struct WriteLoop {
    pub writer: Writer,
    pub folder: Folder,
    pub reserve: Reserve,
    pub map_bytes: usize,
    /// When it was last said that there is no room.
    pub told: Option<Instant>,
    pub slice: Slice,
    pub head: Arc<AtomicU64>,
}

/// How often it is said that there is no room, while it lasts.
const TELL_EVERY: Duration = Duration::from_secs(60);

impl WriteLoop {
    /// Carries out what comes: batches and changes of records take turns.
    pub fn run(mut self, writes: &Receiver<Write>, changes: &Receiver<Change>) {
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
        // The store is being closed. What waits is carried out, and no more comes.
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

    /// Changes records. Where there is room for deletions there is room for those: a list of who is banned may be what
    /// helps.
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

    /// Sweeps: where there is hardly any room, in steps as small as it takes.
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

    /// What has run out, if that is why a write failed. LMDB says EIO where a write was cut short, which is how the end
    /// of a disk shows first.
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

    /// Says now and then what to do about a shortage.
    fn tell(&mut self, shortage: Shortage) {
        if self.told.is_some_and(|told| told.elapsed() < TELL_EVERY) {
            return;
        }
        self.told = Some(Instant::now());
        match shortage {
            Shortage::Disk => error!(
                "the disk is full: hardly anything but deletions is stored until lmdb.min_free_bytes are free on it"
            ),
            Shortage::Map => error!(
                map_bytes = self.map_bytes,
                "the store is full: hardly anything but deletions is stored; raise lmdb.map_bytes and restart"
            ),
        }
    }
}

/// A thread that reads.
pub fn read_loop(reader: &Reader, receive: &Receiver<Read>, pulse: &Pulse) {
    for read in receive {
        pulse.beat();
        match read {
            Read::Page(query, cursor, reply) => {
                // Whoever asked may be gone by now.
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
