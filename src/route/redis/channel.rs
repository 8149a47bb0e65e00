//! Channels: where in Redis an event of a routing key is published.
//!
//! A channel is `rookery:{<partition>}:<key>`. The braces are a hash tag of Redis Cluster: they pin each
//! of 128 partitions to one slot, so that a partition is subscribed to as a whole, at one server.

use std::fmt;

use smallvec::{SmallVec, smallvec};
use xxhash_rust::xxh3::xxh3_64;

use crate::{protocol::EventId, route::key::RoutingKey};

/// Partitions of the channels. Part of the protocol between nodes.
pub const PARTITIONS: u16 = 128;

/// Channels of a wide key: one for each first hexadecimal digit of an id.
const SHARES: u8 = 16;

/// A partition: a number below [`PARTITIONS`].
pub type Partition = u16;

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

    /// The name in Redis.
    pub fn name(&self, prefix: &str) -> String {
        let text = self.to_string();
        let partition = (xxh3_64(text.as_bytes()) % u64::from(PARTITIONS)) as Partition;
        format!("{prefix}:{{{partition}}}:{text}")
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

/// The channel of a partition for what nodes tell each other: fences and heartbeats.
pub fn control(prefix: &str, partition: Partition, what: &str) -> String {
    format!("{prefix}:{{{partition}}}:~{what}")
}

/// The partition that a channel's name is of.
pub fn partition_of(name: &str) -> Option<Partition> {
    let (_, rest) = name.split_once('{')?;
    let (number, _) = rest.split_once('}')?;
    number.parse().ok().filter(|&partition| partition < PARTITIONS)
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

    #[test]
    fn names_tell_the_partition() {
        let channel = channels(RoutingKey::By(PublicKey([7; 32])))[0];
        let name = channel.name("rookery");
        assert!(name.starts_with("rookery:{") && name.ends_with(&format!("}}:by:{}", "07".repeat(32))));
        let partition = xxh3_64(channel.to_string().as_bytes()) % u64::from(PARTITIONS);
        assert_eq!(partition_of(&name), Some(partition as Partition));
        assert_eq!(partition_of(&control("x", 127, "fence")), Some(127));
        assert_eq!(partition_of("x:{128}:y"), None);
        assert_eq!(partition_of("x"), None);
    }
}
