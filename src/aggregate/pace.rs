//! How much is taken of an upstream: by second and by day.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::upstream::UpstreamLimits;
use crate::protocol::Timestamp;

/// Seconds of a day.
pub const DAY: Timestamp = 24 * 60 * 60;
/// A message that alone is more than a second's worth is not waited for longer.
const LONGEST: Duration = Duration::from_secs(30);

/// What was taken on a day.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spent {
    /// Days since 1970.
    pub day: u64,
    pub events: u64,
    pub bytes: u64,
}

/// Counts what is taken.
#[derive(Debug)]
pub struct Pace {
    limits: UpstreamLimits,
    spent: Spent,
    /// When what was taken so far will have been allowed.
    allowed: Instant,
}

impl Pace {
    pub fn new(limits: UpstreamLimits, spent: Spent, now: Instant) -> Self {
        Self { limits, spent, allowed: now }
    }

    /// What was taken today.
    pub fn spent(&self) -> Spent {
        self.spent
    }

    /// Whether nothing more may be taken on the day of this moment.
    pub fn is_spent(&self, now: Timestamp) -> bool {
        let is_over = |limit: u64, taken: u64| limit > 0 && taken >= limit;
        self.spent.day == now / DAY
            && (is_over(self.limits.events_per_day, self.spent.events)
                || is_over(self.limits.bytes_per_day, self.spent.bytes))
    }

    /// A message is taken at this moment.
    pub fn take(&mut self, bytes: usize, now: Timestamp, at: Instant) {
        let day = now / DAY;
        if self.spent.day != day {
            self.spent = Spent { day, ..Spent::default() };
        }
        self.spent.events += 1;
        self.spent.bytes += bytes as u64;
        let share = |limit: u64, taken: u64| if limit == 0 { 0.0 } else { taken as f64 / limit as f64 };
        let seconds =
            share(self.limits.events_per_second, 1).max(share(self.limits.bytes_per_second, bytes as u64));
        if seconds > 0.0 {
            self.allowed = self.allowed.max(at) + Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64()));
        }
    }

    /// How long to wait before more is taken: what a second may bring may come at once.
    pub fn wait(&self, at: Instant) -> Duration {
        const BURST: Duration = Duration::from_secs(1);
        self.allowed.saturating_duration_since(at).saturating_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_limits_nothing_waits() {
        let at = Instant::now();
        let mut pace = Pace::new(UpstreamLimits::default(), Spent::default(), at);
        (0..10_000).for_each(|_| pace.take(1 << 20, 7, at));
        assert_eq!((pace.wait(at), pace.is_spent(7)), (Duration::ZERO, false));
    }

    #[test]
    fn a_second_brings_what_it_may() {
        let at = Instant::now();
        for (limits, bytes) in [
            (UpstreamLimits { events_per_second: 10, ..UpstreamLimits::default() }, 5),
            (UpstreamLimits { bytes_per_second: 1_000, ..UpstreamLimits::default() }, 100),
            (
                UpstreamLimits {
                    events_per_second: 10,
                    bytes_per_second: 1 << 30,
                    ..UpstreamLimits::default()
                },
                5,
            ),
        ] {
            let mut pace = Pace::new(limits, Spent::default(), at);
            (0..10).for_each(|_| pace.take(bytes, 7, at));
            assert!(pace.wait(at) < Duration::from_millis(1));
            (0..10).for_each(|_| pace.take(bytes, 7, at));
            let second = Duration::from_secs(1);
            assert!(pace.wait(at).abs_diff(second) < Duration::from_millis(1));
            assert!(pace.wait(at + second) < Duration::from_millis(1));
        }
        // One that is far too large is waited for, and not for ever.
        let limits = UpstreamLimits { bytes_per_second: 1, ..UpstreamLimits::default() };
        let mut pace = Pace::new(limits, Spent::default(), at);
        pace.take(1 << 20, 7, at);
        assert_eq!(pace.wait(at), LONGEST - Duration::from_secs(1));
    }

    #[test]
    fn a_day_has_its_share_also_after_a_restart() {
        let at = Instant::now();
        let limits = UpstreamLimits { events_per_day: 2, ..UpstreamLimits::default() };
        let mut pace = Pace::new(limits, Spent::default(), at);
        pace.take(1, DAY, at);
        assert!(!pace.is_spent(DAY));
        pace.take(1, 2 * DAY - 1, at);
        assert!(pace.is_spent(2 * DAY - 1));
        let mut pace = Pace::new(limits, pace.spent(), at);
        assert!(pace.is_spent(DAY) && !pace.is_spent(2 * DAY));
        pace.take(1, 2 * DAY, at);
        assert_eq!(pace.spent(), Spent { day: 2, events: 1, bytes: 1 });
    }
}
