//! What most operators set, by flags too.

use std::{net::SocketAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use super::{
    network::Network,
    setting::{HOUR, section, whole},
};

section! {
    /// Settings that have a flag of the same name (`--listen`, `--ops-listen`, …).
    General {
        /// Address and port for clients: WebSocket and NIP-11 over HTTP. A name is looked up at the start, a port
        /// alone is one of loopback.
        listen: fixed SocketAddr = SocketAddr::from(([127, 0, 0, 1], 7777)),
        /// Address and port for operators: /health/live, /health/ready, /metrics, /v1. Keep it private.
        ops_listen: fixed SocketAddr = SocketAddr::from(([127, 0, 0, 1], 9777)),
        /// File with the token that programs of operators show to ask anything else there (/v1): 16 to 256 characters,
        /// which only its owner should read. Empty: "ops.token" in the folder of the embedded store, made at the first
        /// start; a node of a cluster has none then, and answers nobody.
        ops_token_file: fixed PathBuf = PathBuf::new(),
        /// File with the master key, under which secrets are sealed that the store keeps, such as keys of upstreams: 64
        /// hexadecimal digits, and only its owner may read it. Empty: rookery/master.key in $XDG_CONFIG_HOME or ~/.config,
        /// made when one machine needs it first; the nodes of a cluster are all given the same. Without it, what it has
        /// sealed is lost.
        master_key_file: fixed PathBuf = PathBuf::new(),
        /// Files with master keys that another one takes the place of: what they have sealed still opens, until `rookery
        /// accounts rekey` has sealed it anew.
        old_master_key_files: fixed Vec<PathBuf> = Vec::new(),
        /// Folder of the embedded store. Made when it is missing.
        data: fixed PathBuf = PathBuf::from("./rookery-data"),
        /// The URL under which clients reach this relay, such as "wss://relay.example.com". Checked in
        /// AUTH (NIP-42) and requests to vanish (NIP-62). Empty: AUTH counts only for clients that connect
        /// to an address of this machine themselves, and name it.
        url: fixed String = String::new(),
        /// Name of this node in logs and metrics. Empty: the host's name.
        node_id: fixed String = String::new(),
        /// Proxies that are believed whom they speak for, by address or network, such as ["10.0.0.5",
        /// "10.1.0.0/16"]: in the X-Forwarded-For header, and before it in the PROXY protocol.
        trusted_proxy: fixed Vec<Network> = Vec::new(),
        /// Whether every connection of a trusted proxy begins with a PROXY header (version 1 or 2), as
        /// balancers on TCP level send it. Such a connection is closed if it does not; of others, none
        /// is read.
        proxy_protocol: fixed bool = false,
        /// URLs of Redis servers through which nodes share live events, such as
        /// "redis://user:password@redis-1:6379" ("rediss" with TLS). Any nodes of one Redis Cluster, or one
        /// server. Empty: this node is alone.
        redis: fixed Vec<String> = Vec::new(),
        /// What is logged: a level (off, error, warn, info, debug, trace), and others for parts of the program, in the
        /// syntax of tracing's EnvFilter. RUST_LOG wins over it. Two parts are off unless they are named here: actix_http
        /// calls it an error whenever a client speaks no HTTP, and opentelemetry whenever spans are lost. When that
        /// begins and ends, the relay says itself.
        log: fixed String = "info,actix_server=warn,scylla=warn".into(),
        /// Lines of the log that may wait to be written; beyond, they are lost. Nobody waits for the log.
        log_lines: fixed usize = 8_192 => whole(1, 1 << 20),
        /// Seconds for which the persister, or a thread of the store, may be at one thing before the node is
        /// not ready any more.
        stuck_seconds: fixed u64 = 10 => whole(1, HOUR),
        /// Seconds between looks for settings that were changed at another node. Where there is a bus, that node tells of
        /// them at once.
        settings_seconds: fixed u64 = 5 => whole(1, HOUR),
        /// Threads that serve clients. 0: one a core.
        workers: fixed usize = 0 => whole(0, 256),
        /// Seconds from the signal to the end of the process, whatever is away: half of them for what is on its way
        /// to the store, the rest for other nodes and for sockets, which are closed spread over half of it at most.
        drain_seconds: fixed u64 = 5 => whole(1, HOUR),
    }
}
