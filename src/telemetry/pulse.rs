//! Whether a thread gets on: since when it has been at what it does now.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// The pulse of one thread: that thread beats it, others ask.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// When the last beat was, in milliseconds after the origin, plus one; 0: the thread rests.
    begun: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), begun: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// The thread has begun something, or goes on with something else.
    pub fn beat(&self) {
        self.begun.store(self.millis() + 1, Ordering::Relaxed);
    }

    /// The thread has nothing to do.
    pub fn rest(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }

    /// How long ago the thread was last heard of; zero while it rests.
    pub fn age(&self) -> Duration {
        match self.begun.load(Ordering::Relaxed) {
            0 => Duration::ZERO,
            begun => Duration::from_millis((self.millis() + 1).saturating_sub(begun)),
        }
    }

    fn millis(&self) -> u64 {
        self.origin.elapsed().as_millis() as u64
    }
}
