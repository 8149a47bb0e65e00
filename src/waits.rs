//! How long clients wait for the store, at this node and at the others: what works in the background goes by it.
//!
//! Stores differ, so what is told is how long it takes now beside how long it takes at best, of the last quarter of an
//! hour.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// Waits are taken together: those of so long at least, and so many.
const SPAN: Duration = Duration::from_secs(1);
const FEW: usize = 5;
/// Where there are fewer for so long, there is hardly a client.
const LONGEST_SPAN: Duration = Duration::from_secs(5);
/// Of more in a span the first count.
const MANY: usize = 256;
/// For so long it is as it was found to be.
const LASTS: Duration = Duration::from_secs(5);
/// The best is that of so many parts of the time.
const PART: Duration = Duration::from_secs(60);
const PARTS: usize = 15;
/// Whatever is faster is fast.
const FAST: Duration = Duration::from_micros(500);

/// How long clients wait for the store.
#[derive(Default)]
pub struct Waits {
    own: Mutex<Own>,
    /// What other nodes have told, and when, by who they are.
    others: Mutex<HashMap<u64, (f64, Instant)>>,
}

/// At this node. A plain struct.
#[derive(Default)]
struct Own {
    begun: Option<Instant>,
    waited: Vec<Duration>,
    /// When each part began, and the best of it.
    best: VecDeque<(Instant, Duration)>,
    found: Option<(f64, Instant)>,
}

impl Waits {
    /// A client has its answer after so long.
    pub fn note(&self, waited: Duration, now: Instant) {
        self.own.lock().note(waited, now);
    }

    /// How long clients of this node wait now, beside the best; `None`: it has hardly any that write.
    pub fn own(&self, now: Instant) -> Option<f64> {
        self.own.lock().found.and_then(|found| fresh(found, now))
    }

    /// Another node says so of its own.
    pub fn hear(&self, node: u64, ratio: f64, now: Instant) {
        let mut others = self.others.lock();
        others.retain(|_, told| fresh(*told, now).is_some());
        others.insert(node, (ratio, now));
    }

    /// The longest of all nodes.
    pub fn longest(&self, now: Instant) -> Option<f64> {
        let others = self.others.lock();
        let others = others.values().filter_map(|told| fresh(*told, now));
        others.chain(self.own(now)).reduce(f64::max)
    }
}

fn fresh((ratio, at): (f64, Instant), now: Instant) -> Option<f64> {
    (now.saturating_duration_since(at) < LASTS).then_some(ratio)
}

impl Own {
    fn note(&mut self, waited: Duration, now: Instant) {
        let age = now.saturating_duration_since(*self.begun.get_or_insert(now));
        if self.waited.len() < MANY {
            self.waited.push(waited);
        }
        if age >= SPAN && self.waited.len() >= FEW {
            self.conclude(now);
        } else if age < LONGEST_SPAN {
            return;
        }
        self.waited.clear();
        self.begun = Some(now);
    }

    fn conclude(&mut self, now: Instant) {
        let middle = self.waited.len() / 2;
        let median = (*self.waited.select_nth_unstable(middle).1).max(FAST);
        match self.best.back_mut() {
            Some((begun, best)) if now.saturating_duration_since(*begun) < PART => *best = median.min(*best),
            _ => self.best.push_back((now, median)),
        }
        if self.best.len() > PARTS {
            self.best.pop_front();
        }
        let best = self.best.iter().map(|(_, best)| *best).min().unwrap_or(median);
        self.found = Some((median.as_secs_f64() / best.as_secs_f64(), now));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_told_how_much_longer_it_takes_than_at_best() {
        let (waits, begun) = (Waits::default(), Instant::now());
        let mut now = begun;
        let mut answers = |waited, seconds| {
            for _ in 0..10 * seconds {
                now += 100 * MS;
                waits.note(waited, now);
            }
            (waits.own(now), now)
        };
        assert_eq!(answers(4 * MS, 2).0, Some(1.0));
        assert_eq!(answers(10 * MS, 3).0, Some(2.5));
        assert_eq!(answers(2 * MS, 3).0, Some(1.0));
        assert_eq!(answers(8 * MS, 600).0, Some(4.0));
        // What was the best has not come again.
        let (found, now) = answers(8 * MS, 600);
        assert_eq!(found, Some(1.0));
        assert_eq!(waits.own(now + LASTS), None);
    }

    #[test]
    fn a_client_here_and_there_says_nothing() {
        let (waits, begun) = (Waits::default(), Instant::now());
        for second in 0..100 {
            waits.note(second * MS, begun + 2 * second * SPAN);
        }
        assert_eq!(waits.own(begun + 200 * SPAN), None);
    }

    #[test]
    fn the_longest_of_all_nodes_counts_while_it_is_told() {
        let (waits, now) = (Waits::default(), Instant::now());
        assert_eq!(waits.longest(now), None);
        waits.hear(1, 1.5, now);
        waits.hear(2, 3.0, now);
        waits.hear(2, 2.5, now + SPAN);
        assert_eq!(waits.longest(now + SPAN), Some(2.5));
        assert_eq!(waits.longest(now + LASTS), Some(2.5));
        assert_eq!(waits.longest(now + SPAN + LASTS), None);
    }
}
