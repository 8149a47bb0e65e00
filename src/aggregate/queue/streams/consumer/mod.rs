//! Those who take entries from the streams, and say what becomes of them.
//!
//! A partition is one process's at a time, as long as its beats come. Who has it from somebody else first waits until
//! that one has finished what it has taken, or is gone.

mod left;
mod say;
mod take;

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use redis::{RedisResult, Value, aio::MultiplexedConnection};
use tokio::time::sleep;
use tracing::{debug, error, warn};

pub use self::{say::Drain, take::Take};
use super::{
    Layout,
    entry::{EVENTS, Element, GROUP, StreamId},
    retry,
};
use crate::{
    aggregate::members::Members,
    backoff::Backoff,
    bus::redis::{Partition, Servers},
    telemetry::{Metrics, PartitionSeries},
};

/// Entries that are taken in one round trip: in memory beside those that have room.
const CHUNK: usize = 32;
/// Between looks whether those who had a partition before have finished.
const LOOK: Duration = Duration::from_millis(200);
/// Between looks for what nobody finishes.
const LOOK_FOR_LEFT: Duration = Duration::from_secs(5);

/// The entries of a partition that this process has taken and not finished, as far as Redis has been told. Bounded by what
/// may be taken.
#[derive(Default)]
pub struct Held(Mutex<HashSet<StreamId>>);

impl Held {
    /// `false`: it is known already.
    fn add(&self, id: StreamId) -> bool {
        self.0.lock().insert(id)
    }

    fn has(&self, id: StreamId) -> bool {
        self.0.lock().contains(&id)
    }

    fn remove(&self, id: StreamId) {
        self.0.lock().remove(&id);
    }
}

/// Takes from the partitions that are this process's. `held`: by partition.
pub fn start(
    servers: &Arc<Servers>,
    layout: &Layout,
    members: &Arc<Members>,
    take: &Arc<Take>,
    held: &[Arc<Held>],
    metrics: &Arc<Metrics>,
) {
    for (partition, held) in (0..layout.partitions).zip(held) {
        let source = Source {
            servers: Arc::clone(servers),
            partition,
            members: Arc::clone(members),
            take: Arc::clone(take),
            held: Arc::clone(held),
            metrics: Arc::clone(metrics),
            redeliver: layout.redeliver,
        };
        tokio::spawn(source.run());
    }
}

/// The stream of a partition.
struct Source {
    servers: Arc<Servers>,
    partition: Partition,
    members: Arc<Members>,
    take: Arc<Take>,
    held: Arc<Held>,
    metrics: Arc<Metrics>,
    redeliver: Duration,
}

impl Source {
    async fn run(self) {
        let mut backoff = retry();
        loop {
            self.members.until(|view| view.is_mine(u64::from(self.partition))).await;
            let ended = self.session(&mut backoff).await;
            self.metrics.forget_partition(self.partition);
            match ended {
                Ok(()) => debug!(
                    partition = self.partition,
                    "another process takes events of other relays from here"
                ),
                Err(error) => {
                    if backoff.attempts() == 0 {
                        warn!(
                            partition = self.partition,
                            "no events of other relays are taken for now: {error:#}"
                        );
                    }
                    sleep(backoff.fail()).await;
                }
            }
        }
    }

    fn is_mine(&self) -> bool {
        self.members.view().is_mine(u64::from(self.partition))
    }

    fn key(&self) -> String {
        self.servers.key(self.partition, EVENTS)
    }

    /// Takes until the partition is somebody else's.
    async fn session(&self, backoff: &mut Backoff) -> anyhow::Result<()> {
        let mut commands = self.servers.connect(self.partition).await?;
        let mut reads = self.servers.connect(self.partition).await?;
        self.make_group(&mut commands).await.context("the consumer group")?;
        self.wait_for_others(&mut commands).await.context("what others have taken")?;
        self.take_own_again(&mut commands).await.context("what was taken from here")?;
        debug!(partition = self.partition, "events of other relays are taken from here");
        let series = self.metrics.partition(self.partition);
        let mut looked: Option<Instant> = None;
        while self.is_mine() {
            if looked.is_none_or(|looked| looked.elapsed() >= LOOK_FOR_LEFT) {
                self.take_what_is_left(&mut commands).await.context("what others have left")?;
                self.look(&mut commands, &series).await.context("how much waits")?;
                looked = Some(Instant::now());
            }
            for element in self.read(&mut reads, ">").await.context("what waits")? {
                self.hand_on(&mut commands, &element, false).await?;
            }
            backoff.succeed();
        }
        Ok(())
    }

    async fn make_group(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        // Where there is one, nothing is asked that takes memory.
        let found: RedisResult<Value> =
            redis::cmd("XPENDING").arg(self.key()).arg(GROUP).query_async(connection).await;
        match found {
            Err(error) if error.code() == Some("NOGROUP") => {}
            found => return Ok(found.map(drop)?),
        }
        let made: RedisResult<()> = redis::cmd("XGROUP")
            .arg("CREATE")
            .arg(self.key())
            .arg(GROUP)
            .arg("0")
            .arg("MKSTREAM")
            .query_async(connection)
            .await;
        match made {
            Err(error) if error.code() != Some("BUSYGROUP") => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Waits until nobody whose beats come has something of this partition, but not for ever: an event that can not be
    /// stored is tried again and again.
    async fn wait_for_others(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let begun = Instant::now();
        while self.is_mine() && begun.elapsed() < self.redeliver {
            let view = self.members.view();
            let pending: Vec<Value> =
                redis::cmd("XPENDING").arg(self.key()).arg(GROUP).query_async(connection).await?;
            let of_each: Option<Vec<(String, String)>> = match pending.get(3) {
                Some(of_each) => redis::from_redis_value_ref(of_each)?,
                None => None,
            };
            let is_at_work =
                |(name, _): &(String, String)| *name != self.members.name() && view.is_alive(name);
            if !of_each.unwrap_or_default().iter().any(is_at_work) {
                return Ok(());
            }
            sleep(LOOK).await;
        }
        Ok(())
    }

    /// Hands on what this process has taken, by the word of Redis, and never heard of: the connection was lost meanwhile.
    async fn take_own_again(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let mut after = StreamId::default();
        loop {
            let elements = self.read(connection, &after.to_string()).await?;
            let Some(last) = elements.last() else { return Ok(()) };
            after = last.id;
            for element in elements.iter().filter(|element| !self.held.has(element.id)) {
                self.metrics.upstream_queue_redelivered.inc();
                self.hand_on(connection, element, false).await?;
            }
        }
    }

    /// What nobody has taken (`>`), once there is something, or nothing after a while; or, at once, what this process has
    /// taken after an element.
    async fn read(&self, connection: &mut MultiplexedConnection, from: &str) -> anyhow::Result<Vec<Element>> {
        let answer: Value = redis::cmd("XREADGROUP")
            .arg("GROUP")
            .arg(GROUP)
            .arg(self.members.name())
            .arg("COUNT")
            .arg(CHUNK)
            .arg("BLOCK")
            .arg((self.servers.patience() / 2).as_millis() as u64)
            .arg("STREAMS")
            .arg(self.key())
            .arg(from)
            .query_async(connection)
            .await?;
        Element::read_one_stream(&answer)
    }

    async fn hand_on(
        &self,
        connection: &mut MultiplexedConnection,
        element: &Element,
        is_deadly: bool,
    ) -> anyhow::Result<()> {
        match element.entry(self.partition) {
            Ok(mut entry) => {
                if let Some(place) = &mut entry.place {
                    place.is_deadly = is_deadly;
                }
                if self.held.add(element.id) {
                    self.take.push(entry).await;
                }
            }
            // Another version of this program has written it, or it was taken out. Who has put it misses it, and reads it
            // again.
            Err(error) => {
                error!(partition = self.partition, id = %element.id, "an entry is not understood: {error:#}");
                let (key, id) = (self.key(), element.id.to_string());
                let dropped: RedisResult<Value> = redis::pipe()
                    .cmd("XACK")
                    .arg(&key)
                    .arg(GROUP)
                    .arg(&id)
                    .cmd("XDEL")
                    .arg(&key)
                    .arg(&id)
                    .query_async(connection)
                    .await;
                dropped?;
            }
        }
        Ok(())
    }

    /// Looks how much waits, and for how long.
    async fn look(
        &self,
        connection: &mut MultiplexedConnection,
        series: &PartitionSeries,
    ) -> anyhow::Result<()> {
        let key = self.key();
        let (entries, taken, oldest, (seconds, _)): (i64, Vec<Value>, Value, (i64, i64)) = redis::pipe()
            .cmd("XLEN")
            .arg(&key)
            .cmd("XPENDING")
            .arg(&key)
            .arg(GROUP)
            .cmd("XRANGE")
            .arg(&key)
            .arg("-")
            .arg("+")
            .arg("COUNT")
            .arg(1)
            .cmd("TIME")
            .query_async(connection)
            .await?;
        let oldest = Element::read_all(&oldest)?.first().map(|oldest| (oldest.id.millis / 1_000) as i64);
        series.entries.set(entries);
        series.taken.set(taken.first().map_or(Ok(0), redis::from_redis_value_ref)?);
        series.age.set(oldest.map_or(0, |since| (seconds - since).max(0)));
        Ok(())
    }
}
