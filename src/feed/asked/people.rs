//! People: how they are shown, found and muted, and what an account says of itself.

use futures_util::{StreamExt, stream};
use serde_json::{Map, Value};

use super::{
    super::{
        error::FeedError,
        mutes,
        people::{self, Profile, Profiles},
        profile::change_profile,
        reading::{by, nobody},
    },
    Feed,
};
use crate::{
    account::Account,
    protocol::{Event, PublicKey, kind, nip19},
};

impl Feed {
    /// Whom an account has muted, and how they are shown.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mutes(&self, account: PublicKey) -> Result<Vec<(PublicKey, Profile)>, FeedError> {
        self.shown(mutes::of(&self.0.changes, account).await?).await
    }

    /// People, and how they are shown.
    ///
    /// # Errors
    /// The store fails.
    pub async fn shown(&self, people: Vec<PublicKey>) -> Result<Vec<(PublicKey, Profile)>, FeedError> {
        let mut profiles = self.people(&people).await?;
        let shown = |key: PublicKey| (key, profiles.remove(&key.to_hex()).unwrap_or_default());
        Ok(people.into_iter().map(shown).collect())
    }

    /// Mutes somebody, or hears of them again.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn mute(&self, account: PublicKey, wish: mutes::Wish) -> Result<(), FeedError> {
        if wish == mutes::Wish::Mute(account) {
            return Err(FeedError::unfit("user", "nobody mutes themselves"));
        }
        mutes::change(&self.0.changes, &self.writes(account).await?, wish).await
    }

    /// How people are shown, those with an account under its name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn people(&self, people: &[PublicKey]) -> Result<Profiles, FeedError> {
        let mut profiles = people::profiles(&self.0.reader, people).await?;
        /// Records that are read at once: sign-ins read some in the same time.
        const AT_ONCE: usize = 16;
        let account = async |key: &PublicKey| (*key, self.0.accounts.get(key).await);
        let mut accounts = stream::iter(people).map(account).buffer_unordered(AT_ONCE);
        while let Some((key, account)) = accounts.next().await {
            if let Some(account) = account? {
                profiles.entry(key.to_hex()).or_default().username = Some(account.name.to_string());
            }
        }
        Ok(profiles)
    }

    /// How those are shown who are in events.
    ///
    /// # Errors
    /// The store fails.
    pub async fn people_in(&self, events: &[Event]) -> Result<Profiles, FeedError> {
        self.people(&people::of_events(events)).await
    }

    /// Accounts that want to be found and whose names begin so.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(&self, text: &str, limit: usize) -> Result<Vec<PublicKey>, FeedError> {
        /// Names that are looked at, listed or not.
        const MOST: usize = 500;
        const AT_ONCE: usize = 100;
        let text = text.trim();
        if let Ok(key) = nip19::read_public_key(text) {
            return Ok(vec![key]);
        }
        let prefix = text.split('@').next().unwrap_or_default().to_ascii_lowercase();
        let (mut found, mut after, mut looked) = (Vec::new(), None::<String>, 0);
        loop {
            let (accounts, next) = self.0.accounts.list(&prefix, after.as_deref(), AT_ONCE).await?;
            looked += AT_ONCE;
            let is_found = |account: &Account| account.listed && !account.disabled;
            found.extend(accounts.iter().filter(|account| is_found(account)).map(|account| account.key));
            if next.is_none() || looked >= MOST || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
            after = next;
        }
    }

    /// What an account says of itself, whole.
    ///
    /// # Errors
    /// The store fails.
    pub async fn profile(&self, account: PublicKey) -> Result<Map<String, Value>, FeedError> {
        let said = self.0.reader.newest(by([account], &[kind::PROFILE]), &nobody()).await?;
        Ok(said.map(|event| people::whole(&event)).unwrap_or_default())
    }

    /// Changes what an account says of itself: what is `null` goes, what is not named stays.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn change_profile(
        &self,
        account: PublicKey,
        changes: &Map<String, Value>,
    ) -> Result<Map<String, Value>, FeedError> {
        change_profile(&self.0.changes, &self.writes(account).await?, changes).await
    }
}
