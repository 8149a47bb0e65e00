//! Clients first: while they wait too long for the store, what upstreams send is stored more slowly.
//!
//! All processes that store hear the same of clients. Each slows down by itself, and speeds up again little by little;
//! where nobody writes, at once. While somebody does, all of them rest for a moment in each minute, so that it is seen
//! how long clients wait at best:
//!
//! ```text
//! clients    4 ms    88 ms ── twice the best, and more ── 9 ms      4 ms
//! upstreams          1,300/s ── 650 ── 325 ── 160 ─────── 170/s ─── rest ── 170/s
//! ```

use std::time::{Duration, Instant};

/// Between looks at how long clients wait.
const LOOK: Duration = Duration::from_secs(1);
/// So much slower at a look, at most, and so much faster.
const SLOWER: f64 = 0.5;
const FASTER: f64 = 1.05;
/// Faster only where that much of the rate was used.
const USED: f64 = 0.5;
/// What may be saved up while nothing comes, in seconds.
const SAVED: f64 = 0.05;
/// Seconds of each minute in which nothing is stored, and for how long it is looked whether they are over.
const REST: u64 = 2;
const MOMENT: Duration = Duration::from_millis(50);
/// A rate beyond this is none.
const MOST: f64 = 1e6;

/// How many events of upstreams may be stored now.
#[derive(Debug)]
pub struct Courtesy {
    /// How many times as long as at best clients may wait. 0: however long.
    bound: f64,
    /// Events a second that are stored whatever they wait.
    least: f64,
    /// Events a second; infinite: as many as the store takes.
    rate: f64,
    left: f64,
    refilled: Instant,
    /// Whether there are clients that write.
    are_there: bool,
    looked: Instant,
    /// Since then.
    stored: u32,
}

impl Courtesy {
    pub fn new(bound: f64, least: u32, now: Instant) -> Self {
        Self {
            bound,
            least: least.into(),
            rate: f64::INFINITY,
            left: 0.0,
            refilled: now,
            are_there: false,
            looked: now,
            stored: 0,
        }
    }

    /// Events a second; 0: as many as the store takes.
    pub fn rate(&self) -> f64 {
        if self.rate.is_finite() { self.rate } else { 0.0 }
    }

    /// Whether it is to be [looked](Self::look) how long clients wait.
    pub fn is_due(&self, now: Instant) -> bool {
        self.bound > 0.0 && now.saturating_duration_since(self.looked) >= LOOK
    }

    /// For how long nothing more may be stored. `second`: of the day, or of any other time that all processes know.
    pub fn pause(&mut self, second: u64, now: Instant) -> Option<Duration> {
        if self.are_there && second % 60 < REST {
            return Some(MOMENT);
        }
        if self.rate.is_infinite() {
            return None;
        }
        let passed = now.saturating_duration_since(self.refilled).as_secs_f64();
        self.refilled = now;
        self.left = (self.left + passed * self.rate).min((self.rate * SAVED).max(1.0));
        (self.left < 1.0).then(|| Duration::from_secs_f64((1.0 - self.left) / self.rate))
    }

    /// One is stored.
    pub fn spend(&mut self) {
        self.stored += 1;
        self.left = (self.left - 1.0).max(-1.0);
    }

    /// Clients wait for so long beside the best, if there are any.
    pub fn look(&mut self, waits: Option<f64>, now: Instant) {
        let seconds = now.saturating_duration_since(self.looked).as_secs_f64();
        let done = f64::from(std::mem::take(&mut self.stored)) / seconds;
        self.looked = now;
        self.are_there = waits.is_some();
        self.rate = match waits {
            Some(waits) if waits > self.bound => {
                let from = if self.rate.is_finite() { self.rate } else { done };
                (from * (self.bound / waits).max(SLOWER)).max(self.least)
            }
            // Who has not used what it may would come with all of it at once.
            Some(_) if done >= self.rate * USED => self.rate * FASTER,
            Some(_) => self.rate,
            None => f64::INFINITY,
        };
        if self.rate > MOST {
            self.rate = f64::INFINITY;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::waits::Waits;

    /// A store, clients who wait for it, and processes that store what upstreams send, all in steps of a millisecond.
    struct World {
        waits: Waits,
        processes: Vec<Courtesy>,
        paused: Vec<Instant>,
        now: Instant,
        millis: u64,
        /// Events in the last tenths of a second.
        stored: [u32; 10],
        have_clients: bool,
        /// Upstreams: ten events a second for each process, and not whatever it takes.
        bring_little: bool,
    }

    /// Events a second that the store takes.
    const TAKES: f64 = 1_000.0;
    const ALONE: f64 = 0.004;

    impl World {
        fn new(have_clients: bool, bound: f64) -> Self {
            let now = Instant::now();
            let processes = (0..4).map(|_| Courtesy::new(bound, 10, now)).collect();
            let (paused, stored) = (vec![now; 4], [0; 10]);
            Self {
                waits: Waits::default(),
                processes,
                paused,
                now,
                millis: 0,
                stored,
                have_clients,
                bring_little: false,
            }
        }

        /// How many events a second are stored, and how long clients wait in the middle, in seconds.
        fn run(&mut self, seconds: u64) -> (f64, f64) {
            let (mut all, mut waited) = (0, Vec::new());
            for _ in 0..seconds * 1_000 {
                self.millis += 1;
                self.now += Duration::from_millis(1);
                let tenth = (self.millis / 100 % 10) as usize;
                if self.millis.is_multiple_of(100) {
                    self.stored[tenth] = 0;
                }
                let load: u32 = self.stored.iter().sum();
                let most =
                    if self.bring_little { u32::from(self.millis.is_multiple_of(100)) } else { u32::MAX };
                for (process, paused) in self.processes.iter_mut().zip(&mut self.paused) {
                    let mut own = 0;
                    while own < most && *paused <= self.now && f64::from(self.stored[tenth]) < TAKES / 10.0 {
                        if process.is_due(self.now) {
                            process.look(self.waits.longest(self.now), self.now);
                        }
                        match process.pause(self.millis / 1_000, self.now) {
                            Some(pause) => *paused = self.now + pause.max(Duration::from_millis(1)),
                            None => {
                                process.spend();
                                own += 1;
                                self.stored[tenth] += 1;
                                all += 1;
                            }
                        }
                    }
                }
                if self.have_clients && self.millis.is_multiple_of(25) {
                    let wait = ALONE / (1.05 - f64::from(load) / TAKES).max(0.05);
                    waited.push(wait);
                    self.waits.note(Duration::from_secs_f64(wait), self.now);
                }
            }
            waited.sort_by(f64::total_cmp);
            (f64::from(all) / seconds as f64, waited.get(waited.len() / 2).copied().unwrap_or_default())
        }
    }

    #[test]
    fn without_clients_nobody_is_slow() {
        let mut world = World::new(false, 2.0);
        assert!(world.run(120).0 > 0.99 * TAKES);
    }

    #[test]
    fn clients_wait_twice_as_long_and_what_the_store_takes_beside_them_is_stored() {
        // The store is at its limit when they come, and they see nothing else.
        let mut world = World::new(true, 2.0);
        world.run(120);
        let (rate, waited) = world.run(600);
        assert!(waited < 2.4 * ALONE, "{waited}");
        assert!(rate > 0.35 * TAKES, "{rate}");
        // They go, and it is as before.
        world.have_clients = false;
        world.run(30);
        assert!(world.run(60).0 > 0.99 * TAKES);
    }

    #[test]
    fn what_upstreams_have_not_used_they_do_not_take_at_once() {
        let mut world = World::new(true, 2.0);
        world.run(120);
        world.bring_little = true;
        world.run(100);
        world.bring_little = false;
        let (_, waited) = world.run(5);
        assert!(waited < 2.4 * ALONE, "{waited}");
    }

    #[test]
    fn where_they_may_wait_nobody_is_slow() {
        let mut world = World::new(true, 0.0);
        let (rate, waited) = world.run(120);
        assert!(rate > 0.99 * TAKES && waited > 10.0 * ALONE, "{rate} {waited}");
    }
}
