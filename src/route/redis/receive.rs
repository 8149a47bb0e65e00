//! What comes from other nodes: events, routed once each, and fences, which are watched.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{anyhow, bail};
use futures_util::future::join_all;
use tokio::{
    sync::mpsc,
    time::{MissedTickBehavior, interval},
};
use tracing::warn;

use super::{
    Shared,
    channel::Channel,
    envelope::{Envelope, Fence, Origin},
    link::{Incoming, Link},
};
use crate::{
    clock,
    protocol::{Event, EventId, Filter, ParsedEvent},
    route::{Route, key::keys},
    store::{Cursor, Query, Viewer},
    trace::{Context, Traced},
};

/// Events that are routed together, and messages that are handled before the routers are awaited.
const GATHERED: usize = 256;

/// What is known of another process.
struct Heard {
    last: Instant,
    lost: u64,
}

/// Watches over the fences of this link.
struct Watch {
    /// When this node's own fence came back, by primary. One that stays away: the link is broken.
    own: Vec<Instant>,
    origins: HashMap<Origin, Heard>,
    patience: Duration,
}

/// Handles what comes, until the link is lost.
pub(super) async fn run(
    shared: &Shared,
    link: &Link,
    mut incoming: mpsc::Receiver<Incoming>,
) -> anyhow::Result<()> {
    let config = &shared.config;
    let mut watch = Watch {
        own: vec![Instant::now(); link.len()],
        origins: HashMap::new(),
        patience: Duration::from_millis(config.fence_ms) * config.silent_fences,
    };
    let mut ticks = interval(Duration::from_millis(config.fence_ms.max(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut gathered = Vec::new();
    loop {
        tokio::select! {
            count = incoming.recv_many(&mut gathered, GATHERED) => {
                if count == 0 {
                    bail!("nothing more comes");
                }
                if link.has_overflown() {
                    bail!("more came than could be handled (bus.receive_queue, bus.receive_queue_bytes)");
                }
                handle(shared, &mut watch, gathered.drain(..)).await?;
            }
            _ = ticks.tick() => watch.check(shared, Instant::now()).await?,
        }
    }
}

async fn handle(
    shared: &Shared,
    watch: &mut Watch,
    gathered: impl Iterator<Item = Incoming>,
) -> anyhow::Result<()> {
    let mut events = Vec::new();
    let mut to_fetch = Vec::new();
    let mut traced = Vec::new();
    let mut gap = None;
    for incoming in gathered {
        match incoming {
            Incoming::Event { payload, bytes: _bytes } => {
                take_event(shared, &payload, &mut events, &mut to_fetch, &mut traced);
            }
            Incoming::Fence { shard, payload } => gap = watch.fence(shared, shard, &payload).or(gap),
            Incoming::Lost(why) => bail!("{why}"),
        }
    }
    let traced = Traced::from_others(traced.into_iter());
    if !to_fetch.is_empty() {
        match fetch(shared, to_fetch).await {
            Ok(fetched) => events.extend(fetched),
            Err(error) => {
                warn!("an event of another node can not be fetched: {error:#}");
                gap = Some("an event can not be fetched");
            }
        }
    }
    route(shared, events, traced).await;
    if let Some(why) = gap {
        shared.gap(why).await;
    }
    Ok(())
}

/// Takes an event up, or its id if the body is to be fetched; unless it is a copy, or nobody's any more.
fn take_event(
    shared: &Shared,
    payload: &[u8],
    events: &mut Vec<Arc<Event>>,
    to_fetch: &mut Vec<EventId>,
    traced: &mut Vec<(EventId, Context)>,
) {
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
    if !shared.parts.seen.is_first(&envelope.id) {
        metrics.bus_copies.inc();
        return;
    }
    let late = clock::millis().saturating_sub(envelope.published_at);
    metrics.bus_transit.observe(late as f64 / 1_000.0);
    traced.extend(Context::parse(&envelope.trace).map(|context| (envelope.id, context)));
    let Some(body) = envelope.body else { return to_fetch.push(envelope.id) };
    match serde_json::from_str::<ParsedEvent>(body) {
        // It was verified by the node that admitted it.
        Ok(parsed) => events.push(Arc::new(parsed.trust())),
        Err(error) => {
            metrics.bus_malformed.inc();
            warn!("an event of another node is not understood: {error}");
        }
    }
}

async fn fetch(shared: &Shared, ids: Vec<EventId>) -> anyhow::Result<Vec<Arc<Event>>> {
    let count = ids.len();
    let filter = Filter { ids: Some(crate::protocol::filter::sorted(ids)), ..Filter::default() };
    let query = Arc::new(Query {
        filters: vec![(filter, count)],
        boundary: 0,
        viewer: Viewer::Operator,
        now: clock::now(),
    });
    let mut cursor = Some(Cursor::start(&query));
    let mut events = Vec::with_capacity(count);
    while let Some(from) = cursor {
        let page = shared.parts.store.query(Arc::clone(&query), from).await;
        let page = page.map_err(|error| anyhow!("{}", error.detail()))?;
        for entry in page.iter() {
            events.push(Arc::new(serde_json::from_str::<ParsedEvent>(entry.json)?.trust()));
        }
        cursor = page.next;
    }
    // What is missing was deleted or replaced meanwhile.
    Ok(events)
}

async fn route(shared: &Shared, mut events: Vec<Arc<Event>>, traced: Traced) {
    events.retain(|event| {
        let interest = shared.interest();
        let wanted = keys(event).any(|key| interest.is_wanted(&Channel::of(key, &event.id())));
        if !wanted {
            shared.parts.metrics.bus_unmatched.inc();
        }
        wanted
    });
    if events.is_empty() {
        return;
    }
    let begun = shared.parts.tracer.clock();
    let route = Route { events: events.into(), traced, position: None, last: true };
    // A router that is gone had its worker restarted; its sessions are gone with it.
    join_all(shared.parts.routers.all().iter().map(|router| router.send(route.clone()))).await;
    shared.parts.tracer.routed(&route.traced, &route.events, begun);
}

impl Watch {
    /// `Some`: there is a gap, and why.
    fn fence(&mut self, shared: &Shared, shard: usize, payload: &[u8]) -> Option<&'static str> {
        let Some(fence) = Fence::decode(payload) else {
            shared.parts.metrics.bus_malformed.inc();
            return None;
        };
        let now = Instant::now();
        if fence.origin == shared.origin {
            self.own[shard] = now;
            return None;
        }
        if fence.leaving {
            self.origins.remove(&fence.origin);
            return None;
        }
        let heard = self.origins.entry(fence.origin).or_insert(Heard { last: now, lost: fence.lost });
        heard.last = now;
        let before = std::mem::replace(&mut heard.lost, fence.lost);
        (fence.lost > before).then_some("another node could not publish")
    }

    async fn check(&mut self, shared: &Shared, now: Instant) -> anyhow::Result<()> {
        let silent = |last: &Instant| now.duration_since(*last) > self.patience;
        if self.own.iter().any(silent) {
            bail!("this node's own fences do not come back");
        }
        let before = self.origins.len();
        self.origins.retain(|_, heard| !silent(&heard.last));
        if self.origins.len() < before {
            shared.gap("another node has fallen silent").await;
        }
        Ok(())
    }
}
