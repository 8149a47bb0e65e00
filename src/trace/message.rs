//! The way of one message through its node: what is noted on it, and what becomes of that in the end.

use std::{borrow::Cow, fmt::Display, sync::Arc, time::Instant};

use opentelemetry::{
    KeyValue,
    trace::{SpanKind, Status, TraceId},
};
use smallvec::SmallVec;

use super::{
    Client, ConnectionTrace, Context, Inner,
    context::Remote,
    span::{Clock, Parent, Span, network, upstream},
};
use crate::protocol::{EventId, Reason, reason::Prefix};

/// Goes with a message from one part of the node to the next. Empty where traces are off.
///
/// What is dropped has ended: then its spans are made, if it was sampled, was slow, or failed.
#[derive(Default)]
pub struct Trace(Option<Box<Message>>);

/// What a message is about.
#[derive(Debug, Clone, Copy)]
pub enum Subject {
    Event { id: EventId, kind: u16, bytes: usize },
    Req { filters: usize, bytes: usize },
}

/// Who sent a message, and what it is part of.
pub(super) enum Origin {
    Client {
        client: Client,
        /// What the client said of a trace.
        remote: Option<Remote>,
        /// The span of its connection.
        connection: Option<Context>,
    },
    /// Somebody with an account, by REST.
    Account,
    Upstream {
        /// Its URL, without what may be a secret.
        name: Arc<str>,
        /// The span of the message's receipt, where it is sampled.
        message: Option<Context>,
    },
}

/// The write of a batch.
#[derive(Clone, Copy)]
pub struct Write {
    pub begun: Instant,
    pub ended: Instant,
    pub events: usize,
}

/// Why a message has spans.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Why {
    Sampled,
    Asked,
    Slow,
    Failed,
}

pub(super) struct Message {
    inner: Arc<Inner>,
    subject: Subject,
    origin: Origin,
    why: Why,
    /// The span of the whole, where it is sampled.
    context: Option<Context>,
    begun: Instant,
    /// When the last stage ended.
    mark: Instant,
    stages: SmallVec<[Stage; 4]>,
    /// The span `persist`, which is needed before it ends.
    persist: Option<Context>,
    batch: Option<Context>,
    failure: Option<Cow<'static, str>>,
    refusal: Option<String>,
}

struct Stage {
    name: &'static str,
    begun: Instant,
    ended: Instant,
    attributes: Vec<KeyValue>,
}

/// Spans that one message may have for its stages; more pages of a REQ count as part of the last one.
const MAX_STAGES: usize = 32;

impl Subject {
    pub(super) fn attributes(self) -> impl Iterator<Item = KeyValue> {
        let (verb, bytes, id, about) = match self {
            Self::Event { id, kind, bytes } => {
                let id = KeyValue::new("messaging.message.id", id.to_hex());
                ("EVENT", bytes, Some(id), KeyValue::new("nostr.event.kind", i64::from(kind)))
            }
            Self::Req { filters, bytes } => {
                ("REQ", bytes, None, KeyValue::new("nostr.filters", filters as i64))
            }
        };
        let all = [
            Some(KeyValue::new("messaging.system", "nostr")),
            id,
            Some(about),
            Some(KeyValue::new("messaging.operation.name", verb)),
            Some(KeyValue::new("messaging.message.body.size", bytes as i64)),
        ];
        all.into_iter().flatten()
    }
}

impl Origin {
    pub fn of(connection: &ConnectionTrace, client: Client) -> Self {
        Self::Client { client, remote: connection.remote(), connection: connection.context() }
    }

    /// What the message's span stands below.
    fn parent(&self) -> Option<Context> {
        match self {
            Self::Client { remote, .. } => remote.map(|remote| remote.context),
            Self::Account => None,
            Self::Upstream { message, .. } => *message,
        }
    }
}

impl Why {
    pub fn attribute(self) -> KeyValue {
        let why = match self {
            Self::Sampled => "sampled",
            Self::Asked => "asked",
            Self::Slow => "slow",
            Self::Failed => "failed",
        };
        KeyValue::new("rookery.trace.reason", why)
    }
}

impl Message {
    pub(super) fn new(
        inner: &Arc<Inner>,
        begun: Instant,
        context: Option<Context>,
        why: Why,
        origin: Origin,
        subject: Subject,
    ) -> Self {
        Self {
            inner: Arc::clone(inner),
            subject,
            origin,
            why,
            context,
            begun,
            // The message was parsed since `begun`, which is no stage of its own.
            mark: Instant::now(),
            stages: SmallVec::new(),
            persist: None,
            batch: None,
            failure: None,
            refusal: None,
        }
    }

    /// Gives the message spans though it was not sampled, unless too many messages were given some of late.
    fn take_up(&mut self, why: Why) {
        if self.context.is_none() && self.inner.extra.take() {
            self.context = Some(self.origin.parent().map_or_else(Context::root, Context::child));
            self.why = why;
        }
    }

    fn stage(&mut self, name: &'static str, ended: Instant, attributes: Vec<KeyValue>) {
        let begun = std::mem::replace(&mut self.mark, ended);
        let full = self.stages.len() >= MAX_STAGES;
        match self.stages.last_mut().filter(|last| full && last.name == name) {
            // Its attributes stay those of the first page that it stands for.
            Some(last) => last.ended = ended,
            _ => self.stages.push(Stage { name, begun, ended, attributes }),
        }
    }
}

impl Trace {
    pub(super) fn new(message: Message) -> Self {
        Self(Some(Box::new(message)))
    }

    /// Takes the trace, and leaves an empty one in its place.
    pub fn take(&mut self) -> Self {
        std::mem::take(self)
    }

    /// The span of the whole message, where it is sampled.
    pub fn context(&self) -> Option<Context> {
        self.0.as_ref()?.context
    }

    /// A stage that began when the last one ended, or the message came.
    pub fn lap(&mut self, stage: &'static str) {
        if let Some(message) = &mut self.0 {
            message.stage(stage, Instant::now(), Vec::new());
        }
    }

    /// A page was read for the message: so many rows returned, of so many that its plan read.
    pub fn page(&mut self, returned: usize, read: usize, plan: impl Display) {
        let Some(message) = &mut self.0 else { return };
        let attributes = vec![
            KeyValue::new("db.system.name", message.inner.store),
            KeyValue::new("db.operation.name", "query"),
            KeyValue::new("db.response.returned_rows", returned as i64),
            KeyValue::new("rookery.rows_read", read as i64),
            KeyValue::new("rookery.plan", plan.to_string()),
        ];
        message.stage("query", Instant::now(), attributes);
    }

    /// The span `persist`, which is yet to end, for what is to stand below it.
    pub(super) fn persisting(&mut self) -> Option<Context> {
        let message = self.0.as_mut()?;
        let context = message.context?;
        Some(*message.persist.get_or_insert_with(|| context.child()))
    }

    /// The message's event is stored with a batch that has a span.
    pub(super) fn in_batch(&mut self, batch: Context) {
        if let Some(message) = &mut self.0 {
            message.batch = Some(batch);
        }
    }

    /// The batch with the message's event was written; from the last stage on, the event had waited for that.
    pub fn written(&mut self, write: Write) {
        let Some(message) = &mut self.0 else { return };
        message.stage("persist", write.ended, Vec::new());
        // Where the batch is part of this trace, it tells more.
        let in_trace =
            message.batch.is_some_and(|batch| Some(batch.trace) == message.context.map(|c| c.trace));
        if !in_trace {
            message.mark = write.begun;
            let attributes = vec![
                KeyValue::new("db.system.name", message.inner.store),
                KeyValue::new("db.operation.name", "write"),
                KeyValue::new("db.operation.batch.size", write.events as i64),
            ];
            message.stage("store", write.ended, attributes);
        }
    }

    /// The message is refused. That alone gives it spans only where the fault is the relay's.
    pub fn refuse(&mut self, reason: &Reason) {
        match reason.prefix {
            Prefix::Error => {
                self.fail(reason.to_string());
            }
            _ => self.refused(reason),
        }
    }

    /// The message is refused, by no fault of the relay.
    pub fn refused(&mut self, why: impl Display) {
        if let Some(message) = self.0.as_mut().filter(|message| message.context.is_some()) {
            message.refusal = Some(why.to_string());
        }
    }

    /// The message failed, by the relay's fault. Returns the trace in which that can be seen, for the log.
    pub fn fail(&mut self, why: impl Into<Cow<'static, str>>) -> Option<TraceId> {
        let message = self.0.as_mut()?;
        if message.failure.is_none() {
            message.failure = Some(why.into());
            message.take_up(Why::Failed);
        }
        message.context.map(|context| context.trace)
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        let ended = Instant::now();
        if ended.duration_since(self.begun) >= self.inner.slow {
            self.take_up(Why::Slow);
        }
        let Some(root) = self.context else { return };
        let clock = Clock::at(ended);
        let persist = self.persist.unwrap_or_else(|| root.child());
        for stage in std::mem::take(&mut self.stages) {
            let (context, parent) = match stage.name {
                "persist" => (persist, root),
                "store" => (root.child(), persist),
                _ => (root.child(), root),
            };
            self.inner.export(Span {
                name: stage.name,
                kind: if matches!(stage.name, "store" | "query") {
                    SpanKind::Client
                } else {
                    SpanKind::Internal
                },
                context,
                parent: Parent::local(parent),
                begun: clock.time(stage.begun),
                ended: clock.time(stage.ended),
                attributes: stage.attributes,
                link: self.batch.filter(|_| stage.name == "persist"),
                status: Status::Unset,
            });
        }
        let attributes = self.attributes();
        let status = self.failure.take().map_or(Status::Unset, Status::error);
        let (name, kind, link) = match self.origin {
            Origin::Client { connection, .. } => ("message", SpanKind::Server, connection),
            Origin::Account => ("message", SpanKind::Server, None),
            Origin::Upstream { .. } => ("consume", SpanKind::Consumer, None),
        };
        self.inner.export(Span {
            name,
            kind,
            context: root,
            parent: self.origin.parent().and_then(Parent::remote),
            begun: clock.time(self.begun),
            ended: clock.time(ended),
            attributes,
            link,
            status,
        });
    }
}

impl Message {
    fn attributes(&mut self) -> Vec<KeyValue> {
        let mut attributes = Vec::with_capacity(12);
        match &self.origin {
            Origin::Client { client, .. } => attributes.extend(network(client.address, client.session)),
            // Whose it is says the event, and of where they are nothing is kept.
            Origin::Account => {}
            Origin::Upstream { name, .. } => attributes.extend(upstream(name)),
        }
        attributes.extend(self.subject.attributes());
        attributes.push(self.why.attribute());
        attributes.extend(self.refusal.take().map(|refusal| KeyValue::new("rookery.refusal", refusal)));
        if self.failure.is_some() {
            attributes.push(KeyValue::new("error.type", "error"));
        }
        attributes
    }
}
