//! Spans of what is nested and rare: a batch and the statements within it, the steps of a client command. They
//! are spans of `tracing`, so logs within them name their trace.

use opentelemetry::trace::TraceContextExt;
use tracing::{Level, Span, debug_span, field::Empty, span_enabled};
use tracing_opentelemetry::OpenTelemetrySpanExt;

use super::{Context, Trace, Tracer};

/// The target of all of them: the log takes them where traces are on.
pub const TARGET: &str = "rookery::trace";

/// The span in which this runs.
pub fn current() -> Option<Context> {
    of(&Span::current())
}

fn of(span: &Span) -> Option<Context> {
    Context::of(span.context().span().span_context())
}

/// A span `store` within the one that is current, for a group of statements; none where there is no current one.
/// Without traces it costs the look at a flag.
pub fn within(system: &'static str, operation: &'static str) -> Span {
    if !span_enabled!(target: TARGET, Level::DEBUG) || Span::current().is_none() {
        return Span::none();
    }
    debug_span!(
        target: TARGET,
        "store",
        otel.name = %format_args!("store {operation}"),
        otel.kind = "client",
        "db.system.name" = system,
        "db.operation.name" = operation,
    )
}

impl Tracer {
    /// The span of a batch, where one of the messages that it stores is sampled: in the trace of the first of
    /// them, and linked with the others.
    pub fn batch<'a>(&self, traces: impl Iterator<Item = &'a mut Trace>, events: usize) -> Span {
        if self.0.is_none() {
            return Span::none();
        }
        let mut sampled = traces.filter(|trace| trace.context().is_some()).peekable();
        let Some(parent) = sampled.peek_mut().and_then(|first| first.persisting()) else {
            return Span::none();
        };
        let span = debug_span!(
            target: TARGET,
            "batch",
            trace_id = Empty,
            "messaging.batch.message_count" = events as i64,
        );
        let remote = opentelemetry::Context::new().with_remote_span_context(parent.span_context(true));
        // Fails where there is no layer for spans, and then there is no context below.
        let _ = span.set_parent(remote);
        let Some(context) = of(&span) else { return Span::none() };
        span.record("trace_id", tracing::field::display(context.trace));
        for trace in sampled {
            if let Some(other) = trace.context().filter(|other| other.trace != context.trace) {
                span.add_link(other.span_context(false));
            }
            trace.in_batch(context);
        }
        span
    }
}
