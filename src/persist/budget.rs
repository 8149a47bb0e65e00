//! How many events, and how many bytes of them, may be on their way into the store.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

/// Shared by all sessions. What is taken is given back when the [`Permit`] is dropped.
#[derive(Debug)]
pub struct Budget {
    events: AtomicUsize,
    bytes: AtomicUsize,
    max_events: usize,
    max_bytes: usize,
}

/// The right of one event to wait.
#[derive(Debug)]
pub struct Permit {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub fn new(max_events: usize, max_bytes: usize) -> Arc<Self> {
        Arc::new(Self { events: AtomicUsize::new(0), bytes: AtomicUsize::new(0), max_events, max_bytes })
    }

    /// `None` where too much waits already.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Permit> {
        // Dropped, and so given back, where it turns out to be too much.
        let permit = Permit { budget: Arc::clone(self), bytes };
        let events = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (events <= self.max_events && bytes <= self.max_bytes).then_some(permit)
    }

    /// How much of it is taken, from 0 to 1: of events or bytes, whatever is more.
    pub fn fill(&self) -> f64 {
        let ratio =
            |taken: &AtomicUsize, max: usize| taken.load(Ordering::Relaxed) as f64 / max.max(1) as f64;
        ratio(&self.events, self.max_events).max(ratio(&self.bytes, self.max_bytes))
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.budget.events.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_given_back() {
        let budget = Budget::new(2, 100);
        let first = budget.take(60);
        assert!(first.is_some());
        assert!(budget.take(60).is_none());
        assert_eq!(budget.fill(), 0.6);
        let second = budget.take(40);
        assert!(second.is_some() && budget.take(0).is_none());
        drop((first, second));
        let all = [budget.take(50), budget.take(50)];
        assert!(all.iter().all(Option::is_some));
    }
}
