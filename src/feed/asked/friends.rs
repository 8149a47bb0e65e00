//! Whom accounts follow.

use super::{
    super::{
        activity::Deed,
        error::FeedError,
        follows::{self, Changed, Confirmed, Version, Wish},
        people::Profile,
        reading::{Span, by, nobody, tagged},
    },
    Feed,
};
use crate::protocol::{EventId, Filter, PublicKey, kind, nip19};

/// Somebody whom an account follows, or who follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    pub key: PublicKey,
    pub profile: Profile,
    pub follows_you: bool,
}

impl Feed {
    /// Follows somebody.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn follow(
        &self,
        account: PublicKey,
        person: PublicKey,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        if person == account {
            return Err(FeedError::unfit("user", "nobody follows themselves"));
        }
        let keys = self.writes(account).await?;
        let changed = self.0.follows.change(&keys, Wish::Follow(person), confirm).await?;
        if changed.was_otherwise {
            let name = self.name(person).await;
            self.tell(account, Deed::Followed { person, name }).await;
        }
        Ok(changed)
    }

    /// Follows somebody no more.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn unfollow(
        &self,
        account: PublicKey,
        person: PublicKey,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        let keys = self.writes(account).await?;
        self.0.follows.change(&keys, Wish::Unfollow(person), confirm).await
    }

    /// What somebody is called in a line.
    async fn name(&self, person: PublicKey) -> String {
        match self.people(&[person]).await {
            Ok(mut profiles) => {
                let profile = profiles.remove(&person.to_hex()).unwrap_or_default();
                profile.username.or(profile.name)
            }
            Err(_) => None,
        }
        .unwrap_or_else(|| nip19::npub(&person).chars().take(12).collect())
    }

    /// Whom an account follows, and which list that is.
    ///
    /// # Errors
    /// The store fails.
    pub async fn friends(&self, account: PublicKey) -> Result<(Vec<Friend>, Option<EventId>), FeedError> {
        let list = self.0.follows.standing(account).await?;
        let friends = list.as_ref().map(|list| follows::people(list.tags())).unwrap_or_default();
        Ok((self.as_friends(account, friends).await?, list.map(|list| list.id())))
    }

    /// The follow list of an account that stands.
    ///
    /// # Errors
    /// The store fails.
    pub async fn standing(&self, account: PublicKey) -> Result<Option<EventId>, FeedError> {
        Ok(self.0.follows.standing(account).await?.map(|list| list.id()))
    }

    /// Whether an account follows somebody.
    ///
    /// # Errors
    /// The store fails.
    pub async fn is_followed(&self, account: PublicKey, person: PublicKey) -> Result<bool, FeedError> {
        let list = self.0.follows.standing(account).await?;
        Ok(list.is_some_and(|list| follows::people(list.tags()).contains(&person)))
    }

    /// People, and whether they follow an account.
    ///
    /// # Errors
    /// The store fails.
    pub async fn as_friends(
        &self,
        account: PublicKey,
        people: Vec<PublicKey>,
    ) -> Result<Vec<Friend>, FeedError> {
        let mut profiles = self.people(&people).await?;
        let back = by(people.iter().copied(), &[kind::FOLLOW_LIST]);
        let back = Filter { tags: tagged(b'p', [account.to_hex()], &[]).tags, ..back };
        let back = self.0.reader.read([back], &nobody(), Span::default(), people.len()).await?;
        let friend = |key: PublicKey| Friend {
            key,
            profile: profiles.remove(&key.to_hex()).unwrap_or_default(),
            follows_you: back.iter().any(|list| list.pubkey() == key),
        };
        Ok(people.into_iter().map(friend).collect())
    }

    /// The lists that an account has had, the newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn versions(&self, account: PublicKey) -> Result<Vec<Version>, FeedError> {
        self.0.follows.history(account).await
    }

    /// Takes a version of the list back.
    ///
    /// # Errors
    /// There is no such version; it is not done, or not known to be.
    pub async fn take_back(
        &self,
        account: PublicKey,
        version: EventId,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        self.0.follows.take_back(&self.writes(account).await?, version, confirm).await
    }
}
