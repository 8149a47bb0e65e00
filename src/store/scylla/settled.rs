//! Which batches are settled, as far as this node knows. What a row of another one says is not believed
//! without a look at whether its event is committed and stands.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::{Mutex, MutexGuard};

use super::{
    batch::BatchId,
    cql::{Cql, Failure},
    drafts::Drafts,
    writers::{ListedWriter, writers},
};
use crate::{protocol::EventId, store::log::Origin};

/// The writers are asked how far they are no sooner again than after this; meanwhile rows are looked at one by one.
const PAUSE: Duration = Duration::from_millis(100);
/// Processes that are not listed any more whose batches are remembered to be settled.
const PAST: NonZeroUsize = NonZeroUsize::MIN.saturating_add(4_095);
/// Events that are remembered to stand.
const STANDING: NonZeroUsize = NonZeroUsize::MIN.saturating_add(16_383);

pub struct Settled {
    cql: Arc<Cql>,
    own: Arc<Drafts>,
    state: Mutex<State>,
    /// Events that were found committed, and then no mark against them: whoever deletes them since finds
    /// them committed too.
    standing: Mutex<LruCache<EventId, ()>>,
}

struct State {
    writers: HashMap<Origin, ListedWriter>,
    /// Of processes that are not listed: all batches up to there were settled when this node looked.
    past: LruCache<Origin, u64>,
    read_at: Option<Instant>,
}

impl Settled {
    pub fn new(cql: Arc<Cql>, own: Arc<Drafts>) -> Self {
        let state = State { writers: HashMap::new(), past: LruCache::new(PAST), read_at: None };
        Self { cql, own, state: Mutex::new(state), standing: Mutex::new(LruCache::new(STANDING)) }
    }

    /// Whether everything of a batch is known to be stored, or never to be. Rows that name no batch are from
    /// before there were such names.
    pub fn covers(&self, batch: Option<BatchId>) -> bool {
        let Some(BatchId { origin, number }) = batch else { return true };
        if origin == self.own.origin {
            return self.own.covers(number);
        }
        let state = self.state();
        match state.writers.get(&origin) {
            Some(writer) => writer.covers(number),
            None => state.past.peek(&origin).is_some_and(|up_to| number <= *up_to),
        }
    }

    /// Asks the writers how far they are, unless that was a moment ago. `doubtful` was read before: each
    /// process is listed before its first row is there, and until all of its batches are settled.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn learn(&self, doubtful: &[BatchId]) -> Result<(), Failure> {
        let is_of_another = |batch: &&BatchId| batch.origin != self.own.origin;
        if doubtful.iter().filter(is_of_another).count() == 0
            || self.state().read_at.is_some_and(|at| at.elapsed() < PAUSE)
        {
            return Ok(());
        }
        let found = writers(&self.cql).await?;
        let mut state = self.state();
        state.writers = found.into_iter().map(|writer| (writer.origin, writer)).collect();
        state.read_at = Some(Instant::now());
        for &BatchId { origin, number } in doubtful.iter().filter(is_of_another) {
            if !state.writers.contains_key(&origin) {
                let up_to = state.past.get(&origin).copied().unwrap_or_default().max(number);
                state.past.put(origin, up_to);
            }
        }
        Ok(())
    }

    /// Whether the event was found to stand.
    pub fn stands(&self, id: &EventId) -> bool {
        self.standing().get(id).is_some()
    }

    pub fn note_standing(&self, id: EventId) {
        self.standing().put(id, ());
    }

    fn standing(&self) -> MutexGuard<'_, LruCache<EventId, ()>> {
        self.standing.lock()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }
}
