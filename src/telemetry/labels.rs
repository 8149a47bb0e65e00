//! The labels of metrics. Each has a closed set of values, so that there are never more series than
//! the code knows of, and each has its series from the start.

use std::{fmt, hash::Hash, marker::PhantomData, sync::Arc};

use prometheus_client::{
    encoding::{EncodeMetric, MetricEncoder},
    metrics::{MetricType, TypedMetric, counter::Counter, gauge::Gauge, histogram::Histogram},
};

use crate::protocol::Prefix;

/// A label with all its values.
pub trait Label: Copy + Eq + Hash + fmt::Debug + Send + Sync + 'static {
    const NAME: &'static str;
    /// Each value, and what it means.
    const VALUES: &'static [(&'static str, &'static str)];
    /// Each value as a variant, in the order of [`Label::VALUES`].
    const ALL: &'static [Self];

    /// Place in [`Label::VALUES`].
    fn index(self) -> usize;

    fn name(self) -> &'static str {
        Self::VALUES[self.index()].0
    }
}

macro_rules! labels {
    ($($(#[doc = $about:literal])* $label:ident = $name:literal {
        $($value:ident = $text:literal: $meaning:literal,)*
    })*) => {$(
        $(#[doc = $about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum $label {
            $(#[doc = $meaning] $value),*
        }

        impl Label for $label {
            const NAME: &'static str = $name;
            const VALUES: &'static [(&'static str, &'static str)] = &[$(($text, $meaning)),*];
            const ALL: &'static [Self] = &[$(Self::$value),*];

            fn index(self) -> usize {
                self as usize
            }
        }
    )*};
}

labels! {
    /// A client's verb.
    Verb = "verb" {
        Event = "event": "EVENT",
        Req = "req": "REQ",
        Close = "close": "CLOSE",
        Count = "count": "COUNT",
        Auth = "auth": "AUTH",
        Negentropy = "negentropy": "NEG-OPEN, NEG-MSG, NEG-CLOSE",
        Malformed = "malformed": "not understood, or too long",
    }

    /// What became of an EVENT: an outcome of the store, or why it was refused.
    EventResult = "result" {
        Stored = "stored": "accepted and stored",
        Ephemeral = "ephemeral": "accepted and routed, not to be stored",
        Duplicate = "duplicate": "accepted, stored before",
        Superseded = "superseded": "refused: a newer version is known",
        Deleted = "deleted": "refused: its author has deleted it, or has asked to vanish",
        Invalid = "invalid": "refused: malformed, forged, expired or too far ahead",
        Pow = "pow": "refused: too little proof of work",
        RateLimited = "rate_limited": "refused: over the rate",
        AuthRequired = "auth_required": "refused: the client must authenticate",
        Refused = "refused": "refused for another reason: it is protected, or not for this client to publish",
        Overloaded = "overloaded": "failed: it would not be stored in time",
        Error = "error": "failed: the store failed or was late, or the relay shuts down",
    }

    /// Why a connection ended.
    CloseReason = "reason" {
        Client = "client": "the client closed it, or went away",
        Idle = "idle": "it was silent for too long",
        Protocol = "protocol": "it broke the WebSocket protocol, or a bound of it",
        Shutdown = "shutdown": "the node shut down",
        SignedOut = "signed_out": "its account signed out, or was",
    }

    /// What came of an attempt to sign in.
    SignInResult = "result" {
        SignedIn = "signed_in": "name and password match",
        Wrong = "wrong": "they do not, or nobody is called so",
        Slow = "slow": "too many were wrong before",
        Busy = "busy": "too many passwords wait to be hashed",
        Refused = "refused": "the account is switched off, or it is no password",
        Failed = "failed": "the store does not answer, or the master key is another one",
    }

    /// Why a subscription was refused or ended by the relay.
    ClosedReason = "reason" {
        Invalid = "invalid": "malformed, or over a bound of filters",
        RateLimited = "rate_limited": "over the rate, or too many subscriptions",
        AuthRequired = "auth_required": "the client must authenticate",
        Restricted = "restricted": "it asks for what does not concern the client",
        Error = "error": "the store failed or is overloaded, events of other nodes may have been missed, or the relay shuts down",
    }

    /// Why a reconciliation was refused or ended by the relay.
    NegErrReason = "reason" {
        Invalid = "invalid": "malformed, or a message too soon",
        RateLimited = "rate_limited": "over the rate, or too many of them",
        AuthRequired = "auth_required": "the client must authenticate",
        Restricted = "restricted": "it asks for what does not concern the client",
        TooMany = "too_many": "it asks for more events than one may have",
        Closed = "closed": "the client was silent for too long, or there was none",
        Error = "error": "the store failed or the room of all is full, the relay shuts down, or none is served",
    }

    /// A stretch of the way of a message.
    Stage = "stage" {
        Parse = "parse": "a message of a client: from text to types",
        Admit = "admit": "an event: policy, id and signature",
        Wait = "wait": "an event to be stored: from admission until its batch is begun",
        Store = "store": "a batch: its write, sync or acknowledgement included",
        Answer = "answer": "an event to be stored: from admission until its OK",
        Route = "route": "a part of a batch: until the routers of all workers have taken it",
        Deliver = "deliver": "what a batch has for a session: from the router until it is in the outbox",
        Publish = "publish": "batches for other nodes: until Redis has taken them",
        Subscribe = "subscribe": "a REQ: until the router holds it, and Redis has acknowledged its keys",
        Query = "query": "a page of stored events: its reading, waiting for a turn included",
        Count = "count": "a COUNT: its reading, waiting for a turn included",
        Keys = "keys": "a page of keys for NEG-OPEN: its reading, waiting for a turn included",
        Reconcile = "reconcile": "a message of a reconciliation: until its answer is found, waiting for a thread included",
        Eose = "eose": "a REQ: until all its stored events are in the outbox",
    }

    /// A bounded queue, window or budget.
    BoundedQueue = "queue" {
        Persister = "persister": "events on their way into the store, by number or bytes: persister.queue, persister.queue_bytes; full also where they would wait for too long",
        Dispatch = "dispatch": "stored batches that wait to be routed",
        Router = "router": "messages for the routers of the workers; the ratio is of all workers together",
        SessionWindow = "session_window": "events and subscriptions that wait for an answer, of all connections: session.window",
        SessionLag = "session_lag": "live events that wait for a client, by bytes: session.max_lag_bytes; the ratio is of the client furthest behind in the last batch of any worker",
        Sync = "sync": "events of open reconciliations, of all connections: sync.max_events_of_all",
        Aggregator = "aggregator": "events of other relays that wait to be stored, by bytes: aggregator.queue_bytes",
        Query = "query": "questions to the store: lmdb.max_waiting_queries, scylla.max_queries; full also counts those that waited for too long: question_wait_ms",
        Statement = "statement": "CQL statements in flight: scylla.concurrency",
        BusSubscribe = "bus_subscribe": "subscriptions that wait to be sent to Redis: bus.subscribe_queue",
        BusPublish = "bus_publish": "batches that wait to be published: bus.publish_queue",
        BusReceive = "bus_receive": "messages of other nodes that wait to be handled: bus.receive_queue",
    }

    /// What came of an attempt to read a relay.
    ConnectResult = "result" {
        Subscribed = "subscribed": "it is read: every subscription was answered",
        Unreachable = "unreachable": "nobody answered there, or not as a relay should",
        Forbidden = "forbidden": "its address is not public, or it is this relay itself or a node of its cluster",
        Refused = "refused": "it refused a subscription or a key, or wants a key and there is none",
        Lost = "lost": "it was silent for too long, or the connection was lost before it was read",
    }

    /// A message of a relay that is read.
    UpstreamMessage = "type" {
        Event = "event": "EVENT",
        Eose = "eose": "EOSE",
        Closed = "closed": "CLOSED",
        Ok = "ok": "OK",
        Auth = "auth": "AUTH",
        Notice = "notice": "NOTICE",
        Count = "count": "COUNT",
        Negentropy = "negentropy": "NEG-MSG, NEG-ERR",
        Unknown = "unknown": "not understood",
    }

    /// How the end of a session with a relay that was read went.
    CleanupResult = "result" {
        Told = "told": "the relay was told (CLOSE), and the cursor is written",
        Lost = "lost": "the connection was lost, and the cursor is written",
        Unwritten = "unwritten": "the cursor could not be written: what it lacks is read again",
    }

    /// What is kept to save work.
    Cache = "cache" {
        RecentIds = "recent_ids": "ids stored lately, which need no verification: persister.recent_ids",
    }
}

impl From<Prefix> for EventResult {
    fn from(prefix: Prefix) -> Self {
        match prefix {
            Prefix::Duplicate => Self::Duplicate,
            Prefix::Pow => Self::Pow,
            Prefix::RateLimited => Self::RateLimited,
            Prefix::Invalid => Self::Invalid,
            Prefix::AuthRequired => Self::AuthRequired,
            Prefix::Error => Self::Error,
            Prefix::Blocked | Prefix::Restricted | Prefix::Unsupported | Prefix::Closed => Self::Refused,
        }
    }
}

impl From<Prefix> for ClosedReason {
    fn from(prefix: Prefix) -> Self {
        match prefix {
            Prefix::RateLimited => Self::RateLimited,
            Prefix::AuthRequired => Self::AuthRequired,
            Prefix::Blocked | Prefix::Restricted => Self::Restricted,
            Prefix::Error => Self::Error,
            Prefix::Invalid | Prefix::Unsupported | Prefix::Closed | Prefix::Duplicate | Prefix::Pow => {
                Self::Invalid
            }
        }
    }
}

impl From<Prefix> for NegErrReason {
    fn from(prefix: Prefix) -> Self {
        match prefix {
            Prefix::RateLimited => Self::RateLimited,
            Prefix::AuthRequired => Self::AuthRequired,
            Prefix::Restricted => Self::Restricted,
            Prefix::Blocked => Self::TooMany,
            Prefix::Closed => Self::Closed,
            Prefix::Error => Self::Error,
            Prefix::Invalid | Prefix::Unsupported | Prefix::Duplicate | Prefix::Pow => Self::Invalid,
        }
    }
}

/// A metric for each value of a label.
#[derive(Debug, Clone)]
pub struct By<L, M> {
    metrics: Arc<[M]>,
    label: PhantomData<L>,
}

impl<L: Label, M> By<L, M> {
    pub fn new(make: impl FnMut() -> M) -> Self {
        let metrics = std::iter::repeat_with(make).take(L::VALUES.len()).collect();
        Self { metrics, label: PhantomData }
    }

    pub fn of(&self, label: L) -> &M {
        &self.metrics[label.index()]
    }
}

impl<L: Label, M: Default> Default for By<L, M> {
    fn default() -> Self {
        Self::new(M::default)
    }
}

impl<L, M: TypedMetric> TypedMetric for By<L, M> {
    const TYPE: MetricType = M::TYPE;
}

impl<L: Label, M: EncodeMetric + TypedMetric> EncodeMetric for By<L, M> {
    fn encode(&self, mut encoder: MetricEncoder) -> fmt::Result {
        for ((value, _), metric) in L::VALUES.iter().zip(&*self.metrics) {
            metric.encode(encoder.encode_family(&[(L::NAME, *value)])?)?;
        }
        Ok(())
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

/// A label, and its values with their meaning.
pub(super) type LabelValues = (&'static str, &'static [(&'static str, &'static str)]);

/// The label that a type of metric has.
pub(super) trait Labelled: TypedMetric {
    const LABEL: Option<LabelValues> = None;
    /// The label that such a metric has besides, whose values are explained elsewhere.
    const ALSO: Option<&'static str> = None;
}

impl Labelled for Counter {}

impl<N, A> Labelled for Gauge<N, A> {}

impl Labelled for Histogram {}

impl<L: Label, M: TypedMetric> Labelled for By<L, M> {
    const LABEL: Option<LabelValues> = Some((L::NAME, L::VALUES));
}
