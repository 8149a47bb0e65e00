//! Logs and metrics: how they are set up.

mod labels;
mod lag;
mod metrics;
mod process;

use std::io::IsTerminal;

use opentelemetry_sdk::trace::SdkTracer;
use tracing::{Level, Subscriber};
use tracing_subscriber::{
    EnvFilter, Layer, filter::Targets, fmt, layer::SubscriberExt, registry::LookupSpan,
    util::SubscriberInitExt,
};

pub use self::{
    labels::{BoundedQueue, Cache, CloseReason, ClosedReason, EventResult, Label, Stage, Verb},
    lag::measure_lag,
    metrics::{Metrics, metrics_reference},
};
use crate::trace::TARGET;

/// Sets up logging to standard error: readable on a terminal, JSON otherwise. `RUST_LOG` wins over
/// `filter`. Where there is a tracer, it takes the spans of [`TARGET`], and logs within them name their trace.
///
/// # Errors
/// When `filter` is not understood.
pub fn init_logs(filter: &str, tracer: Option<SdkTracer>) -> anyhow::Result<()> {
    let mut filter = match EnvFilter::try_from_default_env() {
        Ok(from_env) if std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty()) => from_env,
        _ => EnvFilter::try_new(filter)?,
    };
    if tracer.is_some() {
        filter = filter.add_directive(format!("{TARGET}=debug").parse()?);
    }
    let registry = tracing_subscriber::registry().with(tracer.map(spans));
    let log = fmt::layer().with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        registry.with(log.with_filter(filter)).init();
    } else {
        registry.with(log.json().flatten_event(true).with_filter(filter)).init();
    }
    Ok(())
}

/// Sets up spans alone, for a command that logs nothing.
pub fn init_spans(tracer: SdkTracer) {
    tracing_subscriber::registry().with(spans(tracer)).init();
}

fn spans<S: Subscriber + for<'s> LookupSpan<'s>>(tracer: SdkTracer) -> impl Layer<S> {
    let layer = tracing_opentelemetry::layer().with_tracer(tracer).with_location(false).with_threads(false);
    let layer = layer.with_target(false).with_level(false).with_tracked_inactivity(false);
    layer.with_filter(Targets::new().with_target(TARGET, Level::DEBUG))
}
