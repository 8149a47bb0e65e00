//! Rookery: an actor-based Nostr relay.

pub mod cli;
pub mod config;
pub mod protocol;
pub mod store;
