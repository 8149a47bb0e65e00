//! Events that an upstream has named, when everything was compared, and has not sent: they are not asked for again for a
//! day. In memory, as whoever lies about them can lie about any number.

use lru::LruCache;

use crate::protocol::{EventId, Timestamp};

/// For how long they are not asked for, in seconds.
const FORGOTTEN_AFTER: u64 = 24 * 3_600;
/// How many are remembered.
const MOST: usize = 100_000;

/// The ids, and when each was found to be nothing.
pub struct Phantoms(LruCache<EventId, Timestamp, foldhash::fast::RandomState>);

impl Default for Phantoms {
    fn default() -> Self {
        Self(LruCache::unbounded_with_hasher(foldhash::fast::RandomState::default()))
    }
}

impl Phantoms {
    /// Nothing came of these.
    pub fn note(&mut self, ids: Vec<EventId>, now: Timestamp) {
        for id in ids {
            self.0.put(id, now);
        }
        while self.0.len() > MOST {
            self.0.pop_lru();
        }
    }

    pub fn has(&self, id: &EventId, now: Timestamp) -> bool {
        self.0.peek(id).is_some_and(|named| now < named.saturating_add(FORGOTTEN_AFTER))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_forgotten_after_a_day_and_when_they_are_too_many() {
        let mut phantoms = Phantoms::default();
        let id = |n: usize| {
            let mut id = [0; 32];
            id[..8].copy_from_slice(&n.to_be_bytes());
            EventId(id)
        };
        phantoms.note(vec![id(1)], 100);
        assert!(phantoms.has(&id(1), 100 + FORGOTTEN_AFTER - 1) && !phantoms.has(&id(2), 100));
        assert!(!phantoms.has(&id(1), 100 + FORGOTTEN_AFTER));
        phantoms.note((0..MOST).map(|n| id(n + 10)).collect(), 200);
        assert!(!phantoms.has(&id(1), 200) && phantoms.has(&id(10), 200));
        phantoms.note(vec![id(2)], 200);
        assert!(phantoms.has(&id(2), 200) && !phantoms.has(&id(10), 200));
    }
}
