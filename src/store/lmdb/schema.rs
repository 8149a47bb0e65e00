//! The tables of the embedded store and their keys.
//!
//! Every index key ends in a [`Tail`], so that walking an index forward is newest first, ties by
//! lowest id. Index rows carry the kind, so that a scan can pass over kinds without reading events.

use std::{hash::Hasher, ops::Bound};

use heed::{CommitOrAbort, Database, Env, WithoutTls, types::Bytes};
use sha2::{Digest, Sha256};
use siphasher::sip::SipHasher13;
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    protocol::{Event, EventId, PublicKey, Timestamp},
    store::Identity,
};

pub type Table = Database<'static, Bytes, Bytes>;

/// Version of all rows and keys below. Older folders are brought to it ([`super::migrate`]), newer ones refused.
pub const FORMAT: u32 = 2;

macro_rules! tables {
    ($($(#[doc = $doc:literal])* $name:ident),* $(,)?) => {
        #[derive(Clone, Copy)]
        pub struct Tables {
            $($(#[doc = $doc])* pub $name: Table,)*
            /// How tags become keys in this folder.
            pub tag_hash: TagHash,
        }

        const NAMES: &[&str] = &[$(stringify!($name)),*];

        impl Tables {
            fn of(tables: [Table; NAMES.len()]) -> Self {
                let [$($name),*] = tables;
                Self { $($name,)* tag_hash: TagHash([0; 16]) }
            }

            pub fn all(&self) -> [Table; NAMES.len()] {
                [$(self.$name),*]
            }
        }
    };
}

impl Tables {
    /// Opens all tables, makes those that are missing.
    pub fn create(env: &Env<WithoutTls>) -> heed::Result<Self> {
        let txn = env.write_txn()?;
        let tables = env.create_databases_and_commit(txn, |opener, txn| {
            let mut tables = Vec::with_capacity(NAMES.len());
            for name in NAMES {
                tables.push(opener.create_database::<Bytes, Bytes>(txn, Some(name))?);
            }
            let tables = tables.try_into().map_err(|_| heed::MdbError::Invalid)?;
            Ok::<_, heed::Error>(CommitOrAbort::<[_; NAMES.len()], ()>::Commit(tables))
        })?;
        let tables = Self::of(tables.unwrap_commit());
        let mut txn = env.write_txn()?;
        if tables.meta.get(&txn, TAG_KEY)?.is_none() {
            tables.meta.put(&mut txn, TAG_KEY, &rand::random::<[u8; 16]>())?;
            tables.meta.put(&mut txn, FORMAT_KEY, &u64::from(FORMAT).to_be_bytes())?;
        }
        txn.commit()?;
        tables.with_tag_hash(env)
    }

    /// Opens all tables of a folder that a relay has made, without writing.
    pub fn open(env: &Env<WithoutTls>) -> heed::Result<Self> {
        let txn = env.read_txn()?;
        let tables = env.open_databases_and_commit(txn, |opener, txn| {
            let mut tables = Vec::with_capacity(NAMES.len());
            for name in NAMES {
                let table = opener.open_database::<Bytes, Bytes>(txn, Some(name))?;
                tables.push(table.ok_or(heed::MdbError::NotFound)?);
            }
            let tables = tables.try_into().map_err(|_| heed::MdbError::Invalid)?;
            Ok::<_, heed::Error>(CommitOrAbort::<[_; NAMES.len()], ()>::Commit(tables))
        })?;
        Self::of(tables.unwrap_commit()).with_tag_hash(env)
    }

    fn with_tag_hash(self, env: &Env<WithoutTls>) -> heed::Result<Self> {
        let txn = env.read_txn()?;
        let key = self.meta.get(&txn, TAG_KEY)?.and_then(|key| key.try_into().ok());
        Ok(Self { tag_hash: TagHash(key.ok_or(heed::MdbError::Invalid)?), ..self })
    }
}

tables! {
    /// `"next"` → position of the event to be stored next; `"tag"` → key of the hash of tags; `"format"` → the format
    /// of the rows.
    meta,
    /// position → record.
    event,
    /// id → position.
    id,
    /// author, tail → row.
    author,
    /// author, kind, tail → row.
    author_kind,
    /// kind, tail → row.
    kind,
    /// hash of letter and value, tail → row.
    tag,
    /// tail → row.
    time,
    /// expiration, position → row.
    expiration,
    /// address → rank, and position of the event if there is one.
    address,
    /// id, author of the deletion → nothing.
    deleted_id,
    /// address → created_at of the newest deletion.
    deleted_address,
    /// author → created_at of the newest request to vanish.
    vanished,
    /// author → created_at up to which events are still to be removed.
    vanishing,
    /// kind and key of a record of the relay itself → when it expires, version, value.
    record,
    /// when a record expires, its kind and key → nothing.
    record_expiration,
}

pub const TABLES: u32 = NAMES.len() as u32;

/// Key of `meta` for the next position.
pub const NEXT: &[u8] = b"next";

/// Key of `meta` for the format that the rows have, once it was more than 1.
pub const FORMAT_KEY: &[u8] = b"format";

/// Key of `meta` for [`TagHash`]. Drawn with the tables, so a folder without one is new.
pub const TAG_KEY: &[u8] = b"tag";

/// How a letter and a value, which is as long as its author likes, become 64 bits. Keyed by the folder,
/// so that nobody can make values that fill the range of another one with rows that never match.
#[derive(Clone, Copy)]
pub struct TagHash([u8; 16]);

impl TagHash {
    pub fn of(self, letter: u8, value: &str) -> u64 {
        let mut hasher = SipHasher13::new_with_key(&self.0);
        hasher.write_u8(letter);
        hasher.write(value.as_bytes());
        hasher.finish()
    }

    /// The identity of the folder follows from the key, which was drawn with it, and does not tell it.
    pub fn identity(self) -> Identity {
        let mut number = [0; 8];
        number.copy_from_slice(&Sha256::new_with_prefix("identity").chain_update(self.0).finalize()[..8]);
        Identity::Own(u64::from_be_bytes(number))
    }
}

/// Bytes of a public key in index keys. Rows only name candidates; the record has the whole key.
const AUTHOR_BYTES: usize = 8;
/// Bytes of an id in index keys: ids are hashes, so 96 bits tell events of one second apart. Short
/// keys are fewer pages to write in each commit.
const ID_BYTES: usize = 12;

/// The end of an index key: the complement of `created_at`, then the id, so that the order of keys
/// is the order of answers. Compares like the bytes do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tail {
    age: u64,
    id: u128,
}

impl Tail {
    pub const BYTES: usize = 8 + ID_BYTES;
    pub const MAX: Self = Self { age: u64::MAX, id: Self::MAX_ID };
    const MAX_ID: u128 = (1 << (8 * ID_BYTES)) - 1;

    pub fn new(created_at: Timestamp, id: &EventId) -> Self {
        Self { age: !created_at, id: Self::id_number(&id.0[..ID_BYTES]) }
    }

    /// The first tail of that second or older.
    pub fn first_at(created_at: Timestamp) -> Self {
        Self { age: !created_at, id: 0 }
    }

    /// The last tail of that second.
    pub fn last_at(created_at: Timestamp) -> Self {
        Self { age: !created_at, id: Self::MAX_ID }
    }

    pub fn created_at(self) -> Timestamp {
        !self.age
    }

    /// The id as far as the key has it, filled up so that it sorts after the real one.
    pub fn id_bound(self) -> EventId {
        let mut id = [0xff; 32];
        id[..ID_BYTES].copy_from_slice(&self.id_bytes());
        EventId(id)
    }

    /// Reads the end of an index key.
    pub fn of_key(key: &[u8]) -> Option<Self> {
        let (_, tail) = key.split_at_checked(key.len().checked_sub(Self::BYTES)?)?;
        let (age, id) = tail.split_at(8);
        Some(Self { age: u64::from_be_bytes(age.try_into().ok()?), id: Self::id_number(id) })
    }

    fn id_number(head: &[u8]) -> u128 {
        let mut bytes = [0; 16];
        bytes[16 - ID_BYTES..].copy_from_slice(head);
        u128::from_be_bytes(bytes)
    }

    fn id_bytes(self) -> [u8; ID_BYTES] {
        let mut bytes = [0; ID_BYTES];
        bytes.copy_from_slice(&self.id.to_be_bytes()[16 - ID_BYTES..]);
        bytes
    }
}

/// A key of an index: a prefix of at most an author and a kind, and a tail, on the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    bytes: [u8; Self::CAPACITY],
    len: u8,
}

impl Key {
    const CAPACITY: usize = AUTHOR_BYTES + 2 + Tail::BYTES;

    const EMPTY: Self = Self { bytes: [0; Self::CAPACITY], len: 0 };

    fn with(mut self, bytes: &[u8]) -> Self {
        let start = usize::from(self.len);
        self.bytes[start..start + bytes.len()].copy_from_slice(bytes);
        self.len += bytes.len() as u8;
        self
    }

    pub fn tail(self, tail: Tail) -> Self {
        self.with(&tail.age.to_be_bytes()).with(&tail.id_bytes())
    }

    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }

    /// Prefix of the author index.
    pub fn author(author: &PublicKey) -> Self {
        Self::EMPTY.with(&author.0[..AUTHOR_BYTES])
    }

    /// Prefix of the author-and-kind index.
    pub fn author_kind(author: &PublicKey, kind: u16) -> Self {
        Self::author(author).with(&kind.to_be_bytes())
    }

    /// Prefix of the kind index.
    pub fn kind(kind: u16) -> Self {
        Self::EMPTY.with(&kind.to_be_bytes())
    }

    /// Prefix of the tag index.
    pub fn tag(hash: u64) -> Self {
        Self::EMPTY.with(&hash.to_be_bytes())
    }

    /// Prefix of the time index: none.
    pub fn time() -> Self {
        Self::EMPTY
    }

    /// Key of the expiration index.
    pub fn expiration(at: Timestamp, position: u64) -> Self {
        Self::EMPTY.with(&at.to_be_bytes()).with(&position.to_be_bytes())
    }
}

/// The keys from `first` to `last`, both included.
pub fn between<'k>(first: &'k Key, last: &'k Key) -> (Bound<&'k [u8]>, Bound<&'k [u8]>) {
    (Bound::Included(first.as_bytes()), Bound::Included(last.as_bytes()))
}

/// Value of an index key: where the event is (48 bits), and its kind (16).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub position: u64,
    pub kind: u16,
}

impl Row {
    pub fn to_bytes(self) -> [u8; 8] {
        (self.position << 16 | u64::from(self.kind)).to_be_bytes()
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let both = number(bytes)?;
        Some(Self { position: both >> 16, kind: both as u16 })
    }
}

/// Key of an address: author, kind, hash of the identifier (which is as long as its author likes;
/// only they could make two of their own collide).
pub type AddressKey = [u8; 50];

pub fn address_key(author: &PublicKey, kind: u16, identifier: &str) -> AddressKey {
    let mut key = [0; 50];
    key[..32].copy_from_slice(&author.0);
    key[32..34].copy_from_slice(&kind.to_be_bytes());
    key[34..].copy_from_slice(&xxh3_128(identifier.as_bytes()).to_be_bytes());
    key
}

/// The address of an event whose kind has one.
pub fn address_key_of(event: &Event) -> Option<AddressKey> {
    Some(address_key(&event.pubkey(), event.kind(), event.address_identifier()?))
}

/// The best version of an address ever seen: the newest, at ties the lowest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rank {
    pub created_at: Timestamp,
    pub id: EventId,
    /// Where the version is; 0 if the event itself is gone.
    pub position: u64,
}

impl Rank {
    pub fn is_better_than(&self, other: &Self) -> bool {
        (self.created_at, other.id) > (other.created_at, self.id)
    }

    pub fn to_bytes(self) -> [u8; 48] {
        let mut bytes = [0; 48];
        bytes[..8].copy_from_slice(&self.created_at.to_be_bytes());
        bytes[8..40].copy_from_slice(&self.id.0);
        bytes[40..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        Some(Self {
            created_at: number(bytes.get(..8)?)?,
            id: EventId(bytes.get(8..40)?.try_into().ok()?),
            position: number(bytes.get(40..)?)?,
        })
    }
}

/// A number in a key or a value.
pub fn number(bytes: &[u8]) -> Option<u64> {
    Some(u64::from_be_bytes(bytes.try_into().ok()?))
}

/// Key of a deletion mark: the id, and who asked.
pub fn deleted_id_key(id: &EventId, author: &PublicKey) -> [u8; 64] {
    let mut key = [0; 64];
    key[..32].copy_from_slice(&id.0);
    key[32..].copy_from_slice(&author.0);
    key
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_sort_like_answers() {
        let tail = |created_at, first| {
            let mut id = [0; 32];
            id[0] = first;
            Tail::new(created_at, &EventId(id))
        };
        let expected = [tail(9, 1), tail(9, 2), tail(8, 0), tail(0, 255)];
        let mut keys: Vec<_> = expected.iter().rev().map(|&t| Key::kind(7).tail(t)).collect();
        keys.sort_by(|a, b| a.as_bytes().cmp(b.as_bytes()));
        let tails: Vec<_> = keys.iter().filter_map(|key| Tail::of_key(key.as_bytes())).collect();
        assert_eq!(tails, expected);
        assert!(tails.is_sorted());
        assert_eq!(tails[0].created_at(), 9);
    }

    #[test]
    fn tags_of_other_letters_values_and_folders_are_other_keys() {
        let (one, other) = (TagHash([1; 16]), TagHash([2; 16]));
        let hashes = [one.of(b'e', "x"), one.of(b'E', "x"), one.of(b'e', "y"), other.of(b'e', "x")];
        assert!((1..4).all(|n| !hashes[..n].contains(&hashes[n])));
    }

    #[test]
    fn ranks_order_by_time_then_lowest_id() {
        let rank = |created_at, id| Rank { created_at, id: EventId([id; 32]), position: 0 };
        assert!(rank(2, 9).is_better_than(&rank(1, 1)));
        assert!(rank(1, 1).is_better_than(&rank(1, 2)));
        assert!(!rank(1, 1).is_better_than(&rank(1, 1)));
        assert_eq!(Rank::from_bytes(&rank(3, 4).to_bytes()), Some(rank(3, 4)));
    }
}
