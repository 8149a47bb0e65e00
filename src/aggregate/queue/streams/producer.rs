//! Those who put entries into the streams, and hear what becomes of them.

use std::{
    collections::{BTreeMap, HashMap, VecDeque},
    convert::Infallible,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use redis::{Value, aio::MultiplexedConnection};
use tokio::{
    select,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::{info, warn};

use super::{
    super::{AnyListener, Broken, Entry, Full, Number, UpstreamId, Verdict, Word, words::Words},
    Layout,
    entry::{EVENTS, Element, GENERATION, Life, Said, StreamId, add_entry, partition},
    retry,
};
use crate::{
    backoff::Backoff,
    bus::redis::{Partition, Servers},
    config::PartitionBy,
};

/// What an entry takes beside its text, in bytes, about: here, and in Redis.
const ENTRY_BYTES: usize = 512;
/// Bytes that are counted as one.
const UNIT: usize = 64;
/// Entries that are added, and words that are heard, in one round trip.
const CHUNK: usize = 500;
/// Between looks whether the streams are what they were.
const TICK: Duration = Duration::from_secs(2);

/// Puts entries into the streams of all partitions.
pub struct Producer {
    by: PartitionBy,
    room: Arc<Semaphore>,
    units: usize,
    words: Words,
    lanes: Vec<mpsc::UnboundedSender<Put>>,
    state: Mutex<State>,
    life: watch::Sender<Life>,
    /// How often what was on its way was lost.
    breaks: Counter,
}

struct State {
    /// What is on its way.
    open: HashMap<Number, (UpstreamId, OwnedSemaphorePermit)>,
    /// What each partition's stream is, once that is known.
    generations: Vec<Option<Generation>>,
}

/// Tells a stream from another one of its name.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Generation {
    /// Of which run of the server.
    run: String,
    /// Drawn when it was made.
    made: String,
}

/// An entry that is to be added.
struct Put {
    life: Life,
    entry: Entry,
}

impl Producer {
    /// Its lanes run in the runtime of the caller.
    pub fn start(
        servers: Arc<Servers>,
        layout: &Layout,
        listener: AnyListener,
        breaks: Counter,
    ) -> Arc<Self> {
        let units = layout.bytes / UNIT;
        let (senders, receivers): (Vec<_>, Vec<_>) = (0..layout.partitions)
            .map(|_| {
                // Bounded by the room that each entry has taken.
                mpsc::unbounded_channel()
            })
            .unzip();
        let generations = vec![None; usize::from(layout.partitions)];
        let state = Mutex::new(State { open: HashMap::new(), generations });
        let producer = Arc::new(Self {
            by: layout.by,
            room: Arc::new(Semaphore::new(units)),
            units,
            words: Words::new(listener),
            lanes: senders,
            breaks,
            state,
            life: watch::Sender::new(Life::new()),
        });
        for (partition, puts) in (0..).zip(receivers) {
            let lane = Lane {
                servers: Arc::clone(&servers),
                producer: Arc::clone(&producer),
                partition,
                redeliver: layout.redeliver,
                puts,
                life: *producer.life.borrow(),
                unsent: VecDeque::new(),
                sent: BTreeMap::new(),
                heard: StreamId::default(),
                missing: None,
            };
            tokio::spawn(lane.run());
        }
        producer
    }

    fn units(&self, entry: &Entry) -> u32 {
        (entry.text.len() + ENTRY_BYTES).div_ceil(UNIT).min(self.units) as u32
    }

    fn push(&self, entry: Entry, room: OwnedSemaphorePermit) {
        let partition = partition(self.by, self.lanes.len() as u16, &entry.id, entry.upstream);
        // Under the lock, so that a break finds it among what is on its way, or is over.
        let mut state = self.state.lock();
        let life = *self.life.borrow();
        state.open.insert(entry.number, (entry.upstream, room));
        // The lanes end with the process.
        let _ = self.lanes[usize::from(partition)].send(Put { life, entry });
    }

    pub fn offer(&self, entry: Entry) -> Result<(), Full> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.units(&entry)).map_err(|_| Full)?;
        self.push(entry, room);
        Ok(())
    }

    pub async fn put(&self, entry: Entry) {
        // It is never closed.
        if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(self.units(&entry)).await {
            self.push(entry, room);
        }
    }

    pub async fn words(&self, upstream: UpstreamId) -> Result<Vec<(Number, Verdict)>, Broken> {
        self.words.listen(upstream).await
    }

    pub fn fill(&self) -> f64 {
        1.0 - self.room.available_permits() as f64 / self.units as f64
    }

    /// Hears a word. A second one about an entry is none.
    fn hear(&self, said: &Said) {
        let mut state = self.state.lock();
        let open = match said.word {
            Word::Finished(_) => state.open.remove(&said.number).map(|(upstream, _)| upstream),
            Word::Full(_) => state.open.get(&said.number).map(|(upstream, _)| *upstream),
        };
        drop(state);
        if let Some(upstream) = open {
            self.words.say(upstream, said.number, said.word);
        }
    }

    /// Everything that is on its way is lost, as far as is known here.
    fn break_off(&self, why: &str) {
        let lost = {
            let mut state = self.state.lock();
            self.life.send_replace(Life::new());
            std::mem::take(&mut state.open)
        };
        if !lost.is_empty() {
            self.breaks.inc();
            warn!(events = lost.len(), "what was on its way through Redis is read again: {why}");
        }
        self.words.break_off(lost.into_iter().map(|(number, (upstream, _))| (upstream, number)));
    }

    /// The stream of a partition is this one.
    fn recognise(&self, partition: Partition, found: Generation) {
        {
            let mut state = self.state.lock();
            let known = state.generations[usize::from(partition)].replace(found.clone());
            let Some(known) = known.filter(|known| *known != found) else { return };
            // The other streams of that run are gone with it: once is enough.
            for other in state.generations.iter_mut() {
                other.take_if(|other| other.run == known.run && known.run != found.run);
            }
        }
        self.break_off("the server has started anew, or another has taken its place");
    }
}

/// The way into the stream of a partition, and back.
struct Lane {
    servers: Arc<Servers>,
    producer: Arc<Producer>,
    partition: Partition,
    redeliver: Duration,
    puts: mpsc::UnboundedReceiver<Put>,
    life: Life,
    /// Of which it is not known that they are in the stream.
    unsent: VecDeque<Entry>,
    /// Those that are in the stream, as far as is known, oldest first, and since when.
    sent: BTreeMap<StreamId, (Number, Instant)>,
    /// The last word that was heard.
    heard: StreamId,
    /// An entry that is neither in the stream nor finished, as it seems.
    missing: Option<StreamId>,
}

impl Lane {
    async fn run(mut self) {
        let mut backoff = retry();
        let mut is_told = false;
        loop {
            let Err(error) = self.session(&mut backoff, &mut is_told).await;
            if !std::mem::replace(&mut is_told, true) {
                warn!(
                    partition = self.partition,
                    "the queue of other relays' events waits for Redis: {error:#}"
                );
            }
            sleep(backoff.fail()).await;
        }
    }

    /// Goes on until something about the connection is in the way.
    async fn session(&mut self, backoff: &mut Backoff, is_told: &mut bool) -> anyhow::Result<Infallible> {
        let mut writes = self.servers.connect(self.partition).await?;
        let listens = self.servers.connect(self.partition).await?;
        let mut lives = self.producer.life.subscribe();
        self.look(&mut writes).await?;
        self.follow(*lives.borrow_and_update());
        self.send(&mut writes).await?;
        backoff.succeed();
        if std::mem::take(is_told) {
            info!(partition = self.partition, "the queue of other relays' events goes on");
        }
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut listening = Box::pin(self.listen(listens.clone()));
        loop {
            select! {
                changed = lives.changed() => {
                    changed.context("it is over")?;
                    self.follow(*lives.borrow_and_update());
                    listening = Box::pin(self.listen(listens.clone()));
                }
                heard = &mut listening => {
                    self.hear(&mut writes, &heard?).await?;
                    listening = Box::pin(self.listen(listens.clone()));
                }
                put = self.puts.recv() => {
                    self.gather(put.context("it is over")?);
                    while self.unsent.len() < CHUNK && let Ok(put) = self.puts.try_recv() {
                        self.gather(put);
                    }
                    self.send(&mut writes).await?;
                }
                _ = ticks.tick() => {
                    self.look(&mut writes).await?;
                    self.look_for_the_oldest(&mut writes).await?;
                }
            }
        }
    }

    fn gather(&mut self, put: Put) {
        // What was put before a break is lost by it.
        if put.life == *self.producer.life.borrow() {
            self.unsent.push_back(put.entry);
        }
    }

    /// After a break, everything is new.
    fn follow(&mut self, life: Life) {
        if life != self.life {
            (self.life, self.heard, self.missing) = (life, StreamId::default(), None);
            self.unsent.clear();
            self.sent.clear();
        }
    }

    /// Adds what is not known to be in the stream. What is added twice is finished twice, and heard of once.
    async fn send(&mut self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let key = self.servers.key(self.partition, EVENTS);
        while !self.unsent.is_empty() {
            let count = self.unsent.len().min(CHUNK);
            let mut pipeline = redis::pipe();
            for entry in self.unsent.iter().take(count) {
                let mut command = redis::Cmd::new();
                add_entry(&mut command, &key, entry, self.life);
                pipeline.add_command(command);
            }
            let ids: Vec<String> = pipeline.query_async(connection).await?;
            ensure!(ids.len() == count, "Redis has not answered each command");
            let (state, now) = (self.producer.state.lock(), Instant::now());
            for (entry, id) in self.unsent.drain(..count).zip(ids) {
                // Unless it was finished meanwhile.
                if state.open.contains_key(&entry.number) {
                    self.sent.insert(id.parse()?, (entry.number, now));
                }
            }
        }
        Ok(())
    }

    /// Waits for words, for a while.
    fn listen(
        &self,
        mut connection: MultiplexedConnection,
    ) -> impl Future<Output = anyhow::Result<Vec<Element>>> + use<> {
        let key = self.servers.key(self.partition, &self.life.words());
        let (after, patience) = (self.heard, self.servers.patience());
        async move {
            let answer: Value = redis::cmd("XREAD")
                .arg("COUNT")
                .arg(CHUNK)
                .arg("BLOCK")
                .arg((patience / 2).as_millis() as u64)
                .arg("STREAMS")
                .arg(key)
                .arg(after.to_string())
                .query_async(&mut connection)
                .await?;
            Element::read_one_stream(&answer)
        }
    }

    async fn hear(
        &mut self,
        connection: &mut MultiplexedConnection,
        elements: &[Element],
    ) -> anyhow::Result<()> {
        let Some(last) = elements.last() else { return Ok(()) };
        for element in elements {
            let said = element.word()?;
            if matches!(said.word, Word::Finished(_)) {
                self.sent.remove(&said.entry);
            }
            self.producer.hear(&said);
        }
        self.heard = last.id;
        let next = StreamId { nth: last.id.nth.saturating_add(1), ..last.id };
        let key = self.servers.key(self.partition, &self.life.words());
        let trimmed: redis::RedisResult<u64> =
            redis::cmd("XTRIM").arg(key).arg("MINID").arg(next.to_string()).query_async(connection).await;
        Ok(trimmed.map(drop)?)
    }

    /// Looks whether the stream is what it was.
    async fn look(&self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let key = self.servers.key(self.partition, GENERATION);
        let (made, info): (Option<String>, String) =
            redis::pipe().cmd("GET").arg(&key).cmd("INFO").arg("server").query_async(connection).await?;
        let made = match made {
            Some(made) => made,
            None => {
                let lot = format!("{:016x}", rand::random::<u64>());
                let () = redis::cmd("SET").arg(&key).arg(lot).arg("NX").query_async(connection).await?;
                redis::cmd("GET").arg(&key).query_async(connection).await?
            }
        };
        let run =
            info.lines().find_map(|line| line.strip_prefix("run_id:")).context("INFO without run_id")?;
        self.producer.recognise(self.partition, Generation { run: run.trim().to_owned(), made });
        Ok(())
    }

    /// An entry that was taken out of the stream has been finished, and its word is there. Where that does not come, the
    /// entry is lost.
    async fn look_for_the_oldest(&mut self, connection: &mut MultiplexedConnection) -> anyhow::Result<()> {
        let Some((&id, &(_, since))) = self.sent.first_key_value() else { return Ok(()) };
        if since.elapsed() < self.redeliver {
            return Ok(());
        }
        let key = self.servers.key(self.partition, EVENTS);
        let range = id.to_string();
        let found: Value =
            redis::cmd("XRANGE").arg(key).arg(&range).arg(&range).query_async(connection).await?;
        if !Element::read_all(&found)?.is_empty() {
            self.missing = None;
        } else if self.missing.replace(id) == Some(id) {
            // Its word would have come between the two looks.
            self.producer.break_off("an entry is neither in its stream nor finished");
        }
        Ok(())
    }
}
