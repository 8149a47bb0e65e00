//! The threads that serve clients, as the persister sees them: each is at work, or waits for something to do.

use std::{num::NonZeroUsize, sync::Arc, thread};

use parking_lot::Mutex;
use tokio::runtime::{Handle, RuntimeMetrics};

/// Shared by the persister and the threads.
#[derive(Clone)]
pub struct Workers {
    runtimes: Arc<Mutex<Vec<Option<RuntimeMetrics>>>>,
    processors: usize,
}

impl Workers {
    /// None yet, for the processors that this process may run on.
    pub fn here() -> Self {
        Self {
            runtimes: Arc::default(),
            processors: thread::available_parallelism().map_or(1, NonZeroUsize::get),
        }
    }

    /// Adds the current thread, which serves clients as the worker of that number. Another thread that did is gone.
    pub fn add(&self, worker: usize) {
        let mut runtimes = self.runtimes.lock();
        if runtimes.len() <= worker {
            runtimes.resize_with(worker + 1, || None);
        }
        runtimes[worker] = Some(Handle::current().metrics());
    }

    /// Whether the threads have taken all processors: as many of them have something to do.
    pub fn fill_processors(&self) -> bool {
        let runtimes = self.runtimes.lock();
        runtimes.iter().flatten().filter(|runtime| is_at_work(runtime)).count() >= self.processors
    }
}

/// Whether a thread has something to do: the count grows when it goes to sleep, and when it is woken.
fn is_at_work(runtime: &RuntimeMetrics) -> bool {
    runtime.worker_park_unpark_count(0).is_multiple_of(2)
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicBool, Ordering},
        mpsc,
    };

    use tokio::{runtime::Builder, sync::oneshot};

    use super::*;

    #[test]
    fn a_thread_is_at_work_until_it_waits() {
        let workers = Workers { processors: 1, ..Workers::here() };
        assert!(!workers.fill_processors());
        let (busy, is_busy) = mpsc::channel();
        let (end, ended) = oneshot::channel::<()>();
        let go_on = Arc::new(AtomicBool::new(true));
        let thread = thread::spawn({
            let (workers, go_on) = (workers.clone(), Arc::clone(&go_on));
            move || {
                Builder::new_current_thread().build().unwrap().block_on(async {
                    workers.add(0);
                    busy.send(()).unwrap();
                    while go_on.load(Ordering::Relaxed) {
                        thread::yield_now();
                    }
                    let _ = ended.await;
                });
            }
        });
        is_busy.recv().unwrap();
        assert!(workers.fill_processors());
        go_on.store(false, Ordering::Relaxed);
        while workers.fill_processors() {
            thread::yield_now();
        }
        end.send(()).unwrap();
        thread.join().unwrap();
    }
}
