//! How fast the store is: how many rows a batch may have, so that each takes about as long, and how long others
//! wait. A disk takes ten thousands at once, a cluster of servers some thousands, and either may become slower.

use std::{collections::VecDeque, time::Duration};

/// Rows of the first batches, before anything is known of the store.
const FIRST: usize = 2_048;

/// Even a slow store is given so many rows, or it would never be found to be fast again.
pub const LEAST: usize = 128;

/// Batches by which the pace is known.
const RECENT: usize = 8;

/// Learns from each batch. A plain struct.
pub struct Pace {
    limit: usize,
    most: usize,
    target: Duration,
    /// Rows a second of the last batches, the newest first; `None` for a batch that says nothing.
    recent: VecDeque<Option<f64>>,
}

/// How a batch went.
#[derive(Debug, Clone, Copy)]
pub struct Lap {
    pub rows: usize,
    /// How long the store had it.
    pub took: Duration,
    /// The same from when the batch was taken out of the queue, the wait for a place to the routers included.
    pub whole: Duration,
    pub failed: bool,
}

impl Pace {
    pub fn new(most: usize, target: Duration) -> Self {
        Self { limit: FIRST.min(most), most, target, recent: VecDeque::with_capacity(RECENT + 1) }
    }

    /// Most rows of the next batch.
    pub fn limit(&self) -> usize {
        self.limit
    }

    /// Rows a second: what the last eight batches have in the middle, or what the last one had if that is less. A
    /// store that becomes slower is believed at once, one that becomes faster has to show it. `None`: nothing is
    /// known, because all of them were small and quick.
    pub fn rate(&self) -> Option<f64> {
        let mut known: Vec<f64> = self.recent.iter().flatten().copied().collect();
        let last = *known.first()?;
        known.sort_by(f64::total_cmp);
        Some(last.min(known[known.len() / 2]))
    }

    /// How long a batch should take.
    pub fn should_take(&self, rows: usize) -> Duration {
        let by_rate = self.rate().map(|rate| Duration::try_from_secs_f64(rows as f64 / rate));
        by_rate.and_then(Result::ok).unwrap_or(self.target)
    }

    pub fn learn(&mut self, lap: Lap) {
        let rate = self.rate_of(lap);
        self.recent.push_front(rate);
        self.recent.truncate(RECENT);
        let quick = lap.took <= self.target;
        if lap.failed && quick {
            // The events of the batch were at fault, not the pace.
            return;
        }
        let took = if lap.failed { lap.took.max(2 * self.target) } else { lap.took };
        let fitting = lap.rows as f64 * self.target.as_secs_f64() / took.as_secs_f64().max(1e-6);
        // A small batch says little of what a large one would take.
        let least = if quick { self.limit } else { LEAST.min(self.limit) };
        self.limit = (fitting as usize).clamp(least, 2 * self.limit).clamp(LEAST.min(self.most), self.most);
    }

    fn rate_of(&self, Lap { rows, took, whole, failed }: Lap) -> Option<f64> {
        if failed {
            // Nothing is known to be written; it counts only where the store took its time.
            return (took > self.target).then_some(0.0);
        }
        let rate = rows as f64 / whole.as_secs_f64().max(1e-6);
        // What every batch takes, however small, weighs most in a small one: its rate says only "at least".
        let is_small = 2 * rows < self.limit;
        (!is_small || self.rate().is_some_and(|known| rate > known)).then_some(rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lap(rows: usize, took: Duration) -> Lap {
        Lap { rows, took, whole: took, failed: false }
    }

    const fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn batches_come_to_take_the_time_they_should() {
        let mut pace = Pace::new(65_536, ms(250));
        // 200 µs a row, then 2 µs, however many there are.
        for (each, expected) in [(200, 1_250), (2, 65_536), (200, 1_250)] {
            for _ in 0..20 {
                pace.learn(lap(pace.limit(), Duration::from_micros(each) * pace.limit() as u32));
            }
            assert_eq!(pace.limit(), expected);
            assert_eq!(pace.rate().unwrap().round(), 1e6 / each as f64);
        }
    }

    #[test]
    fn quick_small_batches_do_not_shrink_it_and_slow_failures_do() {
        let mut pace = Pace::new(10_000, ms(250));
        pace.learn(lap(10, ms(5)));
        assert_eq!((pace.limit(), pace.rate()), (FIRST, None));
        pace.learn(Lap { failed: true, ..lap(10, ms(1)) });
        assert_eq!((pace.limit(), pace.rate()), (FIRST, None));
        pace.learn(Lap { failed: true, ..lap(2_048, ms(300)) });
        assert_eq!((pace.limit(), pace.rate()), (FIRST / 2, Some(0.0)));
        for _ in 0..20 {
            pace.learn(Lap { failed: true, ..lap(10, ms(9_000)) });
        }
        assert_eq!(pace.limit(), LEAST);
        assert_eq!(Pace::new(4, ms(250)).limit(), 4);
    }

    #[test]
    fn slower_is_believed_at_once_and_faster_within_two_batches_of_the_least_size() {
        let mut pace = Pace::new(65_536, ms(250));
        for _ in 0..8 {
            pace.learn(lap(10_000, ms(250)));
        }
        assert_eq!(pace.rate(), Some(40_000.0));
        pace.learn(lap(10_000, ms(5_000)));
        assert_eq!(pace.rate(), Some(2_000.0));
        pace.learn(lap(LEAST, ms(4)));
        pace.learn(lap(LEAST, ms(4)));
        assert!(pace.rate().unwrap() > 30_000.0, "{:?}", pace.rate());
    }

    #[test]
    fn what_a_slow_time_taught_is_forgotten_when_little_is_to_be_done() {
        let mut pace = Pace::new(65_536, ms(250));
        for _ in 0..8 {
            pace.learn(lap(2_000, ms(2_000)));
        }
        // A note now and then: it says that the store is no slower than that, and then nothing.
        pace.learn(lap(10, ms(5)));
        assert_eq!(pace.rate(), Some(1_000.0));
        for _ in 0..24 {
            pace.learn(lap(10, ms(6)));
        }
        assert_eq!(pace.rate(), None);
    }
}
