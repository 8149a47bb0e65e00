//! A connection: the spans of its beginning and its end, and what its client said of a trace.

use std::{net::IpAddr, sync::Arc, time::Instant};

use opentelemetry::{
    KeyValue,
    trace::{SpanKind, Status},
};

use super::{
    Context, Inner,
    context::Remote,
    span::{Clock, Parent, Span, network},
};

/// What is kept of a connection for its traces. Empty where it is not traced, as most are not.
#[derive(Default)]
pub struct ConnectionTrace(Option<Box<Opened>>);

struct Opened {
    inner: Arc<Inner>,
    begun: Instant,
    address: IpAddr,
    /// What the client said of a trace in its handshake, where it is believed.
    remote: Option<Remote>,
    /// The span `connect`, where it is sampled.
    context: Option<Context>,
}

impl ConnectionTrace {
    pub(super) fn new(
        inner: &Arc<Inner>,
        address: IpAddr,
        remote: Option<Remote>,
        context: Option<Context>,
    ) -> Self {
        if remote.is_none() && context.is_none() {
            return Self::default();
        }
        Self(Some(Box::new(Opened {
            inner: Arc::clone(inner),
            begun: Instant::now(),
            address,
            remote,
            context,
        })))
    }

    pub(super) fn remote(&self) -> Option<Remote> {
        self.0.as_ref()?.remote
    }

    pub(super) fn context(&self) -> Option<Context> {
        self.0.as_ref()?.context
    }

    /// The session serves: the span `connect` ends.
    pub fn connected(&self, session: u64) {
        let Some((opened, context)) = self.sampled() else { return };
        let parent = opened.remote.and_then(|remote| Parent::remote(remote.context));
        opened.span("connect", context, parent, opened.begun, session, Vec::new());
    }

    /// The session has let go of everything, since `begun`: the span `cleanup`.
    pub fn cleaned_up(&self, session: u64, begun: Instant, reason: &'static str) {
        let Some((opened, connect)) = self.sampled() else { return };
        let seconds = begun.duration_since(opened.begun).as_secs_f64();
        let attributes = vec![
            KeyValue::new("rookery.close.reason", reason),
            KeyValue::new("rookery.connection.seconds", seconds),
        ];
        opened.span("cleanup", connect.child(), Parent::local(connect), begun, session, attributes);
    }

    fn sampled(&self) -> Option<(&Opened, Context)> {
        let opened = self.0.as_deref()?;
        Some((opened, opened.context?))
    }
}

impl Opened {
    fn span(
        &self,
        name: &'static str,
        context: Context,
        parent: Option<Parent>,
        begun: Instant,
        session: u64,
        mut attributes: Vec<KeyValue>,
    ) {
        let ended = Instant::now();
        let clock = Clock::at(ended);
        attributes.extend(network(self.address, session));
        self.inner.export(Span {
            name,
            kind: SpanKind::Server,
            context,
            parent,
            begun: clock.time(begun),
            ended: clock.time(ended),
            attributes,
            link: None,
            status: Status::Unset,
        });
    }
}
