//! One node, and nothing but its binary: over real sockets, and by its commands. A file a subject.

mod bad_input;
mod bounds;
mod cli;
mod commands;
mod documents;
mod frames;
mod full_map;
mod gathered;
mod generated;
mod handshake;
mod index;
mod layers;
mod nips;
mod nostr_sdk;
mod operations;
mod protocol;
mod settings;
mod shared_settings;
mod shutdown;
mod tour;
mod unread_log;
mod upstream_commands;
mod upstreams;
