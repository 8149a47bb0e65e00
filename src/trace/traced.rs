//! Events that are part of a trace, on their way to sessions and to other nodes.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Instant,
};

use opentelemetry::{
    KeyValue,
    trace::{SpanKind, Status},
};

use super::{
    Context, Tracer,
    span::{Clock, Parent, Span},
};
use crate::protocol::{Event, EventId};

/// Which events of a batch are traced: none, most of the time.
#[derive(Debug, Clone, Default)]
pub struct Traced(Option<Arc<HashMap<EventId, Travelling>>>);

/// An event on its way.
#[derive(Debug)]
struct Travelling {
    /// What delivery and publication stand below: the span `message`, or `route` where it came by the bus.
    context: Context,
    /// The span `publish` of the node that it came from.
    origin: Option<Context>,
    /// The span `publish` of this node, which other nodes are told.
    publish: Context,
    since: Instant,
    /// How many sessions of this node were handed it.
    sessions: AtomicUsize,
}

impl Traced {
    /// Events of messages that are sampled.
    pub fn of(events: impl Iterator<Item = (EventId, Context)>) -> Self {
        Self::new(events.map(|(id, context)| (id, Travelling::new(context, None))))
    }

    /// Events that came by the bus, with what their envelopes said.
    pub fn from_others(events: impl Iterator<Item = (EventId, Context)>) -> Self {
        Self::new(events.map(|(id, origin)| (id, Travelling::new(origin.child(), Some(origin)))))
    }

    fn new(events: impl Iterator<Item = (EventId, Travelling)>) -> Self {
        let mut events = events.peekable();
        Self(events.peek().is_some().then_some(()).map(|()| Arc::new(events.collect())))
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// So many sessions of one worker were handed the event.
    pub fn count(&self, id: &EventId, sessions: usize) {
        if let Some(travelling) = self.get(id) {
            travelling.sessions.fetch_add(sessions, Ordering::Relaxed);
        }
    }

    /// What other nodes are told of the event's trace; nothing where there is none.
    pub fn traceparent(&self, id: &EventId) -> String {
        self.get(id).map(|travelling| travelling.publish.traceparent()).unwrap_or_default()
    }

    fn get(&self, id: &EventId) -> Option<&Travelling> {
        self.0.as_ref()?.get(id)
    }
}

impl Travelling {
    fn new(context: Context, origin: Option<Context>) -> Self {
        let (publish, since, sessions) = (context.child(), Instant::now(), AtomicUsize::new(0));
        Self { context, origin, publish, since, sessions }
    }
}

impl Tracer {
    /// All routers have handed these events on, since `begun`: a span `deliver` for each that is traced, and
    /// `route` around it where it came by the bus.
    pub fn routed(&self, traced: &Traced, events: &[Arc<Event>], begun: Instant) {
        if traced.is_empty() {
            return;
        }
        let ended = Instant::now();
        let clock = Clock::at(ended);
        self.each(traced, events, |id, travelling| {
            let sessions = travelling.sessions.load(Ordering::Relaxed) as i64;
            let deliver = Span {
                name: "deliver",
                kind: SpanKind::Internal,
                context: travelling.context.child(),
                parent: Parent::local(travelling.context),
                begun: clock.time(begun),
                ended: clock.time(ended),
                attributes: vec![
                    KeyValue::new("messaging.message.id", id.to_hex()),
                    KeyValue::new("rookery.sessions", sessions),
                ],
                link: None,
                status: Status::Unset,
            };
            let route = travelling.origin.map(|origin| Span {
                name: "route",
                kind: SpanKind::Consumer,
                context: travelling.context,
                parent: Parent::remote(origin),
                begun: clock.time(travelling.since),
                ended: clock.time(ended),
                attributes: messaging("route", "process", id),
                link: None,
                status: Status::Unset,
            });
            [Some(deliver), route]
        });
    }

    /// The bus has these events, which it was given at `begun`: a span `publish` for each that is traced.
    pub fn published(&self, traced: &Traced, events: &[Arc<Event>], begun: Instant) {
        if traced.is_empty() {
            return;
        }
        let ended = Instant::now();
        let clock = Clock::at(ended);
        self.each(traced, events, |id, travelling| {
            let publish = Span {
                name: "publish",
                kind: SpanKind::Producer,
                context: travelling.publish,
                parent: Parent::local(travelling.context),
                begun: clock.time(begun),
                ended: clock.time(ended),
                attributes: messaging("publish", "send", id),
                link: None,
                status: Status::Unset,
            };
            [Some(publish), None]
        });
    }

    fn each(
        &self,
        traced: &Traced,
        events: &[Arc<Event>],
        spans: impl Fn(EventId, &Travelling) -> [Option<Span>; 2],
    ) {
        let Some(inner) = &self.0 else { return };
        for event in events {
            let travelling = traced.get(&event.id()).map(|travelling| spans(event.id(), travelling));
            travelling.into_iter().flatten().flatten().for_each(|span| inner.export(span));
        }
    }
}

fn messaging(name: &'static str, operation: &'static str, id: EventId) -> Vec<KeyValue> {
    vec![
        KeyValue::new("messaging.system", "redis"),
        KeyValue::new("messaging.operation.name", name),
        KeyValue::new("messaging.operation.type", operation),
        KeyValue::new("messaging.message.id", id.to_hex()),
    ]
}
