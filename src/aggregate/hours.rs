//! What came of each upstream by hour, as records: they outlast the process, and any node tells them.
//!
//! Whoever reads an upstream adds what it has counted since to the record of the hour. A process that is killed takes
//! with it what it has counted since it last did so.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use actix::Arbiter;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time::{MissedTickBehavior, interval};
use tracing::debug;
use utoipa::ToSchema;

use super::{
    Refused,
    counts::{Counted, Counts},
    manager::All,
    registry::TRIES,
    upstream::UpstreamId,
};
use crate::{
    clock,
    protocol::Timestamp,
    store::{
        Store, StoreError,
        records::{MAX_PAGE, Race, RecordKind, RecordPages},
    },
};

const HOUR: Timestamp = 3_600;
/// Records are gone after so long.
const KEPT: Duration = Duration::from_secs(31 * 24 * HOUR);

/// What came of an upstream in an hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Hour {
    /// When it began, in seconds since 1970.
    pub hour: Timestamp,
    pub received: u64,
    pub bytes: u64,
    pub stored: u64,
    /// What was stored before.
    pub known: u64,
    /// By reason.
    pub refused: BTreeMap<String, u64>,
    pub dead: u64,
}

impl Hour {
    fn of(counted: &Counted) -> Self {
        let refused = counted.refused.iter().filter(|(_, count)| *count > 0);
        let refused = refused.map(|(reason, count)| ((*reason).to_owned(), *count)).collect();
        let Counted { received, bytes, stored, known, dead, .. } = *counted;
        Self { hour: 0, received, bytes, stored, known, refused, dead }
    }

    /// What has been counted since.
    fn since(&self, before: &Self) -> Self {
        let refused = self.refused.iter().map(|(reason, count)| {
            (reason.clone(), count.saturating_sub(before.refused.get(reason).copied().unwrap_or_default()))
        });
        Self {
            hour: 0,
            received: self.received.saturating_sub(before.received),
            bytes: self.bytes.saturating_sub(before.bytes),
            stored: self.stored.saturating_sub(before.stored),
            known: self.known.saturating_sub(before.known),
            refused: refused.filter(|(_, count)| *count > 0).collect(),
            dead: self.dead.saturating_sub(before.dead),
        }
    }

    fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.bytes += other.bytes;
        self.stored += other.stored;
        self.known += other.known;
        self.dead += other.dead;
        for (reason, count) in &other.refused {
            *self.refused.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Adds up.
pub struct Hours {
    all: Arc<All>,
    store: Arc<dyn Store>,
    /// What the records have of each.
    told: Mutex<HashMap<UpstreamId, Told>>,
}

/// Which counts they were, and how far: one that is taken away and added again has others.
struct Told(Arc<Counts>, Hour);

impl Hours {
    pub fn new(all: Arc<All>, store: Arc<dyn Store>) -> Self {
        Self { all, store, told: Mutex::default() }
    }

    /// Adds what is new to the records so often, on that arbiter.
    pub fn start(self: &Arc<Self>, every: Duration, arbiter: &Arbiter) {
        let hours = Arc::clone(self);
        arbiter.spawn(async move {
            let mut ticks = interval(every);
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                ticks.tick().await;
                hours.write().await;
            }
        });
    }

    /// Adds what is new to the records. What can not be written now is added the next time.
    pub async fn write(&self) {
        for observed in self.all.list() {
            let (id, counts) = (observed.upstream.read().id(), &observed.counts);
            let now = Hour::of(&counts.at_this_moment());
            let new = {
                let mut told = self.told.lock();
                let fresh = || Told(Arc::clone(counts), Hour::default());
                let there = told.entry(id).or_insert_with(fresh);
                if !Arc::ptr_eq(&there.0, counts) {
                    *there = fresh();
                }
                now.since(&there.1)
            };
            if new == Hour::default() {
                continue;
            }
            match self.add(id, &new).await {
                Ok(()) => self.note(id, counts, &new),
                Err(error) => {
                    debug!(upstream = %observed.name, "its counts are not written for now: {error}")
                }
            }
        }
        self.told.lock().retain(|id, _| self.all.get(*id).is_some());
    }

    fn note(&self, id: UpstreamId, counts: &Arc<Counts>, new: &Hour) {
        if let Some(told) = self.told.lock().get_mut(&id).filter(|told| Arc::ptr_eq(&told.0, counts)) {
            told.1.add(new);
        }
    }

    async fn add(&self, id: UpstreamId, new: &Hour) -> Result<(), Refused> {
        let begun = clock::now() / HOUR * HOUR;
        let key = key(id, begun);
        for _ in 0..TRIES {
            let there = self.store.records().get(RecordKind::UpstreamHour, &key).await?;
            let mut hour: Hour = match &there {
                Some(record) => serde_json::from_slice(&record.value)?,
                None => Hour { hour: begun, ..Hour::default() },
            };
            hour.add(new);
            let (value, version) = (serde_json::to_vec(&hour)?, there.map(|record| record.version));
            let put = self.store.records().put(RecordKind::UpstreamHour, &key, version, value, Some(KEPT));
            match put.await? {
                Race::Won(_) => return Ok(()),
                Race::Overtaken(_) => {}
                // Written twice it would count twice; not at all, it is missing. Missing is said to be possible.
                Race::Unknown(error) => {
                    debug!("whether the counts of an hour were written is not known: {error}");
                    return Ok(());
                }
            }
        }
        Err(Refused::Contended)
    }
}

/// In the order of time.
fn key(id: UpstreamId, hour: Timestamp) -> String {
    format!("{id}/{hour:012}")
}

/// The hours of an upstream in which something came, the oldest first.
///
/// # Errors
/// The store fails.
pub async fn hours(store: &dyn Store, id: UpstreamId) -> Result<Vec<Hour>, StoreError> {
    let prefix = format!("{id}/");
    let mut hours = Vec::new();
    let mut pages = RecordPages::of(store.records(), RecordKind::UpstreamHour, &prefix, MAX_PAGE);
    while let Some(page) = pages.next().await? {
        hours.extend(page.iter().filter_map(|record| serde_json::from_slice::<Hour>(&record.value).ok()));
    }
    Ok(hours)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        aggregate::{
            counts::{Refusal, Verdict},
            upstream::{RelayUrl, Upstream},
        },
        store::memory::Memory,
    };

    #[tokio::test]
    async fn each_count_is_in_one_hour_once() {
        let store: Arc<dyn Store> = Arc::new(Memory::new());
        let upstream = Upstream::new(RelayUrl::parse("wss://relay.example").unwrap());
        let id = upstream.id();
        let process = || {
            let all = Arc::new(All::of(vec![upstream.clone()]));
            let counts = Arc::clone(&all.list()[0].counts);
            (Hours::new(all, Arc::clone(&store)), counts)
        };
        let total = async || {
            let mut total = Hour::default();
            hours(&*store, id).await.unwrap().iter().for_each(|hour| total.add(hour));
            total
        };
        let (first, counts) = process();
        first.write().await;
        assert_eq!(hours(&*store, id).await.unwrap(), []);
        (0..3).for_each(|_| counts.receive(10));
        counts.settle(Verdict::Stored);
        counts.settle(Verdict::Refused(Refusal::Forged));
        first.write().await;
        first.write().await;
        // Another process reads it on, within the same hour.
        let (second, counts) = process();
        counts.receive(5);
        counts.settle(Verdict::Known);
        second.write().await;
        let expected = Hour {
            received: 4,
            bytes: 35,
            stored: 1,
            known: 1,
            refused: [("forged".to_owned(), 1)].into(),
            ..Hour::default()
        };
        assert_eq!(total().await, expected);
    }
}
