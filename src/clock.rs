//! The wall clock, in the protocol's unit, and a clock that nobody sets.

use std::{
    ops::Add,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rustix::time::{ClockId, clock_gettime};

use crate::protocol::Timestamp;

/// Milliseconds since the epoch. A clock set before 1970 reads 0.
pub fn millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds since the epoch. A clock set before 1970 reads 0.
pub fn now() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// A moment of this machine, by a clock that nobody sets and that goes on while the machine is suspended, which
/// the one of [`std::time::Instant`] does not: for whatever others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

impl Moment {
    /// So long after the machine was started.
    pub const fn new(since_start: Duration) -> Self {
        Self(since_start)
    }

    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        // Elsewhere this one goes on.
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let now = clock_gettime(CLOCK);
        Self(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32))
    }

    /// How long after an earlier moment this one is.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.saturating_sub(earlier.0)
    }

    /// How long ago it was.
    pub fn elapsed(self) -> Duration {
        Self::now().since(self)
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_those_of_a_clock_that_counts_suspensions() {
        let boot = || {
            let text = std::fs::read_to_string("/proc/uptime").unwrap();
            text.split(' ').next().unwrap().parse::<f64>().unwrap()
        };
        // It has hundredths.
        let (before, moment, after) = (boot(), Moment::now(), boot());
        assert!(moment >= Moment::new(Duration::from_secs_f64(before)));
        assert!(moment <= Moment::new(Duration::from_secs_f64(after + 0.02)));
        let later = moment + Duration::from_secs(5);
        assert_eq!((later.since(moment), moment.since(later)), (Duration::from_secs(5), Duration::ZERO));
    }
}
