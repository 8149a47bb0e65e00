//! How long to wait before the next attempt: twice as long each time, up to a bound, and a random part of it, so that
//! those who lost the same server do not come back in the same moment. Never waits itself.

use std::time::Duration;

/// The waits between attempts that fail, one after the other.
#[derive(Debug)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    attempts: u32,
}

impl Backoff {
    /// The first wait is at most `first`, and none is over `longest`.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, attempts: 0 }
    }

    /// Attempts that failed since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Notes a failure, and says how long to wait: between half of the nominal time and all of it.
    pub fn fail(&mut self) -> Duration {
        let doubled = self.first.saturating_mul(1 << self.attempts.min(20));
        self.attempts = self.attempts.saturating_add(1);
        doubled.min(self.longest).mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Notes a success: the next wait is a first one.
    pub fn succeed(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound() {
        let first = Duration::from_millis(500);
        let mut backoff = Backoff::new(first, Duration::from_secs(30));
        for nominal in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.fail().as_secs_f64();
            assert!((nominal / 2.0..=nominal).contains(&wait), "{wait} of {nominal}");
        }
        assert_eq!(backoff.attempts(), 8);
        backoff.succeed();
        assert!(backoff.fail() <= first);
    }

    #[test]
    fn stays_within_its_bound_however_often_it_fails() {
        let longest = Duration::from_millis(5);
        let mut backoff = Backoff::new(Duration::from_secs(3_600), longest);
        assert!((0..100).all(|_| backoff.fail() <= longest));
    }
}
