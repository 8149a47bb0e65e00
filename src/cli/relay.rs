//! `rookery relay`: runs a node until it is told to stop.

use tokio::signal::unix::{SignalKind, signal};
use tracing::info;

use super::RelayFlags;
use crate::{
    net::raise_descriptor_limit,
    node::{self, Listeners},
    telemetry,
    trace::{Pipeline, Tracer},
};

pub fn run(flags: RelayFlags) -> anyhow::Result<()> {
    let config = flags.load()?;
    let spans = Pipeline::start(&config.traces, &node::id(&config))?;
    telemetry::init_logs(&config.general.log, spans.as_ref().map(Pipeline::layer))?;
    let tracer = spans.as_ref().map_or_else(Tracer::default, |spans| {
        let store = if config.scylla.nodes.is_empty() { "lmdb" } else { "cassandra" };
        spans.tracer(&config.traces, store)
    });
    let descriptors = raise_descriptor_limit();
    let ended = actix::System::new().block_on(async {
        let listeners = Listeners::bind(&config)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let shutdown = async move {
            tokio::select! {
                _ = terminate.recv() => info!("SIGTERM"),
                _ = interrupt.recv() => info!("SIGINT"),
            }
            actix::spawn(async move {
                tokio::select! {
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                // Asked twice: what is in flight is lost, what was acknowledged is not.
                std::process::exit(1);
            });
        };
        node::run(config, listeners, descriptors, tracer, shutdown).await
    });
    if let Some(spans) = spans {
        spans.shut_down();
    }
    ended
}
