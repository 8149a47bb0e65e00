//! What this node publishes: batches in the order of the commits, and watermarks behind them.

use std::{
    collections::HashSet,
    sync::{Arc, atomic::Ordering},
    time::Instant,
};

use smallvec::SmallVec;
use tokio::sync::{mpsc, oneshot};

use super::{
    Outgoing,
    channel::Channel,
    envelope::{Card, Envelope, RecordChange, Watermark},
    state::BusState,
    transport::{Destination, Link},
    up::Up,
};
use crate::{
    clock::{self, Moment},
    route::{
        bus::{Changed, Publication},
        key::keys,
    },
    store::log::Sequence,
    telemetry::Stage,
};

/// Publishes batches. It outlives a link, and keeps what the last link did not get through.
pub(super) struct BatchSender {
    queue: mpsc::Receiver<Outgoing>,
    /// What was taken out of the queue and is not known to be published.
    unsent: Vec<Outgoing>,
    sequence: Sequence,
}

impl BatchSender {
    pub fn new(queue: mpsc::Receiver<Outgoing>) -> Self {
        Self { queue, unsent: Vec::new(), sequence: 0 }
    }

    /// Publishes batch after batch, and a watermark every second. Ends with `Ok` when the bus is dropped or
    /// has left.
    pub async fn run(&mut self, shared: &BusState, up: &Up) -> anyhow::Result<()> {
        /// Batches that are published in one round trip.
        const GATHERED: usize = 16;
        let mut watermarks = shared.watermark_interval();
        loop {
            let leaving = self.publish(shared, &*up.link).await?;
            if let Some(left) = leaving {
                self.publish_watermark(shared, up, true).await?;
                // Who waited may have given up.
                let _ = left.send(());
                return Ok(());
            }
            tokio::select! {
                count = self.queue.recv_many(&mut self.unsent, GATHERED) => {
                    if count == 0 {
                        return Ok(());
                    }
                }
                _ = watermarks.tick() => self.publish_watermark(shared, up, false).await?,
            }
        }
    }

    /// Publishes what was taken out of the queue. Copies do no harm, so what is not known to have
    /// been published is published again.
    async fn publish(
        &mut self,
        shared: &BusState,
        link: &dyn Link,
    ) -> anyhow::Result<Option<oneshot::Sender<()>>> {
        if self.unsent.is_empty() {
            return Ok(None);
        }
        let mut messages = Vec::new();
        let (mut sequence, mut events) = (self.sequence, 0);
        for outgoing in &self.unsent {
            match outgoing {
                Outgoing::Publication(publication) => {
                    sequence = sequence.max(publication.sequence.unwrap_or_default());
                    events += publication.events.len();
                    write_messages(shared, publication, &mut messages);
                }
                Outgoing::Change(Changed { kind, key, version }) => {
                    let change =
                        RecordChange { origin: shared.origin, kind: kind.name(), key, version: *version };
                    messages.push((Destination::Records, change.encode().into()));
                }
                Outgoing::Leave(_) => {}
            }
        }
        let begun = Instant::now();
        link.publish(&messages).await?;
        self.sequence = sequence;
        let metrics = &shared.parts.metrics;
        metrics.stages.of(Stage::Publish).observe(begun.elapsed().as_secs_f64());
        metrics.bus_published.inc_by(events as u64);
        metrics.bus_messages.inc_by(messages.len() as u64);
        Ok(self.unsent.drain(..).fold(None, |leaving, outgoing| match outgoing {
            Outgoing::Publication(published) => {
                let Publication { traced, events, since, .. } = published;
                shared.parts.tracer.published(&traced, &events, since);
                leaving
            }
            Outgoing::Change(_) => leaving,
            Outgoing::Leave(left) => Some(left),
        }))
    }

    async fn publish_watermark(&self, shared: &BusState, up: &Up, leaving: bool) -> anyhow::Result<()> {
        let (origin, lost) = (shared.origin, shared.lost.load(Ordering::Acquire));
        let watermark = Watermark { origin, sequence: self.sequence, lost, leaving };
        let waits = shared.parts.waits.own(Instant::now()).map(|ratio| (100.0 * ratio) as u32);
        let card = Card { origin, store: Some(shared.store), at: Some(clock::millis()), waits };
        up.echoes().send(Moment::now());
        up.link.publish_watermark(&watermark.encode(), &card.encode()).await
    }
}

/// One message for each channel of each event, or one for all nodes.
fn write_messages(
    shared: &BusState,
    publication: &Publication,
    messages: &mut Vec<(Destination, Arc<[u8]>)>,
) {
    let config = &shared.config;
    let published_at = clock::millis();
    let mut known: HashSet<Channel, foldhash::fast::RandomState> = HashSet::default();
    for event in &*publication.events {
        let id = event.id();
        known.clear();
        let channels = keys(event).map(|key| Channel::of(key, &id));
        let channels: SmallVec<[Channel; 8]> = channels.filter(|channel| known.insert(*channel)).collect();
        let few_keys = channels.len() <= config.inline_keys;
        let fits = few_keys && event.json().len() <= config.inline_bytes;
        let can_be_fetched = !publication.ephemeral && shared.parts.log.is_some();
        let whole = fits || !can_be_fetched;
        let envelope = Envelope {
            origin: shared.origin,
            sequence: publication.sequence.unwrap_or_default(),
            published_at,
            id,
            ephemeral: publication.ephemeral,
            trace: publication.traced.traceparent(&id).into(),
            store: Some(shared.store),
            body: whole.then_some(event.json()),
        };
        let payload: Arc<[u8]> = envelope.encode().into();
        // Ephemeral events under few keys go as ever: neighbouring versions listen to nothing else.
        match fits || can_be_fetched || publication.ephemeral && few_keys {
            true => {
                messages.extend(
                    channels.iter().map(|&channel| (Destination::Channel(channel), Arc::clone(&payload))),
                );
            }
            false => messages.push((Destination::Everybody, payload)),
        }
    }
}
