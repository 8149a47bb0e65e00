//! People who are followed, wherever they write: which relays are read for them, and whom each is asked for.
//!
//! Operators name people; where these write they say themselves (NIP-65). One of the processes that read makes a plan
//! of that every [`crate::config::Follow`] says so, and at once where something has changed, and keeps the records of
//! upstreams as it says. Everything that strangers have written is bounded: a list names at most
//! six relays, relays that share an address are one, and there are only so many in all.

mod lists;
mod people;
mod plan;
mod planner;

use std::{collections::HashSet, sync::Arc};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;
use utoipa::ToSchema;

use self::people::People;
pub use self::{
    people::{Followed, Indexer, LeftOut, Summary},
    plan::Why,
    planner::Planner,
};
use super::{Refused, read_for::ReadFor, registry::Registry, upstream::Upstream};
use crate::protocol::{PublicKey, nip19};

/// What operators ask of the people who are followed.
pub struct Following {
    registry: Registry,
    /// Says that a plan is to be made.
    changed: Arc<Notify>,
}

/// Somebody who is followed, or whom somebody follows, and where they are read.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PersonView {
    /// As `npub1…`.
    pub who: String,
    /// What operators have said of them; `null`: somebody who is followed follows them.
    pub followed: Option<Followed>,
    /// Relays that are asked for them, and those that are read whole.
    pub read_at: Vec<String>,
}

/// What is read of people at other relays, as they are followed.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, ToSchema)]
pub struct Fetched {
    /// How many of them.
    pub people: usize,
    /// At how many relays.
    pub relays: usize,
}

/// The plan that is in force.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct PlanView {
    #[serde(flatten)]
    #[schema(inline)]
    pub summary: Summary,
    /// Relays that are read for the people who are followed, those first that are asked for most.
    pub relays: Vec<RelayView>,
}

/// A relay that is read for people who are followed.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct RelayView {
    /// Its number as an upstream.
    pub id: String,
    pub url: String,
    /// How many of those who are followed write there.
    pub writers: usize,
    /// For how many of them it is asked: those who are not read at two others.
    pub asked: usize,
    /// Whether it is read for nothing else.
    pub alone: bool,
}

impl Following {
    pub fn new(registry: Registry, changed: Arc<Notify>) -> Self {
        Self { registry, changed }
    }

    fn people(&self) -> People<'_> {
        People(&self.registry)
    }

    /// Whom operators follow.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list(&self) -> Result<Vec<Followed>, Refused> {
        Ok(self.people().all().await?.into_iter().map(|(_, followed)| followed).collect())
    }

    /// Where somebody is read.
    ///
    /// # Errors
    /// Nobody follows them, or the store fails.
    pub async fn show(&self, who: PublicKey) -> Result<PersonView, Refused> {
        let followed = self.people().get(who).await?;
        let is_read = |upstream: &Upstream| {
            upstream.followed.as_ref().is_some_and(|read| read.people.binary_search(&who).is_ok())
        };
        let upstreams = self.registry.all().await?;
        if followed.is_none() && !upstreams.iter().any(is_read) {
            return Err(Refused::NotFollowed);
        }
        let at = upstreams.iter().filter(|upstream| upstream.is_whole() || is_read(upstream));
        let read_at = at.map(|upstream| upstream.url.to_string()).collect();
        Ok(PersonView { who: nip19::npub(&who), followed, read_at })
    }

    /// Follows somebody; whether that is new.
    ///
    /// # Errors
    /// There are too many, or the store fails.
    pub async fn follow(&self, who: PublicKey, with_follows: bool) -> Result<(Followed, bool), Refused> {
        // As long as there is none, nobody looks whether somebody is followed.
        if let (None, plan) = self.people().plan().await? {
            self.people().put_plan(None, &plan).await?;
        }
        let followed = self.people().follow(who, with_follows).await?;
        self.changed.notify_one();
        Ok(followed)
    }

    /// Follows somebody no more. What is stored of them stays.
    ///
    /// # Errors
    /// They are not followed, or the store fails.
    pub async fn unfollow(&self, who: PublicKey) -> Result<(), Refused> {
        self.people().unfollow(who).await?;
        self.changed.notify_one();
        Ok(())
    }

    /// The plan that is in force.
    ///
    /// # Errors
    /// The store fails.
    pub async fn plan(&self) -> Result<PlanView, Refused> {
        let (_, plan) = self.people().plan().await?;
        let upstreams = self.registry.all().await?;
        let mut relays: Vec<RelayView> = upstreams
            .iter()
            .filter_map(|upstream| {
                let ReadFor { people, writers, alone, .. } = upstream.followed.as_ref()?;
                let (id, url) = (upstream.id().to_string(), upstream.url.to_string());
                Some(RelayView { id, url, writers: *writers, asked: people.len(), alone: *alone })
            })
            .collect();
        relays.sort_by(|a, b| b.asked.cmp(&a.asked).then_with(|| a.url.cmp(&b.url)));
        Ok(PlanView { summary: plan.summary, relays })
    }

    /// How many of these are read for being followed, and at how many relays.
    ///
    /// # Errors
    /// The store fails.
    pub async fn fetched(&self, people: &[PublicKey]) -> Result<Fetched, Refused> {
        let wanted: HashSet<&PublicKey> = people.iter().collect();
        let (mut found, mut relays) = (HashSet::new(), 0);
        for upstream in self.registry.all().await? {
            let Some(read) = upstream.followed.filter(|_| !upstream.paused) else { continue };
            let here: Vec<PublicKey> =
                read.people.into_iter().filter(|person| wanted.contains(person)).collect();
            relays += usize::from(!here.is_empty());
            found.extend(here);
        }
        Ok(Fetched { people: found.len(), relays })
    }

    /// Has a plan be made now, whatever has changed.
    ///
    /// # Errors
    /// The store fails.
    pub async fn plan_anew(&self) -> Result<(), Refused> {
        let (version, mut plan) = self.people().plan().await?;
        plan.summary.next = 0;
        // Where another node is faster, it has just been made.
        self.people().put_plan(version, &plan).await?;
        self.changed.notify_one();
        Ok(())
    }
}
