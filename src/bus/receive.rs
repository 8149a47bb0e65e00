//! What comes from other nodes: events, routed once each, and watermarks, which prove that they have come.

use std::{collections::HashSet, sync::Arc};

use anyhow::bail;
use tokio::sync::mpsc;
use tracing::{debug, warn};

use super::{
    envelope::{Card, Envelope, RecordChange, Watermark},
    state::BusState,
    transport::Incoming,
    up::Up,
};
use crate::{
    clock::{self, Moment},
    protocol::{Event, EventId, ParsedEvent, verify::Verifier},
    telemetry::BoundedQueue,
    told::told,
    trace::{Context, Traced},
};

/// Events that are routed together, and messages that are handled before the routers are awaited.
const GATHERED: usize = 256;

/// Handles what comes, until the link is lost.
pub(super) async fn run(
    shared: &BusState,
    up: &Up,
    mut incoming: mpsc::Receiver<Incoming>,
) -> anyhow::Result<()> {
    let patience = shared.config.patience();
    let mut verifier = shared.verifier();
    let mut ticks = shared.watermark_interval();
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            count = incoming.recv_many(&mut gathered, GATHERED) => {
                if count == 0 {
                    bail!("nothing more comes");
                }
                let ratio = incoming.len() as f64 / shared.config.receive_queue as f64;
                shared.parts.metrics.queue_fill.of(BoundedQueue::BusReceive).set(ratio);
                if up.link.has_overflown() {
                    shared.parts.metrics.queue_full.of(BoundedQueue::BusReceive).inc();
                    bail!("more came than could be handled (bus.receive_queue, bus.receive_queue_bytes)");
                }
                handle(shared, up, &mut verifier, gathered.drain(..)).await?;
            }
            _ = ticks.tick() => {
                // A watermark of its own that does not come back: the link is broken.
                if up.echoes().last().is_some_and(|last| last.elapsed() > patience) {
                    bail!("this node's own watermarks do not come back");
                }
            }
        }
    }
}

async fn handle(
    shared: &BusState,
    up: &Up,
    verifier: &mut Option<Verifier>,
    gathered: impl Iterator<Item = Incoming>,
) -> anyhow::Result<()> {
    let mut taken = Taken::default();
    let mut watermarks = Vec::new();
    for incoming in gathered {
        match incoming {
            Incoming::Event { payload, bytes: _bytes } => taken.event(shared, verifier, &payload),
            Incoming::Watermark { path, payload } => match Watermark::decode(&payload) {
                Some(watermark) if watermark.origin == shared.origin => {
                    up.echoes().come(path, Moment::now());
                    shared.carries(up);
                }
                Some(watermark) => watermarks.push((path, watermark)),
                // To this node its origin is silent, and falls into doubt as such.
                None => shared.puzzle(&"a watermark of another version"),
            },
            Incoming::Card(payload) => match Card::decode(&payload) {
                Some(card) => shared.meet(&card),
                None => shared.puzzle(&"a card of another version"),
            },
            Incoming::Change(payload) => match RecordChange::decode(&payload) {
                Some(change) if change.origin == shared.origin => {}
                Some(change) => {
                    debug!(
                        kind = change.kind,
                        key = change.key,
                        version = change.version,
                        "a record has changed"
                    );
                    (shared.parts.records)(Some((change.kind, change.key)));
                }
                None => shared.puzzle(&"a change of another version"),
            },
            Incoming::Lost(why) => bail!("{why}"),
        }
    }
    let Taken { mut events, to_fetch, traced, .. } = taken;
    if !to_fetch.is_empty() {
        let wanted = to_fetch.len();
        match shared.fetch(to_fetch).await {
            Ok(fetched) => {
                let missing = wanted.saturating_sub(fetched.len());
                if missing > 0 {
                    shared.miss(missing);
                }
                events.extend(fetched);
            }
            Err(error) => shared.doubt(&format!("an event can not be fetched: {}", told(&error))),
        }
    }
    shared.route(events, Traced::from_others(traced.into_iter())).await;
    // Only now all events before these watermarks are routed, which is what they prove.
    for (path, watermark) in watermarks {
        let Some(proves) = up.echoes().prove(path) else { continue };
        if shared.origins().hear(path, &watermark, proves, Moment::now()) {
            warn!("events of another node may have been missed: it did not publish them");
            shared.parts.metrics.bus_gaps.inc();
            shared.in_doubt.notify_one();
        }
    }
    Ok(())
}

/// What is to be routed of the messages that came together.
#[derive(Default)]
struct Taken {
    ids: HashSet<EventId, foldhash::fast::RandomState>,
    events: Vec<Arc<Event>>,
    to_fetch: Vec<EventId>,
    /// What the envelopes said of the traces that events are part of.
    traced: Vec<(EventId, Context)>,
}

impl Taken {
    /// Takes the event, or its id where the body is to be fetched; unless it is a copy.
    fn event(&mut self, shared: &BusState, verifier: &mut Option<Verifier>, payload: &[u8]) {
        let metrics = &shared.parts.metrics;
        let envelope = match Envelope::decode(payload) {
            Ok(envelope) => envelope,
            Err(error) => return shared.miss_what_is_not_understood(&error),
        };
        if envelope.origin == shared.origin {
            return;
        }
        if envelope.store.is_some_and(|store| !shared.store.meets(store)) {
            metrics.bus_strangers.inc();
            return;
        }
        metrics.bus_received.inc();
        // A copy is known by its id, not by the number of its batch: what is published late may have been committed after
        // the log was read up to that number.
        if shared.parts.seen.contains(&envelope.id) || !self.ids.insert(envelope.id) {
            metrics.bus_copies.inc();
            return;
        }
        let late = clock::millis().saturating_sub(envelope.published_at);
        metrics.bus_transit.observe(late as f64 / 1_000.0);
        self.traced.extend(Context::parse(&envelope.trace).map(|context| (envelope.id, context)));
        let Some(body) = envelope.body else { return self.to_fetch.push(envelope.id) };
        let parsed = match serde_json::from_str::<ParsedEvent>(body) {
            Ok(parsed) => parsed,
            Err(error) => return shared.miss_what_is_not_understood(&error),
        };
        let event = match verifier {
            // The node that admitted it has verified it.
            None => parsed.trust(),
            Some(verifier) => match verifier.verify(parsed) {
                Ok(event) => event,
                Err(error) => {
                    metrics.bus_forged.inc();
                    return shared.puzzle(&error);
                }
            },
        };
        self.events.push(Arc::new(event));
    }
}
