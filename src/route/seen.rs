//! The events that this node has routed lately, so that each is routed once: it may come under
//! several routing keys, from several nodes, and again when a gap is made good.

use std::{collections::HashSet, hash::BuildHasher};

use parking_lot::Mutex;

use crate::protocol::EventId;

/// A bounded set of the ids seen last. It keeps hashes of 8 bytes, keyed by the process, so that
/// nobody can make an id that is mistaken for another.
pub struct Seen {
    ids: Mutex<Generations>,
    half: usize,
    hasher: foldhash::quality::RandomState,
}

/// The younger half, and the older one, which is forgotten as a whole.
#[derive(Default)]
struct Generations {
    young: HashSet<u64, foldhash::fast::RandomState>,
    old: HashSet<u64, foldhash::fast::RandomState>,
}

impl Seen {
    /// Remembers at least half of `capacity` ids, and at most all of them.
    pub fn new(capacity: usize) -> Self {
        Self { ids: Mutex::default(), half: (capacity / 2).max(1), hasher: Default::default() }
    }

    /// Whether the id has been met.
    pub fn contains(&self, id: &EventId) -> bool {
        let hash = self.hasher.hash_one(id.0);
        let ids = self.ids.lock();
        ids.young.contains(&hash) || ids.old.contains(&hash)
    }

    /// Whether the id is met for the first time.
    pub fn is_first(&self, id: &EventId) -> bool {
        let hash = self.hasher.hash_one(id.0);
        let mut ids = self.ids.lock();
        if ids.old.contains(&hash) || !ids.young.insert(hash) {
            return false;
        }
        if ids.young.len() >= self.half {
            ids.old = std::mem::take(&mut ids.young);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remembers_the_latest_and_forgets_the_oldest() {
        let seen = Seen::new(4);
        let id = |n: u8| EventId([n; 32]);
        assert!((1..=4).all(|n| seen.is_first(&id(n))));
        assert!(!seen.is_first(&id(4)) && !seen.is_first(&id(3)));
        assert!(seen.contains(&id(4)) && !seen.contains(&id(1)));
        assert!(seen.is_first(&id(1)));
    }
}
