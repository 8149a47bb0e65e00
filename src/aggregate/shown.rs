//! What Prometheus is told of the relays that are read.

use std::{collections::BTreeMap, sync::Arc};

use prometheus_client::metrics::counter::Counter;

use super::{counts::Counts, queue::Queue, status::Status};
use crate::{
    protocol::Timestamp,
    telemetry::{BoundedQueue, Metrics, UpstreamLabel},
};

/// Relays that have series of their own.
const BY_NAME: usize = 100;

/// A relay that is read, as metrics call it.
pub struct Shown {
    pub name: String,
    pub counts: Arc<Counts>,
    pub status: Arc<Status>,
}

/// Has the metrics look at these, whenever they are asked for.
pub fn show(all: Vec<Shown>, queue: &Arc<dyn Queue>, metrics: &Metrics) {
    let queue = Arc::downgrade(queue);
    let name =
        move |nth: usize, shown: &Shown| if nth < BY_NAME { shown.name.clone() } else { "other".to_owned() };
    metrics.before_scrapes(move |metrics| {
        if let Some(queue) = queue.upgrade() {
            metrics.queue_fill.of(BoundedQueue::Aggregator).set(queue.fill());
        }
        let mut sums: BTreeMap<String, Sum> = BTreeMap::new();
        for (nth, shown) in all.iter().enumerate() {
            sums.entry(name(nth, shown)).or_default().add(shown);
        }
        for (upstream, sum) in sums {
            sum.write(upstream, metrics);
        }
    });
}

/// What the relays of one name have done together.
#[derive(Default)]
struct Sum {
    received: u64,
    bytes: u64,
    waiting: u64,
    sessions: u64,
    ended: u64,
    up: u64,
    /// The oldest.
    cursor: Option<Timestamp>,
    outcomes: Vec<(&'static str, u64)>,
}

impl Sum {
    fn add(&mut self, shown: &Shown) {
        let counted = shown.counts.at_this_moment();
        self.received += counted.received;
        self.bytes += counted.bytes;
        self.waiting += counted.waiting;
        self.sessions += counted.sessions;
        self.ended += counted.ended;
        self.up += u64::from(shown.status.is_up());
        self.cursor = Some(self.cursor.map_or(counted.cursor, |cursor| cursor.min(counted.cursor)));
        let own = [("stored", counted.stored), ("known", counted.known), ("dead", counted.dead)];
        for (outcome, count) in own.into_iter().chain(counted.refused) {
            match self.outcomes.iter_mut().find(|(other, _)| *other == outcome) {
                Some((_, sum)) => *sum += count,
                None => self.outcomes.push((outcome, count)),
            }
        }
    }

    fn write(self, upstream: String, metrics: &Metrics) {
        let label = UpstreamLabel { upstream: upstream.clone() };
        for (family, count) in [
            (&metrics.upstream_received, self.received),
            (&metrics.upstream_bytes, self.bytes),
            (&metrics.upstream_connects, self.sessions),
            (&metrics.upstream_cleanups, self.ended),
        ] {
            raise(&family.get_or_create_owned(&label), count);
        }
        metrics.upstream_waiting.get_or_create_owned(&label).set(self.waiting as i64);
        let cursor = self.cursor.unwrap_or_default();
        metrics.upstream_cursor.get_or_create_owned(&label).set(cursor as i64);
        metrics.upstream_up.get_or_create_owned(&label).set(self.up as i64);
        for (outcome, count) in self.outcomes {
            raise(&metrics.label_upstream(&upstream, outcome), count);
        }
    }
}

/// Counters only grow.
fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}
