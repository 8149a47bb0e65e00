//! The records of whom operators follow, and of which relays are read for them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    super::{
        registry::{Registry, TRIES},
        upstream::RelayUrl,
    },
    plan::Why,
};
use crate::{
    aggregate::Refused,
    clock,
    protocol::{PublicKey, Timestamp, nip19},
    store::{
        StoreError,
        records::{MAX_PAGE, Race, RecordKind, RecordPages, Records, Version},
    },
};

/// People whom operators have named.
const MAX_FOLLOWED: usize = 10_000;
/// The record of the plan.
const PLAN: &str = "plan";

/// Somebody who is followed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Followed {
    /// As `npub1…`.
    pub who: String,
    /// Whether those are followed, too, whom they follow (their list of kind 3).
    pub with_follows: bool,
    /// Since when, in seconds since 1970.
    pub added: Timestamp,
}

/// What is kept of it.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
struct Kept {
    #[serde(default)]
    with_follows: bool,
    added: Timestamp,
}

/// Which relays are read, and why not others.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Summary {
    /// When it was made, in seconds since 1970; 0: it never was.
    pub made: Timestamp,
    /// When it is made anew.
    pub next: Timestamp,
    /// Why it could not be made when that was tried last.
    pub error: Option<String>,
    /// How many people are followed, with those whom somebody follows.
    pub people: usize,
    /// How many are left out, as there are more than `follow.people`.
    pub people_left_out: usize,
    /// How many of them have published no list of relays that was found.
    pub without_list: usize,
    /// How many are read nowhere, and some of them.
    pub nowhere: usize,
    pub nowhere_such_as: Vec<String>,
    /// Relays where some of them write, and which are not read for them, the most wanted first.
    pub left_out: Vec<LeftOut>,
    /// Where their lists were looked for.
    pub indexers: Vec<Indexer>,
}

/// A relay that is not read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LeftOut {
    #[schema(value_type = String)]
    pub url: RelayUrl,
    pub why: Why,
    /// How many of those who are followed write there.
    pub writers: usize,
}

/// A relay where lists were looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Indexer {
    pub url: String,
    /// How many it had.
    pub lists: usize,
    pub error: Option<String>,
}

/// The record of the plan.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Plan {
    pub summary: Summary,
    /// Of what it was made: what operators have said, who was signed in and whom they followed (0: that was not asked),
    /// and the configuration of whoever has made it. Where one is another, another plan is made.
    pub basis: u64,
    #[serde(default)]
    pub signed_in: u64,
    #[serde(default)]
    pub configured: u64,
    /// Whoever makes it has until then.
    pub taken_until: Timestamp,
    /// Relays that are left out until then, as they were not reached.
    pub silent: Vec<(RelayUrl, Timestamp)>,
}

/// The records.
pub struct People<'r>(pub &'r Registry);

impl People<'_> {
    fn records(&self) -> &dyn Records {
        self.0.records()
    }

    /// All of them, in the order in which they were added.
    ///
    /// # Errors
    /// The store fails.
    pub async fn all(&self) -> Result<Vec<(PublicKey, Followed)>, StoreError> {
        let mut all = Vec::new();
        let mut pages = RecordPages::of(self.records(), RecordKind::Followed, "", MAX_PAGE);
        while let Some(page) = pages.next().await? {
            // What can not be read was written by a newer node.
            all.extend(page.iter().filter_map(|record| read(&record.key, &record.value)));
        }
        all.sort_by_key(|(key, followed)| (followed.added, *key));
        Ok(all)
    }

    /// # Errors
    /// The store fails.
    pub async fn get(&self, who: PublicKey) -> Result<Option<Followed>, StoreError> {
        let record = self.records().get(RecordKind::Followed, &who.to_hex()).await?;
        Ok(record.and_then(|record| read(&record.key, &record.value)).map(|(_, followed)| followed))
    }

    /// Follows somebody; whether that is new. Saying it of somebody who is followed says whether those are whom they
    /// follow.
    ///
    /// # Errors
    /// There are too many, or the store fails.
    pub async fn follow(&self, who: PublicKey, with_follows: bool) -> Result<(Followed, bool), Refused> {
        let key = who.to_hex();
        for _ in 0..TRIES {
            let there = self.records().get(RecordKind::Followed, &key).await?;
            let before: Option<Kept> =
                there.as_ref().map(|record| serde_json::from_slice(&record.value)).transpose()?;
            if before.is_none() && self.all().await?.len() >= MAX_FOLLOWED {
                return Err(Refused::Unfit(format!("{MAX_FOLLOWED} people are followed already")));
            }
            let added = before.map_or_else(clock::now, |before| before.added);
            let followed = Followed { who: nip19::npub(&who), with_follows, added };
            if before.is_some_and(|before| before.with_follows == with_follows) {
                return Ok((followed, false));
            }
            let value = serde_json::to_vec(&Kept { with_follows, added })?;
            let version = there.map(|record| record.version);
            match self.records().put(RecordKind::Followed, &key, version, value, None).await? {
                Race::Won(_) => return Ok((followed, before.is_none())),
                Race::Overtaken(_) => {}
                Race::Unknown(error) => return Err(error.into()),
            }
        }
        Err(Refused::Contended)
    }

    /// Follows somebody no more.
    ///
    /// # Errors
    /// They are not followed, or the store fails.
    pub async fn unfollow(&self, who: PublicKey) -> Result<(), Refused> {
        match self.0.remove_record(RecordKind::Followed, &who.to_hex()).await? {
            true => Ok(()),
            false => Err(Refused::NotFollowed),
        }
    }

    /// The plan that is in force. One that can not be read is made anew.
    ///
    /// # Errors
    /// The store fails.
    pub async fn plan(&self) -> Result<(Option<Version>, Plan), StoreError> {
        let record = self.records().get(RecordKind::FollowPlan, PLAN).await?;
        let plan = record.as_ref().and_then(|record| serde_json::from_slice(&record.value).ok());
        Ok((record.map(|record| record.version), plan.unwrap_or_default()))
    }

    /// Writes the plan over that version: `None` where another node was faster.
    ///
    /// # Errors
    /// The store fails.
    pub async fn put_plan(&self, over: Option<Version>, plan: &Plan) -> Result<Option<Version>, Refused> {
        let value = serde_json::to_vec(plan)?;
        match self.records().put(RecordKind::FollowPlan, PLAN, over, value, None).await? {
            Race::Won(version) => Ok(Some(version)),
            Race::Overtaken(_) => Ok(None),
            Race::Unknown(error) => Err(error.into()),
        }
    }
}

fn read(key: &str, value: &[u8]) -> Option<(PublicKey, Followed)> {
    let (key, kept) = (PublicKey::from_hex(key)?, serde_json::from_slice::<Kept>(value).ok()?);
    let Kept { with_follows, added } = kept;
    Some((key, Followed { who: nip19::npub(&key), with_follows, added }))
}
