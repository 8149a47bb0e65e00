//! The configuration: every bound and every setting, with its default and its explanation.
//!
//! The sections below are the only place where a setting is declared. The example file, the
//! reference in `docs/configuration.md` and the environment variables are made from them.

use std::{
    collections::BTreeMap,
    fmt,
    net::{Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};
use toml::{Table, Value};
use url::Url;

mod network;

pub use self::network::{Network, network};

/// A setting as the documentation shows it.
pub struct Setting {
    pub name: &'static str,
    /// One element a line.
    pub doc: &'static [&'static str],
    /// Of a number.
    pub range: Option<Range>,
}

/// What a number may be, both ends included. Beyond, a queue has no memory to be in, a time no end, and a part of the
/// program takes for endless what it must count.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Range {
    Whole(i64, i64),
    Part(f64, f64),
}

const fn whole(from: i64, to: i64) -> Range {
    Range::Whole(from, to)
}

const fn part(from: f64, to: f64) -> Range {
    Range::Part(from, to)
}

/// In seconds.
const HOUR: i64 = 60 * 60;
const DAY: i64 = 24 * HOUR;

impl Range {
    /// Whether it has a number; what is none is somebody else's to refuse.
    fn has(self, value: &Value) -> bool {
        match (self, value) {
            (Self::Whole(from, to), Value::Integer(number)) => (from..=to).contains(number),
            (Self::Part(from, to), Value::Integer(number)) => (from..=to).contains(&(*number as f64)),
            (Self::Part(from, to), Value::Float(number)) => (from..=to).contains(number),
            _ => true,
        }
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Whole(from, to) => write!(f, "{from} to {to}"),
            Self::Part(from, to) => write!(f, "{from} to {to}"),
        }
    }
}

macro_rules! optional {
    () => {
        None
    };
    ($value:expr) => {
        Some($value)
    };
}

macro_rules! section {
    ($(#[doc = $about:literal])* $name:ident {
        $($(#[doc = $doc:literal])* $field:ident: $type:ty = $default:expr $(=> $range:expr)?),* $(,)?
    }) => {
        $(#[doc = $about])*
        #[derive(Debug, Clone, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct $name {
            $($(#[doc = $doc])* pub $field: $type),*
        }

        impl Default for $name {
            fn default() -> Self {
                Self { $($field: $default),* }
            }
        }

        impl $name {
            const ABOUT: &'static [&'static str] = &[$($about),*];
            const SETTINGS: &'static [Setting] =
                &[$(Setting {
                    name: stringify!($field),
                    doc: &[$($doc),*],
                    range: optional!($($range)?),
                }),*];
        }
    };
}

section! {
    /// Settings that have a flag of the same name (`--listen`, `--ops-listen`, …).
    General {
        /// Address and port for clients: WebSocket and NIP-11 over HTTP. A name is looked up at the start, a port
        /// alone is one of loopback.
        listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7777)),
        /// Address and port for operators: /health/live, /health/ready, /metrics. Keep it private.
        ops_listen: SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9777)),
        /// Folder of the embedded store. Made when it is missing.
        data: PathBuf = PathBuf::from("./rookery-data"),
        /// The URL under which clients reach this relay, such as "wss://relay.example.com". Checked in
        /// AUTH (NIP-42) and requests to vanish (NIP-62). Empty: AUTH counts only for clients that connect
        /// to an address of this machine themselves, and name it.
        url: String = String::new(),
        /// Name of this node in logs and metrics. Empty: the host's name.
        node_id: String = String::new(),
        /// Proxies that are believed whom they speak for, by address or network, such as ["10.0.0.5",
        /// "10.1.0.0/16"]: in the X-Forwarded-For header, and before it in the PROXY protocol.
        trusted_proxy: Vec<Network> = Vec::new(),
        /// Whether every connection of a trusted proxy begins with a PROXY header (version 1 or 2), as
        /// balancers on TCP level send it. Such a connection is closed if it does not; of others, none
        /// is read.
        proxy_protocol: bool = false,
        /// URLs of Redis servers through which nodes share live events, such as
        /// "redis://user:password@redis-1:6379" ("rediss" with TLS). Any nodes of one Redis Cluster, or one
        /// server. Empty: this node is alone.
        redis: Vec<String> = Vec::new(),
        /// What is logged, in the syntax of tracing's EnvFilter. RUST_LOG wins over it.
        log: String = "info,actix_server=warn,scylla=warn".into(),
        /// Lines of the log that may wait to be written; beyond, they are lost. Nobody waits for the log.
        log_lines: usize = 8_192 => whole(1, 1 << 20),
        /// Seconds for which the persister, or a thread of the store, may be at one thing before the node is
        /// not ready any more.
        stuck_seconds: u64 = 10 => whole(1, HOUR),
        /// Threads that serve clients. 0: one a core.
        workers: usize = 0 => whole(0, 256),
        /// Seconds from the signal to the end of the process, whatever is away: half of them for what is on its way
        /// to the store, the rest for other nodes and for sockets, which are closed spread over half of it at most.
        drain_seconds: u64 = 5 => whole(1, HOUR),
    }
}

section! {
    /// What the relay says of itself (NIP-11). Empty fields are left out.
    Info {
        /// Name, under 30 characters.
        name: String = "Rookery".into(),
        /// What the relay is for; no markup.
        description: String = String::new(),
        /// Public key of the operator, 64 hexadecimal digits.
        pubkey: String = String::new(),
        /// Other way to reach the operator, a URI such as "mailto:…".
        contact: String = String::new(),
        /// Link to a square image.
        icon: String = String::new(),
        /// Link to a wide image.
        banner: String = String::new(),
        /// Link to the terms of service.
        terms_of_service: String = String::new(),
    }
}

section! {
    /// What clients may send and ask. Where NIP-11 has a field for a bound, it shows it.
    Limits {
        /// Longest message of a client, in bytes, fragments together.
        max_message_bytes: usize = 512 * 1024 => whole(1, 1 << 26),
        /// Longer messages up to so many bytes are passed over and answered; beyond, the connection ends.
        max_refused_bytes: usize = 8 * 1024 * 1024 => whole(0, 1 << 30),
        /// Most tags of an event.
        max_tags: usize = 5_000 => whole(0, 1 << 20),
        /// Most subscriptions of a connection.
        max_subscriptions: usize = 300 => whole(1, 1 << 20),
        /// Most filters of a REQ or COUNT.
        max_filters: usize = 200 => whole(1, 1 << 16),
        /// Most values of a filter, its lists together.
        max_filter_values: usize = 5_000 => whole(0, 1 << 20),
        /// Most routing keys of a connection, its subscriptions together.
        max_routing_keys: usize = 20_000 => whole(0, 1 << 24),
        /// Most bytes of the messages that made the subscriptions of a connection, together: what is
        /// kept of them grows with it.
        max_subscription_bytes: usize = 2 * 1024 * 1024 => whole(0, 1 << 32),
        /// Stored events sent for a filter that has no limit.
        default_limit: usize = 500 => whole(1, 1 << 24),
        /// Highest limit of a filter that is honoured; higher ones count as this.
        max_limit: usize = 5_000 => whole(1, 1 << 24),
        /// Most events sent beyond a limit so that the last second is whole (NIP-67), and at most a tenth
        /// of the limit.
        max_boundary_events: usize = 500 => whole(0, 1 << 24),
        /// Bytes of stored events after which the answer to a REQ ends, at the end of a page. EOSE says
        /// "more" then, and the client pages on.
        max_answer_bytes: usize = 64 * 1024 * 1024 => whole(1, 1 << 40),
        /// How far ahead created_at may be, in seconds.
        max_ahead_seconds: u64 = 15 * 60 => whole(0, 1 << 32),
        /// Leading zero bits that an event's id must have (NIP-13). 0: none.
        min_pow_difficulty: u32 = 0 => whole(0, 256),
        /// Whether clients must authenticate (NIP-42) before they read or write.
        auth_required: bool = false,
        /// Most public keys that a connection may authenticate as.
        max_auth_keys: usize = 64 => whole(0, 1 << 16),
        /// Most connections of the node. File descriptors may set a lower bound; the start says so.
        max_connections: usize = 100_000 => whole(1, 1 << 24),
        /// Most connections of one address (of IPv6, one /64 network); loopback has no such bound.
        max_connections_per_address: usize = 1_000 => whole(1, 1 << 24),
    }
}

section! {
    /// How fast clients may be, beyond which they read "rate-limited: …". Loopback is exempt unless
    /// told otherwise.
    Rate {
        /// Messages a second of one connection. 0: no bound.
        messages_per_second: u32 = 200 => whole(0, 1 << 24),
        /// Messages that a connection may send at once after a pause.
        messages_burst: u32 = 4_000 => whole(0, 1 << 24),
        /// Messages a second of one address (of IPv6, one /64 network), all its connections together.
        /// 0: no bound.
        address_messages_per_second: u32 = 2_000 => whole(0, 1 << 24),
        /// Messages that an address may send at once after a pause.
        address_messages_burst: u32 = 20_000 => whole(0, 1 << 24),
        /// Addresses whose rate is remembered.
        max_addresses: usize = 65_536 => whole(1, 1 << 22),
        /// Whether the bounds also hold for loopback.
        include_loopback: bool = false,
    }
}

section! {
    /// One connection: its windows, queues and timeouts.
    Session {
        /// Seconds within which a client must have sent its HTTP request, and a proxy its PROXY header.
        handshake_seconds: u64 = 5 => whole(1, HOUR),
        /// Seconds between pings.
        ping_seconds: u64 = 30 => whole(1, DAY - 1),
        /// Seconds of silence after which a connection is closed.
        idle_seconds: u64 = 90 => whole(2, DAY),
        /// Events of a connection that may wait for their OK, and subscriptions that may wait to be
        /// entered; beyond, it is not read from.
        window: usize = 128 => whole(1, 1 << 16),
        /// Messages of other actors that may wait for a session. A client that does not read fills it.
        mailbox: usize = 4_096 => whole(2, 1 << 20),
        /// Bytes of live events that may wait for a session. A client that lags further is closed.
        max_lag_bytes: usize = 16 * 1024 * 1024 => whole(0, 1 << 40),
        /// Bytes of live events held back while the stored ones are sent. Beyond, the subscription is closed.
        max_held_bytes: usize = 4 * 1024 * 1024 => whole(0, 1 << 40),
        /// Seconds for which the network may leave what was sent unacknowledged.
        unacknowledged_seconds: u64 = 60 => whole(0, DAY),
    }
}

section! {
    /// The way of an event into the store.
    Persister {
        /// Events that may wait to be stored; beyond, they read "error: overloaded".
        queue: usize = 32_768 => whole(1, 1 << 24),
        /// Bytes of events that may wait to be stored.
        queue_bytes: usize = 256 * 1024 * 1024 => whole(1, 1 << 40),
        /// Most rows of one batch, which is one commit. An event is some, and one more for each indexed tag; one
        /// of more rows is a batch of its own.
        max_batch_rows: usize = 65_536 => whole(1, 1 << 24),
        /// Milliseconds that a batch should take: as many rows are written at once.
        batch_ms: u64 = 250 => whole(1, 60_000),
        /// Most milliseconds that a batch waits for more while the threads that serve clients need all processors
        /// and much is written: batches grow then, and an event costs less. 0: none waits.
        stand_back_ms: u64 = 250 => whole(0, 60_000),
        /// Most bytes of one batch. A single larger event is a batch of its own.
        max_batch_bytes: usize = 16 * 1024 * 1024 => whole(1, 1 << 32),
        /// Most events that are routed to sessions at once, so that no worker is held up for long.
        route_batch: usize = 256 => whole(1, 1 << 16),
        /// Milliseconds after which an event that is not stored yet reads "error: …". An event that would wait
        /// longer than half of it for the store is refused at once, as "error: overloaded"; of a client with
        /// little waiting, three quarters.
        deadline_ms: u64 = 2_000 => whole(1, HOUR * 1_000),
        /// Seconds for which events are tried again whose write failed, where several nodes share a store:
        /// what failed may be stored all the same, and whoever waits for it must hear of it.
        retry_seconds: u64 = 60 => whole(0, HOUR / 2),
        /// Events that may wait to be tried again; beyond, the oldest are not.
        retry_events: usize = 8_192 => whole(0, 1 << 24),
        /// Bytes of events that may wait to be tried again.
        retry_bytes: usize = 64 * 1024 * 1024 => whole(0, 1 << 40),
        /// Ids of stored events that are remembered, so that copies are cheap. Where several nodes share
        /// a store, of ephemeral ones only, as another node may delete what this one has stored.
        recent_ids: usize = 65_536 => whole(1, 1 << 24),
        /// Authors whose decoded keys each worker remembers.
        hot_authors: usize = 16_384 => whole(1, 1 << 20),
    }
}

section! {
    /// The embedded store (LMDB).
    Store {
        /// Address space of the store, in bytes: as large as its file may become. Not disk space, the file grows
        /// as it is filled. Where the machine has less, the store takes what there is, and says so.
        map_bytes: usize = 1 << 40 => whole(1 << 20, 1 << 47),
        /// Bytes of that which are kept free, but at most an eighth of it: below, only deletions and requests
        /// to vanish are stored, below half of it only removals go on.
        reserve_bytes: u64 = 64 * 1024 * 1024 => whole(0, 1 << 47),
        /// The same for the disk: bytes that are to be free on it or within the file.
        min_free_bytes: u64 = 256 * 1024 * 1024 => whole(0, i64::MAX),
        /// Threads that read. 0: two a core.
        readers: usize = 0 => whole(0, 512),
        /// Queries that may wait for a reading thread; beyond, they read "error: overloaded".
        max_waiting_queries: usize = 10_000 => whole(1, 1 << 18),
        /// Ranges of rows (a filter has one for each id, tag value, or author and kind) of the questions that are
        /// given to each reading thread at once; further questions wait. A quarter is kept for those of few ranges.
        question_ranges: usize = 1_024 => whole(1, 1 << 20),
        /// Milliseconds for which a question waits for its turn; then it reads "error: overloaded".
        question_wait_ms: u64 = 5_000 => whole(0, HOUR * 1_000),
        /// Bytes of events read at once for a subscription; the next page is read when they are sent.
        page_bytes: usize = 128 * 1024 => whole(1, 1 << 30),
        /// Index entries looked at in one page.
        page_entries: usize = 100_000 => whole(1, 1 << 32),
        /// Index entries looked at for a REQ; past it, EOSE comes without a hint.
        query_entries: usize = 2_000_000 => whole(0, 1 << 40),
        /// Index entries looked at for a COUNT; past it, the answer is approximate.
        count_entries: usize = 1_000_000 => whole(0, 1 << 40),
        /// Seconds between removals of expired events; where nodes share a store also between comparisons of their
        /// clocks, and looks for what a node left half written.
        sweep_seconds: u64 = 10 => whole(1, DAY),
        /// Seconds that an event stays after it has expired. It is served to nobody; this is for clocks of
        /// nodes that differ.
        sweep_margin_seconds: u64 = 60 => whole(0, 365 * DAY),
        /// Part of the time that removals take while there is something to remove. The cluster store goes by
        /// this too.
        sweep_share: f64 = 0.25 => part(0.001, 1.0),
        /// Milliseconds that a removal (of the expired, of the vanished) takes in one commit: events that come
        /// meanwhile wait for it.
        sweep_ms: u64 = 5 => whole(1, 60_000),
        /// Most events that it takes.
        sweep_batch: usize = 500 => whole(1, 1 << 20),
    }
}

section! {
    /// The cluster store: ScyllaDB or Apache Cassandra, over CQL. It is used where nodes are named
    /// (`--scylla`), else the embedded one is.
    Scylla {
        /// Servers to ask first, such as ["10.0.0.1:9042"]; they name the others.
        nodes: Vec<String> = Vec::new(),
        /// Keyspace with the tables, which `rookery schema apply` makes.
        keyspace: String = "rookery".into(),
        /// User name. Empty: the servers ask for none.
        user: String = String::new(),
        /// Password of that user.
        password: String = String::new(),
        /// Whether all links to the servers are TLS, to those found later too. None is without then.
        tls: bool = false,
        /// File with the certificates (PEM) of the authorities that the servers' certificates may be of, and of no
        /// others. Empty: those of the system; SSL_CERT_FILE names others.
        tls_ca: PathBuf = PathBuf::new(),
        /// File with a certificate (PEM) for servers that want one of their clients.
        tls_cert: PathBuf = PathBuf::new(),
        /// File with the private key (PEM) of that certificate.
        tls_key: PathBuf = PathBuf::new(),
        /// Name that every server's certificate must have. Empty: the IP address at which it is reached.
        tls_name: String = String::new(),
        /// Datacentre whose servers are asked, no others. Empty: any.
        datacenter: String = String::new(),
        /// How many replicas answer a read, by its name in CQL. The start refuses what could miss a
        /// write: reads and writes together must be more than there are replicas.
        read_consistency: String = "LOCAL_QUORUM".into(),
        /// How many replicas acknowledge a write. LOCAL_QUORUM of one replica is that one.
        write_consistency: String = "LOCAL_QUORUM".into(),
        /// Milliseconds after which a statement is tried again.
        request_timeout_ms: u64 = 1_000 => whole(1, HOUR * 1_000),
        /// Milliseconds after which another server is asked too.
        speculative_ms: u64 = 200 => whole(1, HOUR * 1_000),
        /// Milliseconds for which a batch or a page is tried; then it reads "error: …".
        deadline_ms: u64 = 2_000 => whole(1, HOUR * 1_000),
        /// Statements in flight of batches; as many again of questions, and of what nodes tell each other.
        concurrency: usize = 256 => whole(1, 1 << 16),
        /// Pages and counts that are read or wait for their turn; beyond, they read "error: overloaded".
        max_queries: usize = 1_000 => whole(1, 1 << 24),
        /// Statements that the questions under way make, about; further questions wait. A quarter is kept for those
        /// of few ranges of rows (a filter has one for each id, tag value, or author and kind).
        question_statements: usize = 4_096 => whole(1, 1 << 24),
        /// Milliseconds for which a question waits for its turn; then it reads "error: overloaded".
        question_wait_ms: u64 = 5_000 => whole(0, HOUR * 1_000),
        /// Threads that talk to the servers. 0: one a core.
        threads: usize = 0 => whole(0, 256),
        /// Bytes of events read at once for a subscription; the next page is read when they are sent.
        page_bytes: usize = 128 * 1024 => whole(1, 1 << 30),
        /// Most rows of one answer of a server.
        page_rows: usize = 100 => whole(1, 1 << 20),
        /// Rows of a partition beyond which further ones of that key go to partitions by time.
        partition_rows: usize = 32_768 => whole(1, 1 << 30),
        /// Rows looked at for a REQ, each statement counting for ten; past it, EOSE comes without a hint.
        query_rows: usize = 200_000 => whole(0, 1 << 40),
        /// The same for a COUNT; past it, the answer is approximate.
        count_rows: usize = 200_000 => whole(0, 1 << 40),
        /// Seconds by which the clock of a node may differ from the median of the others; one that is further off
        /// says so, also where nodes share Redis alone, and removes nothing as expired where they share a store. store.sweep_margin_seconds must be at least twice as long.
        clock_tolerance_seconds: u64 = 15 => whole(0, DAY),
        /// Events that a removal (of the expired, of the vanished) takes at once.
        sweep_batch: usize = 16 => whole(1, 1 << 16),
        /// Rows that it reads at once.
        sweep_rows: usize = 1_000 => whole(1, 1 << 20),
        /// Milliseconds after which it makes a pause, as long as store.sweep_share says.
        sweep_ms: u64 = 100 => whole(1, 60_000),
        /// Statements of removals in flight.
        sweep_concurrency: usize = 4 => whole(1, 1 << 16),
    }
}

section! {
    /// Traces: what happens to messages, as spans of OpenTelemetry. Where there is a variable of OpenTelemetry
    /// for a setting (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE, …), it counts
    /// as ours, which wins.
    Traces {
        /// URL of a collector that takes OTLP, such as "http://127.0.0.1:4317". Empty: no traces.
        otlp: String = String::new(),
        /// "grpc" or "http/protobuf". Empty: HTTP where the URL has port 4318 or a path, else gRPC.
        protocol: String = String::new(),
        /// Part of the messages and connections that are traced.
        ratio: f64 = 0.01 => part(0.0, 1.0),
        /// Milliseconds from which on a message is slow: it is traced though it was not chosen.
        slow_ms: u64 = 500 => whole(0, DAY * 1_000),
        /// Messages a second that are traced though they were not chosen: slow ones, those that the relay
        /// fails, and those of clients that ask for it.
        extra_per_second: u32 = 20 => whole(0, 1 << 24),
        /// Networks or addresses whose clients may ask for traces, with a traceparent header in their
        /// handshake.
        trusted: Vec<Network> = loopback(),
        /// Spans that may wait to be exported; beyond, they are lost.
        queue: usize = 8_192 => whole(1, 1 << 20),
        /// Most spans of one export.
        export_batch: usize = 512 => whole(1, 1 << 20),
        /// Milliseconds that a span waits for others.
        export_interval_ms: u64 = 1_000 => whole(1, DAY * 1_000),
        /// Milliseconds that an export may take.
        export_timeout_ms: u64 = 5_000 => whole(1, HOUR * 1_000),
        /// Milliseconds that a shutdown waits for spans to be exported.
        flush_ms: u64 = 2_000 => whole(0, HOUR * 1_000),
    }
}

section! {
    /// The bus: how nodes share live events through Redis.
    Bus {
        /// Begins the name of every channel. Clusters of one Redis must have different ones.
        prefix: String = "rookery".into(),
        /// Milliseconds within which Redis must answer; beyond, the connection is made anew.
        timeout_ms: u64 = 1_000 => whole(1, HOUR * 1_000),
        /// Seconds within which Redis must be reached at the start, or the node ends. 0: it starts without,
        /// and goes on trying.
        start_seconds: u64 = 0 => whole(0, DAY),
        /// What `/health/ready` asks of the bus. "once": the node is ready from when the bus has carried something
        /// for the first time; what it misses later comes from the log of the store, or clients are told. "while":
        /// only while the bus carries something, so without Redis no node is ready. "always": nothing.
        ready: BusReady = BusReady::Once,
        /// Whether ids and signatures of events that come from other nodes are verified again. Whoever may publish
        /// in Redis can say anything to the clients otherwise.
        verify: bool = false,
        /// Milliseconds for which a subscription waits until Redis has acknowledged its keys.
        acknowledge_ms: u64 = 500 => whole(0, HOUR * 1_000),
        /// Milliseconds for which a key stays subscribed when no client wants it any more.
        linger_ms: u64 = 1_000 => whole(0, HOUR * 1_000),
        /// Milliseconds between fences, by which other nodes know that they have missed nothing.
        fence_ms: u64 = 1_000 => whole(1, HOUR * 1_000),
        /// Fences that may be missing before something is taken to be missed.
        silent_fences: u32 = 3 => whole(1, 1 << 16),
        /// Milliseconds before the first attempt to connect again; twice as many each time.
        min_backoff_ms: u64 = 100 => whole(1, HOUR * 1_000),
        /// Most milliseconds between attempts to connect again.
        max_backoff_ms: u64 = 5_000 => whole(1, HOUR * 1_000),
        /// Subscriptions that may wait to be sent to Redis; beyond, they wait longer.
        subscribe_queue: usize = 4_096 => whole(1, 1 << 20),
        /// Batches that may wait to be published; beyond, other nodes find them in the log of the store.
        publish_queue: usize = 256 => whole(1, 1 << 20),
        /// Messages that may wait to be handled; beyond, the connection is made anew, and the log is read.
        receive_queue: usize = 65_536 => whole(1, 1 << 24),
        /// Bytes of messages that may wait to be handled.
        receive_queue_bytes: usize = 64 * 1024 * 1024 => whole(1, 1 << 40),
        /// Bytes of messages that are given to Redis in one round trip.
        publish_bytes: usize = 4 * 1024 * 1024 => whole(1, 1 << 32),
        /// Events with more routing keys are published by their id alone; whole and to all nodes where they
        /// can not be read from a shared store.
        inline_keys: usize = 16 => whole(0, 1 << 16),
        /// The same for longer events, in bytes.
        inline_bytes: usize = 8_192 => whole(0, 1 << 30),
        /// Seconds after which no event comes any more that another node accepted: as long as nodes can be
        /// cut off and their clocks differ. What was sent as a stored event is remembered for so long.
        late_seconds: u64 = 3_600 => whole(0, 7 * DAY),
        /// Events that are remembered so that each is routed once.
        seen_ids: usize = 1 << 20 => whole(1, 1 << 30),
    }
}

section! {
    /// Home feeds from memory: the newest events of authors that clients of this node are subscribed to.
    /// Used with the cluster store and a bus only.
    Feeds {
        /// Bytes of memory for it; those not asked for the longest go first. 0: off, the store is asked.
        /// On, a REQ may miss what another node acknowledged within the last instant, until the bus has
        /// brought it: milliseconds, or seconds if that node died.
        max_bytes: usize = 0 => whole(0, 1 << 44),
        /// Most events that are kept of an author and kind. Questions for about as many ask the store.
        max_events: usize = 2_000 => whole(1, 1 << 20),
        /// Reads of the store that fill it may be under way at once.
        max_fills: usize = 4 => whole(1, 1 << 16),
        /// Bytes of events of a page; the next page is looked for when they are sent.
        page_bytes: usize = 128 * 1024 => whole(1, 1 << 30),
    }
}

/// What makes a node with a bus ready: see [`Bus::ready`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BusReady {
    Always,
    Once,
    While,
}

impl Bus {
    /// How long the fences of a process may stay away before something is taken to be missed.
    pub fn patience(&self) -> Duration {
        Duration::from_millis(self.fence_ms) * self.silent_fences
    }
}

macro_rules! sections {
    ($($field:ident: $type:ident),* $(,)?) => {
        /// Everything that can be set. The general settings stand at the top of the file, the others
        /// in a table each.
        #[derive(Debug, Clone, Default, Serialize, Deserialize)]
        #[serde(default)]
        pub struct Config {
            #[serde(flatten)]
            pub general: General,
            $(pub $field: $type),*
        }

        /// Name of the table (empty for the top), what it is about, its settings.
        const SECTIONS: &[(&str, &[&str], &[Setting])] = &[
            ("", General::ABOUT, General::SETTINGS),
            $((stringify!($field), $type::ABOUT, $type::SETTINGS)),*
        ];
    };
}

sections! {
    info: Info,
    limits: Limits,
    rate: Rate,
    session: Session,
    persister: Persister,
    store: Store,
    scylla: Scylla,
    bus: Bus,
    traces: Traces,
    feeds: Feeds,
}

impl Config {
    /// Puts the configuration together: `flags` win over the environment, the environment over the
    /// file, the file over the defaults.
    ///
    /// # Errors
    /// Says which setting, and where it came from.
    pub fn load(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        flags: Table,
    ) -> anyhow::Result<Self> {
        let mut table = match file {
            Some(path) => read(path)?,
            None => Table::new(),
        };
        check_names(&table).with_context(|| match file {
            Some(path) => format!("in {}", path.display()),
            None => String::new(),
        })?;
        let defaults = Table::try_from(Self::default()).context("the defaults")?;
        for (section, _, settings) in SECTIONS {
            for setting in *settings {
                let variable = variable(section, setting.name);
                let Some(text) = env(&variable) else { continue };
                let value = parse_like(lookup(&defaults, section, setting.name), &text)
                    .with_context(|| format!("in the environment variable {variable}"))?;
                insert(&mut table, section, setting.name, value);
            }
        }
        merge(&mut table, flags);
        for name in ["listen", "ops_listen"] {
            if let Some(value) = table.get_mut(name) {
                *value =
                    network::socket_address(value).with_context(|| format!("{name} can not be {value}"))?;
            }
        }
        check_ranges(&table)?;
        let config: Self = Value::Table(table.clone()).try_into().with_context(|| name_fault(&table))?;
        config.validate()?;
        Ok(config)
    }

    /// Refuses what could not work.
    ///
    /// # Errors
    /// Names the setting and what it must be.
    pub fn validate(&self) -> anyhow::Result<()> {
        let Self { session, store, scylla, traces, info, general, .. } = self;
        check_ranges(&Table::try_from(self).context("the configuration")?)?;
        ensure!(
            scylla.nodes.is_empty() || store.sweep_margin_seconds >= 2 * scylla.clock_tolerance_seconds,
            "store.sweep_margin_seconds must be at least twice scylla.clock_tolerance_seconds"
        );
        ensure!(
            scylla.tls
                || scylla.tls_name.is_empty()
                    && [&scylla.tls_ca, &scylla.tls_cert, &scylla.tls_key]
                        .iter()
                        .all(|file| file.as_os_str().is_empty()),
            "scylla.tls_ca, tls_cert, tls_key and tls_name mean nothing without scylla.tls = true"
        );
        ensure!(
            session.mailbox > session.window,
            "session.mailbox must be larger than session.window, or answers would not fit"
        );
        ensure!(
            session.idle_seconds > session.ping_seconds,
            "session.idle_seconds must be larger than session.ping_seconds"
        );
        ensure!(
            info.pubkey.is_empty() || crate::protocol::PublicKey::from_hex(&info.pubkey).is_some(),
            "info.pubkey must be 64 lowercase hexadecimal digits"
        );
        ensure!(
            !general.proxy_protocol || !general.trusted_proxy.is_empty(),
            "proxy_protocol needs trusted_proxy: no header is read of others"
        );
        ensure!(
            ["", "grpc", "http/protobuf"].contains(&traces.protocol.as_str()),
            "traces.protocol must be \"grpc\" or \"http/protobuf\", not {:?}",
            traces.protocol
        );
        if !general.url.is_empty() {
            let rest = ["ws://", "wss://"].iter().find_map(|scheme| general.url.strip_prefix(scheme));
            ensure!(
                rest.is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/')),
                "url must look like wss://relay.example.com, not {:?}",
                general.url
            );
        }
        Ok(())
    }

    /// The URL of the relay, where it is known.
    ///
    /// # Errors
    /// It is none.
    pub fn relay_url(&self) -> anyhow::Result<Option<Url>> {
        match self.general.url.as_str() {
            "" => Ok(None),
            url => Ok(Some(Url::parse(url).with_context(|| format!("url {url:?} is not valid"))?)),
        }
    }

    /// The same without passwords, to be shown.
    pub fn without_secrets(&self) -> Self {
        let mut shown = self.clone();
        if !shown.scylla.password.is_empty() {
            shown.scylla.password = HIDDEN.to_owned();
        }
        for url in &mut shown.general.redis {
            *url = without_password(url);
        }
        if !shown.traces.otlp.is_empty() {
            shown.traces.otlp = without_password(&shown.traces.otlp);
        }
        shown
    }

    /// The effective configuration as a file.
    pub fn to_toml(&self) -> String {
        toml::to_string(self).unwrap_or_default()
    }
}

/// The machine itself.
fn loopback() -> Vec<Network> {
    let (v4, v6) = (Ipv4Net::new_assert([127, 0, 0, 0].into(), 8), Ipv6Net::from(Ipv6Addr::LOCALHOST));
    vec![IpNet::from(v4).into(), IpNet::from(v6).into()]
}

/// Stands where a password is.
const HIDDEN: &str = "hidden";

fn without_password(text: &str) -> String {
    // What is no such URL may be anything, and a query may have one.
    let Some(mut url) = Url::parse(text).ok().filter(|url| url.has_host() && url.query().is_none()) else {
        return HIDDEN.to_owned();
    };
    // A URL that is left as it is keeps its spelling too.
    match url.password().is_some() && url.set_password(Some(HIDDEN)).is_ok() {
        true => url.into(),
        false => text.to_owned(),
    }
}

/// Where a table can not be read. The sections' errors say which setting it is, those of the general
/// ones, which are read through serde's `flatten`, do not.
fn name_fault(table: &Table) -> String {
    let general = table.iter().filter(|(name, _)| General::SETTINGS.iter().any(|known| known.name == *name));
    let mut faults = general.filter(|(name, value)| {
        let alone = Table::from_iter([((*name).clone(), (*value).clone())]);
        Value::Table(alone).try_into::<General>().is_err()
    });
    match faults.next() {
        Some((name, value)) => format!("in the configuration: {name} can not be {value}"),
        None => "in the configuration".into(),
    }
}

/// Takes `section.name=value` (or `name=value`) from the command line.
///
/// # Errors
/// Says what is wrong with the text.
pub fn set(flags: &mut Table, text: &str) -> anyhow::Result<()> {
    let (path, value) = text.split_once('=').with_context(|| format!("{text:?} is not SETTING=VALUE"))?;
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    let defaults = Table::try_from(Config::default()).context("the defaults")?;
    let default = lookup(&defaults, section, name);
    ensure!(default.is_some(), "unknown setting {path:?}; `rookery config` prints them all");
    let value = parse_like(default, value).with_context(|| format!("in --set {text}"))?;
    insert(flags, section, name, value);
    Ok(())
}

/// Lays `over` onto `table`, table by table.
fn merge(table: &mut Table, over: Table) {
    for (name, value) in over {
        match (table.get_mut(&name), value) {
            (Some(Value::Table(inner)), Value::Table(over)) => merge(inner, over),
            (_, value) => {
                table.insert(name, value);
            }
        }
    }
}

/// Refuses numbers beyond their ranges.
fn check_ranges(table: &Table) -> anyhow::Result<()> {
    for (section, name, range) in ranges() {
        if let Some(value) = lookup(table, section, name).filter(|value| !range.has(value)) {
            let dot = if section.is_empty() { "" } else { "." };
            bail!("{section}{dot}{name} must be from {range}, not {value}");
        }
    }
    Ok(())
}

/// The settings that are numbers: section, name, and what they may be.
pub fn ranges() -> impl Iterator<Item = (&'static str, &'static str, Range)> {
    SECTIONS.iter().flat_map(|(section, _, settings)| {
        settings.iter().filter_map(|setting| Some((*section, setting.name, setting.range?)))
    })
}

/// The environment variables of all settings.
pub fn variables() -> impl Iterator<Item = String> {
    SECTIONS
        .iter()
        .flat_map(|(section, _, settings)| settings.iter().map(|setting| variable(section, setting.name)))
}

/// The environment variable of a setting: `ROOKERY_LISTEN`, `ROOKERY_LIMITS_MAX_FILTERS`.
fn variable(section: &str, name: &str) -> String {
    match section {
        "" => format!("ROOKERY_{name}"),
        section => format!("ROOKERY_{section}_{name}"),
    }
    .to_uppercase()
}

fn read(path: &Path) -> anyhow::Result<Table> {
    let text = std::fs::read_to_string(path)
        .with_context(|| format!("cannot read the configuration file {}", path.display()))?;
    text.parse().with_context(|| format!("{} is not valid TOML", path.display()))
}

/// Refuses unknown names, and says which names there are.
fn check_names(table: &Table) -> anyhow::Result<()> {
    let known: BTreeMap<&str, &[Setting]> = SECTIONS.iter().map(|(name, _, all)| (*name, *all)).collect();
    let check = |section: &str, name: &str| {
        let settings = known.get(section).copied().unwrap_or_default();
        if settings.iter().any(|setting| setting.name == name) {
            return Ok(());
        }
        let names: Vec<_> = settings.iter().map(|setting| setting.name).collect();
        bail!("unknown setting {name:?}; here are known: {}", names.join(", "))
    };
    for (name, value) in table {
        match value {
            Value::Table(inner) if known.contains_key(name.as_str()) => {
                inner.keys().try_for_each(|inner| check(name, inner)).with_context(|| format!("[{name}]"))?;
            }
            _ => check("", name)?,
        }
    }
    Ok(())
}

fn lookup<'a>(table: &'a Table, section: &str, name: &str) -> Option<&'a Value> {
    match section {
        "" => table.get(name),
        section => table.get(section)?.get(name),
    }
}

fn insert(table: &mut Table, section: &str, name: &str, value: Value) {
    let target = match section {
        "" => table,
        section => {
            let entry = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
            let Value::Table(inner) = entry else { return };
            inner
        }
    };
    target.insert(name.to_owned(), value);
}

/// Reads a variable as the type that the setting's default has. Lists are separated by commas.
fn parse_like(default: Option<&Value>, text: &str) -> anyhow::Result<Value> {
    Ok(match default {
        Some(Value::Integer(_)) => Value::Integer(text.parse().context("a whole number is expected")?),
        Some(Value::Float(_)) => Value::Float(text.parse().context("a number is expected")?),
        Some(Value::Boolean(_)) => Value::Boolean(text.parse().context("true or false is expected")?),
        Some(Value::Array(_)) => Value::Array(
            text.split(',')
                .map(str::trim)
                .filter(|part| !part.is_empty())
                .map(|part| Value::String(part.to_owned()))
                .collect(),
        ),
        _ => Value::String(text.to_owned()),
    })
}

/// `rookery.example.toml`: every setting with its explanation and default, commented out.
pub fn example() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut out = String::from(
        "# Every setting of Rookery with its default. Made by `rookery config --example`.\n\
         # Flags win over ROOKERY_… variables, variables over this file.\n",
    );
    for (section, about, settings) in SECTIONS {
        out.push('\n');
        for line in *about {
            out.push_str(&format!("#{line}\n"));
        }
        if !section.is_empty() {
            out.push_str(&format!("[{section}]\n"));
        }
        for setting in *settings {
            out.push('\n');
            for line in setting.doc {
                out.push_str(&format!("#{line}\n"));
            }
            if let Some(range) = setting.range {
                out.push_str(&format!("# From {range}.\n"));
            }
            let value = lookup(&defaults, section, setting.name).map(ToString::to_string).unwrap_or_default();
            out.push_str(&format!("#{} = {value}\n", setting.name));
        }
    }
    out
}

/// `docs/configuration.md`: the same as a reference.
pub fn reference() -> String {
    let defaults = Table::try_from(Config::default()).unwrap_or_default();
    let mut out = String::from(
        "# Configuration\n\n\
         Made from the code by `rookery config --reference`.\n\n\
         A setting is taken from the first of: the command line, the environment, the file given with\n\
         `--config` (or `ROOKERY_CONFIG`), its default. `rookery config` prints what is in force,\n\
         without passwords.\n",
    );
    for (section, about, settings) in SECTIONS {
        let title = if section.is_empty() { "General".to_owned() } else { format!("[{section}]") };
        out.push_str(&format!("\n## {title}\n\n"));
        for line in *about {
            out.push_str(&format!("{}\n", line.trim_start()));
        }
        out.push_str("\n| setting | default | from – to | variable | meaning |\n|---|---|---|---|---|\n");
        for setting in *settings {
            let value = lookup(&defaults, section, setting.name).map(ToString::to_string).unwrap_or_default();
            let doc: Vec<_> = setting.doc.iter().map(|line| line.trim_start()).collect();
            out.push_str(&format!(
                "| `{}` | `{value}` | {} | `{}` | {} |\n",
                setting.name,
                setting.range.map(|range| range.to_string().replace(" to ", " – ")).unwrap_or_default(),
                variable(section, setting.name),
                doc.join(" ")
            ));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(file: &str, env: &[(&str, &str)], flags: &str) -> anyhow::Result<Config> {
        let folder = tempfile::tempdir()?;
        let path = folder.path().join("rookery.toml");
        std::fs::write(&path, file)?;
        let env: BTreeMap<_, _> = env.iter().copied().collect();
        Config::load(Some(&path), |name| env.get(name).map(|v| (*v).to_owned()), flags.parse()?)
    }

    #[test]
    fn flags_win_over_variables_over_file_over_defaults() {
        let file = "url = 'ws://file'\nnode_id = 'file'\nlog = 'file'\n[limits]\nmax_filters = 3\n";
        let env = [("ROOKERY_URL", "ws://env"), ("ROOKERY_NODE_ID", "env"), ("ROOKERY_LIMITS_MAX_TAGS", "9")];
        let config = load(file, &env, "url = 'ws://flag'").unwrap();
        assert_eq!(config.general.url, "ws://flag");
        assert_eq!(config.general.node_id, "env");
        assert_eq!(config.general.log, "file");
        assert_eq!((config.limits.max_filters, config.limits.max_tags), (3, 9));
        assert_eq!(config.limits.max_limit, 5_000);
    }

    #[test]
    fn mistakes_are_named() {
        for (file, env, expected) in [
            ("listne = '1'", vec![], "unknown setting \"listne\""),
            ("[limits]\nmax_filter = 1", vec![], "unknown setting \"max_filter\""),
            ("[limits]\nmax_filters = 'x'", vec![], "max_filters"),
            ("", vec![("ROOKERY_LIMITS_MAX_TAGS", "many")], "ROOKERY_LIMITS_MAX_TAGS"),
            ("[limits]\nmax_filters = 0", vec![], "limits.max_filters must be from 1 to 65536, not 0"),
            ("url = 'relay.example.com'", vec![], "url must look like"),
            ("listen = '7777x'", vec![], "listen can not be \"7777x\""),
            ("listen = 77777", vec![], "listen can not be 77777"),
            ("trusted_proxy = ['10.0.0.300/8']", vec![], "trusted_proxy"),
            ("trusted_proxy = ['proxy-1']", vec![], "\"proxy-1\" is no network"),
            ("proxy_protocol = true", vec![], "proxy_protocol needs trusted_proxy"),
            ("[scylla]\ntls_ca = 'ca.pem'", vec![], "without scylla.tls = true"),
            ("[scylla]\ntls_name = 'cql'", vec![], "without scylla.tls = true"),
        ] {
            let error = format!("{:#}", load(file, &env, "").unwrap_err());
            assert!(error.contains(expected), "{error}");
        }
    }

    #[test]
    fn every_number_has_a_range_and_nothing_beyond_it_is_taken() {
        let defaults = Table::try_from(Config::default()).unwrap();
        for (section, _, settings) in SECTIONS {
            for Setting { name, range, .. } in *settings {
                let default = lookup(&defaults, section, name).unwrap();
                assert_eq!(default.is_integer() || default.is_float(), range.is_some(), "{section}.{name}");
            }
        }
        let refusal = |section: &str, name: &str, value: Value| {
            let mut flags = Table::new();
            insert(&mut flags, section, name, value);
            let loaded = Config::load(None, |_| None, flags);
            // Some must be larger than others as well.
            loaded.err().map(|error| error.to_string()).filter(|text| text.contains(" must be from "))
        };
        for (section, name, range) in ranges() {
            let (inside, beyond) = match range {
                Range::Whole(from, to) => {
                    let beyond = [from.checked_sub(1), to.checked_add(1)].into_iter().flatten();
                    (vec![from.into(), to.into()], beyond.map(Value::Integer).collect::<Vec<_>>())
                }
                Range::Part(from, to) => {
                    let beyond = [from - 0.001, to + 0.001, f64::NAN];
                    (vec![from.into(), to.into()], beyond.map(Value::Float).into())
                }
            };
            for value in inside {
                assert_eq!(refusal(section, name, value), None, "{section}.{name}");
            }
            for value in beyond {
                let text = refusal(section, name, value.clone()).unwrap();
                assert!(text.ends_with(&format!("{name} must be from {range}, not {value}")), "{text}");
            }
        }
    }

    #[test]
    fn lists_come_from_variables() {
        let config = load("", &[("ROOKERY_TRUSTED_PROXY", "10.0.0.0/8, ::1")], "").unwrap();
        assert_eq!(config.general.trusted_proxy.len(), 2);
    }

    #[test]
    fn addresses_may_be_names_or_ports_alone() {
        for (file, expected) in [
            ("listen = '7000'", "127.0.0.1:7000"),
            ("listen = 7000", "127.0.0.1:7000"),
            ("listen = 'localhost:7000'", "127.0.0.1:7000"),
            ("listen = '0.0.0.0:7000'", "0.0.0.0:7000"),
            ("listen = '[::1]:7000'", "[::1]:7000"),
        ] {
            assert_eq!(load(file, &[], "").unwrap().general.listen.to_string(), expected);
        }
        assert_eq!(load("", &[("ROOKERY_LISTEN", "7001")], "").unwrap().general.listen.port(), 7_001);
    }

    #[test]
    fn proxies_may_be_addresses_or_networks() {
        let file = "trusted_proxy = ['10.0.0.5', '10.1.0.0/16', '::1']\n[traces]\ntrusted = ['192.0.2.1']";
        let config = load(file, &[], "").unwrap();
        let shown = config.general.trusted_proxy.iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(shown, ["10.0.0.5/32", "10.1.0.0/16", "::1/128"]);
        assert!(config.traces.trusted[0].contains("192.0.2.1".parse().unwrap()));
        let read_back = load(&config.to_toml(), &[], "").unwrap();
        assert_eq!(read_back.general.trusted_proxy, config.general.trusted_proxy);
    }

    #[test]
    fn passwords_are_not_shown() {
        let mut config = Config::default();
        config.scylla.password = "secret".into();
        config.general.redis = [
            "redis://user:secret@redis-1:6379",
            "rediss://:secret@redis-2",
            "unix:///run/redis?user=u&pass=secret",
            "user:secret@redis-3:6379",
            "redis://redis-4:6379",
        ]
        .map(str::to_owned)
        .to_vec();
        let shown = config.without_secrets();
        assert!(!shown.to_toml().contains("secret"), "{}", shown.to_toml());
        assert_eq!(shown.general.redis[0], "redis://user:hidden@redis-1:6379");
        assert_eq!(shown.general.redis[4], "redis://redis-4:6379");
        assert_eq!(Config::default().without_secrets().to_toml(), Config::default().to_toml());
    }

    #[test]
    fn the_example_with_its_comments_taken_away_is_the_default() {
        let uncommented: String = example()
            .lines()
            .filter_map(|line| line.strip_prefix('#').map_or(Some(line), |l| l.contains(" = ").then_some(l)))
            .filter(|line| !line.starts_with(' '))
            .map(|line| format!("{line}\n"))
            .collect();
        let config = load(&uncommented, &[], "").unwrap();
        assert_eq!(config.to_toml(), Config::default().to_toml());
    }

    #[test]
    fn the_effective_configuration_can_be_read_back() {
        let text = Config::default().to_toml();
        assert_eq!(load(&text, &[], "").unwrap().to_toml(), text);
    }
}
