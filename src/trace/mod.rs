//! Traces: the way of a message through the nodes, as spans of OpenTelemetry.
//!
//! Whether a message is sampled is decided once, before there is any span. On its way only times are noted, and
//! its spans are made of them when it has ended. So one that turns out to be slow, or fails, has its spans though
//! it was not sampled, and one that does neither costs a few looks at the clock.

mod connection;
mod context;
mod export;
mod extra;
mod message;
mod span;
mod standard;
mod traced;
mod upstream;
mod within;

use std::{
    fmt,
    net::IpAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use opentelemetry::InstrumentationScope;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SpanProcessor};

pub use self::{
    connection::ConnectionTrace,
    context::Context,
    export::{Pipeline, unexported},
    message::{Subject, Trace, Write},
    standard::standard,
    traced::Traced,
    upstream::{Arrival, Queued, UpstreamTrace},
    within::{TARGET, current, within},
};
use self::{
    context::Remote,
    extra::Extra,
    message::{Message, Origin, Why},
    span::Span,
};
use crate::config::{self, Network};

/// Makes spans where traces are on, and does nothing where they are not.
#[derive(Clone, Default)]
pub struct Tracer(Option<Arc<Inner>>);

struct Inner {
    processor: Arc<BatchSpanProcessor>,
    scope: InstrumentationScope,
    ratio: f64,
    slow: Duration,
    extra: Extra,
    trusted: Vec<Network>,
    /// `db.system.name`
    store: &'static str,
}

impl Tracer {
    /// Hands its spans to `processor`; `store` is what spans call the system that stores.
    pub fn new(processor: Arc<BatchSpanProcessor>, config: &config::Traces, store: &'static str) -> Self {
        Self(Some(Arc::new(Inner {
            processor,
            scope: scope(),
            ratio: config.ratio,
            slow: Duration::from_millis(config.slow_ms),
            extra: Extra::new(config.extra_per_second),
            trusted: config.trusted.clone(),
            store,
        })))
    }

    /// A connection from this address begins, with that `traceparent` in its request.
    pub fn connection(&self, address: IpAddr, traceparent: Option<&str>) -> ConnectionTrace {
        let Some(inner) = &self.0 else { return ConnectionTrace::default() };
        let believed = traceparent.filter(|_| inner.trusts(address));
        let remote = believed.and_then(Remote::parse);
        let (sampled, _) = inner.decide(remote);
        ConnectionTrace::new(inner, address, remote, sampled)
    }

    /// A message has come, at `begun`.
    pub fn message(
        &self,
        begun: Instant,
        connection: &ConnectionTrace,
        client: Client,
        subject: Subject,
    ) -> Trace {
        let Some(inner) = &self.0 else { return Trace::default() };
        let (context, why) = inner.decide(connection.remote());
        Trace::new(Message::new(inner, begun, context, why, Origin::of(connection, client), subject))
    }
}

impl Tracer {
    /// Somebody with an account has this relay say something for them; their request came at `begun`.
    pub fn said(&self, begun: Instant, subject: Subject) -> Trace {
        let Some(inner) = &self.0 else { return Trace::default() };
        let (context, why) = inner.decide(None);
        Trace::new(Message::new(inner, begun, context, why, Origin::Account, subject))
    }
}

/// The client that a message came from.
#[derive(Clone, Copy)]
pub struct Client {
    pub session: u64,
    pub address: IpAddr,
}

impl Inner {
    /// Whether what begins now is sampled, and as what; and why. Who asked for it decides, or else chance.
    fn decide(&self, remote: Option<Remote>) -> (Option<Context>, Why) {
        match remote {
            Some(Remote { context, sampled: true }) if self.extra.take() => {
                (Some(context.child()), Why::Asked)
            }
            Some(_) => (None, Why::Asked),
            None => (self.by_chance(), Why::Sampled),
        }
    }

    /// The first span of a trace, where chance wants one.
    fn by_chance(&self) -> Option<Context> {
        (rand::random::<f64>() < self.ratio).then(Context::root)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    /// Never waits: where the queue is full, the span is lost.
    fn export(&self, span: Span) {
        self.processor.on_end(span.into_data(self.scope.clone()));
    }
}

impl fmt::Debug for Tracer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Tracer(on)" } else { "Tracer(off)" })
    }
}

/// The library that made the spans, as OpenTelemetry wants it named.
fn scope() -> InstrumentationScope {
    InstrumentationScope::builder("rookery").with_version(env!("CARGO_PKG_VERSION")).build()
}
