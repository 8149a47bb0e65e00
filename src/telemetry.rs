//! Logs and metrics: how they are set up, and every metric's name.

use std::io::IsTerminal;

use prometheus_client::{
    encoding::{EncodeLabelSet, EncodeLabelValue, text::encode},
    metrics::{
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};
use tracing_subscriber::EnvFilter;

use crate::protocol::Prefix;

/// Sets up logging to standard error: readable on a terminal, JSON otherwise. `RUST_LOG` wins over
/// `filter`.
///
/// # Errors
/// When `filter` is not understood.
pub fn init_logs(filter: &str) -> anyhow::Result<()> {
    let filter = match EnvFilter::try_from_default_env() {
        Ok(from_env) if std::env::var_os("RUST_LOG").is_some_and(|value| !value.is_empty()) => from_env,
        _ => EnvFilter::try_new(filter)?,
    };
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    if std::io::stderr().is_terminal() {
        builder.init();
    } else {
        builder.json().flatten_event(true).init();
    }
    Ok(())
}

/// A client's verb, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum Verb {
    Event,
    Req,
    Close,
    Count,
    Auth,
    Malformed,
}

/// What became of an EVENT, as a label: an outcome of the store, or the prefix of a refusal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum EventResult {
    Stored,
    Ephemeral,
    Duplicate,
    Superseded,
    Deleted,
    Refused,
    Invalid,
    Pow,
    RateLimited,
    AuthRequired,
    Error,
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
            Prefix::Blocked | Prefix::Restricted | Prefix::Unsupported => Self::Refused,
        }
    }
}

/// Why a connection ended, as a label.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelValue)]
pub enum CloseReason {
    /// The client closed it, or went away.
    Client,
    /// It was silent for too long.
    Idle,
    /// It broke the WebSocket protocol, or a bound of it.
    Protocol,
    /// The node shut down.
    Shutdown,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct VerbLabel {
    pub verb: Verb,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ResultLabel {
    pub result: EventResult,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CloseLabel {
    pub reason: CloseReason,
}

macro_rules! metrics {
    ($($name:literal, $help:literal, $unit:expr, $field:ident: $type:ty = $init:expr;)*) => {
        /// Every metric of the node. Counting is lock-free.
        pub struct Metrics {
            registry: Registry,
            $(#[doc = $help] pub $field: $type),*
        }

        impl Metrics {
            pub fn new(node_id: &str) -> Self {
                let mut registry = Registry::with_prefix("rookery");
                let build = Info::new(vec![("version", env!("CARGO_PKG_VERSION").to_owned()), ("node", node_id.to_owned())]);
                registry.register("build", "Version and name of the node", build);
                $(let $field: $type = $init;
                match $unit {
                    Some(unit) => registry.register_with_unit($name, $help, unit, $field.clone()),
                    None => registry.register($name, $help, $field.clone()),
                })*
                Self { registry, $($field),* }
            }
        }
    };
}

const NO_UNIT: Option<Unit> = None;

/// From 100 µs to about 13 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.0001, 2.0, 18))
}

/// From 1 to 16,384.
fn sizes() -> Histogram {
    Histogram::new(exponential_buckets(1.0, 2.0, 15))
}

metrics! {
    "connections", "Open WebSocket connections", NO_UNIT, connections: Gauge = Gauge::default();
    "connections_opened", "WebSocket connections opened", NO_UNIT, opened: Counter = Counter::default();
    "connections_refused", "Connections refused with 503 or 429: too many of the node or the address", NO_UNIT,
        refused: Counter = Counter::default();
    "connections_closed", "WebSocket connections closed, by reason", NO_UNIT,
        closed: Family<CloseLabel, Counter> = Family::default();
    "evictions", "Sessions ended because their client did not read", NO_UNIT, evictions: Counter = Counter::default();
    "messages", "Messages of clients, by verb", NO_UNIT, messages: Family<VerbLabel, Counter> = Family::default();
    "events", "Events answered with OK, by result", NO_UNIT, events: Family<ResultLabel, Counter> = Family::default();
    "subscriptions", "Live subscriptions", NO_UNIT, subscriptions: Gauge = Gauge::default();
    "deliveries", "Live events handed to sessions", NO_UNIT, deliveries: Counter = Counter::default();
    "events_sent", "Stored events sent for a REQ", NO_UNIT, sent: Counter = Counter::default();
    "persister_waiting_events", "Events that wait to be stored", NO_UNIT, waiting: Gauge = Gauge::default();
    "persister_batch_events", "Events in a batch", NO_UNIT, batch: Histogram = sizes();
    "persister_batch", "Duration of the write of a batch, sync included", Some(Unit::Seconds), write: Histogram = seconds();
    "store_query", "Duration of the reading of a page, waiting for a thread included", Some(Unit::Seconds),
        query: Histogram = seconds();
    "bus_connected", "Whether the bus is connected to all primaries of Redis", NO_UNIT, bus_connected: Gauge = Gauge::default();
    "bus_channels", "Channels that the bus is subscribed to", NO_UNIT, bus_channels: Gauge = Gauge::default();
    "bus_events_published", "Events given to other nodes", NO_UNIT, bus_published: Counter = Counter::default();
    "bus_messages_published", "Messages given to Redis: an event is one under each of its keys", NO_UNIT,
        bus_messages: Counter = Counter::default();
    "bus_events_received", "Messages of other nodes with an event", NO_UNIT, bus_received: Counter = Counter::default();
    "bus_events_copies", "Of those received, events that had been routed before", NO_UNIT, bus_copies: Counter = Counter::default();
    "bus_events_unmatched", "Of those received, events under keys that no client wants any more", NO_UNIT,
        bus_unmatched: Counter = Counter::default();
    "bus_malformed", "Messages of other nodes that are not understood", NO_UNIT, bus_malformed: Counter = Counter::default();
    "bus_transit", "Time from publication to arrival, by the clocks of both nodes", Some(Unit::Seconds),
        bus_transit: Histogram = seconds();
    "bus_gaps", "Times at which events of other nodes may have been missed", NO_UNIT, bus_gaps: Counter = Counter::default();
    "bus_events_recovered", "Events that were found in the log of the store after a gap", NO_UNIT,
        bus_recovered: Counter = Counter::default();
    "bus_gaps_told", "Gaps that could not be made good, so that subscriptions were ended", NO_UNIT,
        bus_gaps_told: Counter = Counter::default();
    "bus_lost_batches", "Batches that were not given to other nodes because too many waited", NO_UNIT,
        bus_lost_batches: Counter = Counter::default();
    "bus_subscriptions_unacknowledged", "Subscriptions that went on before the bus had acknowledged their keys", NO_UNIT,
        bus_unacknowledged: Counter = Counter::default();
    "feed_hits", "Pages of home feeds told from memory", NO_UNIT, feed_hits: Counter = Counter::default();
    "feed_misses", "Pages of home feeds that the store was asked for", NO_UNIT, feed_misses: Counter = Counter::default();
    "feed_authors", "Authors kept in memory or listened to", NO_UNIT, feed_authors: Gauge = Gauge::default();
    "feed_memory", "Memory that they take, about", Some(Unit::Bytes), feed_bytes: Gauge = Gauge::default();
    "store_errors", "Failed operations of the store", NO_UNIT, store_errors: Counter = Counter::default();
}

impl Metrics {
    pub fn count_verb(&self, verb: Verb) {
        self.messages.get_or_create(&VerbLabel { verb }).inc();
    }

    pub fn count_event(&self, result: EventResult) {
        self.events.get_or_create(&ResultLabel { result }).inc();
    }

    pub fn count_close(&self, reason: CloseReason) {
        self.closed.get_or_create(&CloseLabel { reason }).inc();
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub fn render(&self) -> String {
        let mut out = String::new();
        // Writing to a string has no way to fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_the_conventions() {
        let metrics = Metrics::new("n1");
        metrics.count_verb(Verb::Event);
        metrics.write.observe(0.01);
        let text = metrics.render();
        assert!(text.contains("rookery_messages_total{verb=\"Event\"} 1"), "{text}");
        assert!(text.contains("rookery_persister_batch_seconds_sum 0.01"), "{text}");
        assert!(text.contains("rookery_build_info{version="), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
