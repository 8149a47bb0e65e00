//! Rookery: an actor-based Nostr relay.

pub mod protocol;
