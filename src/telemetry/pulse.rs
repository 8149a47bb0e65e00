//! Whether a thread gets on: since when it has been at what it does now.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// Told by one thread, asked by others.
#[derive(Debug)]
pub struct Pulse {
    origin: Instant,
    /// Milliseconds after the origin, and one; 0: it rests.
    begun: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Self {
        Self { origin: Instant::now(), begun: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// Something was begun, or is done and something else is due.
    pub fn beat(&self) {
        self.begun.store(self.millis() + 1, Ordering::Relaxed);
    }

    /// There is nothing to do.
    pub fn rest(&self) {
        self.begun.store(0, Ordering::Relaxed);
    }

    /// How long ago it was last heard of; nothing while it rests.
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
