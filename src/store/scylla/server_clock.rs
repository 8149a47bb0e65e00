//! The clock of the servers, which says when an event was accepted: nodes compare such times, and the own clock of one
//! may be hours off.

use parking_lot::Mutex;

use crate::clock::Moment;

/// What the clock reads now, by what it read before: it is read once, and then from time to time. Whatever is in doubt
/// makes an event look as if it was accepted later than it was.
#[derive(Default)]
pub struct ServerClock(Mutex<Ahead>);

/// By how many milliseconds the clock is ahead of the moments of this machine.
#[derive(Debug, Clone, Copy)]
struct Ahead {
    /// At the most, when it was read last.
    most: i64,
    /// At the least, ever since this process began: it may have been set meanwhile, and servers differ.
    least: i64,
}

/// What a server's clock read, in milliseconds since 1970, some time between two moments.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    pub at: u64,
    pub between: (Moment, Moment),
}

impl ClockReading {
    fn ahead(self) -> Ahead {
        let ahead = |moment: Moment| self.at.wrapping_sub(moment.millis()) as i64;
        Ahead { most: ahead(self.between.0), least: ahead(self.between.1) }
    }
}

impl Default for Ahead {
    fn default() -> Self {
        Self { most: 0, least: i64::MAX }
    }
}

impl ServerClock {
    /// Notes what the clock read.
    pub fn note(&self, reading: ClockReading) {
        let Ahead { most, least } = reading.ahead();
        let mut state = self.0.lock();
        *state = Ahead { most, least: least.min(state.least) };
    }

    /// What the clock reads at a moment, in milliseconds since 1970.
    pub fn millis(&self, then: Moment) -> u64 {
        then.millis().wrapping_add_signed(self.0.lock().most)
    }

    /// The latest moment, up to now, when the clock can have read so many milliseconds.
    pub fn latest(&self, millis: u64, now: Moment) -> Moment {
        Moment::of_millis(millis.saturating_add_signed(self.0.lock().least.saturating_neg())).min(now)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const HOUR: u64 = 3_600;
    /// What it is ahead of the moments.
    const AHEAD: u64 = 1_000_000_000;

    fn moment(second: u64) -> Moment {
        Moment::new(Duration::from_secs(100 * HOUR + second))
    }

    /// Read in that second, so many seconds ahead of what is right.
    fn reading(second: u64, off: i64) -> ClockReading {
        let at = (moment(second).millis() + AHEAD).wrapping_add_signed(off * 1_000);
        ClockReading { at, between: (moment(second), moment(second)) }
    }

    fn clock(reading: ClockReading) -> ServerClock {
        let clock = ServerClock::default();
        clock.note(reading);
        clock
    }

    #[test]
    fn an_event_is_as_old_as_it_is_whoever_accepted_it() {
        // Two nodes whose machines were started at different times know the same clock.
        let (writer, reader) = (clock(reading(0, 0)), clock(reading(500, 0)));
        let accepted = writer.millis(moment(HOUR));
        assert_eq!(reader.latest(accepted, moment(HOUR + 60)), moment(HOUR));
        // Also before the machine of a reader was started.
        let long_ago = accepted - 200 * HOUR * 1_000;
        assert_eq!(
            moment(HOUR).since(reader.latest(long_ago, moment(HOUR))),
            Duration::from_secs(200 * HOUR)
        );
    }

    #[test]
    fn nothing_looks_older_than_it_is_when_the_clock_is_set_or_slow_to_answer() {
        let clock = clock(reading(0, 0));
        let before = clock.millis(moment(10));
        clock.note(reading(20, 2 * HOUR as i64));
        assert_eq!(clock.latest(before, moment(30)), moment(10));
        assert_eq!(clock.latest(clock.millis(moment(30)), moment(40)), moment(40));
        clock.note(reading(50, -2 * HOUR as i64));
        assert_eq!(clock.latest(before, moment(60)), moment(60));
        assert_eq!(clock.latest(clock.millis(moment(60)), moment(70)), moment(60));
        // An answer that takes an hour may be as old.
        let at = moment(HOUR).millis() + AHEAD;
        let slow = ServerClock::default();
        slow.note(ClockReading { at, between: (moment(0), moment(2 * HOUR)) });
        let now = moment(3 * HOUR);
        assert!(slow.latest(slow.millis(now), now) >= now);
    }
}
