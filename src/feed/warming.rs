//! Has the memory of home feeds ready for somebody who has just signed in, before they ask for their feed.
//!
//! That memory keeps an author only while everything of theirs comes to this node, so it is asked of the bus, for a
//! while: until then a socket of theirs asks for it itself, or nobody does. It is filled by a question that it can not
//! answer, and not before it has listened for as long as an event may be late.

use std::{sync::Arc, time::Duration};

use tokio::{sync::Semaphore, time::sleep};
use tracing::debug;

use super::{
    error::FeedError,
    reading::{Reader, Span},
    timeline::{self, Authors, Eyes},
};
use crate::route::{bus::Bus, key::RoutingKey};

/// For how long authors are asked for once their feed was read. A page is there within seconds, or not at all.
const LASTS: Duration = Duration::from_secs(30);
/// People whose authors are asked for at once. Whoever else signs in meanwhile has a feed that is read from the store.
const MOST: usize = 64;
/// Events that a first page may have, as many as can be asked for.
const PAGE: usize = 100;

/// Reads feeds ahead, one at a time.
#[derive(Clone)]
pub struct Warming {
    bus: Arc<dyn Bus>,
    /// For how long an event may be late.
    lateness: Duration,
    asked: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

impl Warming {
    pub fn new(bus: Arc<dyn Bus>, lateness: Duration) -> Self {
        let [asked, reading] = [MOST, 1].map(|permits| Arc::new(Semaphore::new(permits)));
        Self { bus, lateness, asked, reading }
    }

    /// Begins, if there is room. `looks`: whose posts they see, and with which eyes.
    pub fn begin(
        &self,
        reader: Reader,
        looks: impl Future<Output = Result<(Authors, Eyes), FeedError>> + 'static,
    ) {
        let Ok(asked) = Arc::clone(&self.asked).try_acquire_owned() else { return };
        let warming = self.clone();
        actix::spawn(async move {
            if let Err(error) = warming.warm(&reader, looks).await {
                debug!("a feed is not read ahead: {error}");
            }
            drop(asked);
        });
    }

    async fn warm(
        &self,
        reader: &Reader,
        looks: impl Future<Output = Result<(Authors, Eyes), FeedError>>,
    ) -> Result<(), FeedError> {
        let (authors, eyes) = self.in_turn(looks).await?;
        let keys: Vec<RoutingKey> = authors.posting().map(RoutingKey::By).collect();
        let subscribed = self.bus.subscribe(keys.clone()).await;
        let read = async {
            // What is not heard is not kept.
            if subscribed.is_err() {
                return Ok(());
            }
            let read = |limit| timeline::feed(reader, &authors, &eyes, Span::default(), limit);
            self.in_turn(read(1)).await?;
            sleep(self.lateness).await;
            self.in_turn(read(PAGE)).await?;
            sleep(LASTS).await;
            Ok(())
        };
        let done = read.await;
        self.bus.unsubscribe(keys);
        done
    }

    async fn in_turn<T>(&self, read: impl Future<Output = Result<T, FeedError>>) -> Result<T, FeedError> {
        // It is never closed.
        let _turn = self.reading.acquire().await.map_err(|_| FeedError::Overloaded)?;
        read.await
    }
}
