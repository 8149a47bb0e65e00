//! Hands batches to the routers of all workers, and to the bus, one batch after the other.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    protocol::Event,
    route::{
        Route, Routers,
        bus::{Bus, Publication},
        seen::Seen,
    },
    store::{Position, log::Sequence},
    telemetry::{Metrics, Stage},
    trace::{Traced, Tracer},
};

/// Places for what waits to be routed. The batch that the store is writing holds one; the other is for what is routed
/// meanwhile, so that ephemeral events never wait for the store.
const QUEUE: usize = 2;

/// Events to be routed, in the order in which they were committed.
#[derive(Default)]
pub struct Dispatch {
    pub events: Vec<Arc<Event>>,
    pub traced: Traced,
    /// Events that another node committed and may not have published.
    pub again: Vec<Arc<Event>>,
    /// Where the store stands after these events; `None`: they are ephemeral.
    pub position: Option<Position>,
    /// The number of their batch in the log.
    pub sequence: Option<Sequence>,
    /// Is told when every router has taken all of the events.
    pub done: Option<oneshot::Sender<()>>,
}

impl Dispatch {
    pub fn is_empty(&self) -> bool {
        self.events.is_empty() && self.again.is_empty()
    }
}

/// The other nodes, where there are any.
#[derive(Clone)]
pub struct Others {
    pub bus: Arc<dyn Bus>,
    /// What has been routed on this node. An event that two nodes store at once comes by the bus, too.
    pub seen: Arc<Seen>,
}

/// Starts the task on the current thread; it ends when the sender is dropped.
pub fn start(
    routers: Routers,
    others: Option<Others>,
    tracer: Tracer,
    metrics: Arc<Metrics>,
    route_batch: usize,
) -> mpsc::Sender<Dispatch> {
    let (sender, mut receiver) = mpsc::channel::<Dispatch>(QUEUE);
    actix::spawn(async move {
        while let Some(dispatch) = receiver.recv().await {
            let is_empty = dispatch.is_empty();
            let Dispatch { events, traced, again, position, sequence, done } = dispatch;
            if let (Some(Others { bus, .. }), false) = (&others, is_empty) {
                // The bus only takes the events: nobody here waits for other nodes.
                let events = events.iter().chain(&again).cloned().collect();
                let (ephemeral, traced) = (position.is_none(), traced.clone());
                bus.publish(Publication { events, ephemeral, sequence, traced, since: Instant::now() });
            }
            let last_chunk = events.len().div_ceil(route_batch).saturating_sub(1);
            let chunks = events.chunks(route_batch).enumerate();
            let own = chunks.map(|(nth, chunk)| (chunk, position, nth == last_chunk));
            for (chunk, position, last) in
                own.chain(again.chunks(route_batch).map(|chunk| (chunk, None, true)))
            {
                let unseen = match &others {
                    Some(Others { seen, .. }) => {
                        chunk.iter().filter(|event| seen.is_first(&event.id())).cloned().collect()
                    }
                    None => chunk.into(),
                };
                let route = Route { events: unseen, traced: traced.clone(), position, last };
                // A router that is gone had its worker restarted; its sessions are gone with it.
                let begun = Instant::now();
                join_all(routers.all().iter().map(|router| router.send(route.clone()))).await;
                tracer.routed(&traced, &route.events, begun);
                metrics.stages.of(Stage::Route).observe(begun.elapsed().as_secs_f64());
            }
            if let Some(done) = done {
                // Whoever waited for that may be gone.
                let _ = done.send(());
            }
        }
    });
    sender
}
