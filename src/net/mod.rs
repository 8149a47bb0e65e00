//! HTTP and WebSocket: accepts connections, bounds them, describes the relay, reports to operators.
//!
//! Knows nothing of what sessions say.

mod client;
mod described;
mod descriptors;
mod info;
mod ops;
mod page;
mod parameters;
mod people;
mod problem;
mod proxy;
mod server;
mod v1;

pub use self::{
    descriptors::{Descriptors, raise_descriptor_limit},
    info::SUPPORTED_NIPS,
    ops::{Need, Readiness, serve as serve_ops},
    parameters::Parameters,
    people::{FormFailed, People, page_url},
    problem::Problem,
    server::{Server, serve},
    v1::{AccountPage, AccountView, Ask, ChangeRefused, CodeView, Follow, Guests, Keeper, Token, V1, What},
};
