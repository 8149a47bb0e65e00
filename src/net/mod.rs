//! HTTP and WebSocket: accepts connections, bounds them, describes the relay, reports to operators.
//!
//! Knows nothing of what sessions say.

mod client;
mod connections;
mod descriptors;
mod guard;
mod info;
mod ops;
mod proxy;
mod server;
mod socket;

/// The header by which the answer to a handshake tells which store the node has: nodes that share one tell the
/// same. So a client knows a relay again, whatever its address.
pub const STORE_HEADER: &str = "rookery-store";

pub use self::{
    connections::{Connections, Permit, network},
    descriptors::{Descriptors, raise_descriptor_limit},
    info::SUPPORTED_NIPS,
    ops::{Need, Readiness, serve as serve_ops},
    server::{Server, serve},
    socket::{Incoming, SocketContext},
};
