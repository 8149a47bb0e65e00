//! What waits to be written: sessions put events in, the persister takes batches out.
//!
//! Not the persister's mailbox, because a message wakes its receiver: an event that arrives while a
//! batch is being written needs no attention, and waking another thread for each was a tenth of
//! all that an event costs.

use std::{
    collections::VecDeque,
    net::IpAddr,
    sync::{Arc, OnceLock},
    time::{Duration, Instant},
};

use actix::Addr;
use parking_lot::{Mutex, MutexGuard};

use super::{
    Ephemeral, Persister, Publisher, Wake,
    budget::{Budget, Place, Share, Shares},
};
use crate::{
    config,
    protocol::{
        Event, EventId, Tags,
        kind::{self, Class},
    },
    store,
    telemetry::Pulse,
    trace::Trace,
    waits::Waits,
};

/// Shared by all sessions and the persister.
pub struct Queue {
    budget: Arc<Budget>,
    shares: Shares,
    inner: Mutex<Inner>,
    persister: OnceLock<Addr<Persister>>,
    pub(super) pulse: Pulse,
    waits: Arc<Waits>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    /// Whether the persister found nothing the last time, and has to be told.
    asleep: bool,
}

/// An event to be stored.
pub(super) struct Waiting {
    pub event: Arc<Event>,
    pub rows: usize,
    /// Whether it is a batch by itself: it may be what the store can not take.
    pub is_alone: bool,
    /// `None` once it was answered.
    pub from: Option<Publisher>,
    pub since: Instant,
    pub trace: Trace,
    /// `None` where it is tried again: those have a bound of their own.
    pub place: Option<Place>,
}

impl Waiting {
    /// An event that somebody else began to write.
    pub fn adopted(event: Arc<Event>) -> Self {
        let (rows, since) = (store::rows(event.kind(), event.tags()), Instant::now());
        Self { event, rows, is_alone: false, from: None, since, trace: Trace::default(), place: None }
    }
}

/// An event that will not be stored, and who is to hear of it.
pub(super) struct Refused {
    pub id: EventId,
    pub from: Option<Publisher>,
    pub since: Instant,
    pub trace: Trace,
}

/// What a batch may have.
#[derive(Debug, Clone, Copy)]
pub(super) struct BatchBounds {
    pub rows: usize,
    pub bytes: usize,
    /// Whether smaller events go before an event of more than `rows`, as the batch before was such an event.
    pub spare_large: bool,
}

/// Why an event is refused: too much waits already.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    pub fn new(config: &config::Persister) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(config),
            shares: Shares::default(),
            inner: Mutex::default(),
            persister: OnceLock::new(),
            pulse: Pulse::default(),
            waits: Arc::default(),
        })
    }

    /// How long clients wait for the store, here and at other nodes.
    pub fn waits(&self) -> &Arc<Waits> {
        &self.waits
    }

    /// The share by which is measured what a connection may have waiting: one of its own, or that of its address where
    /// this is known to be one client's.
    pub fn share(&self, address: Option<IpAddr>) -> Arc<Share> {
        address.map_or_else(Arc::default, |address| self.shares.of(address))
    }

    /// Asks for a place before anything is done for an event of so many bytes.
    ///
    /// # Errors
    /// [`Full`] where it could not be answered in time.
    pub fn place(
        &self,
        share: &Arc<Share>,
        of_kind: u16,
        tags: &Tags,
        bytes: usize,
        now: Instant,
    ) -> Result<Place, Full> {
        let place = match kind::class(of_kind) {
            Class::Ephemeral => self.budget.take(bytes),
            _ => self.budget.take_stored(share, store::rows(of_kind, tags), bytes, now),
        };
        place.ok_or(Full)
    }

    /// Leaves an event to be stored. Its publisher will hear of it.
    pub fn store(&self, event: Arc<Event>, place: Place, from: Publisher, trace: Trace) {
        self.leave(event, place, from, trace, false);
    }

    /// The same of an event that is written with no other, so that what becomes of it is its own doing.
    pub fn store_alone(&self, event: Arc<Event>, place: Place, from: Publisher, trace: Trace) {
        self.leave(event, place, from, trace, true);
    }

    fn leave(&self, event: Arc<Event>, place: Place, from: Publisher, trace: Trace, is_alone: bool) {
        let (rows, since) = (place.rows(), Instant::now());
        let waiting = Waiting { event, rows, is_alone, from: Some(from), since, trace, place: Some(place) };
        let asleep = {
            let mut inner = self.lock();
            inner.waiting.push_back(waiting);
            std::mem::take(&mut inner.asleep)
        };
        if asleep && let Some(persister) = self.persister.get() {
            #[expect(clippy::disallowed_methods, reason = "one at most, until it has been asleep again")]
            persister.do_send(Wake);
        }
    }

    /// Leaves an ephemeral event to be routed. Its publisher will hear of it.
    ///
    /// # Errors
    /// [`Full`], and then it will not.
    pub fn route(&self, event: Arc<Event>, place: Place, from: Publisher, trace: Trace) -> Result<(), Full> {
        let persister = self.persister.get().ok_or(Full)?;
        persister.try_send(Ephemeral { event, from, place, trace }).map_err(|_| Full)
    }

    pub(super) fn budget(&self) -> &Arc<Budget> {
        &self.budget
    }

    /// Names the persister that is woken from now on.
    pub(super) fn wakes(&self, persister: Addr<Persister>) {
        // An actor starts once.
        let _ = self.persister.set(persister);
    }

    /// The next batch. If there is none, the next event wakes the persister.
    pub(super) fn take(&self, bounds: BatchBounds) -> Vec<Waiting> {
        let mut inner = self.lock();
        inner.asleep = inner.waiting.is_empty();
        take(&mut inner.waiting, bounds)
    }

    /// Takes out what nobody waits for any more.
    pub(super) fn take_late(&self, deadline: Duration, now: Instant) -> Vec<Refused> {
        let mut inner = self.lock();
        let mut late = Vec::new();
        while let Some(oldest) = inner.waiting.front()
            && now.saturating_duration_since(oldest.since) >= deadline
        {
            late.extend(inner.waiting.pop_front().map(Waiting::refuse));
        }
        late
    }

    /// Takes out what can not be stored in time, now that the store is known to be slower: the newest events of
    /// those who have more than their share waiting, and then, if need be, of anybody.
    pub(super) fn shed(&self, now: Instant) -> Vec<Refused> {
        let [with_greedy, utmost] = self.budget.fitting(now);
        let mut inner = self.lock();
        shed(&mut inner.waiting, with_greedy, utmost, &self.budget)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.lock().waiting.is_empty()
    }

    /// For how long nothing has been heard of the persister.
    pub fn silence(&self) -> Duration {
        self.pulse.age()
    }

    /// For how long the store has been at its batch.
    pub fn age_of_batch(&self) -> Duration {
        self.budget.outlook.age(Instant::now()).unwrap_or_default()
    }

    /// How much of the queue's budget is taken, from 0 to 1.
    pub fn fill(&self) -> f64 {
        self.budget.fill()
    }
}

impl Waiting {
    fn refuse(self) -> Refused {
        let Self { event, from, since, trace, place, .. } = self;
        // Given back before the next event is looked at, which may be of the same client.
        drop(place);
        Refused { id: event.id(), from, since, trace }
    }
}

/// The oldest events, in their order, up to those bounds, but one at least. An event that is more than a batch goes
/// alone, and when it is the oldest; so does one that is to be alone.
pub(super) fn take(waiting: &mut VecDeque<Waiting>, bounds: BatchBounds) -> Vec<Waiting> {
    let (mut batch, mut large) = (Vec::new(), Vec::new());
    let (mut rows, mut bytes) = (0, 0);
    while let Some(next) = waiting.pop_front() {
        if next.is_alone || next.rows > bounds.rows {
            if batch.is_empty() && !bounds.spare_large {
                batch.push(next);
                break;
            }
            large.push(next);
            continue;
        }
        rows += next.rows;
        bytes += next.event.json().len();
        if !batch.is_empty() && (rows > bounds.rows || bytes > bounds.bytes) {
            waiting.push_front(next);
            break;
        }
        batch.push(next);
    }
    if batch.is_empty() && !large.is_empty() {
        batch.push(large.remove(0));
    }
    for passed_over in large.into_iter().rev() {
        waiting.push_front(passed_over);
    }
    batch
}

fn shed(waiting: &mut VecDeque<Waiting>, with_greedy: usize, utmost: usize, budget: &Budget) -> Vec<Refused> {
    let mut rows: usize = waiting.iter().map(|waiting| waiting.rows).sum();
    let mut refused = Vec::new();
    for (bound, fair) in [(with_greedy, budget.fair()), (utmost, 0)] {
        if rows <= bound {
            continue;
        }
        let mut kept = VecDeque::with_capacity(waiting.len());
        while let Some(next) = waiting.pop_back() {
            let is_over = next.place.as_ref().is_some_and(|place| place.is_over(fair));
            // The oldest event stays: alone, it may be more than the store takes in time.
            if rows > bound && is_over && !waiting.is_empty() {
                rows -= next.rows;
                refused.push(next.refuse());
            } else {
                kept.push_front(next);
            }
        }
        *waiting = kept;
    }
    refused
}

#[cfg(test)]
mod tests {
    use super::{super::pace::LEAST, *};
    use crate::protocol::sign::Keys;

    struct Stage {
        queue: Arc<Queue>,
        keys: Keys,
    }

    impl Stage {
        fn new() -> Self {
            Self { queue: Queue::new(&config::Persister::default()), keys: Keys::generate() }
        }

        /// Something of that many rows waits, if there is a place for it.
        fn put(&self, share: &Arc<Share>, rows: usize, since: Instant) -> bool {
            let event = Arc::new(self.keys.sign(1, 1, Tags::default(), ""));
            let Some(place) = self.queue.budget.take_stored(share, rows, 1, since) else { return false };
            let trace = Trace::default();
            let from = None;
            let waiting = Waiting { event, rows, is_alone: false, from, since, trace, place: Some(place) };
            self.queue.lock().waiting.push_back(waiting);
            true
        }

        fn take(&self, rows: usize, spare_large: bool) -> Vec<usize> {
            let taken = self.queue.take(BatchBounds { rows, bytes: usize::MAX, spare_large });
            taken.iter().map(|waiting| waiting.rows).collect()
        }
    }

    #[test]
    fn batches_are_measured_in_rows_and_the_large_go_alone() {
        let (stage, one, now) = (Stage::new(), Arc::<Share>::default(), Instant::now());
        for rows in [10, 10, 5_000, 10, 5_000, 80, 10] {
            assert!(stage.put(&one, rows, now));
        }
        let batches: Vec<_> = [false, false, true, false, true].map(|spare| stage.take(100, spare)).into();
        assert_eq!(batches, [vec![10, 10, 10], vec![5_000], vec![80, 10], vec![5_000], vec![]]);
    }

    #[test]
    fn what_is_to_be_alone_is_a_batch_by_itself() {
        let (stage, one, now) = (Stage::new(), Arc::<Share>::default(), Instant::now());
        for rows in [1, 2, 3, 4] {
            assert!(stage.put(&one, rows, now));
        }
        stage.queue.lock().waiting[1].is_alone = true;
        let batches: Vec<_> = [false, false, true].map(|spare| stage.take(100, spare)).into();
        assert_eq!(batches, [vec![1, 3, 4], vec![2], vec![]]);
    }

    #[test]
    fn the_large_wait_for_no_more_than_one_batch_of_the_small() {
        let (stage, one, now) = (Stage::new(), Arc::<Share>::default(), Instant::now());
        let mut order = Vec::new();
        let mut spare = false;
        stage.put(&one, 5_000, now);
        stage.put(&one, 5_000, now);
        for _ in 0..6 {
            stage.put(&one, 60, now);
            stage.put(&one, 60, now);
            let batch = stage.take(100, spare);
            spare = batch[0] > 100;
            order.push(batch[0]);
        }
        assert_eq!(order, [5_000, 60, 5_000, 60, 60, 60]);
    }

    #[test]
    fn a_slower_store_is_no_reason_to_wait_in_vain() {
        let (stage, greedy, modest) = (Stage::new(), Arc::<Share>::default(), Arc::<Share>::default());
        let now = Instant::now();
        for _ in 0..1_000 {
            assert!(stage.put(&greedy, 10, now));
        }
        assert!(stage.put(&modest, 10, now));
        assert!(stage.queue.shed(now).is_empty(), "nothing is known of the store");
        stage.queue.budget.outlook.end(Some(2_000.0));
        assert_eq!(stage.queue.shed(now).len(), 1_001 - 200);
        stage.queue.budget.outlook.end(Some(0.0));
        assert_eq!(stage.queue.shed(now).len(), 200 - LEAST / 10);
        assert_eq!(modest.rows(), 10, "who has little is the last to go");
        assert!(stage.queue.shed(now).is_empty());
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_taken_out() {
        let (stage, one, begun) = (Stage::new(), Arc::<Share>::default(), Instant::now());
        let second = Duration::from_secs(1);
        for at in 0..4 {
            stage.put(&one, 10, begun + at * second);
        }
        assert_eq!(stage.queue.take_late(2 * second, begun + 3 * second).len(), 2);
        assert_eq!((stage.take(1_000, false).len(), one.rows()), (2, 0));
    }
}
