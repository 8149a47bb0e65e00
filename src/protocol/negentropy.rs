//! Negentropy, by which two sides find out which events only one of them has (NIP-77, protocol version 1).
//!
//! Each side has a set of keys of events. Messages hold fingerprints of ranges of it, and ids where a range has few.
//! The crate `negentropy` reads and writes the messages; this is the set that it asks, made from the order in which
//! stores answer: newest first, ties by lowest id.

use negentropy::{Bound, Id, Item, Negentropy, NegentropyStorageBase};

use super::{EventId, Timestamp};

/// Keys of a block: a set that grows is never copied as a whole.
const BLOCK: usize = 4_096;

/// Smallest bound of a message that the protocol knows, in bytes.
pub const MIN_FRAME_BYTES: usize = 4_096;

/// What a key takes in memory, in bytes.
pub const KEY_BYTES: usize = size_of::<Item>();

/// What events are told apart by.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Key {
    pub created_at: Timestamp,
    pub id: EventId,
}

/// What the other side sent is not a message of the protocol.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a message of negentropy: {0}")]
pub struct BadMessage(String);

/// What the side that began learns from one message of the other side.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Round {
    /// Events that only this side has.
    pub have: Vec<EventId>,
    /// Events that only the other side has.
    pub need: Vec<EventId>,
    /// What is to be sent next; `None`: both sides agree about the rest.
    pub next: Option<Vec<u8>>,
}

/// A set of keys, in the protocol's order: oldest first, ties by lowest id.
#[derive(Default)]
pub struct KeySet {
    /// Newest first, as they came; each is full but the last.
    blocks: Vec<Vec<Item>>,
    len: usize,
}

/// A set that is being filled.
#[derive(Default)]
pub struct Filling {
    set: KeySet,
    /// The keys of the last second, lowest id first.
    second: Vec<Item>,
}

impl Filling {
    /// Adds the next key: newest first, ties by lowest id.
    pub fn push(&mut self, key: Key) {
        let item = item(key);
        if self.second.last().is_some_and(|last| last.timestamp != item.timestamp) {
            self.end_second();
        }
        self.second.push(item);
    }

    pub fn len(&self) -> usize {
        self.set.len + self.second.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn finish(mut self) -> KeySet {
        self.end_second();
        self.set
    }

    /// Counted from the end of the set, ids fall within a second, too.
    fn end_second(&mut self) {
        for item in self.second.drain(..).rev() {
            match self.set.blocks.last_mut() {
                Some(block) if block.len() < BLOCK => block.push(item),
                _ => self.set.blocks.push(vec![item]),
            }
            self.set.len += 1;
        }
    }
}

impl FromIterator<Key> for KeySet {
    /// From keys in the order in which stores answer.
    fn from_iter<I: IntoIterator<Item = Key>>(keys: I) -> Self {
        let mut filling = Filling::default();
        keys.into_iter().for_each(|key| filling.push(key));
        filling.finish()
    }
}

impl KeySet {
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Answers a message of the side that began, in at most so many bytes.
    ///
    /// # Errors
    /// It is not a message of the protocol.
    pub fn answer(&self, message: &[u8], frame_bytes: usize) -> Result<Vec<u8>, BadMessage> {
        Ok(self.side(frame_bytes)?.reconcile(message)?)
    }

    /// The first message of the side that begins.
    ///
    /// # Errors
    /// The bound is below [`MIN_FRAME_BYTES`].
    pub fn begin(&self, frame_bytes: usize) -> Result<Vec<u8>, BadMessage> {
        Ok(self.side(frame_bytes)?.initiate()?)
    }

    /// Reads an answer to a message of this side, which began.
    ///
    /// # Errors
    /// It is not a message of the protocol.
    pub fn go_on(&self, message: &[u8], frame_bytes: usize) -> Result<Round, BadMessage> {
        let (mut have, mut need) = (Vec::new(), Vec::new());
        let mut side = self.side(frame_bytes)?;
        side.set_initiator();
        let next = side.reconcile_with_ids(message, &mut have, &mut need)?;
        let ids = |all: Vec<Id>| all.into_iter().map(|id| EventId(*id)).collect();
        Ok(Round { have: ids(have), need: ids(need), next })
    }

    fn side(&self, frame_bytes: usize) -> Result<Negentropy<'_, Self>, BadMessage> {
        Ok(Negentropy::borrowed(self, frame_bytes as u64)?)
    }

    /// The key at a place of the protocol's order.
    fn at(&self, place: usize) -> Option<Item> {
        let from_end = self.len.checked_sub(place + 1)?;
        self.blocks.get(from_end / BLOCK)?.get(from_end % BLOCK).copied()
    }
}

impl NegentropyStorageBase for KeySet {
    fn size(&self) -> Result<usize, negentropy::Error> {
        Ok(self.len)
    }

    fn get_item(&self, place: usize) -> Result<Option<Item>, negentropy::Error> {
        Ok(self.at(place))
    }

    fn iterate(
        &self,
        begin: usize,
        end: usize,
        visit: &mut dyn FnMut(Item, usize) -> Result<bool, negentropy::Error>,
    ) -> Result<(), negentropy::Error> {
        for place in begin..end {
            let item = self.at(place).ok_or(negentropy::Error::BadRange)?;
            if !visit(item, place)? {
                break;
            }
        }
        Ok(())
    }

    fn find_lower_bound(&self, first: usize, last: usize, bound: &Bound) -> usize {
        let (mut first, mut count) = (first, last.saturating_sub(first));
        while count > 0 {
            let half = count / 2;
            match self.at(first + half) {
                Some(item) if item < bound.item => {
                    first += half + 1;
                    count -= half + 1;
                }
                _ => count = half,
            }
        }
        first
    }
}

/// The protocol keeps the highest number for what is later than all.
fn item(Key { created_at, id }: Key) -> Item {
    Item::with_timestamp_and_id(created_at.min(u64::MAX - 1), Id::from_byte_array(id.0))
}

impl From<negentropy::Error> for BadMessage {
    fn from(error: negentropy::Error) -> Self {
        Self(error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use std::{cmp::Reverse, collections::BTreeSet};

    use negentropy::NegentropyStorageVector;
    use proptest::prelude::*;

    use super::*;

    /// Few seconds, so that many keys share one.
    fn keys(max: usize) -> impl Strategy<Value = Vec<Key>> {
        let key = (0..40_u64, any::<[u8; 32]>()).prop_map(|(at, id)| Key { created_at: at, id: EventId(id) });
        prop::collection::vec(key, 0..max)
    }

    fn set(mut keys: Vec<Key>) -> KeySet {
        keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
        keys.into_iter().collect()
    }

    fn twin(keys: &[Key]) -> NegentropyStorageVector {
        let mut twin = NegentropyStorageVector::new();
        for &key in keys {
            let Item { timestamp, id } = item(key);
            twin.insert(timestamp, id).unwrap();
        }
        twin.seal().unwrap();
        twin
    }

    /// Plays all rounds, each side within its bound: what only the first side has, and what only the second has.
    fn reconcile(
        ours: &KeySet,
        theirs: &KeySet,
        frames: [usize; 2],
    ) -> (BTreeSet<EventId>, BTreeSet<EventId>) {
        let (mut have, mut need) = (BTreeSet::new(), BTreeSet::new());
        let mut message = ours.begin(frames[0]).unwrap();
        for _ in 0..1_000 {
            let answer = theirs.answer(&message, frames[1]).unwrap();
            assert!(answer.len() <= frames[1]);
            let round = ours.go_on(&answer, frames[0]).unwrap();
            have.extend(round.have);
            need.extend(round.need);
            match round.next {
                Some(next) => message = next,
                None => return (have, need),
            }
        }
        panic!("no end")
    }

    proptest! {
        #[test]
        fn the_set_is_what_its_twin_is(keys in keys(700), places in prop::collection::vec((0..700_usize, 0..700_usize), 20)) {
            let (twin, set) = (twin(&keys), set(keys));
            let size = twin.size().unwrap();
            prop_assert_eq!(set.size().unwrap(), size);
            for place in 0..=size {
                prop_assert_eq!(set.get_item(place).unwrap(), twin.get_item(place).unwrap());
            }
            for (a, b) in places {
                let (begin, end) = (a.min(b).min(size), a.max(b).min(size));
                let bound = Bound::with_timestamp_and_id(a as u64 % 41, [b as u8]).unwrap();
                prop_assert_eq!(set.find_lower_bound(begin, end, &bound), twin.find_lower_bound(begin, end, &bound));
            }
        }

        #[test]
        fn both_sides_come_to_know_what_differs(
            common in keys(900), ours in keys(300), theirs in keys(300),
            frames in prop::array::uniform2(MIN_FRAME_BYTES..9_000),
        ) {
            let with = |own: &[Key]| set(common.iter().chain(own).copied().collect());
            let (have, need) = reconcile(&with(&ours), &with(&theirs), frames);
            let ids = |keys: &[Key]| keys.iter().map(|key| key.id).collect::<BTreeSet<_>>();
            prop_assert_eq!((have, need), (ids(&ours), ids(&theirs)));
        }

        #[test]
        fn what_is_no_message_is_refused(keys in keys(200), bytes in prop::collection::vec(any::<u8>(), 0..200), is_of_this_version: bool) {
            let set = set(keys);
            let version: &[u8] = if is_of_this_version { &[0x61] } else { &[] };
            let message = [version, &bytes].concat();
            for answer in [set.answer(&message, MIN_FRAME_BYTES), set.go_on(&message, MIN_FRAME_BYTES).map(|round| round.next.unwrap_or_default())].into_iter().flatten() {
                prop_assert!(answer.len() <= MIN_FRAME_BYTES);
            }
        }
    }

    #[test]
    fn a_date_at_the_end_of_time_is_one() {
        let last = Key { created_at: u64::MAX, id: EventId([7; 32]) };
        let (have, _) = reconcile(&set(vec![last]), &KeySet::default(), [MIN_FRAME_BYTES; 2]);
        assert_eq!(have, BTreeSet::from([last.id]));
    }

    #[test]
    fn another_version_is_told_ours() {
        assert_eq!(KeySet::default().answer(&[0x62], MIN_FRAME_BYTES), Ok(vec![0x61]));
        assert!(KeySet::default().answer(&[], MIN_FRAME_BYTES).is_err());
        assert!(KeySet::default().answer(&[0x10], MIN_FRAME_BYTES).is_err());
    }
}
