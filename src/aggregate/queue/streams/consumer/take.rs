//! What was taken and not handed on.

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use super::super::super::Entry;

/// Entries in their order, as many as there is room for.
pub struct Take {
    entries: Mutex<VecDeque<(Entry, OwnedSemaphorePermit)>>,
    filled: Notify,
    room: Arc<Semaphore>,
    bytes: usize,
}

impl Take {
    /// At most so many bytes.
    pub fn new(bytes: usize) -> Self {
        let room = Arc::new(Semaphore::new(bytes));
        Self { entries: Mutex::default(), filled: Notify::new(), room, bytes }
    }

    /// Keeps an entry, once there is room.
    pub(super) async fn push(&self, entry: Entry) {
        let bytes = entry.text.len().clamp(1, self.bytes) as u32;
        // It is never closed.
        let Ok(room) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return };
        self.entries.lock().push_back((entry, room));
        self.filled.notify_one();
    }

    /// The oldest, at most so many, once there is one.
    pub async fn take(&self, most: usize) -> Vec<Entry> {
        loop {
            {
                let mut entries = self.entries.lock();
                if !entries.is_empty() {
                    let count = entries.len().min(most.max(1));
                    return entries.drain(..count).map(|(entry, _)| entry).collect();
                }
            }
            self.filled.notified().await;
        }
    }
}
