//! `rookery relay`: runs a node until it is told to stop.

use std::collections::HashSet;

use tokio::signal::unix::{SignalKind, signal};
use tracing::{info, warn};

use super::{RelayFlags, secret};
use crate::{
    config::{self, Config, Sources},
    net::raise_descriptor_limit,
    node::{self, Listeners, Outside, Reload},
    telemetry,
    trace::{Pipeline, Tracer},
};

pub fn run(flags: RelayFlags) -> anyhow::Result<()> {
    run_node(flags.sources()?, Listeners::bind)
}

/// Runs a node that listens as it is told.
pub fn run_node(
    sources: Sources,
    listen: impl FnOnce(&Config) -> anyhow::Result<Listeners>,
) -> anyhow::Result<()> {
    let reload = Reload::new(sources)?;
    let config = reload.config().clone();
    let spans = Pipeline::start(&config.traces, &node::id(&config))?;
    let layer = spans.as_ref().map(Pipeline::layer);
    let log = telemetry::init_logs(&config.general.log, config.general.log_lines, layer)?;
    telemetry::end_on_panic(&log.0);
    let tracer = spans
        .as_ref()
        .map_or_else(Tracer::default, |spans| spans.tracer(&config.traces, node::store_name(&config)));
    if let Some(unknown) = unknown_variables() {
        warn!("{unknown}");
    }
    reload.old_names().iter().for_each(|old_name| warn!("{old_name}"));
    let descriptors = raise_descriptor_limit();
    let ended = actix::System::new().block_on(async {
        let listeners = listen(&config)?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        // A terminal that is closed sends it too: that is no reason to leave clients.
        let reload = Some(reload.at(signal(SignalKind::hangup())?));
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
        let outside = Outside { listeners, descriptors, tracer, log: log.0.lost().clone(), reload };
        node::run(config, outside, shutdown).await
    });
    if let Some(spans) = spans {
        spans.shut_down(ended.as_ref().ok().copied());
    }
    ended.map(drop)
}

/// Names the variables that look like ours and are none: a setting that is misspelt has no effect.
pub fn unknown_variables() -> Option<String> {
    const OTHERS: [&str; 3] = ["ROOKERY_CONFIG", "ROOKERY_RELAY", secret::VARIABLE];
    let known: HashSet<String> = config::variables().chain(OTHERS.map(str::to_owned)).collect();
    let names = std::env::vars_os().filter_map(|(name, _)| name.into_string().ok());
    let mut unknown: Vec<String> =
        names.filter(|name| name.starts_with("ROOKERY_") && !known.contains(name)).collect();
    unknown.sort();
    (!unknown.is_empty()).then(|| {
        let names = unknown.join(", ");
        format!("no settings have these variables: {names}; `rookery config --reference` lists them")
    })
}
