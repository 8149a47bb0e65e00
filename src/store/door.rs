//! Lets questions in by the work that they make: what is too much at once waits, and is refused in words of its
//! own where it would wait for too long.
//!
//! Questions of a few ranges have a part of the room to themselves, where those of many are never in their way.

use std::{pin::pin, sync::Arc, time::Duration};

use futures_util::future::poll_immediate;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use super::{Cursor, Query, StoreError, Viewer};
use crate::protocol::Filter;

/// Ranges of a question that is one of few.
const FEW: usize = 8;
/// The room is in so many parts, of which questions of few ranges have one to themselves.
const RESERVED: usize = 4;

/// The work that a question makes, about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    /// Ranges of index rows that are begun with: one for each id, value, or pair of author and kind.
    pub ranges: usize,
    /// How many rows are wanted at most in the ranges that are looked up by a tag or by time alone.
    pub rows: usize,
    /// Whether the question is this node's own.
    is_own: bool,
}

impl Cost {
    /// The work of the filters of which something is still wanted; without a cursor, of all.
    pub fn of(query: &Query, cursor: Option<&Cursor>) -> Self {
        let mut work = Self { ranges: 0, rows: 0, is_own: query.viewer == Viewer::Operator };
        for (index, (filter, wanted)) in query.filters.iter().enumerate() {
            if cursor.is_some_and(|cursor| !cursor.progress[index].is_open()) {
                continue;
            }
            let (ranges, is_indirect) = ranges(filter);
            work.ranges = work.ranges.saturating_add(ranges.max(1));
            work.rows = work.rows.saturating_add(if is_indirect { wanted.events } else { 0 });
        }
        work
    }

    fn is_little(self) -> bool {
        self.is_own || self.ranges <= FEW
    }
}

/// How many ranges a filter begins with, and whether their rows only name the events.
fn ranges(filter: &Filter) -> (usize, bool) {
    let Filter { ids, authors, kinds, tags, .. } = filter;
    let count = |listed: Option<usize>| listed.unwrap_or(1);
    let (authors, kinds) = (authors.as_ref().map(|list| list.len()), kinds.as_ref().map(|list| list.len()));
    if let Some(ids) = ids {
        return (ids.len(), false);
    }
    match tags.iter().map(|tag| tag.values().len()).min() {
        Some(values) if authors.is_none() || values <= FEW => (values, true),
        _ => (count(authors).saturating_mul(count(kinds)), authors.is_none() && kinds.is_none()),
    }
}

/// Where questions wait.
pub struct Door {
    /// Places for questions that wait or are under way.
    places: Arc<Semaphore>,
    max_places: usize,
    /// The room of all questions, and what of it those of many ranges may take.
    all: Arc<Semaphore>,
    many: Arc<Semaphore>,
    /// A question that makes more work counts as this.
    most: usize,
    patience: Duration,
}

/// A question is under way for as long as this is held.
#[derive(Debug)]
pub struct UnderWay {
    _place: OwnedSemaphorePermit,
    _room: [Option<OwnedSemaphorePermit>; 2],
}

impl Door {
    /// A door for so many questions, and so much work at once. At least `beside` questions of any kind are under way
    /// together.
    pub fn new(max_places: usize, room: usize, beside: usize, patience: Duration) -> Self {
        let many = (room - room / RESERVED).max(1);
        Self {
            places: Arc::new(Semaphore::new(max_places)),
            max_places,
            all: Arc::new(Semaphore::new(room.max(1))),
            many: Arc::new(Semaphore::new(many)),
            most: (many / beside.max(1)).max(1),
            patience,
        }
    }

    /// Waits for room. `cost`: what the question makes of it.
    ///
    /// # Errors
    /// [`StoreError::Overloaded`] where too many wait already, or it would take too long.
    pub async fn enter(&self, work: Cost, cost: usize) -> Result<UnderWay, StoreError> {
        let place = Arc::clone(&self.places).try_acquire_owned().map_err(|_| StoreError::Overloaded)?;
        let mut taking = pin!(self.take_room(work, cost.clamp(1, self.most) as u32));
        // Most questions find room, and need no timer.
        let taken = match poll_immediate(&mut taking).await {
            Some(taken) => taken,
            None => timeout(self.patience, taking).await.map_err(|_| StoreError::Overloaded)?,
        };
        Ok(UnderWay { _place: place, _room: taken? })
    }

    async fn take_room(
        &self,
        work: Cost,
        cost: u32,
    ) -> Result<[Option<OwnedSemaphorePermit>; 2], StoreError> {
        // First what questions of few ranges can not be kept from.
        let many = match work.is_little() {
            true => None,
            false => Some(acquire(&self.many, cost).await?),
        };
        Ok([many, Some(acquire(&self.all, cost).await?)])
    }

    /// How many of the places are taken, from 0 to 1.
    pub fn fill(&self) -> f64 {
        1.0 - self.places.available_permits() as f64 / self.max_places as f64
    }
}

async fn acquire(room: &Arc<Semaphore>, cost: u32) -> Result<OwnedSemaphorePermit, StoreError> {
    Arc::clone(room).acquire_many_owned(cost).await.map_err(|_| StoreError::Closed)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::store::{Content, Limit};

    const LITTLE: Cost = Cost { ranges: 1, rows: 0, is_own: false };
    const MUCH: Cost = Cost { ranges: 100, ..LITTLE };

    fn work(filters: &[&str]) -> (usize, usize) {
        let filters = filters.iter().map(|json| (serde_json::from_str(json).unwrap(), Limit::exactly(20)));
        let viewer = Viewer::client([]);
        let query = Query { filters: filters.collect(), viewer, now: 0, content: Content::Events };
        let Cost { ranges, rows, .. } = Cost::of(&query, None);
        (ranges, rows)
    }

    #[test]
    fn work_is_that_of_all_filters() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        assert_eq!(work(&["{}"]), (1, 20));
        assert_eq!(work(&[&format!(r#"{{"ids":["{a}","{b}"]}}"#)]), (2, 0));
        assert_eq!(work(&[&format!(r#"{{"authors":["{a}","{b}"],"kinds":[1,6,7]}}"#)]), (6, 0));
        assert_eq!(work(&[r##"{"#t":["x","y"],"kinds":[1]}"##]), (2, 20));
        assert_eq!(work(&[r#"{"kinds":[1]}"#, r#"{"kinds":[2,3]}"#, r#"{"kinds":[]}"#]), (4, 0));
    }

    #[tokio::test]
    async fn little_does_not_wait_behind_much() {
        let door = Door::new(100, 400, 1, Duration::from_secs(3_600));
        let first = [(); 3].map(|()| door.enter(MUCH, 100).now_or_never().unwrap().unwrap());
        let mut waiting: Vec<_> = (0..10).map(|_| Box::pin(door.enter(MUCH, 100))).collect();
        assert!(waiting.iter_mut().all(|question| question.now_or_never().is_none()));
        let little: Vec<_> = (0..100 - 13).map(|_| door.enter(LITTLE, 1).now_or_never().unwrap()).collect();
        assert!(little.iter().all(Result::is_ok));
        // No place is left.
        assert!(matches!(door.enter(LITTLE, 1).await, Err(StoreError::Overloaded)));
        assert_eq!(door.fill(), 1.0);
        drop(first);
        assert!(waiting.iter_mut().take(3).all(|question| question.now_or_never().is_some()));
    }

    #[tokio::test]
    async fn what_would_wait_for_too_long_is_refused() {
        let door = Door::new(100, 400, 2, Duration::from_millis(1));
        // As large as it may be, it leaves room for another one.
        let held = [(); 2].map(|()| door.enter(MUCH, usize::MAX).now_or_never().unwrap().unwrap());
        assert!(matches!(door.enter(MUCH, 1).await, Err(StoreError::Overloaded)));
        drop(held);
        assert!(door.enter(MUCH, usize::MAX).await.is_ok());
    }
}
