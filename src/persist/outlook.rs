//! How long an event that comes now will wait for the store: the persister says what it knows, sessions ask for every
//! event.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::{Duration, Instant},
};

/// The pace of the store, and the batch that it is writing. A few numbers without a lock: one that is a moment
/// old does no harm.
#[derive(Debug)]
pub struct Outlook {
    origin: Instant,
    /// Rows a second, as the bits of a float; [`UNKNOWN`]: nobody knows.
    rate: AtomicU64,
    /// When the batch was begun that is being written, in microseconds since the origin; 0: there is none.
    begun: AtomicU64,
    /// Microseconds that the batch should take.
    should_take: AtomicU64,
    /// Rows of the batch.
    rows: AtomicUsize,
}

const UNKNOWN: u64 = f64::INFINITY.to_bits();

impl Outlook {
    pub fn new() -> Self {
        Self {
            origin: Instant::now(),
            rate: AtomicU64::new(UNKNOWN),
            begun: AtomicU64::new(0),
            should_take: AtomicU64::new(0),
            rows: AtomicUsize::new(0),
        }
    }

    /// Notes that the store was given a batch of so many rows.
    pub fn begin(&self, rows: usize, should_take: Duration, now: Instant) {
        self.rows.store(rows, Ordering::Relaxed);
        self.should_take.store(should_take.as_micros() as u64, Ordering::Relaxed);
        self.begun.store(self.micros(now).max(1), Ordering::Relaxed);
    }

    /// Notes that the store is done, and takes so many rows a second. `None`: that is unknown.
    pub fn end(&self, rate: Option<f64>) {
        self.begun.store(0, Ordering::Relaxed);
        self.rows.store(0, Ordering::Relaxed);
        self.rate.store(rate.map_or(UNKNOWN, f64::to_bits), Ordering::Relaxed);
    }

    /// Rows that are being written.
    pub fn writing(&self) -> usize {
        self.rows.load(Ordering::Relaxed)
    }

    /// How long ago the store was given what it has not finished.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let begun = self.begun.load(Ordering::Relaxed);
        (begun > 0).then(|| Duration::from_micros(self.micros(now).saturating_sub(begun)))
    }

    /// How long the batch that is being written still takes. One that should be over goes on for as long again as
    /// it is late: nothing else is known of it.
    pub fn rest(&self, now: Instant) -> Duration {
        let should_take = Duration::from_micros(self.should_take.load(Ordering::Relaxed));
        self.age(now).map_or(Duration::ZERO, |age| should_take.abs_diff(age))
    }

    /// How long the store takes for so many rows.
    pub fn takes(&self, rows: usize) -> Duration {
        let seconds = rows as f64 / self.rate();
        // A rate of 0 gives no number that a duration could be.
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many rows the store takes in that time; `usize::MAX` where nobody knows.
    pub fn fitting(&self, time: Duration) -> usize {
        match time.is_zero() {
            true => 0,
            // Saturates.
            false => (self.rate() * time.as_secs_f64()) as usize,
        }
    }

    fn rate(&self) -> f64 {
        f64::from_bits(self.rate.load(Ordering::Relaxed))
    }

    fn micros(&self, now: Instant) -> u64 {
        now.saturating_duration_since(self.origin).as_micros() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_that_is_late_stays_late_for_as_long_again() {
        let outlook = Outlook::new();
        let (begun, ms) = (Instant::now() + Duration::from_secs(1), Duration::from_millis);
        assert_eq!(outlook.rest(begun), ms(0));
        outlook.begin(100, ms(250), begun);
        let rest = |after| outlook.rest(begun + ms(after)).as_millis();
        assert_eq!([rest(0), rest(200), rest(250), rest(1_000)], [250, 50, 0, 750]);
        outlook.end(Some(1_000.0));
        assert_eq!((outlook.rest(begun + ms(2_000)), outlook.takes(500)), (ms(0), ms(500)));
    }

    #[test]
    fn nothing_is_promised_of_a_store_that_writes_nothing() {
        let outlook = Outlook::new();
        assert_eq!((outlook.takes(9), outlook.fitting(Duration::from_secs(1))), (Duration::ZERO, usize::MAX));
        outlook.end(Some(0.0));
        assert_eq!((outlook.takes(9), outlook.fitting(Duration::from_secs(1))), (Duration::MAX, 0));
    }
}
