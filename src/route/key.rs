//! Routing keys: what a subscription waits for, and under what an event is published.
//!
//! The rule that everything rests on: if a filter matches an event, [`cover`] of the filter and
//! [`keys`] of the event share a key.

use std::fmt;

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::protocol::{Event, EventId, Fields, Filter, PublicKey};

/// One key. User ids (`By`, `To`) are the ones that matter: home feeds and notifications.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum RoutingKey {
    /// `id:<id>`
    Id(EventId),
    /// `by:<author>`
    By(PublicKey),
    /// `to:<p-tagged>`
    To(PublicKey),
    /// `tag:<letter>:<hash of the value>`. Values are as long as their author likes, hence the hash.
    Tag(u8, u128),
    /// `kind:<n>`
    Kind(u16),
    /// `all`
    All,
}

impl RoutingKey {
    /// A hash that is the same on every node. Two keys may share one.
    pub fn digest(&self) -> u64 {
        xxh3_64(self.to_string().as_bytes())
    }
}

impl fmt::Display for RoutingKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(id) => write!(f, "id:{id}"),
            Self::By(author) => write!(f, "by:{author}"),
            Self::To(tagged) => write!(f, "to:{tagged}"),
            Self::Tag(letter, hash) => write!(f, "tag:{}:{hash:032x}", char::from(*letter)),
            Self::Kind(kind) => write!(f, "kind:{kind}"),
            Self::All => f.write_str("all"),
        }
    }
}

/// The keys that cover a filter: of its conditions, the first that applies of ids, authors, `#p`,
/// another tag (`#e` first), kinds; or `all`. A filter that matches nothing needs none.
pub fn cover(filter: &Filter) -> Vec<RoutingKey> {
    if filter.is_never() {
        return Vec::new();
    }
    if let Some(ids) = &filter.ids {
        return ids.iter().copied().map(RoutingKey::Id).collect();
    }
    if let Some(authors) = &filter.authors {
        return authors.iter().copied().map(RoutingKey::By).collect();
    }
    let tag = [b'p', b'e']
        .iter()
        .find_map(|&letter| filter.tags.iter().find(|tag| tag.letter() == letter))
        .or(filter.tags.first());
    if let Some(tag) = tag {
        return tag.values().iter().map(|value| tag_key(tag.letter(), value)).collect();
    }
    match &filter.kinds {
        Some(kinds) => kinds.iter().copied().map(RoutingKey::Kind).collect(),
        None => vec![RoutingKey::All],
    }
}

/// All keys that an event carries. A tag that stands twice gives its key twice.
pub fn keys(event: &Event) -> impl Iterator<Item = RoutingKey> {
    [
        RoutingKey::Id(event.id()),
        RoutingKey::By(event.pubkey()),
        RoutingKey::Kind(Fields::kind(event)),
        RoutingKey::All,
    ]
    .into_iter()
    .chain(event.tags().indexed().map(|(letter, value)| tag_key(letter, value)))
}

/// The keys of an event as the log of the cluster has them.
pub fn digests(event: &Event) -> Vec<u64> {
    keys(event).map(|key| key.digest()).collect()
}

fn tag_key(letter: u8, value: &str) -> RoutingKey {
    match (letter, PublicKey::from_hex(value)) {
        (b'p', Some(key)) => RoutingKey::To(key),
        _ => RoutingKey::Tag(letter, xxh3_128(value.as_bytes())),
    }
}
