//! Logs and metrics: how they are set up.

mod labels;
mod lag;
mod log;
mod metrics;
mod process;
mod pulse;
mod series;
mod upstreams;

use std::{io::IsTerminal, panic, process::abort, thread};

use opentelemetry_sdk::trace::SdkTracer;
use tracing::{Level, Subscriber, error, field::display};
use tracing_subscriber::{
    Layer, filter::Targets, fmt, layer::SubscriberExt, registry::LookupSpan, util::SubscriberInitExt,
};

pub use self::{
    labels::{
        BoundedQueue, By, Cache, CleanupResult, CloseReason, ClosedReason, ConnectResult, EventResult, Label,
        SignInResult, Stage, UpstreamMessage, Verb,
    },
    lag::measure_lag,
    log::{Flushed, LogLines, LostLines},
    metrics::{Metrics, metrics_reference},
    pulse::Pulse,
    series::{PartitionSeries, UpstreamSeries},
};
use crate::{config::log_filter, trace::TARGET};

/// Sets up logging to standard error: readable on a terminal, JSON otherwise. Where there is a tracer, it takes
/// the spans of [`TARGET`], and logs within them name their trace.
///
/// At most `room` lines wait to be written. What waits when the result is dropped is written then.
///
/// # Errors
/// When `filter` is not understood.
pub fn init_logs(filter: &str, room: usize, tracer: Option<SdkTracer>) -> anyhow::Result<Flushed> {
    let lines = LogLines::start(room, std::io::stderr())?;
    let mut filter = log_filter(filter)?;
    if tracer.is_some() {
        filter = filter.add_directive(format!("{TARGET}=debug").parse()?);
    }
    let registry = tracing_subscriber::registry().with(tracer.map(spans));
    let log = fmt::layer().with_writer(lines.clone());
    if std::io::stderr().is_terminal() {
        registry.with(log.with_filter(filter)).init();
    } else {
        registry.with(log.json().flatten_event(true).with_filter(filter)).init();
    }
    Ok(Flushed(lines))
}

/// From now on a panic ends the process, wherever it happens, with a line in the log. A part that has died would
/// leave a node that looks alive and does not answer.
pub fn end_on_panic(log: &LogLines) {
    let log = log.clone();
    panic::set_hook(Box::new(move |panic| {
        let thread = thread::current();
        let name = thread.name().unwrap_or("without a name");
        let at = panic.location().map(display);
        let what = panic.payload_as_str().unwrap_or("a panic");
        error!(thread = name, at, "{what}: the process ends");
        log.flush();
        abort();
    }));
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
