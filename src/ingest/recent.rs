//! The ids of events stored lately, so that their copies cost a hash and no verification.

use std::num::NonZeroUsize;

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use crate::{protocol::EventId, store::Removed};

/// A bounded set of committed ids; what the store takes away is taken out. Whole ids: a mistaken
/// match would lose an event.
pub struct RecentIds(Mutex<Ids>);

type Ids = LruCache<EventId, (), foldhash::fast::RandomState>;

impl RecentIds {
    pub fn new(capacity: usize) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        Self(Mutex::new(LruCache::with_hasher(capacity, foldhash::fast::RandomState::default())))
    }

    pub fn contains(&self, id: &EventId) -> bool {
        self.lock().contains(id)
    }

    /// Takes up what a batch stored, then takes out what it removed.
    pub fn update(&self, stored: impl IntoIterator<Item = EventId>, removed: &Removed) {
        let mut ids = self.lock();
        for id in stored {
            ids.put(id, ());
        }
        if removed.many {
            ids.clear();
        }
        for id in &removed.ids {
            ids.pop(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.0.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_ones_and_forgets_the_removed() {
        let recent = RecentIds::new(2);
        let id = |n| EventId([n; 32]);
        recent.update([id(1), id(2), id(3)], &Removed { ids: vec![id(3)], many: false });
        assert!(!recent.contains(&id(1)) && recent.contains(&id(2)) && !recent.contains(&id(3)));
        recent.update([id(4)], &Removed { ids: Vec::new(), many: true });
        assert!(!recent.contains(&id(2)) && !recent.contains(&id(4)));
    }
}
