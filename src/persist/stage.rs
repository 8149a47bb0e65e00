//! For tests of whoever publishes: a persister that has a store, and nothing beyond it.

use std::sync::Arc;

use actix::{Actor, Addr};

use super::{Persister, PersisterParts, Queue, Sweeps, Workers};
use crate::{
    config,
    ingest::{Admission, RecentIds},
    route::Routers,
    store::Store,
    telemetry::Metrics,
    trace::Tracer,
};

impl PersisterParts {
    pub fn on(store: Arc<dyn Store>, config: &config::Persister, metrics: &Arc<Metrics>) -> Self {
        Self {
            queue: Queue::new(config),
            workers: Workers::here(),
            store,
            admission: Arc::new(Admission::new(None, RecentIds::new(16), 16)),
            routers: Routers::default(),
            others: None,
            metrics: Arc::clone(metrics),
            tracer: Tracer::default(),
        }
    }

    pub fn start(self, config: config::Persister) -> Addr<Persister> {
        Persister::new(self, config, Sweeps::from(&config::Store::default())).start()
    }
}
