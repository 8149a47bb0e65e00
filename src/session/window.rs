//! How many events and subscriptions of a connection may wait for other actors, and what holds the
//! connection back when they are that many.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use crate::telemetry::{BoundedQueue, Metrics};

/// Shared by a session, which takes and gives back, and the stream that feeds it, which stops
/// reading the socket while the window is full. Both on one thread.
#[derive(Clone)]
pub struct Window(Rc<Inner>);

struct Inner {
    size: usize,
    taken: Cell<usize>,
    /// Places taken in the windows of all connections.
    all: Gauge,
    full: Counter,
    waiting: RefCell<Option<Waker>>,
}

impl Window {
    pub fn new(size: usize, metrics: &Metrics) -> Self {
        let (all, full) =
            (metrics.awaited.clone(), metrics.queue_full.of(BoundedQueue::SessionWindow).clone());
        Self(Rc::new(Inner { size, taken: Cell::new(0), all, full, waiting: RefCell::new(None) }))
    }

    pub fn take(&self) {
        self.0.taken.set(self.0.taken.get() + 1);
        self.0.all.inc();
    }

    pub fn give_back(&self, count: usize) {
        let before = self.0.taken.get();
        let after = before.saturating_sub(count);
        self.0.taken.set(after);
        self.0.all.dec_by((before - after) as i64);
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Whether nothing waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.0.taken.get() == 0
    }

    /// Whether the connection may be read from; if not, the task is woken when it may.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> bool {
        let open = self.0.taken.get() < self.0.size;
        if !open {
            let before = self.0.waiting.replace(Some(cx.waker().clone()));
            if before.is_none() {
                self.0.full.inc();
            }
        }
        open
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // What a connection waited for when it ended.
        self.all.dec_by(self.taken.get() as i64);
    }
}
