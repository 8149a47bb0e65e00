//! Finishes what other processes have begun to write and left: whoever finds one silent reads what it wrote down
//! and hands its events out to be written again. That is what a publisher's second try does, so it does no harm if
//! the process is alive and merely slow, or if several nodes do it at once.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
use tracing::{info, warn};

use super::{
    batch::BatchId,
    cql::{Cql, Failure, large, stamp},
    drafts::{Adoption, Drafts},
    log,
    writers::{ListedWriter, writers},
};
use crate::{protocol::Event, store::log::Origin};

/// A process that has told nothing new for so long is taken for gone: many heartbeats.
const SILENT_FOR: Duration = Duration::from_secs(5);
/// An event that was handed out and is not settled after so many times the time for which it is tried is handed out
/// again.
const GIVEN_FOR: u32 = 2;
/// Events from which on no more are handed out at once.
const ENOUGH: usize = 1_000;
/// For how long the batches of one process are read at a time, at least one of them; the next time goes on from there.
const AT_ONCE: Duration = Duration::from_millis(500);
/// How many batches may be missing one after the other, because they could not be written down.
const HOLES: u64 = 64;

pub struct Finisher {
    cql: Arc<Cql>,
    drafts: Arc<Drafts>,
    log: Arc<log::OwnLog>,
    watch: Mutex<Watch>,
}

/// The other processes, as far as they may have left something.
#[derive(Default)]
struct Watch(HashMap<Origin, Watched>);

/// What is known of another process.
struct Watched {
    /// How often it has told of itself; `None` when the tables have forgotten it.
    heartbeats: Option<u64>,
    /// Since when it has told nothing new.
    since: Instant,
    /// Whether nothing of the process was left when this one looked.
    finished: bool,
}

impl Finisher {
    pub fn new(cql: Arc<Cql>, drafts: Arc<Drafts>, log: Arc<log::OwnLog>) -> Self {
        Self { cql, drafts, log, watch: Mutex::default() }
    }

    /// Events to be written again, each of which is tried for so long.
    ///
    /// # Errors
    /// When the servers refuse; nothing is lost by it.
    pub async fn abandoned(&self, tried_for: Duration) -> Result<Vec<Arc<Event>>, Failure> {
        let given_for = tried_for * GIVEN_FOR;
        if self.drafts.news() > 0 {
            self.log.send_heartbeat().await?;
        }
        if let Some(floor) = self.drafts.clearable() {
            // Before drafts are removed: or whoever finishes what this process leaves looks for what is not there.
            self.log.list(floor).await?;
            self.drafts.clear(floor).await?;
        }
        let listed = writers(&self.cql).await?;
        let begun = Instant::now();
        let mut events = self.drafts.given_up(given_for).await?;
        let silent = self.watch().silent(listed, self.drafts.origin, begun);
        self.drafts.keep_adopted(&silent);
        for writer in silent {
            events.extend(self.look_after(&writer, given_for).await?);
            if events.len() >= ENOUGH || begun.elapsed() >= AT_ONCE {
                break;
            }
        }
        Ok(events)
    }

    async fn look_after(
        &self,
        writer: &ListedWriter,
        given_for: Duration,
    ) -> Result<Vec<Arc<Event>>, Failure> {
        match self.drafts.adoption(writer.origin) {
            Adoption::Open(since) if since.elapsed() < given_for => return Ok(Vec::new()),
            // Unless another node has come further.
            Adoption::Done(up_to) if up_to > writer.floor => {
                // The row gets the time of the one that was read: what the process itself has said since is newer.
                let row = vec![large(writer.origin), large(up_to), stamp(writer.at + 1)];
                self.cql.write(&self.cql.statements.put_writer, row).await?;
                return self.drafts.release(writer.origin, writer.floor, up_to).await.map(|()| Vec::new());
            }
            Adoption::None | Adoption::Open(_) | Adoption::Done(_) => {}
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

    /// To be called when this process ends: leaves nothing that is settled for others to look after, and where all is,
    /// not even the process. Nothing may be being written; whatever is written all the same lists the process again.
    ///
    /// # Errors
    /// When the servers refuse; others find out by themselves then.
    pub async fn leave(&self) -> Result<(), Failure> {
        if !self.log.unlist() {
            return Ok(());
        }
        self.log.send_heartbeat().await?;
        let told = self.drafts.told();
        self.log.list(told.floor()).await?;
        self.drafts.clear_all(told.floor()).await?;
        if told.floor() == told.last {
            self.log.strike().await?;
        }
        Ok(())
    }

    /// What a process wrote down and did not tell to be settled, and up to which batch that is.
    async fn left(&self, writer: &ListedWriter) -> Result<(Vec<Arc<Event>>, u64), Failure> {
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

    /// Notes that nothing is left of a process. It is struck off the list when it has told nothing for so long that the
    /// tables have forgotten it: before it writes again it lists itself again.
    async fn forget(&self, writer: &ListedWriter) -> Result<(), Failure> {
        if writer.told.is_none() {
            let strike = vec![stamp(writer.at), large(writer.origin)];
            self.cql.write(&self.cql.statements.remove_writer, strike).await?;
            info!("everything is finished of a node that has been gone for hours");
        }
        if let Some(known) = self.watch().0.get_mut(&writer.origin) {
            known.finished = true;
        }
        Ok(())
    }

    fn watch(&self) -> MutexGuard<'_, Watch> {
        self.watch.lock()
    }
}

impl Watch {
    /// The processes that have told nothing for a while and may have left something.
    fn silent(&mut self, listed: Vec<ListedWriter>, own: Origin, now: Instant) -> Vec<ListedWriter> {
        self.0.retain(|origin, _| listed.iter().any(|writer| writer.origin == *origin));
        let is_silent = |writer: &ListedWriter| {
            let heartbeats = writer.told.as_ref().map(|(heartbeats, _)| *heartbeats);
            let seen = Watched { heartbeats, since: now, finished: false };
            let known = self.0.entry(writer.origin).or_insert(seen);
            if known.heartbeats != heartbeats {
                *known = Watched { heartbeats, since: now, finished: false };
            }
            !known.finished && now.duration_since(known.since) >= SILENT_FOR
        };
        let others = listed.into_iter().filter(|writer| writer.origin != own);
        others.filter(is_silent).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::{super::batch::Told, *};

    const OWN: Origin = 1;
    const OTHER: Origin = 2;

    fn listed(heartbeats: u64) -> Vec<ListedWriter> {
        let writer =
            |origin| ListedWriter { origin, floor: 0, at: 0, told: Some((heartbeats, Told::default())) };
        vec![writer(OWN), writer(OTHER)]
    }

    #[test]
    fn who_tells_something_is_not_silent_any_more() {
        let (mut watch, begun) = (Watch::default(), Instant::now());
        let mut silent = |heartbeats, seconds| {
            let silent = watch.silent(listed(heartbeats), OWN, begun + Duration::from_secs(seconds));
            silent.into_iter().map(|writer| writer.origin).collect::<Vec<_>>()
        };
        let looks = [(3, 0), (3, 4), (3, 5), (3, 60), (4, 61), (4, 65), (4, 66)];
        let found = looks.map(|(heartbeats, seconds)| !silent(heartbeats, seconds).is_empty());
        assert_eq!(found, [false, false, true, true, false, false, true]);
    }
}
