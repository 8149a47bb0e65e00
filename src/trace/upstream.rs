//! Relays that are read: the spans of a session with one, and of an event of it up to the other end of the queue.
//! From there on it is a [`Trace`] like a client's.

use std::{
    borrow::Cow,
    sync::Arc,
    time::{Instant, SystemTime},
};

use opentelemetry::{
    KeyValue,
    trace::{SpanKind, Status},
};

use super::{
    Context, Inner, Subject, Trace, Tracer,
    message::{Message, Origin, Why},
    span::{Clock, Parent, Span, upstream},
};

/// What is kept of a session with an upstream for its traces. Empty where traces are off.
#[derive(Default)]
pub struct UpstreamTrace(Option<Box<Opened>>);

struct Opened {
    inner: Arc<Inner>,
    name: Arc<str>,
    begun: Instant,
    /// The span `connect`, where it is sampled.
    context: Option<Context>,
}

/// An event of an upstream, from its receipt until the queue has it: the span `message`. Empty where it is not sampled.
#[must_use = "what is dropped has ended"]
pub struct Arrival(Option<Box<Arrived>>);

struct Arrived {
    inner: Arc<Inner>,
    name: Arc<str>,
    begun: Instant,
    context: Context,
    connect: Option<Context>,
    subject: Option<Subject>,
    refusal: Option<&'static str>,
    failure: Option<&'static str>,
}

/// What goes through the queue with an event that is traced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queued {
    /// The span `message`. Between processes it is written as [`Context::traceparent`].
    pub context: Context,
    /// Since when it waits, by the clocks of days, as these are two processes' perhaps; `None` once it was taken.
    pub since: Option<SystemTime>,
}

impl Tracer {
    /// A session with an upstream of this name begins.
    pub fn upstream(&self, name: &Arc<str>) -> UpstreamTrace {
        let Some(inner) = &self.0 else { return UpstreamTrace::default() };
        let (inner, name, context) = (Arc::clone(inner), Arc::clone(name), inner.by_chance());
        UpstreamTrace(Some(Box::new(Opened { inner, name, begun: Instant::now(), context })))
    }

    /// An event of an upstream is published, which has come through a queue: the span `queue` ends, `consume` begins.
    pub fn consume(
        &self,
        queued: Option<&mut Queued>,
        name: impl FnOnce() -> Option<Arc<str>>,
        subject: Subject,
    ) -> Trace {
        let Some(inner) = &self.0 else { return Trace::default() };
        let (begun, name) = (Instant::now(), name().unwrap_or_default());
        let message = queued.as_ref().map(|queued| queued.context);
        if let Some(Queued { context, since }) = queued
            && let Some(since) = since.take()
        {
            let now = Clock::at(begun).time(begun);
            let attributes = upstream(&name).into_iter().chain(subject.attributes()).collect();
            inner.export(Span {
                name: "queue",
                kind: SpanKind::Internal,
                context: context.child(),
                parent: Parent::remote(*context),
                begun: since.min(now),
                ended: now,
                attributes,
                link: None,
                status: Status::Unset,
            });
        }
        let (context, origin) = (message.map(Context::child), Origin::Upstream { name, message });
        Trace::new(Message::new(inner, begun, context, Why::Sampled, origin, subject))
    }
}

impl UpstreamTrace {
    /// The upstream sends what it is asked for: the span `connect` ends.
    pub fn connected(&self) {
        if let Some(opened) = &self.0
            && let Some(context) = opened.context
        {
            opened.connect(context, Why::Sampled, Status::Unset);
        }
    }

    /// It does not: the span `connect` ends, also where it was not sampled.
    pub fn failed(&self, why: impl ToString) {
        let Some(opened) = &self.0 else { return };
        let taken_up = || opened.inner.extra.take().then(|| (Context::root(), Why::Failed));
        let sampled = opened.context.map(|context| (context, Why::Sampled));
        if let Some((context, reason)) = sampled.or_else(taken_up) {
            opened.connect(context, reason, Status::error(why.to_string()));
        }
    }

    /// The session has ended, and its reader has let go of it since `begun`: the span `cleanup`.
    pub fn cleaned_up(&self, begun: Instant, result: &'static str, why: impl ToString, in_flight: usize) {
        let Some(opened) = &self.0 else { return };
        let Some(connect) = opened.context else { return };
        let attributes = [
            KeyValue::new("rookery.cleanup.result", result),
            KeyValue::new("rookery.close.reason", why.to_string()),
            KeyValue::new("rookery.events.in_flight", in_flight as i64),
            KeyValue::new("rookery.connection.seconds", begun.duration_since(opened.begun).as_secs_f64()),
        ];
        let parent = Parent::local(connect);
        opened.span("cleanup", connect.child(), parent, begun, &attributes, Status::Unset);
    }

    /// An event has come.
    pub fn arrival(&self) -> Arrival {
        Arrival(self.0.as_ref().and_then(|opened| {
            let context = opened.inner.by_chance()?;
            Some(Box::new(Arrived {
                inner: Arc::clone(&opened.inner),
                name: Arc::clone(&opened.name),
                begun: Instant::now(),
                context,
                connect: opened.context,
                subject: None,
                refusal: None,
                failure: None,
            }))
        }))
    }
}

impl Opened {
    fn connect(&self, context: Context, why: Why, status: Status) {
        self.span("connect", context, None, self.begun, &[why.attribute()], status);
    }

    fn span(
        &self,
        name: &'static str,
        context: Context,
        parent: Option<Parent>,
        begun: Instant,
        about: &[KeyValue],
        status: Status,
    ) {
        let ended = Instant::now();
        let clock = Clock::at(ended);
        self.inner.export(Span {
            name,
            kind: SpanKind::Client,
            context,
            parent,
            begun: clock.time(begun),
            ended: clock.time(ended),
            attributes: upstream(&self.name).iter().chain(about).cloned().collect(),
            link: None,
            status,
        });
    }
}

impl Arrival {
    /// It is about to be queued; what goes with it.
    pub fn queue(&mut self, subject: impl FnOnce() -> Subject) -> Option<Box<Queued>> {
        let arrived = self.0.as_mut()?;
        arrived.subject = Some(subject());
        Some(Box::new(Queued { context: arrived.context, since: Some(SystemTime::now()) }))
    }

    /// It is not worth being queued.
    pub fn refuse(mut self, why: &'static str) {
        if let Some(arrived) = &mut self.0 {
            arrived.refusal = Some(why);
        }
    }

    /// It can not be queued.
    pub fn fail(mut self, why: &'static str) {
        if let Some(arrived) = &mut self.0 {
            arrived.failure = Some(why);
        }
    }
}

impl Drop for Arrived {
    fn drop(&mut self) {
        let ended = Instant::now();
        let clock = Clock::at(ended);
        let mut attributes: Vec<KeyValue> = upstream(&self.name).into();
        attributes.extend(self.subject.into_iter().flat_map(Subject::attributes));
        attributes.push(Why::Sampled.attribute());
        attributes.extend(self.refusal.map(|why| KeyValue::new("rookery.refusal", why)));
        let failure = self.failure.map(Cow::from);
        attributes.extend(failure.as_ref().map(|_| KeyValue::new("error.type", "error")));
        self.inner.export(Span {
            name: "message",
            kind: SpanKind::Client,
            context: self.context,
            parent: None,
            begun: clock.time(self.begun),
            ended: clock.time(ended),
            attributes,
            link: self.connect,
            status: failure.map_or(Status::Unset, Status::error),
        });
    }
}
