//! The clocks of other nodes, as their cards tell them: where each node has a store of its own, nobody else compares
//! them. One that is far expires events at other times than the others, and refuses what they take.
//!
//! A card may be held up on its way, and then its clock looks late. So of all that were told for a while the one that
//! was the fastest counts, and nothing counts that came at once after a pause.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use crate::{
    clock::{Standing, compare},
    store::log::Origin,
};

/// Cards are taken together for so long at least. Those of the time that goes on count, and those of the time before.
const WHILE: Duration = Duration::from_secs(5);

/// What cards told of other clocks, and how this node's stands to them. A plain struct.
pub struct Clocks {
    tolerance: Duration,
    span: Duration,
    others: HashMap<Origin, HeardClock>,
    standing: Standing,
}

/// By how many milliseconds this node's clock was ahead of another one's at least.
struct HeardClock {
    /// When the time that goes on began.
    begun: Instant,
    /// The least in the time that goes on.
    least: i64,
    /// The least in the time before; `None`: nothing was heard then.
    before: Option<i64>,
}

impl Clocks {
    /// `patience`: a process is taken for silent after that. Until then a card may be on its way, too.
    pub fn new(tolerance: Duration, patience: Duration) -> Self {
        let (tolerance, span) = (tolerance + patience, patience.max(WHILE));
        Self { tolerance, span, others: HashMap::new(), standing: Standing::Unknown }
    }

    /// Takes a card: the clock of its process read `told` when it was written, and this node's reads `own` now, both in
    /// milliseconds. How this node's clock stands, if that is news.
    pub fn hear(&mut self, origin: Origin, told: u64, own: u64, now: Instant) -> Option<Standing> {
        let ahead = own.wrapping_sub(told) as i64;
        let heard =
            self.others.entry(origin).or_insert(HeardClock { begun: now, least: ahead, before: None });
        let age = now.duration_since(heard.begun);
        if age >= self.span {
            let before = (age < 2 * self.span).then_some(heard.least);
            *heard = HeardClock { begun: now, least: ahead, before };
        }
        heard.least = heard.least.min(ahead);
        let span = self.span;
        self.others.retain(|_, heard| now.duration_since(heard.begun) < 2 * span);
        let known = self.others.values().filter_map(|heard| Some(heard.least.min(heard.before?)));
        // Where too little is heard to compare, what was known stays.
        let standing = compare(known.collect(), self.tolerance).unwrap_or(self.standing);
        let before = std::mem::replace(&mut self.standing, standing);
        (std::mem::discriminant(&before) != std::mem::discriminant(&standing)).then_some(standing)
    }

    /// How this node's clock stands to those of the others.
    pub fn standing(&self) -> Standing {
        self.standing
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(15);
    /// What this node's clock reads at first.
    const OWN: u64 = 1_000_000_000;

    struct Stage {
        clocks: Clocks,
        begun: Instant,
        told: Vec<Standing>,
    }

    impl Stage {
        fn new() -> Self {
            Self {
                clocks: Clocks::new(TOLERANCE, Duration::from_secs(3)),
                begun: Instant::now(),
                told: Vec::new(),
            }
        }

        /// In that second comes what was written `late` seconds ago, by a clock that is `off`.
        fn card(&mut self, origin: Origin, second: u64, late: u64, off: i64) {
            let own = OWN + second * 1_000;
            let told = (own - late * 1_000).wrapping_add_signed(off * 1_000);
            let now = self.begun + Duration::from_secs(second);
            self.told.extend(self.clocks.hear(origin, told, own, now));
        }
    }

    #[test]
    fn one_that_is_far_from_the_median_of_the_others_is_told_so_once() {
        for (off, expected) in [
            (&[0, 14][..], vec![Standing::Near]),
            (&[3_600], vec![Standing::Far(-3_600_000)]),
            (&[-3_600], vec![Standing::Far(3_600_000)]),
            (&[0, 3_600], vec![Standing::Near]),
            (&[-3_600, -3_600, 0], vec![Standing::Far(3_600_000)]),
        ] {
            let mut stage = Stage::new();
            for second in 0..30 {
                for (origin, off) in off.iter().enumerate() {
                    stage.card(origin as u64, second, 0, *off);
                }
            }
            // Which of them is heard of first makes a difference for a moment.
            assert_eq!(stage.told.last(), expected.last(), "{off:?}");
            assert_eq!(stage.clocks.standing(), expected[0], "{off:?}");
        }
    }

    #[test]
    fn what_is_held_up_is_no_clock_that_is_far() {
        let mut stage = Stage::new();
        let mut second = 0;
        while second < 20 {
            stage.card(1, second, 0, 0);
            second += 1;
        }
        // This node stands still for a minute; then it finds all that came meanwhile, at once.
        second += 60;
        for late in (0..60).rev() {
            stage.card(1, second, late, 0);
        }
        for _ in 0..20 {
            second += 1;
            stage.card(1, second, 0, 0);
        }
        // Redis is slow for a while.
        for late in [20, 19, 21, 0, 20, 30, 20, 2] {
            second += 1;
            stage.card(1, second, late, 0);
        }
        assert_eq!(stage.told, [Standing::Near]);
        // A clock that is set back is no delay.
        for _ in 0..15 {
            second += 1;
            stage.card(1, second, 1, -60);
        }
        assert_eq!(stage.told, [Standing::Near, Standing::Far(61_000)]);
    }
}
