//! What people say of themselves (kind 0), in the few words that are shown beside what they say.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::{
    door::Door,
    error::FeedError,
    reading::{Reader, Span, by, nobody},
};
use crate::{
    clock,
    protocol::{Event, PublicKey, Tags, kind, sign::Keys},
};

/// How somebody is shown. Texts are cut, and have no signs in them that turn others around.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, ToSchema)]
pub struct Profile {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub picture: Option<String>,
    /// The name of the account here, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
}

/// Profiles by public key, as 64 hexadecimal digits.
pub type Profiles = BTreeMap<String, Profile>;

/// Most characters of a name, of what somebody says of themselves, and of an address.
const NAME: usize = 80;
const ABOUT: usize = 1_000;
const ADDRESS: usize = 1_000;

impl Profile {
    /// What a kind 0 says.
    pub fn of(event: &Event) -> Self {
        let said: Value = serde_json::from_str(&event.content()).unwrap_or_default();
        let text =
            |field: &str| said.get(field).and_then(Value::as_str).filter(|text| !text.trim().is_empty());
        let name = text("display_name").or_else(|| text("name"));
        let picture = text("picture").filter(|url| url.starts_with("https://") && url.len() <= ADDRESS);
        Self {
            name: name.map(|name| shown(name, NAME)),
            about: text("about").map(|about| shown(about, ABOUT)),
            picture: picture.map(str::to_owned),
            username: None,
        }
    }
}

/// A text as it can stand among others: cut, without control characters but line breaks, and without those that change
/// the direction of what follows.
fn shown(text: &str, most: usize) -> String {
    let is_turning =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let fits = |c: &char| (*c == '\n' || !c.is_control()) && !is_turning(*c);
    text.chars().filter(fits).take(most).collect()
}

/// What these people say of themselves. Who says nothing is not in it.
///
/// # Errors
/// The store fails.
pub async fn profiles(reader: &Reader, people: &[PublicKey]) -> Result<Profiles, FeedError> {
    if people.is_empty() {
        return Ok(Profiles::new());
    }
    let wanted = by(people.iter().copied(), &[kind::PROFILE]);
    let said = reader.read([wanted], &nobody(), Span::default(), people.len()).await?;
    Ok(said.iter().map(|event| (event.pubkey().to_hex(), Profile::of(event))).collect())
}

/// Whose names stand in events: authors, and some of those whom each mentions.
pub fn of_events(events: &[Event]) -> Vec<PublicKey> {
    /// Of an event.
    const MENTIONED: usize = 8;
    let mut people: Vec<PublicKey> = Vec::new();
    for event in events {
        people.push(event.pubkey());
        if event.kind() != kind::FOLLOW_LIST {
            people.extend(event.tags().values("p").filter_map(PublicKey::from_hex).take(MENTIONED));
        }
    }
    people.sort_unstable();
    people.dedup();
    people
}

/// All that a kind 0 says.
pub fn whole(event: &Event) -> Map<String, Value> {
    serde_json::from_str(&event.content()).unwrap_or_default()
}

/// What a new account says first: what it is called, and on which relay it writes (NIP-65).
///
/// # Errors
/// It is not known to be said.
pub async fn introduce(
    door: &Arc<Door>,
    keys: &Keys,
    name: &str,
    url: Option<&str>,
) -> Result<(), FeedError> {
    if let Some(url) = url {
        let tags = Tags::from_iter([["r", url]]);
        door.publish(keys.sign(clock::now(), kind::RELAY_LIST, tags, "")).await?;
    }
    // Last: whoever finds it finds all of it.
    let said = serde_json::json!({ "name": name }).to_string();
    door.publish(keys.sign(clock::now(), kind::PROFILE, Tags::default(), &said)).await?;
    Ok(())
}
