//! The cluster store.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::setting::{DAY, HOUR, section, whole};

section! {
    /// The cluster store: ScyllaDB or Apache Cassandra, over CQL. It is used where nodes are named
    /// (`--scylla`), else the embedded one is.
    Scylla {
        /// Servers to ask first, such as ["10.0.0.1:9042"]; they name the others.
        nodes: fixed Vec<String> = Vec::new(),
        /// Keyspace with the tables, which `rookery schema apply` makes.
        keyspace: fixed String = "rookery".into(),
        /// User name. Empty: the servers ask for none.
        user: fixed String = String::new(),
        /// Password of that user.
        password: fixed String = String::new(),
        /// Whether all links to the servers are TLS, to those found later too. None is without then.
        tls: fixed bool = false,
        /// File with the certificates (PEM) of the authorities that the servers' certificates may be of, and of no
        /// others. Empty: those of the system; SSL_CERT_FILE names others.
        tls_ca: fixed PathBuf = PathBuf::new(),
        /// File with a certificate (PEM) for servers that want one of their clients.
        tls_cert: fixed PathBuf = PathBuf::new(),
        /// File with the private key (PEM) of that certificate.
        tls_key: fixed PathBuf = PathBuf::new(),
        /// Name that every server's certificate must have. Empty: the IP address at which it is reached.
        tls_name: fixed String = String::new(),
        /// Datacentre whose servers are asked, no others. Empty: any.
        datacenter: fixed String = String::new(),
        /// How many replicas answer a read, by its name in CQL. The start refuses what could miss a
        /// write: reads and writes together must be more than there are replicas.
        read_consistency: fixed String = "LOCAL_QUORUM".into(),
        /// How many replicas acknowledge a write. LOCAL_QUORUM of one replica is that one.
        write_consistency: fixed String = "LOCAL_QUORUM".into(),
        /// Milliseconds after which a statement is tried again.
        request_timeout_ms: fixed u64 = 1_000 => whole(1, HOUR * 1_000),
        /// Milliseconds after which another server is asked too.
        speculative_ms: fixed u64 = 200 => whole(1, HOUR * 1_000),
        /// Milliseconds for which a batch or a page is tried; then it reads "error: …".
        deadline_ms: fixed u64 = 2_000 => whole(1, HOUR * 1_000),
        /// Statements in flight of batches; as many again of questions, and of what nodes tell each other.
        concurrency: fixed usize = 256 => whole(1, 1 << 16),
        /// Pages and counts that are read or wait for their turn; beyond, they read "error: overloaded".
        max_queries: fixed usize = 1_000 => whole(1, 1 << 24),
        /// Statements that the questions under way make, about; further questions wait. A quarter is kept for those
        /// of few ranges of rows (a filter has one for each id, tag value, or author and kind).
        question_statements: fixed usize = 4_096 => whole(1, 1 << 24),
        /// Milliseconds for which a question waits for its turn; then it reads "error: overloaded".
        question_wait_ms: fixed u64 = 5_000 => whole(0, HOUR * 1_000),
        /// Threads that talk to the servers. 0: one a core.
        threads: fixed usize = 0 => whole(0, 256),
        /// Bytes of events read at once for a subscription; the next page is read when they are sent.
        page_bytes: fixed usize = 128 * 1024 => whole(1, 1 << 30),
        /// Most rows of one answer of a server.
        page_rows: fixed usize = 100 => whole(1, 1 << 20),
        /// Rows of a partition beyond which further ones of that key go to partitions by time.
        partition_rows: fixed usize = 32_768 => whole(1, 1 << 30),
        /// Rows looked at for a REQ, each statement counting for ten; past it, EOSE comes without a hint.
        query_rows: fixed usize = 200_000 => whole(0, 1 << 40),
        /// The same for a COUNT; past it, the answer is approximate.
        count_rows: fixed usize = 200_000 => whole(0, 1 << 40),
        /// Seconds by which the clock of a node may differ from the median of the others; one that is further off
        /// says so, also where nodes share Redis alone, and removes nothing as expired where they share a store.
        /// store.sweep_margin_seconds must be at least twice as long.
        clock_tolerance_seconds: fixed u64 = 15 => whole(0, DAY),
        /// Events that a removal (of the expired, of the vanished) takes at once.
        sweep_batch: fixed usize = 16 => whole(1, 1 << 16),
        /// Rows that it reads at once.
        sweep_rows: fixed usize = 1_000 => whole(1, 1 << 20),
        /// Milliseconds after which it makes a pause, as long as store.sweep_share says.
        sweep_ms: fixed u64 = 100 => whole(1, 60_000),
        /// Statements in flight about the relay's own records (settings, lists, accounts).
        record_concurrency: fixed usize = 32 => whole(1, 1 << 16),
        /// Statements of removals in flight.
        sweep_concurrency: fixed usize = 4 => whole(1, 1 << 16),
    }
}
