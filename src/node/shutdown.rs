//! How long each phase of a shutdown may take.

use std::time::{Duration, Instant};

/// The phases of a shutdown, in their order. Together they have one time; each ends by its part of that, whenever it
/// began, and earlier if it can.
#[derive(Debug, Clone, Copy)]
pub enum ShutdownPhase {
    /// Events that wait are stored.
    Stored,
    /// Other nodes know that this one leaves.
    Told,
    /// Sockets are asked to close.
    Asked,
    Closed,
    /// Nothing is left in the store for other nodes to finish. The time after that is for the last spans.
    Left,
}

pub struct Countdown {
    begun: Instant,
    whole: Duration,
}

impl Countdown {
    pub fn start(whole: Duration) -> Self {
        Self { begun: Instant::now(), whole }
    }

    /// How long a phase may take that begins now.
    pub fn until(&self, phase: ShutdownPhase) -> Duration {
        self.left(phase, self.begun.elapsed())
    }

    fn left(&self, phase: ShutdownPhase, spent: Duration) -> Duration {
        let sixteenths = match phase {
            ShutdownPhase::Stored => 8,
            ShutdownPhase::Told => 10,
            // Over half of the time at most, so that a shutdown with nothing to store is no longer for it.
            ShutdownPhase::Asked => return self.left_of(12, spent).min(self.whole / 2),
            ShutdownPhase::Closed => 14,
            ShutdownPhase::Left => 15,
        };
        self.left_of(sixteenths, spent)
    }

    fn left_of(&self, sixteenths: u32, spent: Duration) -> Duration {
        (self.whole * sixteenths / 16).saturating_sub(spent)
    }

    /// The moment by which the process has ended.
    pub fn end(&self) -> Instant {
        self.begun + self.whole
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ShutdownPhase; 5] = [
        ShutdownPhase::Stored,
        ShutdownPhase::Told,
        ShutdownPhase::Asked,
        ShutdownPhase::Closed,
        ShutdownPhase::Left,
    ];

    #[test]
    fn a_shutdown_has_one_time_however_long_its_phases_take() {
        let countdown = Countdown::start(Duration::from_secs(16));
        // Each takes all that it may.
        let mut spent = Duration::ZERO;
        let ends = ALL.map(|phase| {
            // Sockets are waited for when they were asked.
            let is_waited_for = !matches!(phase, ShutdownPhase::Asked);
            let left = countdown.left(phase, spent);
            spent += if is_waited_for { left } else { Duration::ZERO };
            (left.as_secs(), spent.as_secs())
        });
        assert_eq!(ends, [(8, 8), (2, 10), (2, 10), (4, 14), (1, 15)]);
        // None takes anything.
        let at_once = ALL.map(|phase| countdown.left(phase, Duration::ZERO).as_secs());
        assert_eq!(at_once, [8, 10, 8, 14, 15]);
        let too_late = ALL.map(|phase| countdown.left(phase, Duration::from_secs(20)));
        assert_eq!(too_late, [Duration::ZERO; 5]);
    }
}
