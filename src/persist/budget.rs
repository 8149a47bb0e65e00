//! Who may leave an event on its way into the store: how many, how many bytes, and how long they would wait.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{outlook::Outlook, pace};
use crate::config;

/// Rows that anybody may have waiting, however small everybody's share is: a few notes.
const LITTLE: usize = 32;

/// Shared by all sessions. What is taken is given back when the [`Place`] is dropped.
#[derive(Debug)]
pub struct Budget {
    max_events: usize,
    max_bytes: usize,
    /// How long an event that comes may be expected to wait.
    patience: Duration,
    /// How long one may be expected to wait whose client has less than a fair share waiting. What is left of the
    /// deadline is for mistakes.
    utmost: Duration,
    events: AtomicUsize,
    bytes: AtomicUsize,
    /// Rows of the events that are to be stored, those being written included.
    rows: AtomicUsize,
    /// Shares that have something waiting.
    sharers: AtomicUsize,
    pub outlook: Outlook,
}

/// What one client has waiting: a connection, or an address where that is known to be one client's.
#[derive(Debug, Default)]
pub struct Share {
    rows: AtomicUsize,
}

/// The shares of addresses.
#[derive(Default)]
pub struct Shares(Mutex<HashMap<IpAddr, Weak<Share>>>);

/// The right of one event to wait.
#[derive(Debug)]
pub struct Place {
    budget: Arc<Budget>,
    bytes: usize,
    /// Of an event that is to be stored: whose it is, and its rows.
    stored: Option<(Arc<Share>, usize)>,
}

impl Budget {
    pub fn new(config: &config::Persister) -> Arc<Self> {
        let deadline = config.deadline();
        Arc::new(Self {
            max_events: config.queue,
            max_bytes: config.queue_bytes,
            patience: deadline / 2,
            utmost: deadline * 3 / 4,
            events: AtomicUsize::new(0),
            bytes: AtomicUsize::new(0),
            rows: AtomicUsize::new(0),
            sharers: AtomicUsize::new(0),
            outlook: Outlook::new(),
        })
    }

    /// A place for an event that is only routed, and waits for no store. `None` where too much waits already.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Place> {
        // The place is dropped, and so given back, where it turns out to be too much.
        let place = Place { budget: Arc::clone(self), bytes, stored: None };
        let all_events = self.events.fetch_add(1, Ordering::Relaxed) + 1;
        let all_bytes = self.bytes.fetch_add(bytes, Ordering::Relaxed) + bytes;
        (all_events <= self.max_events && all_bytes <= self.max_bytes).then_some(place)
    }

    /// A place for an event that is to be stored. `None` where too much waits already, or where it would be
    /// answered too late.
    pub fn take_stored(
        self: &Arc<Self>,
        share: &Arc<Share>,
        rows: usize,
        bytes: usize,
        now: Instant,
    ) -> Option<Place> {
        let mut place = self.take(bytes)?;
        let waiting = self.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        let of_share = share.rows.fetch_add(rows, Ordering::Relaxed) + rows;
        if of_share == rows {
            self.sharers.fetch_add(1, Ordering::Relaxed);
        }
        place.stored = Some((Arc::clone(share), rows));
        self.has_time(waiting, rows, of_share, now).then_some(place)
    }

    /// Whether what waits with this event is written in time.
    fn has_time(&self, waiting: usize, rows: usize, of_share: usize, now: Instant) -> bool {
        let unwritten = waiting.saturating_sub(self.outlook.writing());
        let rest = self.outlook.rest(now);
        // One batch of the least size is always let in, or a single event, however large: a store that is not
        // asked is never found to be fast again.
        let wait = match unwritten <= pace::LEAST.max(rows) {
            true => rest,
            false => rest.saturating_add(self.outlook.takes(unwritten)),
        };
        wait <= self.patience || (wait <= self.utmost && of_share <= self.fair())
    }

    /// Rows that wait, those being written left out.
    pub fn waiting(&self) -> usize {
        self.rows.load(Ordering::Relaxed).saturating_sub(self.outlook.writing())
    }

    /// Rows that each of those who have something waiting may have, so that all are written in time.
    pub fn fair(&self) -> usize {
        let sharers = self.sharers.load(Ordering::Relaxed).max(1);
        (self.outlook.fitting(self.patience) / sharers).max(LITTLE)
    }

    /// Rows that may go on waiting: with those of clients who have more than their share, and without.
    pub fn fitting(&self, now: Instant) -> [usize; 2] {
        let rest = self.outlook.rest(now);
        [self.patience, self.utmost]
            .map(|wait| self.outlook.fitting(wait.saturating_sub(rest)).max(pace::LEAST))
    }

    /// How long a batch may take, so that what came just after it was begun is in time.
    pub fn utmost(&self) -> Duration {
        self.utmost
    }

    /// How much of the budget is taken, from 0 to 1: of events or bytes, whatever is more.
    pub fn fill(&self) -> f64 {
        let divide =
            |taken: &AtomicUsize, max: usize| taken.load(Ordering::Relaxed) as f64 / max.max(1) as f64;
        divide(&self.events, self.max_events).max(divide(&self.bytes, self.max_bytes))
    }
}

impl Shares {
    /// The share of an address.
    pub fn of(&self, address: IpAddr) -> Arc<Share> {
        let mut shares = self.0.lock();
        if let Some(share) = shares.get(&address).and_then(Weak::upgrade) {
            return share;
        }
        if shares.len() == shares.capacity() {
            // Those of connections that are gone go, before room is made for more.
            shares.retain(|_, share| share.strong_count() > 0);
        }
        let share = Arc::default();
        shares.insert(address, Arc::downgrade(&share));
        share
    }
}

impl Share {
    /// Rows of what waits, and of what is being written.
    pub fn rows(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }
}

impl Place {
    /// Whether the client whose place it is has more rows waiting than are fair.
    pub fn is_over(&self, fair: usize) -> bool {
        self.stored.as_ref().is_some_and(|(share, _)| share.rows() > fair)
    }

    /// Rows of the event that has the place; none if it is only routed.
    pub fn rows(&self) -> usize {
        self.stored.as_ref().map_or(0, |(_, rows)| *rows)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.budget.events.fetch_sub(1, Ordering::Relaxed);
        self.budget.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        if let Some((share, rows)) = &self.stored {
            self.budget.rows.fetch_sub(*rows, Ordering::Relaxed);
            if share.rows.fetch_sub(*rows, Ordering::Relaxed) == *rows {
                self.budget.sharers.fetch_sub(1, Ordering::Relaxed);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// A second of patience, and one and a half at most.
    fn budget() -> Arc<Budget> {
        Budget::new(&config::Persister { queue: 1_000, queue_bytes: 100_000, ..Default::default() })
    }

    /// Takes places for notes of ten rows until there is none.
    fn fill(budget: &Arc<Budget>, share: &Arc<Share>, now: Instant) -> Vec<Place> {
        std::iter::from_fn(|| budget.take_stored(share, 10, 1, now)).collect()
    }

    #[test]
    fn is_given_back() {
        let budget = Budget::new(&config::Persister { queue: 2, queue_bytes: 100, ..Default::default() });
        let first = budget.take(60);
        assert!(first.is_some());
        assert!(budget.take(60).is_none());
        assert_eq!(budget.fill(), 0.6);
        let second = budget.take(40);
        assert!(second.is_some() && budget.take(0).is_none());
        drop((first, second));
        let all = [budget.take(50), budget.take(50)];
        assert!(all.iter().all(Option::is_some));
    }

    #[test]
    fn as_much_is_let_in_as_is_written_in_time() {
        let (budget, one, now) = (budget(), Arc::<Share>::default(), Instant::now());
        // Nothing is known of the store: only the number counts.
        assert_eq!(fill(&budget, &one, now).len(), 1_000);
        budget.outlook.end(Some(2_000.0));
        // Alone, a client's fair share is all that is written in time.
        assert_eq!(fill(&budget, &one, now).len(), 200);
        budget.outlook.end(Some(0.0));
        assert_eq!(fill(&budget, &one, now).len(), pace::LEAST / 10);
        assert!(budget.take_stored(&one, 5_000, 1, now).is_some(), "one, however large");
    }

    #[test]
    fn a_batch_that_hangs_closes_the_door_until_it_is_done() {
        let (budget, one, now) = (budget(), Arc::<Share>::default(), Instant::now());
        budget.outlook.end(Some(100_000.0));
        budget.outlook.begin(2_000, 20 * MS, now);
        let has_room = |after: u32| budget.take_stored(&one, 10, 1, now + after * MS).is_some();
        assert_eq!(
            [0, 100, 1_000, 1_500, 1_600, 60_000].map(has_room),
            [true, true, true, true, false, false]
        );
        budget.outlook.end(Some(1_000.0));
        assert!(has_room(60_000));
    }

    #[test]
    fn what_others_have_waiting_does_not_keep_those_with_little_out() {
        let (budget, now) = (budget(), Instant::now());
        budget.outlook.end(Some(2_000.0));
        let flooders: Vec<Arc<Share>> = (0..10).map(|_| Arc::default()).collect();
        let mut taken = Vec::new();
        let mut counts = [0; 10];
        loop {
            let before = taken.len();
            for (flooder, count) in flooders.iter().zip(&mut counts) {
                let place = budget.take_stored(flooder, 10, 1, now);
                *count += usize::from(place.is_some());
                taken.extend(place);
            }
            if taken.len() == before {
                break;
            }
        }
        assert_eq!(counts, [20; 10], "all that is written in time, in equal parts");
        let bystander = Arc::<Share>::default();
        assert!(budget.take_stored(&bystander, 10, 1, now).is_some());
        assert!(budget.take_stored(&flooders[0], 10, 1, now).is_none());
    }

    #[test]
    fn connections_of_an_address_have_one_share_as_long_as_there_are_any() {
        let (shares, address) = (Shares::default(), "203.0.113.7".parse().unwrap());
        let first = shares.of(address);
        assert!(Arc::ptr_eq(&first, &shares.of(address)));
        drop(first);
        for last in 0..250 {
            shares.of(IpAddr::from([198, 51, 100, last]));
        }
        assert!(shares.0.lock().len() < 20);
    }
}
