//! A span that has ended, on its way to the exporter.

use std::{
    net::IpAddr,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    InstrumentationScope, KeyValue,
    trace::{Link, SpanId, SpanKind, Status},
};
use opentelemetry_sdk::trace::{SpanData, SpanEvents, SpanLinks};

use super::Context;

pub(super) struct Span {
    pub name: &'static str,
    pub kind: SpanKind,
    pub context: Context,
    pub parent: Option<Parent>,
    pub begun: SystemTime,
    pub ended: SystemTime,
    pub attributes: Vec<KeyValue>,
    pub link: Option<Context>,
    pub status: Status,
}

#[derive(Clone, Copy)]
pub(super) struct Parent {
    pub span: SpanId,
    /// Whether the parent span is in another process.
    pub remote: bool,
}

/// Turns moments into times of day: one look at both clocks for all spans that are made together.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    wall: SystemTime,
    now: Instant,
}

impl Clock {
    pub fn at(now: Instant) -> Self {
        let since = now.elapsed();
        let wall = SystemTime::now();
        Self { wall: wall.checked_sub(since).unwrap_or(wall), now }
    }

    pub fn time(self, moment: Instant) -> SystemTime {
        let before = self.now.saturating_duration_since(moment);
        self.wall.checked_sub(before).unwrap_or(self.wall)
    }
}

impl Parent {
    pub fn local(context: Context) -> Option<Self> {
        Some(Self { span: context.span, remote: false })
    }

    pub fn remote(context: Context) -> Option<Self> {
        Some(Self { span: context.span, remote: true })
    }
}

impl Span {
    pub fn into_data(self, instrumentation_scope: InstrumentationScope) -> SpanData {
        let mut links = SpanLinks::default();
        links.links.extend(self.link.map(|context| Link::new(context.span_context(false), Vec::new(), 0)));
        SpanData {
            span_context: self.context.span_context(false),
            parent_span_id: self.parent.map_or(SpanId::INVALID, |parent| parent.span),
            parent_span_is_remote: self.parent.is_some_and(|parent| parent.remote),
            span_kind: self.kind,
            name: self.name.into(),
            start_time: self.begun,
            end_time: self.ended,
            attributes: self.attributes,
            dropped_attributes_count: 0,
            events: SpanEvents::default(),
            links,
            status: self.status,
            instrumentation_scope,
        }
    }
}

/// The attributes that name the relay at the other end.
pub(super) fn upstream(name: &str) -> [KeyValue; 3] {
    [
        KeyValue::new("network.transport", "tcp"),
        KeyValue::new("network.protocol.name", "websocket"),
        KeyValue::new("rookery.upstream", name.to_owned()),
    ]
}

/// The attributes that name the client at the other end.
pub(super) fn network(address: IpAddr, session: u64) -> [KeyValue; 4] {
    [
        KeyValue::new("network.transport", "tcp"),
        KeyValue::new("network.protocol.name", "websocket"),
        KeyValue::new("client.address", address.to_string()),
        KeyValue::new("rookery.session.id", session as i64),
    ]
}
