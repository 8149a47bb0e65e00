//! Hands batches to the routers of all workers, and to the bus, one batch after the other.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    protocol::Event,
    route::{Route, Routers, bus::Bus, seen::Seen},
    store::Position,
    trace::{Traced, Tracer},
};

/// Batches that may wait to be routed. While one waits, the next may be written, and no more.
const QUEUE: usize = 1;

/// Events to be routed, in the order in which they were committed.
pub struct Dispatch {
    pub events: Vec<Arc<Event>>,
    pub traced: Traced,
    pub position: Option<Position>,
    /// Told when every router has taken all of them.
    pub done: Option<oneshot::Sender<()>>,
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
    route_batch: usize,
) -> mpsc::Sender<Dispatch> {
    let (sender, mut receiver) = mpsc::channel::<Dispatch>(QUEUE);
    actix::spawn(async move {
        while let Some(Dispatch { events, traced, position, done }) = receiver.recv().await {
            let last = events.len().div_ceil(route_batch).saturating_sub(1);
            for (nth, chunk) in events.chunks(route_batch).enumerate() {
                let events: Arc<[Arc<Event>]> = chunk.into();
                let unseen = match &others {
                    Some(Others { seen, .. }) => {
                        chunk.iter().filter(|event| seen.is_first(&event.id())).cloned().collect()
                    }
                    None => Arc::clone(&events),
                };
                let route = Route { events: unseen, traced: traced.clone(), position, last: nth == last };
                let begun = tracer.clock();
                // A router that is gone had its worker restarted; its sessions are gone with it.
                join_all(routers.all().iter().map(|router| router.send(route.clone()))).await;
                tracer.routed(&traced, &route.events, begun);
                if let Some(Others { bus, .. }) = &others {
                    bus.publish(events, position.is_none(), traced.clone());
                }
            }
            if let Some(done) = done {
                // Nobody need wait for it.
                let _ = done.send(());
            }
        }
    });
    sender
}
