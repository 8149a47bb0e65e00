//! Those who take entries from the streams, and say what becomes of them.
//!
//! A partition is one process's at a time, as long as its beats come. Who has it from somebody else first waits until
//! that one has finished what it has taken, or is gone.

use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use parking_lot::Mutex;
use redis::{RedisResult, Value, aio::MultiplexedConnection};
use tokio::{
    sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc},
    time::sleep,
};
use tracing::{debug, error, warn};

use super::{
    super::{Entry, Word},
    Layout,
    entry::{DEATHS, EVENTS, Element, GROUP, Place, StreamId, name_of},
    retry,
};
use crate::{
    aggregate::{blame::at_work, flight::Number, members::Members},
    backoff::Backoff,
    bus::redis::{Partition, Servers},
    protocol::ParsedEvent,
    telemetry::{Metrics, PartitionSeries},
};

/// Entries that are taken in one round trip: in memory beside those that have room.
const CHUNK: usize = 32;
/// Words that are said in one round trip.
const WORDS: usize = 250;
/// Between looks whether those who had a partition before have finished.
const LOOK: Duration = Duration::from_millis(200);
/// Between looks for what nobody finishes.
const LOOK_FOR_LEFT: Duration = Duration::from_secs(5);
/// Entries that are looked at then.
const LEFT: usize = 100;
/// After so long an entry is taken from one whose beats come.
const FORGOTTEN: Duration = Duration::from_secs(600);
/// The stream of words of a process that is gone is kept for so long.
const WORDS_LAST: Duration = Duration::from_secs(3_600);
/// So many processes, beside the first, end at an entry before it is a dead letter without being looked at.
const DEATHS_BEFORE: u32 = 3;
const DEATHS_LAST: Duration = Duration::from_secs(86_400);

/// Says words and takes out what is finished, all of them or none. Also where Redis has no memory left: what would give
/// some back may not wait for some.
const SAY: &str = "\
#!lua flags=allow-oom
for at = 3, #ARGV, 5 do
  local words, number, entry, word, is_finished = KEYS[tonumber(ARGV[at])], unpack(ARGV, at + 1, at + 4)
  redis.call('XADD', words, '*', 'number', number, 'entry', entry, 'word', word)
  redis.call('EXPIRE', words, ARGV[2])
  if is_finished == '1' then
    redis.call('XACK', KEYS[1], ARGV[1], entry)
    redis.call('XDEL', KEYS[1], entry)
  end
end";

/// Counts a process that may end. Also where Redis has no memory left, as this goes before what gives some back.
const DIE: &str = "\
#!lua flags=allow-oom
local deaths = redis.call('HINCRBY', KEYS[1], ARGV[1], 1)
redis.call('EXPIRE', KEYS[1], ARGV[2])
return deaths";

/// What was taken and not handed on.
pub struct Take {
    entries: Mutex<VecDeque<(Entry, OwnedSemaphorePermit)>>,
    filled: Notify,
    room: Arc<Semaphore>,
    bytes: usize,
}

impl Take {
    /// At most so many bytes.
    pub fn new(bytes: usize) -> Self {
        let room = Arc::new(Semaphore::new(bytes));
        Self { entries: Mutex::default(), filled: Notify::new(), room, bytes }
    }

    /// Keeps an entry, once there is room.
    async fn push(&self, entry: Entry) {
        let bytes = entry.text.len().clamp(1, self.bytes) as u32;
        // It is never closed.
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return };
        self.entries.lock().push_back((entry, room));
        self.filled.notify_one();
    }

    /// The oldest, at most so many, once there is one.
    pub async fn take(&self, most: usize) -> Vec<Entry> {
        loop {
            {
                let mut entries = self.entries.lock();
                if !entries.is_empty() {
                    let count = entries.len().min(most.max(1));
                    return entries.drain(..count).map(|(entry, _)| entry).collect();
                }
            }
            self.filled.notified().await;
        }
    }
}

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

    /// Takes what processes have taken that are gone, one entry after the other: one of them may be why they are gone.
    async fn take_what_is_left(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let gone = self.members.gone();
        let view = self.members.view();
        let mut those_gone = HashSet::new();
        // One's own are among them where the store is slow.
        let mut from = "-".to_owned();
        let mut left = Vec::new();
        while left.len() < LEFT {
            let pending: Vec<(String, String, u64, u64)> = redis::cmd("XPENDING")
                .arg(self.key())
                .arg(GROUP)
                .arg("IDLE")
                .arg(gone.as_millis() as u64)
                .arg(&from)
                .arg("+")
                .arg(LEFT)
                .query_async(connection)
                .await?;
            let is_last = pending.len() < LEFT;
            if let Some((last, ..)) = pending.last() {
                from = format!("({last}");
            }
            left.extend(pending.into_iter().filter(|(_, name, idle, _)| {
                let is_forgotten = Duration::from_millis(*idle) >= FORGOTTEN;
                name != self.members.name() && (!view.is_alive(name) || is_forgotten)
            }));
            if is_last {
                break;
            }
        }
        for (id, name, ..) in left {
            let claimed: Value = redis::cmd("XCLAIM")
                .arg(self.key())
                .arg(GROUP)
                .arg(self.members.name())
                .arg(gone.as_millis() as u64)
                .arg(&id)
                .query_async(connection)
                .await?;
            for element in Element::read_all(&claimed)? {
                self.metrics.upstream_queue_redelivered.inc();
                let is_deadly = !self.look_at(connection, &element).await?;
                self.hand_on(connection, &element, is_deadly).await?;
            }
            those_gone.insert(name);
        }
        for name in those_gone.iter().filter(|name| !view.is_alive(name)) {
            self.forget(connection, name).await?;
        }
        Ok(())
    }

    /// Looks at an entry as whoever stores it will, and notes that before and after; whether that may be done.
    async fn look_at(
        &self,
        connection: &mut MultiplexedConnection,
        element: &Element,
    ) -> anyhow::Result<bool> {
        let (key, id) = (self.servers.key(self.partition, DEATHS), element.id.to_string());
        let before: u32 = redis::cmd("EVAL")
            .arg(DIE)
            .arg(1)
            .arg(&key)
            .arg(&id)
            .arg(DEATHS_LAST.as_secs())
            .query_async(connection)
            .await?;
        if before > DEATHS_BEFORE {
            return Ok(false);
        }
        if let Ok(entry) = element.entry(self.partition) {
            at_work(entry.upstream, || {
                if let Ok(parsed) = serde_json::from_str::<ParsedEvent<'_>>(&entry.text) {
                    // What comes of it is found once more by whoever stores it.
                    drop(parsed.identify());
                }
            });
        }
        let noted: RedisResult<u64> = redis::cmd("HDEL").arg(&key).arg(&id).query_async(connection).await;
        Ok(noted.map(|_| true)?)
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

    /// A name that has nothing any more, and does not come again.
    async fn forget(&self, connection: &mut MultiplexedConnection, name: &str) -> anyhow::Result<()> {
        let left: Vec<Value> = redis::cmd("XPENDING")
            .arg(self.key())
            .arg(GROUP)
            .arg("-")
            .arg("+")
            .arg(1)
            .arg(name)
            .query_async(connection)
            .await?;
        if left.is_empty() {
            let removed: RedisResult<u64> = redis::cmd("XGROUP")
                .arg("DELCONSUMER")
                .arg(self.key())
                .arg(GROUP)
                .arg(name)
                .query_async(connection)
                .await;
            removed.context("cannot remove a consumer")?;
        }
        Ok(())
    }
}

/// A word that is to be said.
#[derive(Clone)]
struct ToSay {
    id: StreamId,
    words: String,
    number: Number,
    word: Word,
}

/// Says what becomes of the entries of a partition.
pub struct Drain {
    words: mpsc::UnboundedSender<ToSay>,
}

impl Drain {
    pub fn start(servers: Arc<Servers>, partition: Partition, held: Arc<Held>) -> Self {
        // Bounded by what was taken: the window of the consumer.
        let (words, to_say) = mpsc::unbounded_channel();
        tokio::spawn(say_all(servers, partition, held, to_say));
        Self { words }
    }

    pub fn say(&self, entry: &Entry, place: &Place, word: Word) {
        let words = place.life.words();
        // It ends with the process.
        let _ = self.words.send(ToSay { id: place.id, words, number: entry.number, word });
    }
}

async fn say_all(
    servers: Arc<Servers>,
    partition: Partition,
    held: Arc<Held>,
    mut to_say: mpsc::UnboundedReceiver<ToSay>,
) {
    let mut backoff = retry();
    let mut connection = None;
    let mut words = Vec::new();
    while to_say.recv_many(&mut words, WORDS).await > 0 {
        // What is said twice is heard once.
        while let Err(error) = say(&servers, partition, &mut connection, &words).await {
            connection = None;
            if backoff.attempts() == 0 {
                warn!(partition, "what has become of other relays' events is said later: {error:#}");
            }
            sleep(backoff.fail()).await;
        }
        backoff.succeed();
        for said in words.drain(..) {
            if matches!(said.word, Word::Finished(_)) {
                held.remove(said.id);
            }
        }
    }
}

async fn say(
    servers: &Servers,
    partition: Partition,
    connection: &mut Option<MultiplexedConnection>,
    words: &[ToSay],
) -> anyhow::Result<()> {
    let connection = match connection {
        Some(connection) => connection,
        None => connection.insert(servers.connect(partition).await?),
    };
    // The first is that of the events, the others are those of words.
    let mut keys = vec![servers.key(partition, EVENTS)];
    let mut arguments: Vec<String> = vec![GROUP.to_owned(), WORDS_LAST.as_secs().to_string()];
    for ToSay { id, words, number, word } in words {
        let key = servers.key(partition, words);
        let nth = keys.iter().position(|known| *known == key).unwrap_or_else(|| {
            keys.push(key);
            keys.len() - 1
        });
        let is_finished = matches!(word, Word::Finished(_));
        arguments.extend([
            (nth + 1).to_string(),
            number.to_string(),
            id.to_string(),
            name_of(*word).to_owned(),
        ]);
        arguments.push(u8::from(is_finished).to_string());
    }
    let said: RedisResult<()> =
        redis::cmd("EVAL").arg(SAY).arg(keys.len()).arg(keys).arg(arguments).query_async(connection).await;
    Ok(said?)
}
