//! What comes from other nodes: events, routed once each, and fences, which prove that they have come.

use std::{collections::HashSet, sync::Arc, time::Instant};

use anyhow::bail;
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    Shared,
    envelope::{Envelope, Fence},
    link::{Incoming, Link},
};
use crate::{
    clock,
    protocol::{Event, EventId, ParsedEvent},
    telemetry::BoundedQueue,
    trace::{Context, Traced},
};

/// Events that are routed together, and messages that are handled before the routers are awaited.
const GATHERED: usize = 256;

/// Handles what comes, until the link is lost.
pub(super) async fn run(
    shared: &Shared,
    link: &Link,
    mut incoming: mpsc::Receiver<Incoming>,
) -> anyhow::Result<()> {
    let patience = shared.config.patience();
    // When this node's own fence came back, by primary. One that stays away: the link is broken.
    let mut own = vec![Instant::now(); link.len()];
    let mut ticks = shared.fence_interval();
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            count = incoming.recv_many(&mut gathered, GATHERED) => {
                if count == 0 {
                    bail!("nothing more comes");
                }
                let ratio = incoming.len() as f64 / shared.config.receive_queue as f64;
                shared.parts.metrics.queue_fill.of(BoundedQueue::BusReceive).set(ratio);
                if link.has_overflown() {
                    shared.parts.metrics.queue_full.of(BoundedQueue::BusReceive).inc();
                    bail!("more came than could be handled (bus.receive_queue, bus.receive_queue_bytes)");
                }
                handle(shared, &mut own, gathered.drain(..)).await?;
            }
            _ = ticks.tick() => {
                let now = Instant::now();
                if own.iter().any(|last| now.duration_since(*last) > patience) {
                    bail!("this node's own fences do not come back");
                }
            }
        }
    }
}

async fn handle(
    shared: &Shared,
    own: &mut [Instant],
    gathered: impl Iterator<Item = Incoming>,
) -> anyhow::Result<()> {
    let mut taken = Taken::default();
    let mut fences = Vec::new();
    for incoming in gathered {
        match incoming {
            Incoming::Event { payload, bytes: _bytes } => taken.event(shared, &payload),
            Incoming::Fence { shard, payload } => match Fence::decode(&payload) {
                Some(fence) if fence.origin == shared.origin => own[shard] = Instant::now(),
                Some(fence) => fences.push((shard, fence)),
                None => {
                    shared.parts.metrics.bus_malformed.inc();
                }
            },
            Incoming::Lost(why) => bail!("{why}"),
        }
    }
    let Taken { mut events, to_fetch, traced, .. } = taken;
    if !to_fetch.is_empty() {
        match shared.fetch(to_fetch).await {
            Ok(fetched) => events.extend(fetched),
            Err(error) => shared.doubt(&format!("an event can not be fetched: {error:#}")),
        }
    }
    shared.route(events, Traced::from_others(traced.into_iter())).await;
    // Only now is what they prove routed.
    for (shard, fence) in fences {
        if shared.origins().fence(shard, &fence, Instant::now()) {
            warn!("events of another node may have been missed: it did not publish them");
            shared.parts.metrics.bus_gaps.inc();
            shared.in_doubt.notify_one();
        }
    }
    Ok(())
}

/// What was taken up of what came together.
#[derive(Default)]
struct Taken {
    ids: HashSet<EventId, foldhash::fast::RandomState>,
    events: Vec<Arc<Event>>,
    to_fetch: Vec<EventId>,
    /// What the envelopes said of the traces that events are part of.
    traced: Vec<(EventId, Context)>,
}

impl Taken {
    /// Takes an event up, or its id if the body is to be fetched; unless it is a copy.
    fn event(&mut self, shared: &Shared, payload: &[u8]) {
        let metrics = &shared.parts.metrics;
        let envelope = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                metrics.bus_malformed.inc();
                return warn!("a message of another node is not understood: {error}");
            }
        };
        if envelope.origin == shared.origin {
            return;
        }
        metrics.bus_received.inc();
        let routed = envelope.sequence > 0 && shared.origins().is_routed(envelope.origin, envelope.sequence);
        if routed || shared.parts.seen.contains(&envelope.id) || !self.ids.insert(envelope.id) {
            metrics.bus_copies.inc();
            return;
        }
        let late = clock::millis().saturating_sub(envelope.published_at);
        metrics.bus_transit.observe(late as f64 / 1_000.0);
        self.traced.extend(Context::parse(&envelope.trace).map(|context| (envelope.id, context)));
        let Some(body) = envelope.body else { return self.to_fetch.push(envelope.id) };
        match serde_json::from_str::<ParsedEvent>(body) {
            // It was verified by the node that admitted it.
            Ok(parsed) => self.events.push(Arc::new(parsed.trust())),
            Err(error) => {
                metrics.bus_malformed.inc();
                warn!("an event of another node is not understood: {error}");
            }
        }
    }
}
