//! Channels: where an event of a routing key is published.

use std::fmt;

use smallvec::{SmallVec, smallvec};

use crate::{protocol::EventId, route::key::RoutingKey};

/// Channels of a wide key: one for each first hexadecimal digit of an id.
const SHARES: u8 = 16;

/// A channel of events: a routing key, and for a wide one the share of the ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Channel {
    key: RoutingKey,
    share: Option<u8>,
}

/// All channels of a key, for who wants its events: a wide key has several, so that it is not the
/// business of one server.
pub fn channels(key: RoutingKey) -> SmallVec<[Channel; 1]> {
    match is_wide(&key) {
        true => (0..SHARES).map(|share| Channel { key, share: Some(share) }).collect(),
        false => smallvec![Channel { key, share: None }],
    }
}

impl Channel {
    /// The one channel in which an event is published for one of its keys.
    pub fn of(key: RoutingKey, id: &EventId) -> Self {
        Self { key, share: is_wide(&key).then_some(id.0[0] >> 4) }
    }

    /// The hash of its key.
    pub fn digest(&self) -> u64 {
        self.key.digest()
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.share {
            Some(share) => write!(f, "{}:{share:x}", self.key),
            None => self.key.fmt(f),
        }
    }
}

fn is_wide(key: &RoutingKey) -> bool {
    matches!(key, RoutingKey::Kind(_) | RoutingKey::All)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::PublicKey;

    #[test]
    fn an_event_is_published_where_its_key_is_subscribed() {
        for key in [RoutingKey::By(PublicKey([7; 32])), RoutingKey::Kind(1), RoutingKey::All] {
            for first in 0..=255 {
                let channel = Channel::of(key, &EventId([first; 32]));
                assert!(channels(key).contains(&channel));
            }
        }
        assert_eq!(channels(RoutingKey::Kind(1)).len(), 16);
    }
}
