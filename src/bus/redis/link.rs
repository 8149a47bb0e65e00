//! The connections to all primaries: one to publish and one to subscribe on each.
//!
//! A link lives until anything about it fails; then all of it is made anew. Redis keeps the order of
//! what comes on one connection, which is what a watermark rests on.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::{Context, bail};
use futures_util::{
    FutureExt,
    future::{BoxFuture, try_join_all},
};
use redis::{PushInfo, PushKind, Value, aio::MultiplexedConnection};
use tokio::sync::mpsc;

use super::{
    names::{self, CARD_PARTITION, PARTITIONS, Partition, partition_of},
    topology::Topology,
};
use crate::{
    bus::{
        channel::Channel,
        transport::{Destination, Incoming, Link, QueuedBytes},
    },
    config,
};

/// Commands that go out together.
const CHUNK: usize = 1_000;

const NOT_CONNECTED: &str = "cannot connect to a primary";

/// Connections to every primary; each is a path.
pub struct Links {
    shards: Vec<Shard>,
    /// Place in `shards`, by partition.
    shard_of: Vec<usize>,
    prefix: String,
    /// Bytes that are published in one round trip.
    publish_bytes: usize,
    /// The channel of cards.
    cards: String,
    overflown: Arc<AtomicBool>,
}

struct Shard {
    publisher: MultiplexedConnection,
    subscriber: MultiplexedConnection,
    /// The channel of watermarks that goes through this primary.
    watermarks: String,
    /// Answers to `SUNSUBSCRIBE` that are to come. One that comes unasked ends the link: the slot has moved.
    leaving: Arc<AtomicUsize>,
}

/// Takes what comes on one connection, without ever waiting.
struct Receiver {
    path: usize,
    watermarks: String,
    cards: String,
    records: String,
    leaving: Arc<AtomicUsize>,
    incoming: mpsc::Sender<Incoming>,
    taken: Arc<AtomicUsize>,
    max_bytes: usize,
    overflown: Arc<AtomicBool>,
}

/// Connects to every primary, and subscribes to what goes to all nodes.
pub async fn connect(
    topology: &Topology,
    config: &config::Bus,
    incoming: &mpsc::Sender<Incoming>,
) -> anyhow::Result<Links> {
    let patience = Duration::from_millis(config.timeout_ms);
    let taken = Arc::new(AtomicUsize::new(0));
    let overflown = Arc::new(AtomicBool::new(false));
    let cards = names::cards(&config.prefix);
    let records = names::address(&config.prefix, &Destination::Records);
    let mut shard_of = vec![0; usize::from(PARTITIONS)];
    let mut shards = Vec::with_capacity(topology.primaries.len());
    for (path, primary) in topology.primaries.iter().enumerate() {
        let first = *primary.partitions.first().context("a primary without partitions")?;
        for &partition in &primary.partitions {
            shard_of[usize::from(partition)] = path;
        }
        let watermarks = names::watermarks(&config.prefix, first);
        let leaving = Arc::new(AtomicUsize::new(0));
        let receiver = Receiver {
            path,
            watermarks: watermarks.clone(),
            cards: cards.clone(),
            records: records.clone(),
            leaving: Arc::clone(&leaving),
            incoming: incoming.clone(),
            taken: Arc::clone(&taken),
            max_bytes: config.receive_queue_bytes,
            overflown: Arc::clone(&overflown),
        };
        let shard = Shard {
            publisher: primary
                .connect(patience, None::<mpsc::UnboundedSender<PushInfo>>)
                .await
                .context(NOT_CONNECTED)?,
            subscriber: primary
                .connect(patience, Some(move |push| receiver.take(push)))
                .await
                .context(NOT_CONNECTED)?,
            watermarks,
            leaving,
        };
        shard.subscribe(&[&shard.watermarks]).await?;
        shards.push(shard);
    }
    let links = Links {
        shards,
        shard_of,
        prefix: config.prefix.clone(),
        publish_bytes: config.publish_bytes,
        cards,
        overflown,
    };
    let everybody = names::address(&links.prefix, &Destination::Everybody);
    links.subscribe_to(&[links.cards.clone(), everybody, records]).await?;
    Ok(links)
}

impl Link for Links {
    fn paths(&self) -> usize {
        self.shards.len()
    }

    fn has_overflown(&self) -> bool {
        self.overflown.load(Ordering::Acquire)
    }

    fn publish<'a>(&'a self, messages: &'a [(Destination, Arc<[u8]>)]) -> BoxFuture<'a, anyhow::Result<()>> {
        let named = |(to, payload): &(Destination, Arc<[u8]>)| {
            (names::address(&self.prefix, to), Arc::clone(payload))
        };
        let messages: Vec<(String, Arc<[u8]>)> = messages.iter().map(named).collect();
        async move {
            let measure = |(channel, payload): &(String, Arc<[u8]>)| channel.len() + payload.len();
            let mut bytes = messages.first().map_or(0, measure);
            let fits = |_: &_, next: &_| {
                let size = measure(next);
                let fits = bytes + size <= self.publish_bytes;
                bytes = if fits { bytes + size } else { size };
                fits
            };
            for messages in messages.chunk_by(fits) {
                self.publish_together(messages).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn publish_watermark<'a>(
        &'a self,
        watermark: &'a [u8],
        card: &'a [u8],
    ) -> BoxFuture<'a, anyhow::Result<()>> {
        let with_card = self.shard_of[usize::from(CARD_PARTITION)];
        async move {
            try_join_all(self.shards.iter().enumerate().map(async |(path, shard)| {
                let mut pipe = redis::pipe();
                if path == with_card {
                    pipe.cmd("SPUBLISH").arg(&self.cards).arg(card).ignore();
                }
                pipe.cmd("SPUBLISH").arg(&shard.watermarks).arg(watermark).ignore();
                pipe.query_async::<()>(&mut shard.publisher.clone()).await
            }))
            .await?;
            Ok(())
        }
        .boxed()
    }

    fn subscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, anyhow::Result<()>> {
        async move { self.subscribe_to(&self.names(channels)).await }.boxed()
    }

    fn unsubscribe<'a>(&'a self, channels: &'a [Channel]) -> BoxFuture<'a, anyhow::Result<()>> {
        async move {
            let names = self.names(channels);
            let by_shard = self.by_shard(&names)?;
            let all = self.shards.iter().zip(&by_shard);
            try_join_all(all.map(|(shard, names)| shard.unsubscribe(names))).await?;
            Ok(())
        }
        .boxed()
    }
}

impl Links {
    fn names(&self, channels: &[Channel]) -> Vec<String> {
        channels.iter().map(|channel| names::name(&self.prefix, channel)).collect()
    }

    async fn subscribe_to(&self, names: &[String]) -> anyhow::Result<()> {
        let by_shard = self.by_shard(names)?;
        try_join_all(self.shards.iter().zip(&by_shard).map(|(shard, names)| shard.subscribe(names))).await?;
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
                if channel == self.watermarks.as_bytes() {
                    Incoming::Watermark { path: self.path, payload }
                } else if channel == self.cards.as_bytes() {
                    Incoming::Card(payload)
                } else if channel == self.records.as_bytes() {
                    Incoming::Change(payload)
                } else {
                    let Some(bytes) = QueuedBytes::take(&self.taken, payload.len(), self.max_bytes) else {
                        self.overflown.store(true, Ordering::Release);
                        return Ok(());
                    };
                    Incoming::Event { payload, bytes }
                }
            }
            PushKind::SUnsubscribe => {
                let count_down = |left: usize| left.checked_sub(1);
                match self.leaving.fetch_update(Ordering::SeqCst, Ordering::SeqCst, count_down) {
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
