//! What accounts see: their feed, threads, and what concerns them.

use futures_util::future::try_join3;

use super::{
    super::{
        error::FeedError,
        follows, marks,
        mutes::{self, Muted},
        posts::own,
        reading::{Place, Span},
        timeline::{self, Authors, Eyes, Page},
    },
    Feed,
};
use crate::protocol::{Event, EventId, PublicKey};

/// The number of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub count: usize,
    /// Whether there are more.
    pub is_more: bool,
}

/// Most that are counted.
const MOST_COUNTED: usize = 500;
/// Most posts of a thread.
const MOST_IN_THREAD: usize = 500;

impl Feed {
    /// The feed of an account: what those say and do whom it follows, and itself.
    ///
    /// # Errors
    /// The store fails.
    pub async fn feed(&self, account: PublicKey, span: Span, limit: usize) -> Result<Page, FeedError> {
        let (authors, eyes) = self.looks(account).await?;
        timeline::feed(&self.0.reader, &authors, &eyes, span, limit).await
    }

    /// Somebody has signed in: the first page of their feed is read ahead, where that is of use, and nobody waits for it.
    pub fn warm(&self, account: PublicKey) {
        if let Some(warming) = &self.0.warming {
            let feed = self.clone();
            warming.begin(self.0.reader.clone(), async move { feed.looks(account).await });
        }
    }

    /// How much of that is in a span.
    ///
    /// # Errors
    /// The store fails.
    pub async fn count(&self, account: PublicKey, span: Span) -> Result<Counted, FeedError> {
        let (authors, eyes) = self.looks(account).await?;
        let count = timeline::count(&self.0.reader, &authors, &eyes, span, MOST_COUNTED + 1).await?;
        Ok(Counted { count: count.min(MOST_COUNTED), is_more: count > MOST_COUNTED })
    }

    /// Whose posts an account sees in its feed, and with which eyes.
    async fn looks(&self, account: PublicKey) -> Result<(Authors, Eyes), FeedError> {
        let (authors, viewer, muted) =
            try_join3(self.authors(account), self.viewer(account), self.muted(account)).await?;
        Ok((authors, Eyes { viewer, muted }))
    }

    async fn muted(&self, account: PublicKey) -> Result<Muted, FeedError> {
        Ok(mutes::of(&self.0.changes, account).await?.into_iter().collect())
    }

    /// What an account sees of everybody's, but for whom it has muted.
    async fn eyes(&self, account: PublicKey) -> Result<Eyes, FeedError> {
        Ok(Eyes { viewer: own(account), muted: self.muted(account).await? })
    }

    async fn authors(&self, account: PublicKey) -> Result<Authors, FeedError> {
        let list = self.0.follows.standing(account).await?;
        let mut followed = list.map(|list| follows::people(list.tags())).unwrap_or_default();
        followed.retain(|person| *person != account);
        Ok(Authors { account, followed })
    }

    /// What somebody has said, as an account sees it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn posts_of(
        &self,
        account: PublicKey,
        author: PublicKey,
        span: Span,
        limit: usize,
    ) -> Result<Page, FeedError> {
        timeline::posts_of(&self.0.reader, author, &own(account), span, limit).await
    }

    /// A post, what it answers and what answers it, as an account sees it.
    ///
    /// # Errors
    /// There is no such post for it, or the store fails.
    pub async fn thread(&self, account: PublicKey, id: EventId) -> Result<Vec<Event>, FeedError> {
        timeline::thread(&self.0.reader, id, &self.eyes(account).await?, MOST_IN_THREAD).await
    }

    /// What concerns an account.
    ///
    /// # Errors
    /// The store fails.
    pub async fn notices(&self, account: PublicKey, span: Span, limit: usize) -> Result<Page, FeedError> {
        timeline::notices(&self.0.reader, account, &self.eyes(account).await?, span, limit).await
    }

    /// Up to where an account has read what concerns it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn read_mark(&self, account: PublicKey) -> Result<Option<Place>, FeedError> {
        marks::read_mark(self.0.reader.store(), account).await
    }

    /// An account has read everything that concerns it, up to there.
    ///
    /// # Errors
    /// The store fails.
    pub async fn have_read(&self, account: PublicKey, place: Place) -> Result<Place, FeedError> {
        marks::have_read(self.0.reader.store(), account, place).await
    }
}
