//! The other processes at work on the same tables: so that what any of them could do is done by one, and so that
//! nobody takes for expired what is not.
//!
//! Nobody agrees on anything: each looks at who tells of itself in table `node`, and takes what falls to it by
//! its number. Where two see different processes for a moment, both do it, which does no harm. The timestamps of
//! those rows are the clocks of whoever wrote them; programs of all versions write them so.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{
    clock::{Standing, compare},
    store::log::Origin,
};

/// A process that has told nothing of itself for so long is gone.
const SILENT: Duration = Duration::from_secs(10);
/// For how long the table is believed.
const BELIEVED: Duration = Duration::from_secs(1);
/// Whoever is alive has been seen to count on after so long.
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
    begun_at: Option<Instant>,
    read_at: Option<Instant>,
    standing: Standing,
}

struct Peer {
    count: u64,
    /// When it was seen to count on; that of one that is gone stands still.
    told_at: Option<Instant>,
    /// By how many milliseconds the clock of this node is ahead of its.
    ahead: i64,
}

/// What a process tells of itself.
#[derive(Debug, Clone, Copy)]
pub struct Word {
    pub origin: Origin,
    /// How often it has.
    pub count: u64,
    /// When it did, by its clock, in milliseconds since 1970.
    pub at: u64,
}

impl Peers {
    pub fn new(own: Origin, tolerance: Duration) -> Self {
        Self { own, tolerance, state: Mutex::default() }
    }

    /// Whether the table is to be read again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.state().read_at.is_none_or(|at| now.duration_since(at) >= BELIEVED)
    }

    /// What the table says that was read between two readings of this node's clock, in milliseconds. What is then
    /// known of that clock, if it is something new.
    pub fn meet(&self, words: &[Word], read: (u64, u64), now: Instant) -> Option<Standing> {
        let mut state = self.state();
        state.read_at = Some(now);
        let begun_at = *state.begun_at.get_or_insert(now);
        let before = std::mem::take(&mut state.others);
        for word in words.iter().filter(|word| word.origin != self.own) {
            let (told_at, ahead) = match before.get(&word.origin) {
                Some(peer) if peer.count == word.count => (peer.told_at, peer.ahead),
                Some(_) => (Some(now), ahead(word.at, read)),
                None => (None, 0),
            };
            state.others.insert(word.origin, Peer { count: word.count, told_at, ahead });
        }
        let alive = state.others.values().filter(|peer| peer.is_alive(now));
        let standing = match compare(alive.map(|peer| peer.ahead).collect(), self.tolerance) {
            Some(standing) => standing,
            None if state.others.is_empty() || now.duration_since(begun_at) >= HEARD => {
                match state.standing {
                    // Whoever hears nobody any more keeps to what was known.
                    Standing::Unknown => Standing::Near,
                    known => known,
                }
            }
            None => state.standing,
        };
        let before = std::mem::replace(&mut state.standing, standing);
        (std::mem::discriminant(&before) != std::mem::discriminant(&standing)).then_some(standing)
    }

    /// What is known of this node's clock.
    pub fn standing(&self) -> Standing {
        self.state().standing
    }

    /// Whether it falls to this process.
    pub fn is_mine(&self, task: &[u8], now: Instant) -> bool {
        let rank = |origin| xxh3_64_with_seed(task, origin);
        let state = self.state();
        let mut others = state.others.iter().filter(|(_, peer)| peer.is_alive(now));
        others.all(|(origin, _)| rank(*origin) < rank(self.own))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn is_alive(&self, now: Instant) -> bool {
        self.told_at.is_some_and(|at| now.duration_since(at) < SILENT)
    }
}

/// By how much a clock that was read before and after is ahead of one that was told in between: the least that it
/// may be, because word may have been held up.
fn ahead(told: u64, (before, after): (u64, u64)) -> i64 {
    let ahead = |own: u64| own.wrapping_sub(told) as i64;
    0_i64.clamp(ahead(before), ahead(after).max(ahead(before)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOLERANCE: Duration = Duration::from_secs(15);
    /// What this node's clock reads.
    const OWN: u64 = 1_000_000_000;
    const READ: (u64, u64) = (OWN, OWN);

    /// Processes that see each other, each by what it was last told.
    fn met(count: u64) -> Vec<Peers> {
        let peers: Vec<Peers> = (1..=count).map(|own| Peers::new(own, TOLERANCE)).collect();
        let now = Instant::now();
        for counted in 1..=2 {
            for peer in &peers {
                peer.meet(&words(1..=count, counted), READ, now);
            }
        }
        peers
    }

    fn words(origins: impl Iterator<Item = Origin>, count: u64) -> Vec<Word> {
        origins.map(|origin| Word { origin, count, at: OWN }).collect()
    }

    fn owners(peers: &[Peers], task: u64, now: Instant) -> usize {
        peers.iter().filter(|peer| peer.is_mine(&task.to_be_bytes(), now)).count()
    }

    #[test]
    fn each_task_falls_to_one_and_all_get_some() {
        let (peers, now) = (met(3), Instant::now());
        for task in 0..100 {
            assert_eq!(owners(&peers, task, now), 1);
        }
        for peer in &peers {
            let tasks = (0..100_u64).filter(|task| peer.is_mine(&task.to_be_bytes(), now)).count();
            assert!((10..70).contains(&tasks), "{tasks}");
        }
    }

    #[test]
    fn what_fell_to_one_that_is_gone_falls_to_another() {
        let peers = met(3);
        let later = Instant::now() + SILENT;
        // The first two go on to tell of themselves.
        for peer in &peers[..2] {
            let mut told = words(1..=2, 3);
            told.extend(words(3..=3, 2));
            peer.meet(&told, READ, later);
        }
        for task in 0..100 {
            assert_eq!(owners(&peers[..2], task, later), 1);
        }
    }

    #[test]
    fn who_was_gone_before_counts_for_nothing() {
        let peer = Peers::new(1, TOLERANCE);
        let now = Instant::now();
        for _ in 0..3 {
            peer.meet(&words(1..=50, 7), READ, now);
        }
        assert!((0..100_u64).all(|task| peer.is_mine(&task.to_be_bytes(), now)));
    }

    /// A process that hears others, whose clocks are off by so many seconds, for the so many-th time.
    fn hears(peer: &Peers, off: &[i64], count: u64, now: Instant) -> Option<Standing> {
        let word = |(place, off): (usize, &i64)| Word {
            origin: 10 + place as u64,
            count,
            at: OWN.wrapping_add_signed(off * 1_000),
        };
        peer.meet(&off.iter().enumerate().map(word).collect::<Vec<_>>(), READ, now)
    }

    #[test]
    fn a_clock_is_compared_with_the_median_of_the_others() {
        let now = Instant::now();
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
            let peer = Peers::new(1, TOLERANCE);
            hears(&peer, off, 1, now);
            hears(&peer, off, 2, now);
            assert_eq!(peer.standing(), expected, "{off:?}");
        }
    }

    #[test]
    fn a_clock_is_not_judged_by_whom_nothing_is_known_of() {
        let (peer, now) = (Peers::new(1, TOLERANCE), Instant::now());
        // They may be long gone, and stopped when their clocks were right.
        assert_eq!(hears(&peer, &[-3_600, -60], 1, now), None);
        assert_eq!(peer.standing(), Standing::Unknown);
        assert_eq!(hears(&peer, &[-3_600, -60], 1, now + HEARD), Some(Standing::Near));
    }

    #[test]
    fn who_was_far_and_hears_nobody_is_far() {
        let (peer, now) = (Peers::new(1, TOLERANCE), Instant::now());
        hears(&peer, &[-60], 1, now);
        assert_eq!(hears(&peer, &[-60], 2, now), Some(Standing::Far(60_000)));
        let later = now + 2 * SILENT;
        assert_eq!(hears(&peer, &[-60], 2, later), None);
        assert_eq!(peer.standing(), Standing::Far(60_000));
        // Said once of each change.
        assert_eq!(hears(&peer, &[-61], 3, later), None);
        assert_eq!(hears(&peer, &[0], 4, later), Some(Standing::Near));
    }

    #[test]
    fn the_time_that_an_answer_takes_does_not_count() {
        // A node that stood still for a minute while it read.
        assert_eq!(ahead(OWN + 60_000, (OWN, OWN + 60_000)), 0);
        assert_eq!(ahead(OWN + 30_000, (OWN, OWN + 60_000)), 0);
        assert_eq!(ahead(OWN - 5_000, (OWN, OWN + 60_000)), 5_000);
        assert_eq!(ahead(OWN + 65_000, (OWN, OWN + 60_000)), -5_000);
    }
}
