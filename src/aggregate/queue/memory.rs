//! The queue of one machine, in memory: bounded by bytes, and lost with the process.

use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use futures_util::{FutureExt, future::BoxFuture};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::{AnyListener, Broken, Entry, Full, Number, Queue, UpstreamId, Verdict, Word, words::Words};

/// What an entry takes beside its text, in bytes, about.
const ENTRY_BYTES: usize = 256;
/// Bytes that are counted as one.
const UNIT: usize = 64;

/// The queue.
pub struct Memory {
    room: Arc<Semaphore>,
    units: usize,
    inner: Mutex<Inner>,
    /// An entry has come.
    filled: Notify,
    words: Words,
}

#[derive(Default)]
struct Inner {
    /// By upstream, none of them empty.
    waiting: HashMap<UpstreamId, VecDeque<(Entry, OwnedSemaphorePermit)>>,
    /// Whose turn it is: of those that have something waiting.
    turns: VecDeque<UpstreamId>,
    /// Those that were taken and are not finished.
    taken: HashMap<(UpstreamId, Number), OwnedSemaphorePermit>,
}

impl Memory {
    /// One that holds so many bytes.
    pub fn new(bytes: usize, listener: AnyListener) -> Self {
        let units = bytes / UNIT;
        let (room, words) = (Arc::new(Semaphore::new(units)), Words::new(listener));
        Self { room, units, inner: Mutex::default(), filled: Notify::new(), words }
    }

    /// What an entry takes of the room. One that is larger than all of it takes all of it.
    fn units(&self, entry: &Entry) -> u32 {
        (entry.text.len() + ENTRY_BYTES).div_ceil(UNIT).min(self.units) as u32
    }

    fn push(&self, entry: Entry, room: OwnedSemaphorePermit) {
        let Inner { waiting, turns, .. } = &mut *self.inner.lock();
        let of_upstream = waiting.entry(entry.upstream).or_default();
        if of_upstream.is_empty() {
            turns.push_back(entry.upstream);
        }
        of_upstream.push_back((entry, room));
        self.filled.notify_one();
    }

    fn pop(&self, most: usize) -> Vec<Entry> {
        let mut inner = self.inner.lock();
        let popped: Vec<Entry> = std::iter::from_fn(|| inner.pop()).take(most).collect();
        if !inner.turns.is_empty() {
            // For whoever else waits: of several words before the first was heard, one is kept.
            self.filled.notify_one();
        }
        popped
    }
}

impl Inner {
    /// The oldest entry of the upstream whose turn it is: one that sends much has no more of the consumers than others.
    fn pop(&mut self) -> Option<Entry> {
        let upstream = self.turns.pop_front()?;
        let waiting = self.waiting.get_mut(&upstream)?;
        let (entry, room) = waiting.pop_front()?;
        match waiting.is_empty() {
            true => drop(self.waiting.remove(&upstream)),
            false => self.turns.push_back(upstream),
        }
        self.taken.insert((upstream, entry.number), room);
        Some(entry)
    }
}

impl Queue for Memory {
    fn offer(&self, entry: Entry) -> Result<(), Full> {
        let room = Arc::clone(&self.room).try_acquire_many_owned(self.units(&entry)).map_err(|_| Full)?;
        self.push(entry, room);
        Ok(())
    }

    fn put(&self, entry: Entry) -> BoxFuture<'_, ()> {
        async move {
            // It is never closed.
            if let Ok(room) = Arc::clone(&self.room).acquire_many_owned(self.units(&entry)).await {
                self.push(entry, room);
            }
        }
        .boxed()
    }

    fn take(&self, most: usize) -> BoxFuture<'_, Vec<Entry>> {
        async move {
            loop {
                let entries = self.pop(most.max(1));
                if !entries.is_empty() {
                    return entries;
                }
                self.filled.notified().await;
            }
        }
        .boxed()
    }

    fn say(&self, entry: &Entry, word: Word) {
        let key = (entry.upstream, entry.number);
        let is_taken = match word {
            Word::Finished(_) => self.inner.lock().taken.remove(&key).is_some(),
            Word::Full(_) => self.inner.lock().taken.contains_key(&key),
        };
        if is_taken {
            self.words.say(entry.upstream, entry.number, word);
        }
    }

    fn words(&self, upstream: UpstreamId) -> BoxFuture<'_, Result<Vec<(Number, Verdict)>, Broken>> {
        self.words.listen(upstream).boxed()
    }

    fn fill(&self) -> f64 {
        1.0 - self.room.available_permits() as f64 / self.units as f64
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Deaf, *};
    use crate::{aggregate::upstream::RelayUrl, protocol::EventId};

    const STORED: Word = Word::Finished(Verdict::Stored);

    fn queue(bytes: usize) -> Memory {
        Memory::new(bytes, Arc::new(Deaf))
    }

    fn upstream(host: &str) -> UpstreamId {
        RelayUrl::parse(&format!("ws://{host}")).unwrap().id()
    }

    fn entry(upstream: UpstreamId, number: Number) -> Entry {
        let (id, text) = (EventId([0; 32]), "x".repeat(744).into());
        Entry { upstream, number, id, text, received: 0, trace: None, place: None }
    }

    #[tokio::test]
    async fn room_is_taken_until_an_entry_is_finished() {
        let (queue, a) = (queue(2_000), upstream("a"));
        assert_eq!(queue.offer(entry(a, 1)), Ok(()));
        assert_eq!(queue.offer(entry(a, 2)), Err(Full));
        assert_eq!(queue.take(1).await[0].number, 1);
        let mut waits = queue.put(entry(a, 3));
        assert!((&mut waits).now_or_never().is_none());
        assert!(queue.take(1).now_or_never().is_none());
        queue.say(&entry(a, 1), STORED);
        waits.await;
        assert_eq!(queue.words(a).await, Ok(vec![(1, Verdict::Stored)]));
        assert_eq!(queue.take(1).await[0].number, 3);
        // Once is enough, and what was never taken is no word.
        for number in [3, 3, 9] {
            queue.say(&entry(a, number), STORED);
        }
        assert_eq!((queue.words(a).await, queue.fill()), (Ok(vec![(3, Verdict::Stored)]), 0.0));
        assert!(queue.words(a).now_or_never().is_none());
    }

    #[tokio::test]
    async fn each_upstream_has_its_turn() {
        let (queue, a, b) = (queue(1 << 20), upstream("a"), upstream("b"));
        for number in 1..=5 {
            queue.put(entry(a, number)).await;
        }
        queue.put(entry(b, 1)).await;
        queue.put(entry(b, 2)).await;
        let mut order = Vec::new();
        while let Some(taken) = queue.take(3).now_or_never() {
            order.extend(taken.into_iter().map(|entry| (entry.upstream, entry.number)));
        }
        assert_eq!(order, [(a, 1), (b, 1), (a, 2), (b, 2), (a, 3), (a, 4), (a, 5)]);
    }

    #[tokio::test]
    async fn one_that_is_larger_than_the_queue_goes_alone() {
        let (queue, a) = (queue(1_000), upstream("a"));
        let large = Entry { text: "x".repeat(10_000).into(), ..entry(a, 1) };
        assert_eq!(queue.offer(large.clone()), Ok(()));
        assert_eq!(queue.offer(entry(a, 2)), Err(Full));
        assert_eq!(queue.take(5).await, [large]);
    }

    #[tokio::test]
    async fn several_consumers_have_each_entry_once() {
        let (queue, a) = (Arc::new(queue(1 << 20)), upstream("a"));
        let consumers: Vec<_> = (0..4)
            .map(|_| {
                let queue = Arc::clone(&queue);
                tokio::spawn(async move {
                    let mut had = Vec::new();
                    loop {
                        let entry = queue.take(1).await.remove(0);
                        if entry.number == 0 {
                            return had;
                        }
                        had.push(entry.number);
                        queue.say(&entry, STORED);
                        tokio::task::yield_now().await;
                    }
                })
            })
            .collect();
        for number in (1..=500).chain([0; 4]) {
            queue.put(entry(a, number)).await;
        }
        let mut had = Vec::new();
        for consumer in consumers {
            had.extend(consumer.await.unwrap());
        }
        had.sort_unstable();
        assert_eq!(had, (1..=500).collect::<Vec<_>>());
    }
}
