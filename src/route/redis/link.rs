//! The connections to all primaries: one to publish and one to subscribe on each.
//!
//! A link lives until anything about it fails; then all of it is made anew. Redis keeps the order of
//! what comes on one connection, which is what a fence rests on.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::future::try_join_all;
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use super::{
    channel::{PARTITIONS, Partition, control, partition_of},
    echoes::Echoes,
    topology::Topology,
};
use crate::clock::Moment;

/// Commands that go out together.
const CHUNK: usize = 1_000;

/// The name of the channel of fences, after the prefix and the partition.
const FENCE: &str = "fence";

/// That of the channel of cards. There is one, so it has a partition of its own choice.
const CARD: &str = "card";
const CARD_PARTITION: Partition = 0;

/// That of the channel of events that go to all nodes.
const EVERYBODY: &str = "everybody";
const EVERYBODY_PARTITION: Partition = 1;

/// The name of the channel for events that can not be read from a store and would be too much under each key.
pub fn everybody(prefix: &str) -> String {
    control(prefix, EVERYBODY_PARTITION, EVERYBODY)
}

/// Connections to every primary.
pub struct Link {
    shards: Vec<Shard>,
    /// Place in `shards`, by partition.
    shard_of: Vec<usize>,
    /// The channel of cards.
    cards: String,
    /// This node's own fences.
    echoes: Mutex<Echoes>,
    overflown: Arc<AtomicBool>,
}

struct Shard {
    publisher: MultiplexedConnection,
    subscriber: MultiplexedConnection,
    /// The channel of fences that goes through this primary.
    fences: String,
    /// Answers to `SUNSUBSCRIBE` that are to come. One that comes unasked ends the link: the slot has moved.
    leaving: Arc<AtomicUsize>,
}

/// What Redis sends unasked.
#[derive(Debug)]
pub enum Incoming {
    Event {
        payload: Vec<u8>,
        bytes: Permit,
    },
    Fence {
        shard: usize,
        payload: Vec<u8>,
    },
    Card(Vec<u8>),
    /// Nothing more will come on this link.
    Lost(&'static str),
}

/// Bytes that wait to be handled, bounded together.
#[derive(Debug)]
pub struct Permit {
    taken: Arc<AtomicUsize>,
    bytes: usize,
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.taken.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Takes what comes on one connection, without ever waiting.
struct Receiver {
    shard: usize,
    fences: String,
    cards: String,
    leaving: Arc<AtomicUsize>,
    incoming: mpsc::Sender<Incoming>,
    taken: Arc<AtomicUsize>,
    max_bytes: usize,
    overflown: Arc<AtomicBool>,
}

impl Link {
    /// Connects to every primary, and subscribes to the fences that go through it.
    pub async fn connect(
        topology: &Topology,
        prefix: &str,
        patience: Duration,
        incoming: &mpsc::Sender<Incoming>,
        max_bytes: usize,
    ) -> anyhow::Result<Self> {
        let taken = Arc::new(AtomicUsize::new(0));
        let overflown = Arc::new(AtomicBool::new(false));
        let cards = control(prefix, CARD_PARTITION, CARD);
        let mut shard_of = vec![0; usize::from(PARTITIONS)];
        let mut shards = Vec::with_capacity(topology.primaries.len());
        for (place, primary) in topology.primaries.iter().enumerate() {
            let first = *primary.partitions.first().context("a primary without partitions")?;
            for &partition in &primary.partitions {
                shard_of[usize::from(partition)] = place;
            }
            let fences = control(prefix, first, FENCE);
            let leaving = Arc::new(AtomicUsize::new(0));
            let receiver = Receiver {
                shard: place,
                fences: fences.clone(),
                cards: cards.clone(),
                leaving: Arc::clone(&leaving),
                incoming: incoming.clone(),
                taken: Arc::clone(&taken),
                max_bytes,
                overflown: Arc::clone(&overflown),
            };
            let shard = Shard {
                publisher: primary.connect(patience, None::<mpsc::UnboundedSender<PushInfo>>).await?,
                subscriber: primary.connect(patience, Some(move |push| receiver.take(push))).await?,
                fences,
                leaving,
            };
            shard.subscribe(&[&shard.fences]).await?;
            shards.push(shard);
        }
        let echoes = Mutex::new(Echoes::new(shards.len(), Moment::now()));
        let link = Self { shards, shard_of, cards, echoes, overflown };
        link.subscribe(&[link.cards.clone(), everybody(prefix)]).await?;
        Ok(link)
    }

    /// Whether something came that could not be taken: what came after it proves nothing.
    pub fn has_overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    /// This node's own fences on this link.
    pub fn echoes(&self) -> MutexGuard<'_, Echoes> {
        // No step leaves it half done.
        self.echoes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many primaries there are.
    pub fn len(&self) -> usize {
        self.shards.len()
    }

    /// Publishes in order, in round trips to each primary of so many bytes.
    pub async fn publish(&self, messages: &[(String, Arc<[u8]>)], most_bytes: usize) -> anyhow::Result<()> {
        let size = |(channel, payload): &(String, Arc<[u8]>)| channel.len() + payload.len();
        let mut bytes = messages.first().map_or(0, size);
        let fits = |_: &_, next: &_| {
            let size = size(next);
            let fits = bytes + size <= most_bytes;
            bytes = if fits { bytes + size } else { size };
            fits
        };
        for messages in messages.chunk_by(fits) {
            self.publish_together(messages).await?;
        }
        Ok(())
    }

    async fn publish_together(&self, messages: &[(String, Arc<[u8]>)]) -> anyhow::Result<()> {
        let mut pipes: Vec<redis::Pipeline> = self.shards.iter().map(|_| redis::pipe()).collect();
        for (channel, payload) in messages {
            let shard = self.shard(channel)?;
            pipes[shard].cmd("SPUBLISH").arg(channel).arg(&payload[..]).ignore();
        }
        try_join_all(
            self.shards
                .iter()
                .zip(pipes)
                .filter(|(_, pipe)| !pipe.is_empty())
                .map(async |(shard, pipe)| pipe.query_async::<()>(&mut shard.publisher.clone()).await),
        )
        .await?;
        Ok(())
    }

    /// Publishes a fence through every primary, behind everything that was published before, and before it a
    /// card.
    pub async fn fence(&self, fence: &[u8], card: &[u8]) -> anyhow::Result<()> {
        self.echoes().send(Moment::now());
        let with_card = self.shard_of[usize::from(CARD_PARTITION)];
        try_join_all(self.shards.iter().enumerate().map(async |(place, shard)| {
            let mut pipe = redis::pipe();
            if place == with_card {
                pipe.cmd("SPUBLISH").arg(&self.cards).arg(card).ignore();
            }
            pipe.cmd("SPUBLISH").arg(&shard.fences).arg(fence).ignore();
            pipe.query_async::<()>(&mut shard.publisher.clone()).await
        }))
        .await?;
        Ok(())
    }

    /// Resolves when all are acknowledged.
    pub async fn subscribe(&self, names: &[String]) -> anyhow::Result<()> {
        let by_shard = self.by_shard(names)?;
        try_join_all(self.shards.iter().zip(&by_shard).map(|(shard, names)| shard.subscribe(names))).await?;
        Ok(())
    }

    pub async fn unsubscribe(&self, names: &[String]) -> anyhow::Result<()> {
        let by_shard = self.by_shard(names)?;
        try_join_all(self.shards.iter().zip(&by_shard).map(|(shard, names)| shard.unsubscribe(names)))
            .await?;
        Ok(())
    }

    fn by_shard<'n>(&self, names: &'n [String]) -> anyhow::Result<Vec<Vec<&'n String>>> {
        let mut by_shard = vec![Vec::new(); self.shards.len()];
        for name in names {
            by_shard[self.shard(name)?].push(name);
        }
        Ok(by_shard)
    }

    fn shard(&self, channel: &str) -> anyhow::Result<usize> {
        let partition: Partition = partition_of(channel).context("a channel without a partition")?;
        Ok(self.shard_of[usize::from(partition)])
    }
}

impl Shard {
    /// One command a channel: each is answered once, by an acknowledgement or an error, while a
    /// command of many would leave open how many answers follow an error.
    async fn subscribe(&self, names: &[&String]) -> anyhow::Result<()> {
        for chunk in names.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for name in chunk {
                pipe.cmd("SSUBSCRIBE").arg(name);
            }
            let answers: Vec<Value> = pipe.query_async(&mut self.subscriber.clone()).await?;
            if !answers.iter().all(|answer| is_push(answer, &PushKind::SSubscribe)) {
                bail!("Redis did not acknowledge a subscription");
            }
        }
        Ok(())
    }

    async fn unsubscribe(&self, names: &[&String]) -> anyhow::Result<()> {
        for chunk in names.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for name in chunk {
                pipe.cmd("SUNSUBSCRIBE").arg(name).ignore();
            }
            self.leaving.fetch_add(chunk.len(), Ordering::SeqCst);
            pipe.query_async::<()>(&mut self.subscriber.clone()).await?;
        }
        Ok(())
    }
}

impl Receiver {
    fn take(&self, push: PushInfo) -> Result<(), redis::aio::SendError> {
        let incoming = match push.kind {
            PushKind::SMessage => {
                let mut data = push.data.into_iter();
                let (Some(Value::BulkString(channel)), Some(Value::BulkString(payload))) =
                    (data.next(), data.next())
                else {
                    return Ok(());
                };
                if channel == self.fences.as_bytes() {
                    Incoming::Fence { shard: self.shard, payload }
                } else if channel == self.cards.as_bytes() {
                    Incoming::Card(payload)
                } else {
                    let bytes = Permit { taken: Arc::clone(&self.taken), bytes: payload.len() };
                    if self.taken.fetch_add(bytes.bytes, Ordering::Relaxed) + bytes.bytes > self.max_bytes {
                        self.overflown.store(true, Ordering::Release);
                        return Ok(());
                    }
                    Incoming::Event { payload, bytes }
                }
            }
            PushKind::SUnsubscribe => {
                let asked = |left: usize| left.checked_sub(1);
                match self.leaving.fetch_update(Ordering::SeqCst, Ordering::SeqCst, asked) {
                    Ok(_) => return Ok(()),
                    Err(_) => Incoming::Lost("a slot has moved"),
                }
            }
            PushKind::Disconnection => Incoming::Lost("the connection has ended"),
            _ => return Ok(()),
        };
        if self.incoming.try_send(incoming).is_err() {
            self.overflown.store(true, Ordering::Release);
        }
        Ok(())
    }
}

fn is_push(value: &Value, wanted: &PushKind) -> bool {
    matches!(value, Value::Push { kind, .. } if kind == wanted)
}
