//! What rows are named by, and the timestamps that order their writes.

use sha2::{Digest, Sha256};

use crate::protocol::{
    Event, EventId, PublicKey, Timestamp, event::Address as Named, hex32::decode_lower_hex,
};

/// The last second whose timestamps fit into 64 bits. Later ones share those of this one.
const LAST_SECOND: Timestamp = (i64::MAX / MICROS) as Timestamp - 1;
const MICROS: i64 = 1_000_000;

/// The timestamp at which something of that second is written, in microseconds.
pub fn written_at(created_at: Timestamp) -> i64 {
    created_at.min(LAST_SECOND) as i64 * MICROS
}

/// The timestamp at which the rows of an event are written that was swept so many times before.
pub fn inserted_at(created_at: Timestamp, swept: i32) -> i64 {
    written_at(created_at) + i64::from(swept).clamp(0, MICROS - 2)
}

/// The timestamp at which the rows of an event are taken away for good.
pub fn removed_at(created_at: Timestamp) -> i64 {
    written_at(created_at) + MICROS - 1
}

/// Seconds as a column holds them.
pub fn column(seconds: Timestamp) -> i64 {
    seconds.min(i64::MAX as Timestamp) as i64
}

/// Seconds from a column.
pub fn seconds(column: i64) -> Timestamp {
    column.max(0) as Timestamp
}

/// Reads an id from a column.
pub fn id(bytes: &[u8]) -> Option<EventId> {
    bytes.try_into().ok().map(EventId)
}

/// Reads a public key from a column.
pub fn pubkey(bytes: &[u8]) -> Option<PublicKey> {
    bytes.try_into().ok().map(PublicKey)
}

/// The address of a replaceable or addressable event. The identifier is as long as its author likes, so
/// its hash stands for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashedAddress {
    pub pubkey: PublicKey,
    pub kind: u16,
    pub d: [u8; 32],
}

impl HashedAddress {
    pub fn new(pubkey: PublicKey, kind: u16, identifier: &str) -> Self {
        Self { pubkey, kind, d: Sha256::digest(identifier).into() }
    }

    /// The address of an event whose kind has one.
    pub fn of(event: &Event) -> Option<Self> {
        Some(Self::new(event.pubkey(), event.kind(), event.address_identifier()?))
    }

    /// The addresses that a deletion request names and its author owns.
    pub fn named_by(request: &Event) -> impl Iterator<Item = Self> {
        let named = request.tags().values("a").filter_map(Named::parse);
        let owned = named.filter(|named| named.pubkey == request.pubkey());
        owned.map(|named| Self::new(named.pubkey, named.kind, named.identifier))
    }
}

/// A version of an address. The greater one wins: the newest, at ties the lowest id (NIP-01).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    pub created_at: Timestamp,
    id: std::cmp::Reverse<EventId>,
}

impl Rank {
    pub fn new(created_at: Timestamp, id: EventId) -> Self {
        Self { created_at, id: std::cmp::Reverse(id) }
    }

    pub fn of(event: &Event) -> Self {
        Self::new(event.created_at(), event.id())
    }

    pub fn id(&self) -> EventId {
        self.id.0
    }

    /// One cell, whose bytes are ordered like the ranks: of two that are written at the same timestamp
    /// the larger one stays.
    pub fn to_bytes(self) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[..8].copy_from_slice(&self.created_at.to_be_bytes());
        for (byte, id) in bytes[8..].iter_mut().zip(self.id.0.0) {
            *byte = !id;
        }
        bytes
    }

    /// Reads what [`Self::to_bytes`] makes.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (created_at, id) = bytes.split_at_checked(8)?;
        let id: [u8; 32] = id.try_into().ok()?;
        Some(Self::new(u64::from_be_bytes(created_at.try_into().ok()?), EventId(id.map(|byte| !byte))))
    }
}

/// The value of a tag as a key: short texts as they are, ids as their bytes, long texts as their hash.
pub fn tag_value(value: &str) -> Vec<u8> {
    /// Longest text that stands for itself.
    const LONGEST: usize = 64;
    let (form, bytes) = match decode_lower_hex::<32>(value) {
        Some(bytes) => (1, bytes.to_vec()),
        None if value.len() <= LONGEST => (0, value.as_bytes().to_vec()),
        None => (2, Sha256::digest(value).to_vec()),
    };
    [vec![form], bytes].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_of_ranks_are_ordered_like_ranks() {
        let rank = |created_at, id| Rank::new(created_at, EventId([id; 32]));
        let ranks = [rank(1, 9), rank(1, 1), rank(2, 9), rank(256, 9), rank(256, 0)];
        assert!(ranks.is_sorted());
        assert!(ranks.map(Rank::to_bytes).is_sorted());
        for rank in ranks {
            assert_eq!(Rank::parse(&rank.to_bytes()), Some(rank));
        }
        assert_eq!(Rank::parse(&[]), None);
    }

    #[test]
    fn timestamps_stay_within_their_second() {
        for at in [0, 1, 1_750_000_000, LAST_SECOND, u64::MAX] {
            assert!(written_at(at) <= inserted_at(at, 0) && inserted_at(at, 0) < inserted_at(at, 1));
            assert!(inserted_at(at, i32::MAX) < removed_at(at));
            assert!(at >= LAST_SECOND || removed_at(at) < written_at(at + 1));
        }
        assert!(removed_at(u64::MAX) > 0);
    }

    #[test]
    fn values_of_tags_are_told_apart() {
        let hex = "ab".repeat(32);
        let values =
            ["", "a", "\u{1}", &"x".repeat(64), &"x".repeat(65), &hex, &hex.to_uppercase(), &"é".repeat(32)];
        let mut keys: Vec<_> = values.iter().map(|value| tag_value(value)).collect();
        assert!(keys.iter().all(|key| !key.is_empty() && key.len() <= 65));
        keys.sort();
        keys.dedup();
        assert_eq!(keys.len(), values.len());
    }
}
