//! Events whose write failed. Their publishers know, but they may be stored, or be stored yet, and whoever waits
//! for them must hear of it: they are tried again, in a tenth of the store's time.

use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

use super::queue::{BatchBounds, Waiting, take};
use crate::{config, telemetry::Metrics};

/// For each moment that the store is kept busy with these events, all others have it for so many.
const OTHERS: u32 = 9;

pub struct Unsettled {
    waiting: VecDeque<Waiting>,
    bytes: usize,
    max_events: usize,
    max_bytes: usize,
    retry_for: Duration,
    /// When the next of them may be tried.
    due: Instant,
    /// How many are tried together: fewer after a failure, down to the one that is at fault.
    together: usize,
    metrics: Arc<Metrics>,
}

impl Unsettled {
    pub fn new(config: &config::Persister, metrics: Arc<Metrics>) -> Self {
        Self {
            waiting: VecDeque::new(),
            bytes: 0,
            max_events: config.retry_events,
            max_bytes: config.retry_bytes,
            retry_for: config.retry(),
            due: Instant::now(),
            together: usize::MAX,
            metrics,
        }
    }

    /// Shows how many there are. Those that are being tried count until that has succeeded.
    fn note_len(&self) {
        self.metrics.unsettled.set(self.waiting.len() as i64);
    }

    /// Takes up events whose publishers were answered. They hold no places any more: there are bounds of their own.
    pub fn add(&mut self, batch: impl IntoIterator<Item = Waiting>) {
        for mut waiting in batch {
            waiting.place = None;
            self.bytes += waiting.event.json().len();
            self.waiting.push_back(waiting);
        }
        self.note_len();
    }

    /// Forgets events that were tried for long enough, and the oldest of what is too many: how many it forgot.
    pub fn forget(&mut self, now: Instant) -> usize {
        let before = self.waiting.len();
        self.waiting.retain(|waiting| now.saturating_duration_since(waiting.since) < self.retry_for);
        self.bytes = self.waiting.iter().map(bytes).sum();
        while self.waiting.len() > self.max_events || self.bytes > self.max_bytes {
            let Some(oldest) = self.waiting.pop_front() else { break };
            self.bytes -= bytes(&oldest);
        }
        self.note_len();
        before - self.waiting.len()
    }

    /// Takes out the events that may be tried now.
    pub fn take(&mut self, bounds: BatchBounds, now: Instant) -> Vec<Waiting> {
        if now < self.due {
            return Vec::new();
        }
        let mut batch = take(&mut self.waiting, bounds);
        let fitting = self.together.min(batch.len());
        for waiting in batch.drain(fitting..).rev() {
            self.waiting.push_front(waiting);
        }
        self.bytes -= batch.iter().map(bytes).sum::<usize>();
        batch
    }

    /// Learns how a try went, which has kept the store busy for so long. `contended`: other events waited for it.
    pub fn tried(&mut self, events: usize, took: Duration, failed: bool, contended: bool, now: Instant) {
        if failed {
            self.together = (events / 2).max(1);
        } else {
            self.together = events.saturating_mul(2).max(self.together);
            self.note_len();
        }
        if failed || contended {
            self.due = now + took * OTHERS;
        }
    }
}

fn bytes(waiting: &Waiting) -> usize {
    waiting.event.json().len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        protocol::{Event, Tags, sign::Keys},
        trace::Trace,
    };

    const ALL: BatchBounds = BatchBounds { rows: usize::MAX, bytes: usize::MAX, spare_large: false };

    fn waiting(event: &Arc<Event>, since: Instant) -> Waiting {
        Waiting {
            event: Arc::clone(event),
            rows: 10,
            is_alone: false,
            from: None,
            since,
            trace: Trace::default(),
            place: None,
        }
    }

    #[test]
    fn one_that_always_fails_is_found_in_a_tenth_of_the_time() {
        let (keys, begun) = (Keys::generate(), Instant::now());
        let (config, metrics) = (config::Persister::default(), Arc::new(Metrics::new("test")));
        let mut unsettled = Unsettled::new(&config, metrics);
        let events: Vec<_> =
            (0..16).map(|n| Arc::new(keys.sign(n, 1, Tags::default(), &n.to_string()))).collect();
        let poison = events[11].id();
        unsettled.add(events.iter().map(|event| waiting(event, begun)));
        let (mut now, mut busy, took) = (begun, Duration::ZERO, Duration::from_millis(100));
        while unsettled.waiting.len() > 1 {
            let batch = unsettled.take(ALL, now);
            if batch.is_empty() {
                now += took;
                continue;
            }
            let failed = batch.iter().any(|waiting| waiting.event.id() == poison);
            unsettled.tried(batch.len(), took, failed, true, now);
            busy += took;
            now += took;
            unsettled.add(batch.into_iter().filter(|_| failed));
        }
        assert_eq!(unsettled.waiting[0].event.id(), poison);
        assert!(busy * 9 <= now - begun + 9 * took, "{busy:?} of {:?}", now - begun);
    }

    #[test]
    fn it_is_bounded_by_number_bytes_and_time() {
        let (keys, begun) = (Keys::generate(), Instant::now());
        let event = Arc::new(keys.sign(1, 1, Tags::default(), ""));
        let bytes = 3 * event.json().len();
        let config = config::Persister { retry_events: 5, retry_bytes: bytes, ..Default::default() };
        let mut unsettled = Unsettled::new(&config, Arc::new(Metrics::new("test")));
        let later = begun + Duration::from_secs(1);
        unsettled.add((0..9).map(|n| waiting(&event, if n < 8 { begun } else { later })));
        assert_eq!((unsettled.forget(begun), unsettled.waiting.len()), (6, 3));
        assert_eq!((unsettled.forget(begun + Duration::from_secs(60)), unsettled.waiting.len()), (2, 1));
    }
}
