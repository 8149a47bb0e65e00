//! What answers have in common: events, people, pages.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use utoipa::{IntoParams, ToSchema};

use super::People;
use crate::{
    account::SignedIn,
    feed::{Friend, Page, Place, Profile, Profiles, Span},
    net::Problem,
    protocol::{Event, PublicKey, nip19},
};

/// Events of a page, where nothing is said, and at most.
const PAGE: usize = 20;
const MOST: usize = 100;

/// Nothing is said: a form that only goes somewhere.
#[derive(Debug, Deserialize)]
pub struct Nothing {}

/// Which page is asked for.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Which {
    /// At most so many: 20 where nothing is said, 100 at most.
    limit: Option<usize>,
    /// Those that follow, which are older: `next` of the page before, `<seconds>:<id>`.
    before: Option<String>,
    /// Only those that are newer than the event of that place.
    after: Option<String>,
    /// `1`: how many are in that span is told, too.
    count: Option<u8>,
}

impl Which {
    pub fn limit(&self) -> usize {
        self.limit.unwrap_or(PAGE).clamp(1, MOST)
    }

    pub fn is_counted(&self) -> bool {
        self.count == Some(1)
    }

    pub fn span(&self) -> Result<Span, Problem> {
        let read = |field: &'static str, text: &Option<String>| match text {
            None => Ok(None),
            Some(text) => place(field, text).map(Some),
        };
        Ok(Span { before: read("before", &self.before)?, after: read("after", &self.after)? })
    }
}

/// The place of an event, as answers write it.
pub fn place(field: &'static str, text: &str) -> Result<Place, Problem> {
    Place::parse(text).ok_or_else(|| Problem::unfit("a place is <seconds>:<id>").about(field))
}

/// A page of events.
#[derive(Debug, Serialize, ToSchema)]
pub struct PageView {
    /// Newest first, ties by lowest id, as NIP-01 has them.
    #[schema(value_type = Vec<Object>)]
    pub events: Vec<Box<RawValue>>,
    /// How those are shown who are in it, by public key.
    pub profiles: Profiles,
    /// The `before` of the next page; `null`: this is the last.
    pub next: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub count: Option<CountView>,
}

/// How many there are.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct CountView {
    pub number: usize,
    /// Whether there are more than that.
    pub is_more: bool,
}

impl PageView {
    pub async fn of(people: &People, page: Page) -> Result<Self, Problem> {
        let profiles = people.feed.people_in(&page.events).await?;
        let next = page.next.map(|place| place.to_string());
        Ok(Self { events: raw(&page.events), profiles, next, count: None })
    }
}

/// Events as they are.
pub fn raw(events: &[Event]) -> Vec<Box<RawValue>> {
    events.iter().filter_map(|event| RawValue::from_string(event.json().to_owned()).ok()).collect()
}

/// Somebody.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct PersonView {
    /// The public key, in hexadecimal digits.
    user_id: String,
    npub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
}

impl From<(PublicKey, Profile)> for PersonView {
    fn from((key, profile): (PublicKey, Profile)) -> Self {
        let Profile { username, name, .. } = profile;
        Self { user_id: key.to_hex(), npub: nip19::npub(&key), username, name }
    }
}

/// Somebody, as an account sees them.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct FriendView {
    /// The public key, in hexadecimal digits.
    user_id: String,
    npub: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    picture: Option<String>,
    follows_you: bool,
}

impl FriendView {
    /// Somebody, as whoever asks sees them.
    pub async fn of(people: &People, who: &SignedIn, person: PublicKey) -> Result<Self, Problem> {
        let friend = people.feed.as_friends(who.account, vec![person]).await?.pop();
        Ok(friend.ok_or_else(|| Problem::not_found("nobody is called so"))?.into())
    }
}

impl From<Friend> for FriendView {
    fn from(Friend { key, profile, follows_you }: Friend) -> Self {
        Self {
            user_id: key.to_hex(),
            npub: nip19::npub(&key),
            username: profile.username,
            name: profile.name,
            about: profile.about,
            picture: profile.picture,
            follows_you,
        }
    }
}
