//! How many events and subscriptions of a connection may wait for other actors, and what holds the
//! connection back when they are that many.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Waker},
};

/// Shared by a session, which takes and gives back, and the stream that feeds it, which stops
/// reading the socket while the window is full. Both on one thread.
#[derive(Clone)]
pub struct Window(Rc<Inner>);

struct Inner {
    size: usize,
    taken: Cell<usize>,
    waiting: RefCell<Option<Waker>>,
}

impl Window {
    pub fn new(size: usize) -> Self {
        Self(Rc::new(Inner { size, taken: Cell::new(0), waiting: RefCell::new(None) }))
    }

    pub fn take(&self) {
        self.0.taken.set(self.0.taken.get() + 1);
    }

    pub fn give_back(&self, count: usize) {
        self.0.taken.set(self.0.taken.get().saturating_sub(count));
        if let Some(waker) = self.0.waiting.take() {
            waker.wake();
        }
    }

    /// Nothing waits for an answer.
    pub fn is_empty(&self) -> bool {
        self.0.taken.get() == 0
    }

    /// Whether the connection may be read from; if not, the task is woken when it may.
    pub fn poll_open(&self, cx: &mut Context<'_>) -> bool {
        let open = self.0.taken.get() < self.0.size;
        if !open {
            self.0.waiting.replace(Some(cx.waker().clone()));
        }
        open
    }
}
