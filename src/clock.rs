//! The wall clock, in the protocol's unit, how it stands to those of other nodes, and a clock that nobody sets.

use std::{
    fmt,
    ops::{Add, Sub},
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

/// Year, month and day (both from 1) of a day since 1970, in UTC (Howard Hinnant, "chrono-compatible low-level date
/// algorithms").
pub fn civil(day: u64) -> (u64, u64, u64) {
    let shifted = day + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

/// A moment of this machine, by a clock that nobody sets and that goes on while the machine is suspended, which
/// the one of [`std::time::Instant`] does not: for whatever others do meanwhile.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Moment(Duration);

/// Moments are counted from so many seconds before the machine was started, as things happened before.
const BEFORE: u64 = 1 << 32;

impl Moment {
    /// So long after the machine was started.
    pub const fn new(since_start: Duration) -> Self {
        Self(Duration::new(BEFORE + since_start.as_secs(), since_start.subsec_nanos()))
    }

    /// What [`Self::millis`] says.
    pub const fn of_millis(millis: u64) -> Self {
        Self(Duration::from_millis(millis))
    }

    pub fn now() -> Self {
        #[cfg(target_os = "linux")]
        const CLOCK: ClockId = ClockId::Boottime;
        // Elsewhere this one goes on.
        #[cfg(not(target_os = "linux"))]
        const CLOCK: ClockId = ClockId::Monotonic;
        let now = clock_gettime(CLOCK);
        Self::new(Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec as u32))
    }

    /// Milliseconds since long before the machine was started.
    pub fn millis(self) -> u64 {
        self.0.as_millis() as u64
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

impl Sub<Duration> for Moment {
    type Output = Self;

    fn sub(self, earlier: Duration) -> Self {
        Self(self.0.saturating_sub(earlier))
    }
}

impl Add<Duration> for Moment {
    type Output = Self;

    fn add(self, later: Duration) -> Self {
        Self(self.0.saturating_add(later))
    }
}

/// By how many milliseconds the wall clock is ahead of the clock that nobody sets. It changes where the wall clock is
/// set, and else hardly at all.
pub fn offset() -> i64 {
    millis().wrapping_sub(Moment::now().millis()) as i64
}

/// What is known of this node's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Standing {
    /// There may be others of whom nothing is known yet.
    #[default]
    Unknown,
    /// It is near those of the others, or there are none.
    Near,
    /// It is so many milliseconds ahead of those of the others.
    Far(i64),
}

impl Standing {
    /// How many seconds it is ahead, where that is too far; else 0.
    pub fn seconds_ahead(self) -> f64 {
        match self {
            Self::Far(millis) => millis as f64 / 1_000.0,
            Self::Near | Self::Unknown => 0.0,
        }
    }
}

impl fmt::Display for Standing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = "the clock of this node is";
        match self {
            Self::Unknown => write!(f, "nothing is known of the clocks of other nodes"),
            Self::Near => write!(f, "{known} as those of the others, if there are any"),
            Self::Far(ahead) => {
                let side = if *ahead > 0 { "ahead of" } else { "behind" };
                write!(f, "{known} {} s {side} those of the others", ahead.unsigned_abs() / 1_000)
            }
        }
    }
}

/// What is known of a clock that is so many milliseconds ahead of each of those: it is compared with the one in the
/// middle. `None` where there is none.
pub fn compare(ahead: Vec<i64>, tolerance: Duration) -> Option<Standing> {
    let ahead = median(ahead)?;
    let is_far = Duration::from_millis(ahead.unsigned_abs()) > tolerance;
    Some(if is_far { Standing::Far(ahead) } else { Standing::Near })
}

/// The middle one. Of two in the middle, that which is nearer: with this node's own clock, it is the middle of all.
fn median(mut all: Vec<i64>) -> Option<i64> {
    all.sort_unstable();
    let middle = [all.len().checked_sub(1)? / 2, all.len() / 2];
    middle.into_iter().map(|place| all[place]).min_by_key(|ahead| ahead.unsigned_abs())
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
