//! The other processes at work on the same tables: so that what any of them could do is done by one, and so that
//! nobody takes for expired what is not.
//!
//! Nobody agrees on anything: each looks at who tells of itself in table `node`, and takes what falls to it by
//! its number. Where two see different processes for a moment, both do it, which does no harm. The timestamps of
//! those rows are the clocks of whoever wrote them; programs of all versions write them so.
//!
//! What another clock told is kept against this machine's own moments, which nobody sets: when this node's clock is set
//! it is known at once to differ, also while nobody else says a word. Where none of the others is heard the clock of
//! the servers has to agree, too, as they can always be asked.

use std::{collections::HashMap, time::Duration};

use parking_lot::{Mutex, MutexGuard};
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    clock::{Moment, Standing, compare},
    store::log::Origin,
};

/// A process that has told nothing of itself for so long is gone.
const SILENT: Duration = Duration::from_secs(10);
/// For how long the table is believed, and not read again.
const BELIEVED: Duration = Duration::from_secs(1);
/// A process that is alive has been seen to count on after so long.
const HEARD: Duration = Duration::from_secs(3);

pub struct Peers {
    own: Origin,
    /// How far clocks may be from each other.
    tolerance: Duration,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    others: HashMap<Origin, Peer>,
    /// The clock of a server.
    server: Option<ToldClock>,
    begun_at: Option<Moment>,
    read_at: Option<Moment>,
    /// What was last said of the clock.
    said: Standing,
}

struct Peer {
    count: u64,
    /// What the process told when it was last seen to count on; of one that is gone it stays what it is.
    told: Option<ToldClock>,
}

/// What another clock read, in milliseconds since 1970, some time between two moments.
#[derive(Debug, Clone, Copy)]
struct ToldClock {
    at: u64,
    between: (Moment, Moment),
}

/// What a process tells of itself.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    pub origin: Origin,
    /// How often the process has told something.
    pub count: u64,
    /// When it did last, by its own clock, in milliseconds since 1970.
    pub at: u64,
}

impl Peers {
    pub fn new(own: Origin, tolerance: Duration) -> Self {
        Self { own, tolerance, state: Mutex::default() }
    }

    /// Whether the table is to be read again.
    pub fn is_due(&self, now: Moment) -> bool {
        self.state().read_at.is_none_or(|at| now.since(at) >= BELIEVED)
    }

    /// What the table and the clock of a server said between two moments. The clock of this node is so many
    /// milliseconds ahead of its moments. What is then known of it, if it is something new.
    pub fn meet(
        &self,
        words: &[Word],
        server: u64,
        between: (Moment, Moment),
        offset: i64,
    ) -> Option<Standing> {
        let now = between.1;
        let mut state = self.state();
        state.read_at = Some(now);
        state.begun_at.get_or_insert(now);
        state.server = Some(ToldClock { at: server, between });
        let before = std::mem::take(&mut state.others);
        for word in words.iter().filter(|word| word.origin != self.own) {
            let told = match before.get(&word.origin) {
                Some(peer) if peer.count == word.count => peer.told,
                Some(_) => Some(ToldClock { at: word.at, between }),
                None => None,
            };
            state.others.insert(word.origin, Peer { count: word.count, told });
        }
        let standing = state.standing(offset, now, self.tolerance);
        let before = std::mem::replace(&mut state.said, standing);
        (std::mem::discriminant(&before) != std::mem::discriminant(&standing)).then_some(standing)
    }

    /// What is known of this node's clock, which is so many milliseconds ahead of its moments.
    pub fn standing(&self, offset: i64, now: Moment) -> Standing {
        self.state().standing(offset, now, self.tolerance)
    }

    /// Whether a task falls to this process.
    pub fn is_mine(&self, task: &[u8], now: Moment) -> bool {
        let rank = |origin| xxh3_64_with_seed(task, origin);
        let state = self.state();
        let mut others = state.others.iter().filter(|(_, peer)| peer.is_alive(now));
        others.all(|(origin, _)| rank(*origin) < rank(self.own))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}

impl State {
    fn standing(&self, offset: i64, now: Moment, tolerance: Duration) -> Standing {
        let count_ahead = |told: Option<ToldClock>| Some(told?.ahead(offset));
        let judge = |ahead: Vec<i64>| compare(ahead, tolerance);
        let alive = self.others.values().filter(|peer| peer.is_alive(now));
        if let Some(standing) = judge(alive.filter_map(|peer| count_ahead(peer.told)).collect()) {
            return standing;
        }
        let Some(begun_at) = self.begun_at else { return Standing::Unknown };
        if !self.others.is_empty() && now.since(begun_at) < HEARD {
            return Standing::Unknown;
        }
        // Nobody is heard now. The clocks of those that were heard before, and of the servers, have to agree.
        let silent = judge(self.others.values().filter_map(|peer| count_ahead(peer.told)).collect());
        let server = judge(count_ahead(self.server).into_iter().collect());
        match (silent, server) {
            (Some(far @ Standing::Far(_)), _) | (_, Some(far @ Standing::Far(_))) => far,
            _ => Standing::Near,
        }
    }
}

impl Peer {
    fn is_alive(&self, now: Moment) -> bool {
        self.told.is_some_and(|told| now.since(told.between.1) < SILENT)
    }
}

impl ToldClock {
    /// By how many milliseconds a clock that is so far ahead of this machine's moments is ahead of that one: the least
    /// that it may be, because word may have been held up.
    fn ahead(self, offset: i64) -> i64 {
        let ahead_at =
            |moment: Moment| (moment.millis() as i64).wrapping_add(offset).wrapping_sub(self.at as i64);
        let (before, after) = self.between;
        0_i64.clamp(ahead_at(before), ahead_at(after).max(ahead_at(before)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(15);
    const SECOND: Duration = Duration::from_secs(1);
    const DAY: i64 = 24 * 60 * 60;
    /// What right clocks are ahead of the moments of this machine, in milliseconds.
    const OFFSET: i64 = 1_000_000_000;

    fn moment(second: u64) -> Moment {
        Moment::new(Duration::from_secs(1_000 + second))
    }

    /// What a right clock reads then.
    fn wall(at: Moment) -> u64 {
        at.millis().wrapping_add_signed(OFFSET)
    }

    /// A process that looks at the table, each time a second later than the last one.
    struct Stage {
        peers: Peers,
        second: u64,
        /// By how many seconds its own clock is off, and that of the servers.
        off: i64,
        server_off: i64,
    }

    impl Stage {
        fn new(own: Origin) -> Self {
            Self { peers: Peers::new(own, TOLERANCE), second: 0, off: 0, server_off: 0 }
        }

        fn now(&self) -> Moment {
            moment(self.second)
        }

        /// Others have counted so far; their clocks are off by so many seconds.
        fn sees(&mut self, others: &[(Origin, u64, i64)]) -> Option<Standing> {
            self.second += 1;
            let at = self.now();
            let clock = |off: i64| wall(at).wrapping_add_signed(off * 1_000);
            let word = |&(origin, count, off): &(Origin, u64, i64)| Word { origin, count, at: clock(off) };
            let words: Vec<Word> = others.iter().map(word).collect();
            self.peers.meet(&words, clock(self.server_off), (at, at), self.offset())
        }

        fn offset(&self) -> i64 {
            OFFSET + self.off * 1_000
        }

        fn standing(&self) -> Standing {
            self.peers.standing(self.offset(), self.now())
        }

        fn is_far(&self) -> bool {
            matches!(self.standing(), Standing::Far(_))
        }

        fn is_mine(&self, task: u64) -> bool {
            self.peers.is_mine(&task.to_be_bytes(), self.now())
        }
    }

    fn right(origins: impl Iterator<Item = Origin>, count: u64) -> Vec<(Origin, u64, i64)> {
        origins.map(|origin| (origin, count, 0)).collect()
    }

    /// Processes that see each other, each by what it was last told.
    fn met(count: u64) -> Vec<Stage> {
        let mut stages: Vec<Stage> = (1..=count).map(Stage::new).collect();
        for counted in 1..=2 {
            for stage in &mut stages {
                stage.sees(&right(1..=count, counted));
            }
        }
        stages
    }

    fn owners(stages: &[Stage], task: u64) -> usize {
        stages.iter().filter(|stage| stage.is_mine(task)).count()
    }

    #[test]
    fn each_task_falls_to_one_and_all_get_some() {
        let stages = met(3);
        for task in 0..100 {
            assert_eq!(owners(&stages, task), 1);
        }
        for stage in &stages {
            let tasks = (0..100).filter(|&task| stage.is_mine(task)).count();
            assert!((10..70).contains(&tasks), "{tasks}");
        }
    }

    #[test]
    fn what_fell_to_one_that_is_gone_falls_to_another() {
        let mut stages = met(3);
        // The first two go on to tell of themselves.
        for stage in &mut stages[..2] {
            stage.second += SILENT.as_secs();
            stage.sees(&[right(1..=2, 3), right(3..=3, 2)].concat());
        }
        for task in 0..100 {
            assert_eq!(owners(&stages[..2], task), 1);
        }
    }

    #[test]
    fn who_was_gone_before_counts_for_nothing() {
        let mut stage = Stage::new(1);
        for _ in 0..3 {
            stage.sees(&right(1..=50, 7));
        }
        assert!((0..100).all(|task| stage.is_mine(task)));
    }

    /// Others whose clocks are off by so many seconds, for the so many-th time.
    fn others(off: &[i64], count: u64) -> Vec<(Origin, u64, i64)> {
        off.iter().enumerate().map(|(place, &off)| (10 + place as u64, count, off)).collect()
    }

    #[test]
    fn a_clock_is_compared_with_the_median_of_the_others() {
        for (off, expected) in [
            (&[][..], Standing::Near),
            (&[14], Standing::Near),
            (&[3_600], Standing::Far(-3_600_000)),
            (&[-3_600], Standing::Far(3_600_000)),
            // One of three is wrong, and it is not this one.
            (&[0, 3_600], Standing::Near),
            (&[-3_600, 0], Standing::Near),
            (&[-3_600, -3_601], Standing::Far(3_600_000)),
            // They do not agree, but none of them is near.
            (&[-3_600, 7_200], Standing::Far(3_600_000)),
            (&[1, 2, -3_600], Standing::Near),
            (&[-3_600, -3_600, 0], Standing::Far(3_600_000)),
        ] {
            let mut stage = Stage::new(1);
            stage.sees(&others(off, 1));
            stage.sees(&others(off, 2));
            assert_eq!(stage.standing(), expected, "{off:?}");
        }
    }

    #[test]
    fn a_clock_is_not_judged_by_whom_nothing_is_known_of() {
        let mut stage = Stage::new(1);
        // They may be long gone, and stopped when their clocks were right.
        assert_eq!(stage.sees(&others(&[-3_600, -60], 1)), None);
        assert_eq!(stage.standing(), Standing::Unknown);
        stage.second += HEARD.as_secs();
        assert_eq!(stage.sees(&others(&[-3_600, -60], 1)), Some(Standing::Near));
    }

    #[test]
    fn who_was_far_and_hears_nobody_is_far() {
        let mut stage = Stage::new(1);
        stage.sees(&others(&[-60], 1));
        assert_eq!(stage.sees(&others(&[-60], 2)), Some(Standing::Far(60_000)));
        stage.second += 2 * SILENT.as_secs();
        assert_eq!(stage.sees(&others(&[-60], 2)), None);
        assert_eq!(stage.standing(), Standing::Far(60_000));
        // Said once of each change.
        assert_eq!(stage.sees(&others(&[-61], 3)), None);
        assert_eq!(stage.sees(&others(&[0], 4)), Some(Standing::Near));
    }

    /// The other one is only held up, and its clock is right.
    #[test]
    fn a_clock_that_is_set_while_the_other_one_is_silent_is_far() {
        for silent in [0, 5, 3 * SILENT.as_secs()] {
            let mut stage = Stage::new(1);
            stage.sees(&others(&[0], 1));
            stage.sees(&others(&[0], 2));
            for _ in 0..silent {
                stage.sees(&others(&[0], 2));
            }
            assert_eq!(stage.standing(), Standing::Near);
            stage.off = DAY;
            // At once, before the table is read again.
            assert!(stage.is_far(), "after {silent} s");
            // Nobody says a word, and the servers are set with this machine.
            stage.server_off = DAY;
            for _ in 0..60 {
                stage.sees(&others(&[0], 2));
                assert!(stage.is_far(), "after {silent} s");
            }
            stage.off = 0;
            stage.server_off = 0;
            stage.sees(&others(&[0], 2));
            assert_eq!(stage.standing(), Standing::Near);
        }
    }

    #[test]
    fn a_clock_that_was_never_compared_has_that_of_the_servers() {
        for listed in [&[0][..], &[]] {
            let mut stage = Stage::new(1);
            stage.off = DAY;
            for _ in 0..60 {
                stage.sees(&others(listed, 7));
                assert_ne!(stage.standing(), Standing::Near, "{listed:?}");
            }
            // Nodes that agree are right, whatever their servers think.
            stage.sees(&others(&[DAY], 8));
            stage.sees(&others(&[DAY], 9));
            assert_eq!(stage.standing(), Standing::Near);
        }
    }

    #[test]
    fn the_time_that_an_answer_takes_does_not_count() {
        // A node that stood still for a minute while it read.
        let between = (moment(0), moment(60));
        let ahead = |told: i64| {
            let at = wall(moment(0)).wrapping_add_signed(told * 1_000);
            ToldClock { at, between }.ahead(OFFSET)
        };
        assert_eq!((ahead(60), ahead(30), ahead(-5), ahead(65)), (0, 0, 5_000, -5_000));
        assert_eq!(ToldClock { at: wall(moment(60)), between }.ahead(OFFSET + SECOND.as_millis() as i64), 0);
    }
}
