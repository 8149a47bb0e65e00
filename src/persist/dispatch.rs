//! Hands batches to the routers of all workers, and to the bus, one batch after the other.

use std::sync::Arc;

use futures_util::future::join_all;
use tokio::sync::{mpsc, oneshot};

use crate::{
    protocol::Event,
    route::{Route, Routers, bus::Bus},
    store::Position,
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

/// Starts the task on the current thread; it ends when the sender is dropped.
pub fn start(routers: Routers, bus: Option<Arc<dyn Bus>>, route_batch: usize) -> mpsc::Sender<Dispatch> {
    let (sender, mut receiver) = mpsc::channel::<Dispatch>(QUEUE);
    actix::spawn(async move {
        while let Some(Dispatch { events, position, done }) = receiver.recv().await {
            let last = events.len().div_ceil(route_batch).saturating_sub(1);
            for (nth, chunk) in events.chunks(route_batch).enumerate() {
                let events: Arc<[Arc<Event>]> = chunk.into();
                let route = Route { events: Arc::clone(&events), position, last: nth == last };
                // A router that is gone had its worker restarted; its sessions are gone with it.
                join_all(routers.all().iter().map(|router| router.send(route.clone()))).await;
                if let Some(bus) = &bus {
                    bus.publish(events).await;
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
