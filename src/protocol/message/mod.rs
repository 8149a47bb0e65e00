//! What clients and relays say to each other: arrays whose first element is the verb (NIP-01, 42, 45, 67, 77).

mod client;
mod relay;

pub use self::{
    client::{ClientMessage, MAX_SUBSCRIPTION_ID},
    relay::{Hint, Quoted, RelayMessage, ok},
};
pub(super) use client::{Text, element};
