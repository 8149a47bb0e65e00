//! Hands batches to the routers of all workers, and to the bus, one batch after the other.

use std::{sync::Arc, time::Instant};

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    protocol::Event,
    route::{Route, Routers, bus::Bus, seen::Seen},
    store::Position,
    telemetry::{Metrics, Stage},
};

/// Batches that may wait to be routed. While one waits, the next may be written, and no more.
const QUEUE: usize = 1;

/// Events to be routed, in the order in which they were committed.
pub struct Dispatch {
    pub events: Vec<Arc<Event>>,
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
    metrics: Arc<Metrics>,
    route_batch: usize,
) -> mpsc::Sender<Dispatch> {
    let (sender, mut receiver) = mpsc::channel::<Dispatch>(QUEUE);
    actix::spawn(async move {
        while let Some(Dispatch { events, position, done }) = receiver.recv().await {
            let last = events.len().div_ceil(route_batch).saturating_sub(1);
            for (nth, chunk) in events.chunks(route_batch).enumerate() {
                let events: Arc<[Arc<Event>]> = chunk.into();
                let unseen = match &others {
                    Some(Others { seen, .. }) => {
                        chunk.iter().filter(|event| seen.is_first(&event.id())).cloned().collect()
                    }
                    None => Arc::clone(&events),
                };
                let route = Route { events: unseen, position, last: nth == last };
                // A router that is gone had its worker restarted; its sessions are gone with it.
                let begun = Instant::now();
                join_all(routers.all().iter().map(|router| router.send(route.clone()))).await;
                metrics.stages.of(Stage::Route).observe(begun.elapsed().as_secs_f64());
                if let Some(Others { bus, .. }) = &others {
                    bus.publish(events, position.is_none());
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
