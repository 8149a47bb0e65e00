//! Rookery: an actor-based Nostr relay.
//!
//! The modules in the order in which an event meets them:
//! a command ([`cli`]) reads the [`config`] and runs a [`node`]; [`net`] accepts a socket, a
//! [`session`] reads [`protocol`] messages from it, [`ingest`] admits an event, [`persist`] writes it
//! to a [`store`], and [`route`] finds the sessions that want it. An
//! [`account`] is somebody whose key the relay keeps. A [`client`] is the other end: it talks to relays.
//!
//! No part imports from one above it, or from one beside it:
//!
//! ```text
//! cli
//! bench
//! node
//! net
//! session aggregate feed
//! persist bus
//! route ingest account
//! store
//! client telemetry
//! trace
//! config
//! seal backoff clock tls told token_bucket waits
//! private_file
//! protocol
//! ```

pub mod aggregate;
mod bench;
pub mod cli;
pub mod client;
pub mod config;
pub mod feed;
pub mod node;
pub mod telemetry;
pub mod tls;
pub mod trace;

pub mod net;
pub mod protocol;
pub mod session;

pub mod account;
pub mod ingest;
pub mod persist;
pub mod store;

pub mod bus;
pub mod route;

mod backoff;
mod clock;
mod private_file;
mod seal;
mod token_bucket;
mod told;
mod waits;
