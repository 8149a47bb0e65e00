//! The Nostr protocol as values: ids, events, filters, messages, refusals.
//!
//! No I/O, no clock, no actors. Everything that enters from the network passes through here once
//! and is bounded and typed from then on.

pub mod addressee;
mod audience;
pub mod event;
pub mod fields;
pub mod filter;
pub mod frame;
pub mod hex32;
pub mod hll;
pub mod identity;
pub mod kind;
mod meaning;
pub mod message;
pub mod negentropy;
pub mod nip19;
pub mod reason;
pub mod reply;
pub mod sign;
mod tag_filter;
pub mod tags;
pub mod verify;
mod viewer;

pub use addressee::Malformed;
pub use audience::Audience;
pub use event::{Event, ParsedEvent};
pub use filter::Filter;
pub use hex32::{EventId, PublicKey};
pub use identity::Identity;
pub use meaning::Fields;
pub use message::{ClientMessage, RelayMessage};
pub use reason::{Prefix, Reason};
pub use reply::Reply;
pub use tag_filter::TagFilter;
pub use tags::Tags;
pub use viewer::{Circle, Viewer};

/// Seconds since the Unix epoch, the unit of `created_at`, `since`, `until` and `expiration`.
pub type Timestamp = u64;

/// The header by which the answer to a handshake tells which store the node has: nodes that share one tell the
/// same. So a client knows a relay again, whatever its address.
pub const STORE_HEADER: &str = "rookery-store";
