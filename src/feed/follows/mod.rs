//! Follow lists that are never lost.
//!
//! Each is a [replaceable event that is changed](super::replaceable); beside, the lists that an account has had are kept,
//! so that each can be taken back, and none is gone on from that has lost many by somebody else's fault.
//!
//! `docs/design/feed.md` draws the schedules.

mod ledger;
mod list;
mod versions;
mod watch;

use std::sync::Arc;

use self::versions::{Packed, Versions};
pub use self::{
    ledger::{Ledger, Version},
    list::{List, Wish, people},
    watch::{Known, Lists},
};
use super::{
    error::FeedError,
    replaceable::{ATTEMPTS, Change, Changes, Draft, Ledger as _, MOST_WISHES, Outcome, pause},
};
use crate::{
    protocol::{Event, EventId, PublicKey, kind, sign::Keys},
    store::{
        Store,
        records::{Race, RecordKind},
    },
};

/// What follow lists are bounded by.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    /// Lists that are made of an account within a minute.
    pub changes_per_minute: usize,
    /// Versions that are kept of one, beside the one that stands.
    pub versions: usize,
}

/// The follow lists of all accounts.
pub struct Follows {
    changes: Changes,
    versions: Versions,
    bounds: Bounds,
}

/// From which list a change goes on though it is a lot shorter than the one that stood before: the one that stands;
/// `None`: there is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Confirmed(pub Option<EventId>);

/// What a change came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// The list that stands; `None`: there is none.
    pub list: Option<EventId>,
    /// Whether it was otherwise before.
    pub was_otherwise: bool,
}

/// What is wished of the list of an account.
struct Wished<'f> {
    follows: &'f Follows,
    account: PublicKey,
    wish: Wish,
    confirm: Option<Confirmed>,
    /// The list that is made, and the versions that the record lets go of for it.
    made: Option<(Packed, Vec<Version>)>,
}

impl Change for Wished<'_> {
    const EVENT: u16 = kind::FOLLOW_LIST;
    const RECORD: RecordKind = RecordKind::Follows;
    type Ledger = Ledger;

    async fn draft(
        &mut self,
        mut ledger: Ledger,
        stands: Option<&Event>,
    ) -> Result<Option<Draft<Ledger>>, FeedError> {
        if ledger.is_settled(stands) {
            ledger.wishes.clear();
        }
        ledger.wishes.push(self.wish);
        let mut list = stands.map(List::of).unwrap_or_default();
        let before = list.people().len();
        let mut is_changed = false;
        for &wish in &ledger.wishes {
            let version = match wish {
                Wish::TakeBack(id) => self.follows.version(self.account, &ledger, id).await?,
                Wish::Follow(_) | Wish::Unfollow(_) => None,
            };
            is_changed |= list.change(wish, version.as_ref());
        }
        if !is_changed {
            return Ok(None);
        }
        if ledger.wishes.len() > MOST_WISHES {
            return Err(FeedError::Unknown);
        }
        let made = ledger.made.as_ref().map_or(0, |made| made.people);
        let had = before.max(made).max(ledger.had_since());
        let has = list.people().len();
        let stands = stands.map(Event::id);
        if is_shrunk(had, has) && self.confirm != Some(Confirmed(stands)) {
            return Err(FeedError::Shrunk { had, has, list: stands });
        }
        Ok(Some(Draft { tags: list.tags, content: list.content, ledger }))
    }

    fn made(&mut self, ledger: &mut Ledger, event: &Event) -> Result<(), FeedError> {
        let packed = Packed::new(event, false).map_err(|_| FeedError::Overloaded)?;
        let gone = ledger.keep(packed.version.clone(), self.follows.bounds.versions + 1);
        self.made = Some((packed, gone));
        Ok(())
    }

    async fn noted(&mut self) -> Result<(), FeedError> {
        match &self.made {
            Some((packed, _)) => self.follows.versions.keep(packed).await,
            None => Ok(()),
        }
    }

    async fn stored(&mut self) {
        if let Some((_, gone)) = &self.made {
            self.follows.versions.forget(self.account, gone).await;
        }
    }

    async fn taken_back(&mut self) {
        if let Some((packed, _)) = self.made.take() {
            self.follows.versions.forget(self.account, &[packed.version]).await;
        }
    }
}

impl Follows {
    pub fn new(changes: Changes, store: Arc<dyn Store>, bounds: Bounds) -> Self {
        Self { changes, versions: Versions::new(store), bounds }
    }

    /// The list of an account that stands.
    ///
    /// # Errors
    /// The store fails.
    pub async fn standing(&self, account: PublicKey) -> Result<Option<Event>, FeedError> {
        self.changes.standing(account, kind::FOLLOW_LIST).await
    }

    /// The lists that an account has had, the newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn history(&self, account: PublicKey) -> Result<Vec<Version>, FeedError> {
        let (_, ledger) = self.changes.ledger::<Ledger>(account, RecordKind::Follows).await?;
        Ok(ledger.versions)
    }

    /// Has a wish fulfilled, once.
    ///
    /// # Errors
    /// It is not, or not known to be.
    pub async fn change(
        &self,
        keys: &Keys,
        wish: Wish,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        let account = keys.public_key();
        let wished = Wished { follows: self, account, wish, confirm, made: None };
        let Outcome { stands, was_otherwise } = self.changes.make(keys, wished).await?;
        Ok(Changed { list: stands.map(|list| list.id()), was_otherwise })
    }

    /// A version as it was.
    async fn version(
        &self,
        account: PublicKey,
        ledger: &Ledger,
        id: EventId,
    ) -> Result<Option<List>, FeedError> {
        match ledger.versions.iter().find(|version| version.id == id) {
            Some(version) => Ok(self.versions.list(account, version).await?),
            None => Ok(None),
        }
    }

    /// Takes a version back: the list is as it was then.
    ///
    /// # Errors
    /// There is no such version; or as for any change.
    pub async fn take_back(
        &self,
        keys: &Keys,
        id: EventId,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        let (account, nothing) = (keys.public_key(), FeedError::NotFound("there is no such version"));
        let (_, ledger) = self.changes.ledger(account, RecordKind::Follows).await?;
        if self.version(account, &ledger, id).await?.is_none() {
            return Err(nothing);
        }
        self.change(keys, Wish::TakeBack(id), confirm).await
    }

    /// Keeps a list that another program wrote, so that it can be taken back when it is replaced.
    ///
    /// # Errors
    /// It is not known to be kept.
    pub async fn keep_foreign(&self, event: &Event) -> Result<(), FeedError> {
        let account = event.pubkey();
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                pause().await;
            }
            let (version, mut ledger) = self.changes.ledger::<Ledger>(account, RecordKind::Follows).await?;
            if ledger.versions.iter().any(|version| version.id == event.id()) {
                return Ok(());
            }
            let packed = Packed::new(event, true).map_err(|_| FeedError::Overloaded)?;
            let gone = ledger.keep(packed.version.clone(), self.bounds.versions + 1);
            // What the record names is there.
            self.versions.keep(&packed).await?;
            match self.changes.put(account, RecordKind::Follows, version, &ledger).await? {
                Race::Won(_) => {
                    self.versions.forget(account, &gone).await;
                    return Ok(());
                }
                Race::Overtaken(_) => {}
                Race::Unknown(_) => return Err(FeedError::Unknown),
            }
        }
        Err(FeedError::Overloaded)
    }
}

/// Whether a list that had so many people and has so many now has lost more than anybody takes away by hand.
fn is_shrunk(had: usize, has: usize) -> bool {
    const FEW: usize = 5;
    /// A fifth.
    const PART: usize = 5;
    let lost = had.saturating_sub(has);
    lost > FEW && lost * PART > had
}

#[cfg(test)]
mod tests;
