//! What channels are called in Redis: `rookery:{<partition>}:<key>`. The braces are a hash tag of Redis Cluster: they
//! pin each of 128 partitions to one slot, so that a partition is subscribed to as a whole, at one server.

use xxhash_rust::xxh3::xxh3_64;

use crate::bus::{channel::Channel, transport::Destination};

/// Partitions of the channels. Part of the protocol between nodes.
pub const PARTITIONS: u16 = 128;

/// A partition: a number below [`PARTITIONS`].
pub type Partition = u16;

/// The name of the channel of watermarks, after the prefix and the partition. It is part of the protocol between nodes,
/// from when they were called so.
const WATERMARK: &str = "fence";

/// The name of the channel of cards. There is one for all primaries, in a partition that is chosen here.
const CARD: &str = "card";
pub const CARD_PARTITION: Partition = 0;

/// The name of the channel of events that go to all nodes, as they can not be read from a store and would be too much
/// under each key.
const EVERYBODY: &str = "everybody";
const EVERYBODY_PARTITION: Partition = 1;

/// The name of the channel of changes of records.
const RECORDS: &str = "records";
const RECORDS_PARTITION: Partition = 2;

/// The name of a channel.
pub fn name(prefix: &str, channel: &Channel) -> String {
    let text = channel.to_string();
    let partition = (xxh3_64(text.as_bytes()) % u64::from(PARTITIONS)) as Partition;
    format!("{prefix}:{{{partition}}}:{text}")
}

/// The name of the channel that leads there.
pub fn address(prefix: &str, address: &Destination) -> String {
    match address {
        Destination::Channel(channel) => name(prefix, channel),
        Destination::Everybody => control(prefix, EVERYBODY_PARTITION, EVERYBODY),
        Destination::Records => control(prefix, RECORDS_PARTITION, RECORDS),
    }
}

pub fn watermarks(prefix: &str, partition: Partition) -> String {
    control(prefix, partition, WATERMARK)
}

pub fn cards(prefix: &str) -> String {
    control(prefix, CARD_PARTITION, CARD)
}

/// A name of the partition that is no key's: for what nodes tell each other.
pub fn control(prefix: &str, partition: Partition, what: &str) -> String {
    format!("{prefix}:{{{partition}}}:~{what}")
}

/// The partition that a channel's name is of.
pub fn partition_of(name: &str) -> Option<Partition> {
    let (_, rest) = name.split_once('{')?;
    let (number, _) = rest.split_once('}')?;
    number.parse().ok().filter(|&partition| partition < PARTITIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{bus::channel::channels, protocol::PublicKey, route::key::RoutingKey};

    #[test]
    fn names_tell_the_partition() {
        let channel = channels(RoutingKey::By(PublicKey([7; 32])))[0];
        let name = name("rookery", &channel);
        assert!(name.starts_with("rookery:{") && name.ends_with(&format!("}}:by:{}", "07".repeat(32))));
        let partition = xxh3_64(channel.to_string().as_bytes()) % u64::from(PARTITIONS);
        assert_eq!(partition_of(&name), Some(partition as Partition));
        assert_eq!(partition_of(&watermarks("x", 127)), Some(127));
        assert_eq!(partition_of("x:{128}:y"), None);
        assert_eq!(partition_of("x"), None);
    }
}
