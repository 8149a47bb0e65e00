//! How many events a batch may have, so that each takes about as long: a disk takes thousands at once, a
//! cluster of servers some hundreds, and either may become slower.

use std::time::Duration;

/// Where it begins, before anything is known of the store.
const FIRST: usize = 256;

/// Even a slow store is given so many, or it would never be found to be fast again.
const LEAST: usize = 16;

/// Learns from each batch how many the next may have. A plain struct.
pub struct Pace {
    limit: usize,
    most: usize,
    target: Duration,
}

impl Pace {
    pub fn new(most: usize, target: Duration) -> Self {
        Self { limit: FIRST.min(most), most, target }
    }

    /// Most events of the next batch.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// A batch of so many took so long, or failed after that. Twice as many at most are next.
    pub fn learn(&mut self, events: usize, took: Duration, failed: bool) {
        let took = if failed { took.max(2 * self.target) } else { took };
        let fitting = events as f64 * self.target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        // A small batch says little of what a large one would take.
        let least = if took <= self.target { self.limit } else { LEAST };
        self.limit = (fitting as usize).clamp(least, 2 * self.limit).clamp(LEAST.min(self.most), self.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn batches_come_to_take_the_time_they_should() {
        let mut pace = Pace::new(8_192, Duration::from_millis(250));
        // 2 ms an event, then 20 µs, however many there are.
        for (each, expected) in [(2_000, 125), (20, 8_192), (2_000, 125)] {
            for _ in 0..20 {
                pace.learn(pace.limit(), Duration::from_micros(each) * pace.limit() as u32, false);
            }
            assert_eq!(pace.limit(), expected);
        }
    }

    #[test]
    fn quick_small_batches_do_not_shrink_it_and_failures_do() {
        let mut pace = Pace::new(1_000, Duration::from_millis(250));
        pace.learn(1, Duration::from_millis(5), false);
        assert_eq!(pace.limit(), 256);
        pace.learn(256, Duration::from_millis(1), true);
        assert_eq!(pace.limit(), 128);
        for _ in 0..20 {
            pace.learn(1, Duration::from_secs(9), true);
        }
        assert_eq!(pace.limit(), LEAST);
        assert_eq!(Pace::new(4, Duration::from_millis(250)).limit(), 4);
    }
}
