//! The threads that serve the connections to the servers.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::{Builder, Runtime},
    time::{MissedTickBehavior, interval},
};
use tracing::Instrument;

use super::OpenError;
use crate::telemetry::Pulse;

/// How often the threads are heard of while they get on.
const BEAT: Duration = Duration::from_millis(250);

/// A runtime. It ends without waiting, so that it may be dropped anywhere.
pub struct Threads {
    runtime: Option<Runtime>,
    /// Beats for as long as tasks get their turn.
    pub pulse: Arc<Pulse>,
}

impl Threads {
    pub fn start(count: usize) -> Result<Self, OpenError> {
        let mut builder = Builder::new_multi_thread();
        if count > 0 {
            builder.worker_threads(count);
        }
        let runtime = builder.thread_name("cql").enable_all().build().map_err(OpenError::Thread)?;
        let pulse = Arc::<Pulse>::default();
        // Or threads that hang from the start would count as idle.
        pulse.beat();
        let beating = Arc::clone(&pulse);
        runtime.spawn(async move {
            let mut beats = interval(BEAT);
            beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
            loop {
                beats.tick().await;
                beating.beat();
            }
        });
        Ok(Self { runtime: Some(runtime), pulse })
    }

    /// Runs work to its end, whoever waits for it.
    pub async fn run<T, E>(
        &self,
        work: impl Future<Output = Result<T, E>> + Send + 'static,
        closed: impl FnOnce() -> E,
    ) -> Result<T, E>
    where
        T: Send + 'static,
        E: Send + 'static,
    {
        match &self.runtime {
            Some(runtime) => match runtime.spawn(work.in_current_span()).await {
                Ok(done) => done,
                Err(_) => Err(closed()),
            },
            None => Err(closed()),
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread, time::Instant};

    use super::*;

    fn until(is_so: impl Fn() -> bool) {
        let begun = Instant::now();
        while !is_so() {
            assert!(begun.elapsed() < Duration::from_secs(60), "it never is");
            thread::sleep(BEAT / 10);
        }
    }

    #[test]
    fn threads_that_hang_are_found_to_do_so() {
        let threads = Threads::start(1).unwrap();
        let (go_on, held) = mpsc::channel::<()>();
        threads.runtime.as_ref().unwrap().spawn(async move { held.recv() });
        until(|| threads.pulse.age() > 8 * BEAT);
        drop(go_on);
        until(|| threads.pulse.age() < 2 * BEAT);
    }
}
