//! HTTP and WebSocket: accepts connections, bounds them, describes the relay, reports to operators.
//!
//! Knows nothing of what sessions say.

mod client;
mod descriptors;
mod info;
mod ops;
mod proxy;
mod server;
mod v1;

pub use self::{
    descriptors::{Descriptors, raise_descriptor_limit},
    info::SUPPORTED_NIPS,
    ops::{Need, Readiness, serve as serve_ops},
    server::{Server, serve},
    v1::{Ask, ChangeRefused, Problem, Token, V1, What},
};
