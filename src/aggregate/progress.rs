//! How far an upstream has been read: the promise that nothing of it is missed.
//!
//! The upstream keeps its events, so what has to be remembered is only up to where everything is stored. That moves in
//! two ways and no other: a window of time has been read to its end and all that it brought is finished; or the live
//! subscription was whole, and everything that it brought up to a moment is finished. What is received and not finished
//! moves nothing, so whatever dies on the way is read again.

use serde::{Deserialize, Serialize};

use crate::protocol::Timestamp;

/// Windows that are remembered apart from each other. More than these, and the oldest gap between two is closed last.
pub const MAX_WINDOWS: usize = 64;

/// A stretch of `created_at`, both ends included.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub since: Timestamp,
    pub until: Timestamp,
}

/// How far an upstream has been read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Everything dated up to here that the upstream had when it was asked is finished. A time by our clock, never the
    /// date of an event.
    pub through: Timestamp,
    /// Windows beyond that are finished, in order, apart from each other.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub done: Vec<Window>,
}

impl Progress {
    /// The oldest stretch up to `until` that is not finished, beginning `overlap` before what is.
    pub fn gap(&self, until: Timestamp, overlap: u64) -> Option<Window> {
        let since = self.through.saturating_sub(overlap);
        let end = self.done.iter().find(|window| window.until > self.through).map(|window| window.since);
        let until = end.map_or(until, |end| until.min(end.saturating_sub(1)));
        (self.through < until).then_some(Window { since, until })
    }

    /// Whether it was written by a clock that was ahead: then nobody knows how far that was.
    pub fn is_ahead(&self, now: Timestamp) -> bool {
        self.through > now
    }

    /// A window was read to its end, and all that it brought is finished.
    pub fn finish(&mut self, window: Window) {
        let mut joined = window;
        self.done.retain(|other| {
            let is_apart =
                other.until.saturating_add(1) < joined.since || joined.until.saturating_add(1) < other.since;
            if !is_apart {
                joined.since = joined.since.min(other.since);
                joined.until = joined.until.max(other.until);
            }
            is_apart
        });
        let at = self.done.partition_point(|other| other.since < joined.since);
        self.done.insert(at, joined);
        while let Some(first) = self.done.first().copied()
            && first.since <= self.through.saturating_add(1)
        {
            self.through = self.through.max(first.until);
            self.done.remove(0);
        }
        // The newest are forgotten: they are read again.
        self.done.truncate(MAX_WINDOWS);
    }

    /// The live subscription has been whole since before `through`, and everything that came before this moment is
    /// finished. What is dated earlier may still come by then, as much earlier as the overlap says.
    pub fn follow(&mut self, moment: Timestamp, overlap: u64) {
        if self.done.is_empty() {
            self.through = self.through.max(moment.saturating_sub(overlap));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn window(since: Timestamp, until: Timestamp) -> Window {
        Window { since, until }
    }

    #[test]
    fn it_moves_over_what_is_finished_and_nothing_else() {
        let mut progress = Progress { through: 100, ..Progress::default() };
        assert_eq!(progress.gap(200, 10), Some(window(90, 200)));
        progress.finish(window(150, 160));
        assert_eq!((progress.through, progress.gap(200, 10)), (100, Some(window(90, 149))));
        // A live subscription tells nothing while a window is open below it.
        progress.follow(500, 10);
        assert_eq!(progress.through, 100);
        progress.finish(window(90, 149));
        assert_eq!((progress.through, progress.done.len()), (160, 0));
        assert_eq!(progress.gap(160, 10), None);
        progress.follow(165, 10);
        assert_eq!(progress.through, 160);
        progress.follow(500, 10);
        assert_eq!(progress.through, 490);
    }

    proptest! {
        /// Against a set of seconds.
        #[test]
        fn it_is_never_ahead_of_what_is_finished(windows in prop::collection::vec((1..60_u64, 0..8_u64), 0..40)) {
            let mut progress = Progress::default();
            let mut finished = [false; 100];
            finished[0] = true;
            for (since, length) in windows {
                let window = window(since, since + length);
                progress.finish(window);
                (window.since..=window.until).for_each(|second| finished[second as usize] = true);
                let through = finished.iter().position(|is_finished| !is_finished).unwrap() as u64 - 1;
                prop_assert_eq!(progress.through, through);
                let apart: Vec<u64> = progress.done.iter().flat_map(|window| window.since..=window.until).collect();
                let expected: Vec<u64> = (through + 1..100).filter(|second| finished[*second as usize]).collect();
                prop_assert_eq!(apart, expected);
                if let Some(gap) = progress.gap(99, 0) {
                    prop_assert!((gap.since + 1..=gap.until).all(|second| !finished[second as usize]));
                }
            }
        }

        #[test]
        fn it_stays_small(starts in prop::collection::vec(1..100_000_u64, 0..300)) {
            let mut progress = Progress::default();
            for start in starts {
                progress.finish(window(start * 10, start * 10 + 3));
                prop_assert!(progress.done.len() <= MAX_WINDOWS);
            }
        }
    }
}
