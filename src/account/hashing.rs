//! The threads that hash passwords: few, of low priority, and with a bounded queue, so that signing in costs those who
//! sign in, and nobody else.

use std::{num::NonZeroUsize, thread};

use crossbeam_channel::{Sender, bounded};
use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;
use tracing::debug;

use super::password::{Password, PasswordHash};

/// Beside it, what serves clients comes first.
const NICE: i32 = 10;

type Job = Box<dyn FnOnce() + Send>;

/// Where passwords wait to be hashed.
#[derive(Clone)]
pub struct Hashing {
    jobs: Sender<Job>,
    hashed: Counter,
}

/// Too many passwords wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Busy;

impl Hashing {
    /// Starts the threads; they end when nobody can ask them any more.
    ///
    /// # Errors
    /// The system gives no thread.
    pub fn start(threads: usize, waiting: usize, hashed: Counter) -> std::io::Result<Self> {
        let cores = thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let threads = if threads == 0 { (cores / 2).max(1) } else { threads };
        let (send, receive) = bounded::<Job>(waiting);
        for number in 0..threads {
            let receive = receive.clone();
            thread::Builder::new().name(format!("hash-{number}")).spawn(move || {
                if let Err(error) = rustix::process::nice(NICE) {
                    debug!(%error, "threads that hash passwords keep their priority");
                }
                receive.iter().for_each(|job| job());
            })?;
        }
        Ok(Self { jobs: send, hashed })
    }

    /// Hashes a new password.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn hash(&self, password: Password) -> Result<PasswordHash, Busy> {
        self.run(move || PasswordHash::of(&password)).await?.ok_or(Busy)
    }

    /// Whether a password is that of a hash; without one it takes as long, and is not.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn is_of(&self, password: Password, hash: Option<PasswordHash>) -> Result<bool, Busy> {
        let hash = hash.unwrap_or_else(PasswordHash::nobody);
        self.run(move || hash.is_of(&password)).await?.ok_or(Busy)
    }

    /// Has work done that costs as much as a password does.
    ///
    /// # Errors
    /// [`Busy`].
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        let hashed = self.hashed.clone();
        let job = move || {
            // Whoever asked may have gone while it waited.
            if !answer.is_closed() {
                let done = work();
                hashed.inc();
                let _ = answer.send(done);
            }
        };
        self.jobs.try_send(Box::new(job)).map_err(|_| Busy)?;
        answered.await.map_err(|_| Busy)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Barrier};

    use super::*;

    #[tokio::test]
    async fn more_than_may_wait_are_sent_away() {
        let hashing = Hashing::start(1, 2, Counter::default()).unwrap();
        let barrier = Arc::new(Barrier::new(2));
        let (begun, is_begun) = oneshot::channel();
        let held = {
            let (hashing, barrier) = (hashing.clone(), Arc::clone(&barrier));
            tokio::spawn(async move {
                hashing
                    .run(move || {
                        let _ = begun.send(());
                        barrier.wait();
                    })
                    .await
            })
        };
        is_begun.await.unwrap();
        let mut waiting: Vec<_> = (0..2).map(|_| Box::pin(hashing.run(|| ()))).collect();
        for waits in &mut waiting {
            assert!(futures_util::poll!(waits).is_pending());
        }
        assert_eq!(hashing.run(|| ()).await, Err(Busy));
        barrier.wait();
        assert_eq!(held.await.unwrap(), Ok(()));
        for waits in waiting {
            assert_eq!(waits.await, Ok(()));
        }
    }
}
