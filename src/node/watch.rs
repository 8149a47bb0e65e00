//! What is asked of the parts of a node at each scrape, and whether they make progress.

use std::{path::PathBuf, sync::Arc, time::Duration};

use rustix::fs::statvfs;

use crate::{
    config::Config,
    net::Need,
    persist::Queue,
    route::Routers,
    store::Store,
    telemetry::{BoundedQueue, Metrics},
};

/// The parts that must make progress within so much time, or the node is not ready.
pub fn progress(queue: &Arc<Queue>, store: &Arc<dyn Store>, within: Duration) -> Vec<Need> {
    let (persister, batch) = (Arc::clone(queue), Arc::clone(queue));
    // Not to keep the store open.
    let store = Arc::downgrade(store);
    vec![
        ("the persister does nothing", Box::new(move || persister.silence() < within)),
        ("the store does not finish a batch", Box::new(move || batch.age_of_batch() < within)),
        (
            "a thread of the store does not get on",
            Box::new(move || store.upgrade().is_none_or(|store| store.load().stuck < within)),
        ),
    ]
}

/// Has the metrics ask those parts for their state that report none by themselves, at each scrape.
pub fn watch(
    metrics: &Metrics,
    config: &Config,
    queue: &Arc<Queue>,
    store: &Arc<dyn Store>,
    routers: &Routers,
) {
    let window = config.session.window as f64;
    // Not to keep the store open.
    let (queue, store, routers) = (Arc::downgrade(queue), Arc::downgrade(store), routers.clone());
    metrics.before_scrapes(move |metrics| {
        let (Some(queue), Some(store)) = (queue.upgrade(), store.upgrade()) else { return };
        let load = store.load();
        let windows = metrics.connections.get().max(1) as f64 * window;
        for (name, ratio) in [
            (BoundedQueue::Persister, queue.fill()),
            (BoundedQueue::Router, routers.fill()),
            (BoundedQueue::SessionWindow, metrics.awaited.get() as f64 / windows),
            (BoundedQueue::Query, load.questions),
            (BoundedQueue::Statement, load.statements),
        ] {
            metrics.queue_fill.of(name).set(ratio);
        }
        if store.log().is_some() {
            metrics.clock_ahead.set(load.clock_ahead);
        }
        for (counter, count) in [
            (&metrics.store_statements, load.sent),
            (&metrics.store_retries, load.retries),
            (&metrics.store_rows, load.rows),
        ] {
            counter.inc_by(count.saturating_sub(counter.get()));
        }
    });
}

/// Has the metrics ask for the room on the disk of the data folder, at each scrape.
pub fn watch_disk(metrics: &Metrics, folder: PathBuf) {
    metrics.before_scrapes(move |metrics| {
        let Ok(disk) = statvfs(&folder) else { return };
        let bytes = |blocks: u64| i64::try_from(blocks.saturating_mul(disk.f_frsize)).unwrap_or(i64::MAX);
        metrics.disk_free.set(bytes(disk.f_bavail));
        metrics.disk_size.set(bytes(disk.f_blocks));
    });
}
