//! A client of a relay (NIP-01, NIP-42): bounded messages, a bound on every wait, no flag and no line printed.
//!
//! An [`Endpoint`] says where a relay is and as whom it is talked to; it connects. A [`Connection`] publishes events
//! and keeps [`Subscription`]s, finds out what both sides lack and fetches it by ids; [`Pages`] reads stored events,
//! through lost connections. Nothing else reconnects by itself: who holds a connection knows what is to be said again,
//! and [`Endpoint::backoff`] says when.
//! `examples/send.rs` and `examples/watch.rs` are whole programs.

mod connection;
mod endpoint;
mod error;
mod fetch;
mod handshake;
mod information;
mod manners;
mod pages;
mod reach;
mod reconcile;
mod shown;
mod subscription;

pub use self::{
    connection::{Connection, Receipt, Step},
    endpoint::{Bounds, Endpoint, Observer, Token},
    error::ClientError,
    fetch::{Fetched, Found},
    manners::Manners,
    pages::{PAGE, Pages},
    reach::{Reach, is_public},
    reconcile::Differences,
    shown::{is_unruly, shown, shown_url},
    subscription::{Arrival, Subscription},
};
pub use crate::backoff::Backoff;
