//! The other processes at work on the same tables, so that what any of them could do is done by one.
//!
//! Nobody agrees on anything: each looks at who tells of itself in table `node`, and takes what falls to it by
//! its number. Where two see different processes for a moment, both do it, which does no harm.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::store::log::{Beat, Origin};

/// A process that has told nothing of itself for so long is gone.
const SILENT: Duration = Duration::from_secs(10);
/// For how long the table is believed.
const BELIEVED: Duration = Duration::from_secs(1);

pub struct Peers {
    own: Origin,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    others: HashMap<Origin, Peer>,
    read_at: Option<Instant>,
}

struct Peer {
    count: u64,
    /// When it was seen to count on; that of one that is gone stands still.
    told_at: Option<Instant>,
}

impl Peers {
    pub fn new(own: Origin) -> Self {
        Self { own, state: Mutex::default() }
    }

    /// Whether the table is to be read again.
    pub fn is_due(&self, now: Instant) -> bool {
        self.state().read_at.is_none_or(|at| now.duration_since(at) >= BELIEVED)
    }

    /// What the table says.
    pub fn meet(&self, beats: &[Beat], now: Instant) {
        let mut state = self.state();
        state.read_at = Some(now);
        let before = std::mem::take(&mut state.others);
        for beat in beats.iter().filter(|beat| beat.origin != self.own) {
            let told_at = match before.get(&beat.origin) {
                Some(peer) if peer.count == beat.count => peer.told_at,
                Some(_) => Some(now),
                None => None,
            };
            state.others.insert(beat.origin, Peer { count: beat.count, told_at });
        }
    }

    /// Whether it falls to this process.
    pub fn is_mine(&self, task: &[u8], now: Instant) -> bool {
        let rank = |origin| xxh3_64_with_seed(task, origin);
        let is_alive = |peer: &Peer| peer.told_at.is_some_and(|at| now.duration_since(at) < SILENT);
        let state = self.state();
        let mut others = state.others.iter().filter(|(_, peer)| is_alive(peer));
        others.all(|(origin, _)| rank(*origin) < rank(self.own))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Processes that see each other, each by what it was last told.
    fn met(count: u64) -> Vec<Peers> {
        let peers: Vec<Peers> = (1..=count).map(Peers::new).collect();
        let now = Instant::now();
        for counted in 1..=2 {
            peers.iter().for_each(|peer| peer.meet(&beats(1..=count, counted), now));
        }
        peers
    }

    fn beats(origins: impl Iterator<Item = Origin>, count: u64) -> Vec<Beat> {
        origins.map(|origin| Beat { origin, count, head: 0 }).collect()
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
            let mut told = beats(1..=2, 3);
            told.extend(beats(3..=3, 2));
            peer.meet(&told, later);
        }
        for task in 0..100 {
            assert_eq!(owners(&peers[..2], task, later), 1);
        }
    }

    #[test]
    fn who_was_gone_before_counts_for_nothing() {
        let peer = Peers::new(1);
        let now = Instant::now();
        for _ in 0..3 {
            peer.meet(&beats(1..=50, 7), now);
        }
        assert!((0..100_u64).all(|task| peer.is_mine(&task.to_be_bytes(), now)));
    }
}
