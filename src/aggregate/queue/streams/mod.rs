//! The queue of several processes: Redis Streams, in partitions.
//!
//! A reader's process adds an entry to the stream of a partition, and waits for a word about it. The process that has
//! the partition takes the entry, and when it is finished says so, in one transaction with taking it out, in a stream of
//! that reader's own. Redis is believed in nothing else: an entry that is neither there nor finished, a server that has
//! restarted, a stream that was made anew are each a break, after which everything on its way is read again from the
//! cursors. So it need not be durable.
//!
//! What is on its way is bounded by the process that has put it; what a process has taken, by its own bound.

mod consumer;
mod entry;
mod producer;

use std::{sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};

pub use self::entry::Place;
use self::{
    consumer::{Drain, Held, Take},
    producer::Producer,
};
use super::{AnyListener, Broken, Entry, Full, Number, Queue, UpstreamId, Verdict, Word};
use crate::{
    aggregate::members::Members,
    backoff::Backoff,
    bus::redis::{Partition, Servers},
    config::{self, PartitionBy},
    telemetry::Metrics,
};

/// Between attempts to reach Redis.
const FIRST_RETRY: Duration = Duration::from_millis(100);
const LONGEST_RETRY: Duration = Duration::from_secs(5);

fn retry() -> Backoff {
    Backoff::new(FIRST_RETRY, LONGEST_RETRY)
}

/// How the streams are laid out, and how patient those who use them are.
#[derive(Debug, Clone)]
pub struct Layout {
    pub partitions: Partition,
    pub by: PartitionBy,
    /// Bytes that this process may have on their way.
    pub bytes: usize,
    /// Bytes that this process may have taken, and not handed on.
    pub taken_bytes: usize,
    pub redeliver: Duration,
}

impl From<&config::Aggregator> for Layout {
    fn from(config: &config::Aggregator) -> Self {
        Self {
            partitions: config.partitions,
            by: config.partition_by,
            bytes: config.queue_bytes,
            taken_bytes: config.taken_bytes,
            redeliver: Duration::from_secs(config.redeliver_seconds),
        }
    }
}

/// The queue.
pub struct Streams {
    producer: Arc<Producer>,
    take: Arc<Take>,
    drains: Vec<Drain>,
}

impl Streams {
    /// Runs in the background from now on, in the runtime of the caller. `consumers`: those whose partitions are taken
    /// from; `None`: this process takes none.
    pub fn start(
        servers: Arc<Servers>,
        layout: Layout,
        listener: AnyListener,
        consumers: Option<Arc<Members>>,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let breaks = metrics.upstream_queue_breaks.clone();
        let producer = Producer::start(Arc::clone(&servers), &layout, listener, breaks);
        let take = Arc::new(Take::new(layout.taken_bytes));
        let held: Vec<Arc<Held>> = (0..layout.partitions).map(|_| Arc::default()).collect();
        if let Some(consumers) = consumers {
            consumer::start(&servers, &layout, &consumers, &take, &held, metrics);
        }
        let drains = (0..layout.partitions)
            .zip(held)
            .map(|(partition, held)| Drain::start(Arc::clone(&servers), partition, held));
        Self { producer, take, drains: drains.collect() }
    }
}

impl Queue for Streams {
    fn offer(&self, entry: Entry) -> Result<(), Full> {
        self.producer.offer(entry)
    }

    fn put(&self, entry: Entry) -> BoxFuture<'_, ()> {
        self.producer.put(entry).boxed()
    }

    fn take(&self, most: usize) -> BoxFuture<'_, Vec<Entry>> {
        self.take.take(most).boxed()
    }

    fn say(&self, entry: &Entry, word: Word) {
        if let Some(place) = &entry.place
            && let Some(drain) = self.drains.get(usize::from(place.partition))
        {
            drain.say(entry, place, word);
        }
    }

    fn words(&self, upstream: UpstreamId) -> BoxFuture<'_, Result<Vec<(Number, Verdict)>, Broken>> {
        self.producer.words(upstream).boxed()
    }

    fn fill(&self) -> f64 {
        self.producer.fill()
    }
}
