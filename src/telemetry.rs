//! Logs and metrics: how they are set up.

mod labels;
mod lag;
mod metrics;
mod process;

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

pub use self::{
    labels::{BoundedQueue, Cache, CloseReason, ClosedReason, EventResult, Stage, Verb},
    lag::measure_lag,
    metrics::{Metrics, metrics_reference},
};

/// Sets up logging to standard error: readable on a terminal, JSON otherwise. `RUST_LOG` wins over
/// `filter`.
///
/// # Errors
/// When `filter` is not understood.
pub fn init_logs(filter: &str) -> anyhow::Result<()> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(from_env) if std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty()) => from_env,
        _ => EnvFilter::try_new(filter)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}
