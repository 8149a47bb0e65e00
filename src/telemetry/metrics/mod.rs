//! Every metric's name, and what it counts. `docs/metrics.md` is made from the tables here.

use std::sync::atomic::AtomicU64;

use parking_lot::Mutex;
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{
        MetricType,
        counter::Counter,
        family::Family,
        gauge::Gauge,
        histogram::{Histogram, exponential_buckets},
        info::Info,
    },
    registry::{Registry, Unit},
};

use tokio::sync::mpsc;

use super::{
    labels::{
        BoundedQueue, By, Cache, CleanupResult, CloseReason, ClosedReason, ConnectResult, EventResult,
        LabelValues, Labelled, NegErrReason, SignInResult, Stage, UpstreamMessage, Verb,
    },
    process::{PROCESS_METRICS, Process},
    upstreams::{ByPartition, ByUpstream, ByUpstreamAnd, OutcomeLabel, UpstreamOutcome},
};

/// A thread of the node.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ThreadLabel {
    pub thread: String,
}

/// A gauge of a number that need not be whole.
type Ratio = Gauge<f64, AtomicU64>;

/// Lateness of each thread.
type Lag = Family<ThreadLabel, Histogram, fn() -> Histogram>;

/// Sets gauges to what they are at the moment when Prometheus asks.
type Probe = Box<dyn Fn(&Metrics) + Send + Sync>;

const NO_UNIT: Option<Unit> = None;

macro_rules! metrics {
    ($($name:literal, $help:literal, $unit:expr, $field:ident: $type:ty = $init:expr;)*) => {
        /// Every metric of the node. Counting takes no lock but that of a histogram.
        pub struct Metrics {
            registry: Registry,
            probes: Mutex<Vec<Probe>>,
            $(#[doc = $help] pub $field: $type),*
        }

        impl Metrics {
            pub fn new(node_id: &str) -> Self {
                let mut root = Registry::default();
                root.register_collector(Box::new(Process::new()));
                let registry = root.sub_registry_with_prefix("rookery");
                let build = Info::new(vec![
                    ("version", env!("CARGO_PKG_VERSION").to_owned()),
                    ("node", node_id.to_owned()),
                ]);
                registry.register("build", BUILD, build);
                $(let $field: $type = $init;
                match $unit {
                    Some(unit) => registry.register_with_unit($name, $help, unit, $field.clone()),
                    None => registry.register($name, $help, $field.clone()),
                })*
                Self { registry: root, probes: Mutex::default(), $($field),* }
            }
        }

        fn descriptions() -> Vec<Description> {
            vec![$(Description::of::<$type>($name, $unit, $help)),*]
        }
    };
}

const BUILD: &str = "Version and name of the node, as labels";

/// From 32 µs to about 17 s.
fn seconds() -> Histogram {
    Histogram::new(exponential_buckets(0.000_032, 2.0, 20))
}

/// From 1 ms to about 4 s.
fn lateness() -> Histogram {
    Histogram::new(exponential_buckets(0.001, 4.0, 7))
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
    "proxy_headers_refused", "Connections of trusted proxies closed because no PROXY header came, or none that is understood", NO_UNIT,
        proxy_headers_refused: Counter = Counter::default();
    "draining", "Whether the node shuts down: it takes no more connections, and closes those it has", NO_UNIT,
        draining: Gauge = Gauge::default();
    "connections_closed", "WebSocket connections closed", NO_UNIT,
        closed: By<CloseReason, Counter> = By::default();
    "evictions", "Sessions ended because their client did not read; they also count as closed", NO_UNIT,
        evictions: Counter = Counter::default();
    "messages", "Messages of clients", NO_UNIT, messages: By<Verb, Counter> = By::default();
    "events", "Events answered with OK", NO_UNIT, events: By<EventResult, Counter> = By::default();
    "stage", "Duration of each stage of the way of a message", Some(Unit::Seconds),
        stages: By<Stage, Histogram> = By::new(seconds);
    "subscriptions", "Live subscriptions of clients", NO_UNIT, subscriptions: Gauge = Gauge::default();
    "subscriptions_closed", "Subscriptions refused or ended with CLOSED", NO_UNIT,
        subscriptions_closed: By<ClosedReason, Counter> = By::default();
    "reconciliations", "Open reconciliations (NIP-77)", NO_UNIT, reconciliations: Gauge = Gauge::default();
    "reconciliations_refused", "Reconciliations refused or ended with NEG-ERR", NO_UNIT,
        reconciliations_refused: By<NegErrReason, Counter> = By::default();
    "routing_keys", "Routing keys of live subscriptions, one for each that has it, also of those that sessions have to follow lists", NO_UNIT,
        routing_keys: Gauge = Gauge::default();
    "answers_awaited", "Events and subscriptions of all connections that wait for an answer", NO_UNIT,
        awaited: Gauge = Gauge::default();
    "deliveries", "Live events handed to sessions", NO_UNIT, deliveries: Counter = Counter::default();
    "events_sent", "Stored events sent for a REQ", NO_UNIT, sent: Counter = Counter::default();
    "queue_fill_ratio", "How full a queue is, from 0 to 1", NO_UNIT,
        queue_fill: By<BoundedQueue, Ratio> = By::default();
    "queue_full", "Times that a queue was full, and who fills it was held back or refused", NO_UNIT,
        queue_full: By<BoundedQueue, Counter> = By::default();
    "cache_hits", "Look-ups that a cache answered", NO_UNIT, cache_hits: By<Cache, Counter> = By::default();
    "cache_misses", "Look-ups that a cache did not answer", NO_UNIT, cache_misses: By<Cache, Counter> = By::default();
    "thread_lag", "How late a timer of the thread was: what else is to be done there waits as long", Some(Unit::Seconds),
        lag: Lag = Family::new_with_constructor(lateness);
    "persister_batch_events", "Events in a batch", NO_UNIT, batch: Histogram = sizes();
    "persister_batch_rows", "Rows of a batch: an event is some, and one more for each indexed tag", NO_UNIT,
        batch_rows: Histogram = Histogram::new(exponential_buckets(8.0, 2.0, 14));
    "store_errors", "Failed operations of the store", NO_UNIT, store_errors: Counter = Counter::default();
    "disk_free", "Room on the disk of the data folder; 0 where the store is a cluster's", Some(Unit::Bytes),
        disk_free: Gauge = Gauge::default();
    "disk_size", "Size of that disk; 0 where the store is a cluster's", Some(Unit::Bytes),
        disk_size: Gauge = Gauge::default();
    "events_unsettled", "Events whose write failed, and that are tried again because they may be stored",
        NO_UNIT, unsettled: Gauge = Gauge::default();
    "store_statements", "CQL statements sent, those tried again included", NO_UNIT,
        store_statements: Counter = Counter::default();
    "store_rows", "Rows that CQL servers answered", NO_UNIT, store_rows: Counter = Counter::default();
    "store_retries", "CQL statements that were tried again", NO_UNIT, store_retries: Counter = Counter::default();
    "log_lines_lost", "Lines of the log that were lost because standard error did not take them", NO_UNIT,
        log_lost: Counter = Counter::default();
    "clock_ahead", "How far the clock of this node is ahead of those of the others (negative: behind), if it is too far: where they share a store, nothing is removed as expired then. 0: near enough, or nothing to compare with",
        Some(Unit::Seconds), clock_ahead: Ratio = Gauge::default();
    "feed_hits", "Pages of home feeds told from memory", NO_UNIT, feed_hits: Counter = Counter::default();
    "feed_misses", "Pages of home feeds that the store was asked for", NO_UNIT, feed_misses: Counter = Counter::default();
    "feed_authors", "Authors kept in memory or listened to", NO_UNIT, feed_authors: Gauge = Gauge::default();
    "feed_memory", "Memory that they take, about", Some(Unit::Bytes), feed_bytes: Gauge = Gauge::default();
    "upstream_events_received", "Events that a relay which is read has sent: those of its outcomes and those that wait, together",
        NO_UNIT, upstream_received: ByUpstream<Counter> = Family::default();
    "upstream_received", "Bytes of these events", Some(Unit::Bytes), upstream_bytes: ByUpstream<Counter> = Family::default();
    "upstream_events", "Events of a relay that is read, by what became of them", NO_UNIT,
        upstream_events: Family<UpstreamOutcome, Counter> = Family::default();
    "upstream_events_waiting", "Events of a relay that is read which are not stored or refused yet", NO_UNIT,
        upstream_waiting: ByUpstream<Gauge> = Family::default();
    "upstream_cursor_timestamp", "Up to when a relay has been read, as it is noted, in seconds since 1970: what was there by then is stored or refused; of `other` the oldest",
        Some(Unit::Seconds), upstream_cursor: ByUpstream<Gauge> = Family::default();
    "upstream_up", "Whether a relay is read at the moment", NO_UNIT, upstream_up: ByUpstream<Gauge> = Family::default();
    "upstream_dead_letters_full", "Whether as many dead letters of a relay that is read are kept as may be: it is not read until some are replayed or dropped",
        NO_UNIT, upstream_full: ByUpstream<Gauge> = Family::default();
    "upstream_lag", "How far a relay that is read is behind live: since when something that it has may be missing here; of `other` the most",
        Some(Unit::Seconds), upstream_lag: ByUpstream<Gauge> = Family::default();
    "upstream_connects", "Attempts to read a relay, by what came of them", NO_UNIT,
        upstream_connects: ByUpstreamAnd<ConnectResult> = Family::default();
    "upstream_messages", "Messages of a relay that is read, over all connections to it", NO_UNIT,
        upstream_messages: ByUpstreamAnd<UpstreamMessage> = Family::default();
    "upstream_cleanups", "Sessions with a relay that have ended: CLOSE is said, what is in flight let go, the cursor written",
        NO_UNIT, upstream_cleanups: ByUpstreamAnd<CleanupResult> = Family::default();
    "queue_published", "Events of relays that are read which were put into the queue", NO_UNIT,
        queue_published: Counter = Counter::default();
    "consumer_events", "Events that came through the queue, by what became of them; copies that came together are one each",
        NO_UNIT, consumer_events: Family<OutcomeLabel, Counter> = Family::default();
    "consumer_limit", "Events of upstreams that are stored in a second at most, as clients wait for the store; 0: as many as it takes",
        NO_UNIT, consumer_limit: Gauge = Gauge::default();
    "consumer", "Duration from the queue to the verdict about an event, all attempts included", Some(Unit::Seconds),
        consumer: Histogram = seconds();
    "upstream_queue_entries", "Events of relays that are read in a stream of Redis, as the process sees that takes from it",
        NO_UNIT, upstream_queue_entries: ByPartition<Gauge> = Family::default();
    "upstream_queue_taken", "Those of them that were taken, and are not finished", NO_UNIT,
        upstream_queue_taken: ByPartition<Gauge> = Family::default();
    "upstream_queue_age", "For how long the oldest of them has been there", Some(Unit::Seconds),
        upstream_queue_age: ByPartition<Gauge> = Family::default();
    "upstream_queue_redelivered", "Events that were taken from a process that was gone before it had finished them", NO_UNIT,
        upstream_queue_redelivered: Counter = Counter::default();
    "upstream_queue_breaks", "Times that what was on its way through Redis was lost, as far as is known, and was read again", NO_UNIT,
        upstream_queue_breaks: Counter = Counter::default();
    "upstream_takeovers", "How often this node has begun to read a relay that another one had read before", NO_UNIT,
        upstream_takeovers: Counter = Counter::default();
    "upstream_phantoms", "Events that a relay which is read has named when everything was compared, and not sent",
        NO_UNIT, upstream_phantoms: ByUpstream<Counter> = Family::default();
    "upstream_distrusted", "How often a relay which is read was left alone for an hour, as over 1 % of its last 1,000 events were forged",
        NO_UNIT, upstream_distrusted: ByUpstream<Counter> = Family::default();
    "sign_ins", "Attempts to sign in to an account", NO_UNIT, sign_ins: By<SignInResult, Counter> = By::default();
    "passwords_hashed", "Passwords that were hashed: one for each that is tried, whether anybody is called so or not, and for each new one",
        NO_UNIT, passwords_hashed: Counter = Counter::default();
    "bus_configured", "Whether the node shares events with others (--redis)", NO_UNIT,
        bus_configured: Gauge = Gauge::default();
    "bus_connected", "Whether the bus is connected to all primaries of Redis", NO_UNIT, bus_connected: Gauge = Gauge::default();
    "bus_channels", "Channels that the bus is subscribed to, those on their way out included", NO_UNIT,
        bus_channels: Gauge = Gauge::default();
    "bus_events_published", "Events given to other nodes", NO_UNIT, bus_published: Counter = Counter::default();
    "bus_messages_published", "Messages given to Redis: an event is one under each of its keys", NO_UNIT,
        bus_messages: Counter = Counter::default();
    "bus_events_received", "Messages of other nodes with an event", NO_UNIT, bus_received: Counter = Counter::default();
    "bus_events_copies", "Of those received, events that had been routed before", NO_UNIT, bus_copies: Counter = Counter::default();
    "bus_events_unmatched", "Of those received, events under keys that no client wants any more", NO_UNIT,
        bus_unmatched: Counter = Counter::default();
    "bus_malformed", "Messages of other nodes that are not understood", NO_UNIT, bus_malformed: Counter = Counter::default();
    "bus_unfetched", "Events of other nodes that came by their id and were not found in the store: deleted since, or missed", NO_UNIT,
        bus_unfetched: Counter = Counter::default();
    "bus_forged", "Events of other nodes whose id or signature is wrong (bus.verify), which are dropped", NO_UNIT, bus_forged: Counter = Counter::default();
    "bus_strangers", "Messages of nodes that have another store, which are dropped", NO_UNIT, bus_strangers: Counter = Counter::default();
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
}

impl Metrics {
    /// Calls `refresh` whenever Prometheus asks.
    pub fn before_scrapes(&self, probe: impl Fn(&Self) + Send + Sync + 'static) {
        self.probes.lock().push(Box::new(probe));
    }

    /// Shows how full a channel is, as long as somebody else holds it.
    pub fn watch<T: Send + 'static>(&self, name: BoundedQueue, channel: &mpsc::Sender<T>) {
        let channel = channel.downgrade();
        self.before_scrapes(move |metrics| {
            let taken = channel
                .upgrade()
                .map_or(0.0, |channel| 1.0 - channel.capacity() as f64 / channel.max_capacity() as f64);
            metrics.queue_fill.of(name).set(taken);
        });
    }

    /// The histogram of a thread's lateness.
    pub fn lag_of(&self, thread: impl Into<String>) -> Histogram {
        self.lag.get_or_create_owned(&ThreadLabel { thread: thread.into() })
    }

    /// The text that Prometheus scrapes (OpenMetrics).
    pub fn render(&self) -> String {
        for probe in &*self.probes.lock() {
            probe(self);
        }
        let mut out = String::new();
        // Writing to a string has no way to fail.
        let _ = encode(&mut out, &self.registry);
        out
    }
}

/// What a table says of a metric.
struct Description {
    name: String,
    kind: &'static str,
    unit: &'static str,
    label: Option<LabelValues>,
    /// The label that it has besides.
    also: Option<&'static str>,
    help: &'static str,
}

impl Labelled for Lag {
    const LABEL: Option<LabelValues> = Some((
        "thread",
        &[
            ("worker-N", "serves clients; N counts from 0"),
            ("persister", "makes batches and answers publishers"),
            ("bus", "talks to Redis"),
        ],
    ));
}

impl Description {
    fn of<M: Labelled>(name: &str, unit: Option<Unit>, help: &'static str) -> Self {
        Self { label: M::LABEL, also: M::ALSO, ..Self::new(&format!("rookery_{name}"), &unit, M::TYPE, help) }
    }

    fn new(name: &str, unit: &Option<Unit>, kind: MetricType, help: &'static str) -> Self {
        let (suffix, unit) = match unit {
            Some(Unit::Seconds) => ("_seconds", "seconds"),
            Some(Unit::Bytes) => ("_bytes", "bytes"),
            _ if name.ends_with("_ratio") => ("", "ratio"),
            _ => ("", ""),
        };
        let (total, kind) = match kind {
            MetricType::Counter => ("_total", "counter"),
            MetricType::Histogram => ("", "histogram"),
            _ => ("", "gauge"),
        };
        Self { name: format!("{name}{suffix}{total}"), kind, unit, label: None, also: None, help }
    }
}

/// Names that other programs give to what is counted of relays that are read.
const ELSEWHERE: &str = "
## What others call them

Of relays that are read, programs of this kind usually count four things. Here they are:

| usual name | here |
|---|---|
| `relay_connect_counts` | `rookery_upstream_connects_total` |
| `message_received_counts` | `rookery_upstream_messages_total`; events alone, each once: `rookery_upstream_events_received_total` |
| `queue_publish_counts` | `rookery_queue_published_total` |
| `cleanup_counts` | `rookery_upstream_cleanups_total` |
";

/// `docs/metrics.md`: every metric, and every value of its label.
pub fn metrics_reference() -> String {
    let mut out = String::from(
        "# Metrics\n\n\
         Made from the code by `rookery config --metrics`. What to watch: [operations](operations.md#metrics).\n\n\
         Of a histogram there are `…_bucket`, `…_sum` and `…_count`. A label has no other values than those\n\
         below, and each has its series from the start, so a rate is right from the first event on.\n\n\
         | metric | type | unit | label | what |\n|---|---|---|---|---|\n",
    );
    let mut all = descriptions();
    for (name, unit, kind, help) in PROCESS_METRICS {
        all.push(Description::new(name, unit, *kind, help));
    }
    out.push_str(&format!("| `rookery_build_info` | info | | `version`, `node` | {BUILD} |\n"));
    for Description { name, kind, unit, label, also, help } in &all {
        let labels = also.iter().copied().chain(label.map(|(label, _)| label));
        let label = labels.map(|label| format!("`{label}`")).collect::<Vec<_>>().join(", ");
        out.push_str(&format!("| `{name}` | {kind} | {unit} | {label} | {help} |\n"));
    }
    for Description { name, label, .. } in &all {
        let Some((label, values)) = label else { continue };
        out.push_str(&format!("\n## {name}\n\n| `{label}` | what |\n|---|---|\n"));
        for (value, meaning) in *values {
            out.push_str(&format!("| `{value}` | {meaning} |\n"));
        }
    }
    out.push_str(ELSEWHERE);
    out
}

#[cfg(test)]
mod tests;
