//! Follow lists that other programs write, by sockets: each is kept as a version when it is stored, as the store forgets
//! it when the next one comes.

use std::{num::NonZeroUsize, sync::Arc};

use futures_util::future::BoxFuture;
use lru::LruCache;
use tokio::sync::mpsc;
use tracing::warn;

use super::Follows;
use crate::{
    feed::error::FeedError,
    protocol::{Event, PublicKey, kind},
    store::tap::{Tap, WrittenBy},
};

/// Tells whether somebody has an account here.
pub type Known = Arc<dyn Fn(PublicKey) -> BoxFuture<'static, Result<bool, FeedError>> + Send + Sync>;

/// Lists that wait to be kept.
const MOST_WAITING: usize = 1_024;
/// People without an account that are remembered: what is read of other relays has many lists of theirs.
const STRANGERS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(65_535);

/// Is told of lists that are stored here.
pub struct Lists {
    waiting: mpsc::Sender<Arc<Event>>,
}

impl Lists {
    /// What is told, and what is to be kept of it.
    pub fn new() -> (Self, mpsc::Receiver<Arc<Event>>) {
        let (waiting, received) = mpsc::channel(MOST_WAITING);
        (Self { waiting }, received)
    }
}

impl Tap for Lists {
    fn stored(&self, events: &[&Arc<Event>], writer: WrittenBy) {
        // Another node keeps what it has stored.
        if !matches!(writer, WrittenBy::Here(_)) {
            return;
        }
        for event in events.iter().filter(|event| event.kind() == kind::FOLLOW_LIST) {
            if self.waiting.try_send(Arc::clone(event)).is_err() {
                warn!(author = %event.pubkey(), "a follow list is not kept as a version: too many wait");
            }
        }
    }
}

impl Follows {
    /// Keeps the lists of accounts that are told, until there is nobody to tell any.
    pub async fn keep_all(self: Arc<Self>, mut told: mpsc::Receiver<Arc<Event>>, known: Known) {
        let mut strangers = LruCache::new(STRANGERS);
        while let Some(event) = told.recv().await {
            let author = event.pubkey();
            if strangers.get(&author).is_some() {
                continue;
            }
            let kept = match known(author).await {
                Ok(true) => self.keep_foreign(&event).await,
                Ok(false) => {
                    strangers.put(author, ());
                    Ok(())
                }
                Err(error) => Err(error),
            };
            if let Err(error) = kept {
                warn!(%author, "a follow list is not kept as a version: {error}");
            }
        }
    }
}
