//! What waits to be written: sessions put events in, the persister takes batches out.
//!
//! Not the persister's mailbox, because a message wakes its receiver: an event that arrives while a
//! batch is being written needs no attention, and waking another thread for each was a tenth of
//! all that an event costs.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Instant,
};

use actix::Addr;

use super::{Budget, Ephemeral, Permit, Persister, Publisher, Wake};
use crate::{config, protocol::Event, trace::Trace};

/// Shared by all sessions and the persister.
pub struct Queue {
    budget: Arc<Budget>,
    inner: Mutex<Inner>,
    persister: OnceLock<Addr<Persister>>,
}

#[derive(Default)]
struct Inner {
    waiting: VecDeque<Waiting>,
    /// Whether the persister found nothing the last time, and has to be told.
    asleep: bool,
}

/// An event to be stored.
pub(super) struct Waiting {
    pub event: Arc<Event>,
    /// `None` once it was answered, at the deadline.
    pub from: Option<Publisher>,
    pub since: Instant,
    pub trace: Trace,
    _permit: Permit,
}

/// The oldest events, in their order, up to those bounds, but one at least.
pub(super) fn take(waiting: &mut VecDeque<Waiting>, max_events: usize, max_bytes: usize) -> Vec<Waiting> {
    let mut bytes = 0;
    let fitting = waiting.iter().take(max_events).take_while(|waiting| {
        bytes += waiting.event.json().len();
        bytes <= max_bytes
    });
    let count = fitting.count().max(1).min(waiting.len());
    waiting.drain(..count).collect()
}

/// Too much waits already.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

impl Queue {
    pub fn new(config: &config::Persister) -> Arc<Self> {
        Arc::new(Self {
            budget: Budget::new(config.queue, config.queue_bytes),
            inner: Mutex::default(),
            persister: OnceLock::new(),
        })
    }

    /// Leaves an event to be stored. Its publisher will hear of it.
    ///
    /// # Errors
    /// [`Full`], and then it will not.
    pub fn store(&self, event: Arc<Event>, from: Publisher, trace: Trace) -> Result<(), Full> {
        let (permit, trace) = self.permit(&event, trace)?;
        let waiting = Waiting { event, from: Some(from), since: Instant::now(), trace, _permit: permit };
        let asleep = {
            let mut inner = self.lock();
            inner.waiting.push_back(waiting);
            std::mem::take(&mut inner.asleep)
        };
        if asleep && let Some(persister) = self.persister.get() {
            #[expect(clippy::disallowed_methods, reason = "one at most, until it has been asleep again")]
            persister.do_send(Wake);
        }
        Ok(())
    }

    /// Leaves an ephemeral event to be routed. Its publisher will hear of it.
    ///
    /// # Errors
    /// [`Full`], and then it will not.
    pub fn route(&self, event: Arc<Event>, from: Publisher, trace: Trace) -> Result<(), Full> {
        let (permit, trace) = self.permit(&event, trace)?;
        let persister = self.persister.get().ok_or(Full)?;
        persister.try_send(Ephemeral { event, from, permit, trace }).map_err(|_| Full)
    }

    fn permit(&self, event: &Event, mut trace: Trace) -> Result<(Permit, Trace), Full> {
        match self.budget.take(event.json().len()) {
            Some(permit) => Ok((permit, trace)),
            None => {
                trace.fail("overloaded");
                Err(Full)
            }
        }
    }

    /// Who is to be told from now on.
    pub(super) fn wakes(&self, persister: Addr<Persister>) {
        // An actor starts once.
        let _ = self.persister.set(persister);
    }

    /// As [`take`]. If there is none, the next one wakes the persister.
    pub(super) fn take(&self, max_events: usize, max_bytes: usize) -> Vec<Waiting> {
        let mut inner = self.lock();
        inner.asleep = inner.waiting.is_empty();
        take(&mut inner.waiting, max_events, max_bytes)
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // No step leaves it half done.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How much of its budget is taken, from 0 to 1.
    pub fn fill(&self) -> f64 {
        self.budget.fill()
    }

    /// Shows every waiting event, oldest first.
    pub(super) fn for_each(&self, see: impl FnMut(&mut Waiting)) {
        self.lock().waiting.iter_mut().for_each(see);
    }
}
