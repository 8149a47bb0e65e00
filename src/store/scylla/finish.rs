//! Finishes what other processes have begun to write and left: whoever finds one silent reads what it wrote down
//! and hands its events out to be written again. That is what a publisher's second try does, so it does no harm if
//! the process is alive and merely slow, or if several nodes do it at once.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{
    batch::BatchId,
    cql::{Cql, Failure, large, stamp},
    drafts::{Adoption, Drafts},
    log,
    settled::{Writer, writers},
};
use crate::{protocol::Event, store::log::Origin};

/// A process that has told nothing new for so long is taken for gone: many beats.
const SILENT_FOR: Duration = Duration::from_secs(5);
/// What was handed out and is not settled after this time is handed out again.
const GIVEN_FOR: Duration = Duration::from_secs(120);
/// Events from which on no more are handed out at once.
const ENOUGH: usize = 1_000;
/// For so long the batches of one process are read, at least one of them; the next time it goes on from there.
const AT_ONCE: Duration = Duration::from_millis(500);
/// Batches that may be missing one after the other, because they could not be written down.
const HOLES: u64 = 64;

pub struct Finisher {
    cql: Arc<Cql>,
    drafts: Arc<Drafts>,
    log: Arc<log::Written>,
    watched: Mutex<HashMap<Origin, Watched>>,
}

/// What is known of another process.
struct Watched {
    /// How often it has told of itself; `None` when the tables have forgotten it.
    beats: Option<u64>,
    /// Since when.
    since: Instant,
    /// Whether nothing of it was left when it was looked.
    finished: bool,
}

impl Finisher {
    pub fn new(cql: Arc<Cql>, drafts: Arc<Drafts>, log: Arc<log::Written>) -> Self {
        Self { cql, drafts, log, watched: Mutex::default() }
    }

    /// Events to be written again.
    ///
    /// # Errors
    /// When the servers refuse; nothing is lost by it.
    pub async fn abandoned(&self) -> Result<Vec<Arc<Event>>, Failure> {
        if self.drafts.news() > 0 {
            self.log.beat().await?;
        }
        if let Some(floor) = self.drafts.clearable() {
            // First, or who finishes what this process leaves looks for what is not there any more.
            self.log.list(floor).await?;
            self.drafts.clear(floor).await?;
        }
        let listed = writers(&self.cql).await?;
        let begun = Instant::now();
        let mut events = self.drafts.given_up(GIVEN_FOR).await?;
        for writer in self.silent(listed) {
            events.extend(self.look_after(&writer).await?);
            if events.len() >= ENOUGH || begun.elapsed() >= AT_ONCE {
                break;
            }
        }
        Ok(events)
    }

    /// Those that have told nothing for a while and may have left something.
    fn silent(&self, listed: Vec<Writer>) -> Vec<Writer> {
        let mut watched = self.watched();
        watched.retain(|origin, _| listed.iter().any(|writer| writer.origin == *origin));
        let now = Instant::now();
        let is_silent = |writer: &Writer| {
            let beats = writer.told.as_ref().map(|(beats, _)| *beats);
            let seen = Watched { beats, since: now, finished: false };
            let known = watched.entry(writer.origin).or_insert(seen);
            if known.beats != beats {
                *known = Watched { beats, since: now, finished: false };
            }
            !known.finished && now.duration_since(known.since) >= SILENT_FOR
        };
        let others = listed.into_iter().filter(|writer| writer.origin != self.drafts.origin);
        others.filter(is_silent).collect()
    }

    async fn look_after(&self, writer: &Writer) -> Result<Vec<Arc<Event>>, Failure> {
        match self.drafts.adoption(writer.origin) {
            Adoption::Open(since) if since.elapsed() < GIVEN_FOR => return Ok(Vec::new()),
            Adoption::Done(up_to) => {
                // As of the row that was read: what the process itself says since is newer.
                let row = vec![large(writer.origin), large(up_to), stamp(writer.at + 1)];
                self.cql.write(&self.cql.statements.put_writer, row).await?;
                return self.drafts.release(writer.origin, writer.floor, up_to).await.map(|()| Vec::new());
            }
            Adoption::None | Adoption::Open(_) => {}
        }
        let (events, up_to) = self.left(writer).await?;
        if events.is_empty() && up_to == writer.floor {
            self.forget(writer).await?;
            return Ok(events);
        }
        if !events.is_empty() {
            warn!(events = events.len(), "a node has left events half written; they are written again");
        }
        self.drafts.adopt(writer.origin, &events, up_to);
        Ok(events)
    }

    /// What a process wrote down and did not tell to be settled, and up to which batch that is.
    async fn left(&self, writer: &Writer) -> Result<(Vec<Arc<Event>>, u64), Failure> {
        // A batch that is not written down has no rows. If its process was merely stopped it may go on with it, so
        // its number is not passed over until the process has been silent for so long that it will not.
        let holes = if writer.told.is_some() { 1 } else { HOLES };
        let (mut events, mut up_to) = (Vec::new(), writer.floor);
        let (mut number, begun) = (writer.floor, Instant::now());
        while number < up_to + holes && events.len() < ENOUGH && begun.elapsed() < AT_ONCE {
            number += 1;
            if writer.covers(number) {
                up_to = number;
                continue;
            }
            let batch = self.drafts.read(BatchId { origin: writer.origin, number }).await?;
            if !batch.is_empty() {
                up_to = number;
            }
            events.extend(batch);
        }
        Ok((events, up_to))
    }

    /// Nothing is left of a process. It is struck off the list when it has told nothing for so long that the tables
    /// have forgotten it: before it writes again it lists itself again.
    async fn forget(&self, writer: &Writer) -> Result<(), Failure> {
        if writer.told.is_none() {
            let strike = vec![stamp(writer.at), large(writer.origin)];
            self.cql.write(&self.cql.statements.remove_writer, strike).await?;
            info!("everything is finished of a node that has been gone for hours");
        }
        if let Some(known) = self.watched().get_mut(&writer.origin) {
            known.finished = true;
        }
        Ok(())
    }

    fn watched(&self) -> MutexGuard<'_, HashMap<Origin, Watched>> {
        // No step leaves it half done.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
