//! Why the cluster store can not be opened, in words that say what to do.

use scylla::errors::{ExecutionError, NewSessionError, PrepareError};

use super::link::Refusal;
use crate::{store::StoreError, tls::TlsError};

/// Why a store could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("cannot reach the store at {nodes}: {error}")]
    Connect { nodes: String, error: Box<NewSessionError> },
    #[error("cannot reach the store at {nodes}: {refusal}")]
    Refused { nodes: String, refusal: Refusal },
    #[error("cannot reach the store by TLS: {0}")]
    Tls(#[from] TlsError),
    #[error("keyspace {0} has no tables of Rookery; `rookery schema apply` makes them")]
    NoKeyspace(String),
    #[error("{0:?} is no name for a keyspace: letters, digits and _, at most 48")]
    BadName(String),
    #[error("the tables want programs of version {found} or later, and this one is of version {own}")]
    Version { found: String, own: u32 },
    #[error("{name:?} is no consistency; there are {known}")]
    Consistency { name: String, known: String },
    #[error(
        "with {read} reads and {write} writes, keyspace {keyspace} (replicas {replicas}) could miss what was acknowledged; choose a higher consistency"
    )]
    NoOverlap { keyspace: String, replicas: String, read: String, write: String },
    #[error(
        "keyspace {0} has replicas in several datacentres, and the consistency is of one: say which with scylla.datacenter"
    )]
    WhichDatacenter(String),
    #[error(
        "keyspace {keyspace} does not take lightweight transactions, by which the relay's own records are changed; ScyllaDB before 2025.4 has none where a keyspace has tablets: update it, or use a keyspace that was made with AND tablets = {{'enabled': false}} ({error})"
    )]
    NoConditions { keyspace: String, error: Box<ExecutionError> },
    #[error("scylla.datacenter: no server is in {wanted:?}; there are: {known}")]
    NoDatacenter { wanted: String, known: String },
    #[error("cannot prepare {text:?}: {error} (`rookery schema apply` adds what tables lack)")]
    Prepare { text: String, error: Box<PrepareError> },
    #[error("cannot read or change the schema: {0}")]
    Schema(Box<dyn std::error::Error + Send + Sync>),
    #[error(
        "the keyspace wants {required} servers to agree, and there are {servers}; say how many copies there are to be, such as --replication \"{{'class': 'NetworkTopologyStrategy', 'replication_factor': {servers}}}\", or try again when all servers are there"
    )]
    FewServers { required: usize, servers: usize },
    #[error("cannot read the clock of the servers: {}", .0.detail())]
    Clock(StoreError),
    #[error("cannot start a thread: {0}")]
    Thread(std::io::Error),
}
