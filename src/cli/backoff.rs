//! How long to wait before the next attempt: doubling up to a bound, with jitter, so that clients
//! that lost the same relay do not come back in the same moment.

use std::time::Duration;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

#[derive(Debug, Default)]
pub struct Backoff {
    attempts: u32,
}

impl Backoff {
    /// Attempts since the last success.
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// Notes a failure, and says how long to wait: between half the nominal time and all of it.
    pub fn next(&mut self) -> Duration {
        let nominal = FIRST.saturating_mul(1 << self.attempts.min(10)).min(LONGEST);
        self.attempts += 1;
        nominal.mul_f64(rand::random_range(0.5..=1.0))
    }

    /// Notes a success.
    pub fn reset(&mut self) {
        self.attempts = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_its_bound() {
        let mut backoff = Backoff::default();
        for nominal in [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0] {
            let wait = backoff.next().as_secs_f64();
            assert!((nominal / 2.0..=nominal).contains(&wait), "{wait} of {nominal}");
        }
        assert_eq!(backoff.attempts(), 8);
        backoff.reset();
        assert!(backoff.next() <= FIRST);
    }
}
