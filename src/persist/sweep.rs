//! Removes what has expired, vanished or was superseded, beside the batches: a slice at a time, with pauses
//! between them, so that the store is there for whoever publishes and asks most of the time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval, sleep},
};
use tracing::warn;

use crate::{clock, config, protocol::Timestamp, store::Store, telemetry::Metrics};

/// When the store is asked to remove, and for how much of the time.
#[derive(Debug, Clone, Copy)]
pub struct Sweeps {
    pub every: Duration,
    share: f64,
    margin: Duration,
}

impl From<&config::Store> for Sweeps {
    fn from(config: &config::Store) -> Self {
        Self {
            every: Duration::from_secs(config.sweep_seconds.max(1)),
            share: config.sweep_share,
            margin: Duration::from_secs(config.sweep_margin_seconds),
        }
    }
}

impl Sweeps {
    /// Starts on the current thread, and goes on for as long as that runs. Notify what is returned, and the next sweep
    /// begins at once.
    pub fn start(self, store: Arc<dyn Store>, metrics: Arc<Metrics>) -> Arc<Notify> {
        let wake = Arc::<Notify>::default();
        actix::spawn(self.run(store, metrics, Arc::clone(&wake)));
        wake
    }

    async fn run(self, store: Arc<dyn Store>, metrics: Arc<Metrics>, wake: Arc<Notify>) {
        let mut ticks = interval(self.every);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = wake.notified() => {}
            }
            self.until_done(&*store, &metrics).await;
        }
    }

    async fn until_done(self, store: &dyn Store, metrics: &Metrics) {
        loop {
            let begun = Instant::now();
            match store.maintain(self.expired_by()).await {
                Ok(true) => sleep(self.pause_after(begun.elapsed())).await,
                Ok(false) => return,
                Err(error) => {
                    metrics.store_errors.inc();
                    warn!("could not remove what has expired: {}", error.detail());
                    return;
                }
            }
        }
    }

    /// The time up to which what has expired is removed: the clocks of other nodes may be behind.
    fn expired_by(self) -> Timestamp {
        clock::now().saturating_sub(self.margin.as_secs())
    }

    fn pause_after(self, slice: Duration) -> Duration {
        slice.mul_f64(1.0 / self.share - 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removals_take_their_share_of_the_time() {
        let pause = |share, slice| {
            let config = config::Store { sweep_share: share, ..config::Store::default() };
            Sweeps::from(&config).pause_after(Duration::from_millis(slice))
        };
        assert_eq!(pause(0.25, 100), Duration::from_millis(300));
        assert_eq!(pause(1.0, 100), Duration::ZERO);
    }
}
