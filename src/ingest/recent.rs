//! The ids of events stored lately, so that their copies cost a look-up and no verification.

use std::{
    num::NonZeroUsize,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use lru::LruCache;

use crate::{protocol::EventId, store::Removed};

/// A bounded set of committed ids; what the store takes away is taken out. Whole ids: a mistaken
/// match would lose an event.
pub struct Recent {
    ids: Mutex<Ids>,
    /// How long what was committed is believed to be there still: other nodes may take it away.
    good_for: Duration,
}

/// When each was committed.
type Ids = LruCache<EventId, Instant, foldhash::fast::RandomState>;

impl Recent {
    /// `good_for`: how long what was committed is believed to be there still.
    pub fn new(capacity: usize, good_for: Duration) -> Self {
        let capacity = NonZeroUsize::new(capacity).unwrap_or(NonZeroUsize::MIN);
        let ids = LruCache::with_hasher(capacity, foldhash::fast::RandomState::default());
        Self { ids: Mutex::new(ids), good_for }
    }

    pub fn contains(&self, id: &EventId) -> bool {
        self.lock().peek(id).is_some_and(|committed| committed.elapsed() < self.good_for)
    }

    /// Takes up what a batch stored, then takes out what it removed.
    pub fn update(&self, stored: impl IntoIterator<Item = EventId>, removed: &Removed) {
        let mut ids = self.lock();
        let now = Instant::now();
        for id in stored {
            ids.put(id, now);
        }
        if removed.many {
            ids.clear();
        }
        for id in &removed.ids {
            ids.pop(id);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Ids> {
        self.ids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_the_last_ones_and_forgets_the_removed() {
        let recent = Recent::new(2, Duration::MAX);
        let id = |n| EventId([n; 32]);
        recent.update([id(1), id(2), id(3)], &Removed { ids: vec![id(3)], many: false });
        assert!(!recent.contains(&id(1)) && recent.contains(&id(2)) && !recent.contains(&id(3)));
        recent.update([id(4)], &Removed { ids: Vec::new(), many: true });
        assert!(!recent.contains(&id(2)) && !recent.contains(&id(4)));
        let short = Recent::new(2, Duration::ZERO);
        short.update([id(1)], &Removed::default());
        assert!(!short.contains(&id(1)));
    }
}
