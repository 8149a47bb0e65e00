//! How many messages a second are traced that chance had left out. Outsiders can make messages slow, or ask for
//! traces, but not for more than this.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Instant,
};

pub(super) struct Extra {
    per_second: u32,
    start: Instant,
    /// The second since `start` in the upper half, and how many were taken in it in the lower.
    taken: AtomicU64,
}

impl Extra {
    pub fn new(per_second: u32) -> Self {
        Self { per_second, start: Instant::now(), taken: AtomicU64::new(0) }
    }

    pub fn take(&self) -> bool {
        self.take_at(self.start.elapsed().as_secs())
    }

    fn take_at(&self, second: u64) -> bool {
        let next = |taken: u64| {
            let count = if taken >> 32 == second { taken & u64::from(u32::MAX) } else { 0 };
            (count < u64::from(self.per_second)).then_some((second << 32) + count + 1)
        };
        self.taken.fetch_update(Ordering::Relaxed, Ordering::Relaxed, next).is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn so_many_a_second() {
        let extra = Extra::new(3);
        let taken = |second| (0..10).filter(|_| extra.take_at(second)).count();
        assert_eq!((taken(0), taken(0), taken(7)), (3, 0, 3));
        assert!(!Extra::new(0).take());
    }
}
