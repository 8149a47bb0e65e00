//! What somebody says: posts, reposts, reactions, and taking them back.

use std::{sync::Arc, time::Instant};

use serde::Deserialize;
use utoipa::ToSchema;

use super::{
    door::{Door, Published},
    error::FeedError,
    reading::{Reader, by, tagged},
};
use crate::{
    clock,
    protocol::{Event, EventId, Filter, PublicKey, Tags, Timestamp, kind, sign::Keys},
    store::Viewer,
};

/// How far from now a post may be dated, in seconds: its author has written its date.
const AROUND: u64 = 15 * 60;

/// What is to be said: an event without its signature. Whoever sends it knows its id before, so the same can be sent
/// again.
#[derive(Debug, Clone, Deserialize, ToSchema)]
pub struct NewPost {
    pub content: String,
    /// 1, a note, where nothing is said; 6, a repost; 7, a reaction.
    pub kind: Option<u16>,
    /// As the event has them: replies, quotes and content warnings are tags.
    #[serde(default)]
    #[schema(value_type = Vec<Vec<String>>)]
    pub tags: Tags,
    /// Now, where nothing is said.
    pub created_at: Option<Timestamp>,
    /// If it is said, it is that of the account.
    #[schema(value_type = Option<String>)]
    pub pubkey: Option<PublicKey>,
    /// If it is said, it is that of the event.
    #[schema(value_type = Option<String>)]
    pub id: Option<EventId>,
}

/// Publishes posts, and takes them back.
pub struct Posts {
    door: Arc<Door>,
    reader: Reader,
}

/// What a post came to.
#[derive(Debug, Clone)]
pub struct Posted {
    pub event: Event,
    /// Whether it was there before.
    pub is_duplicate: bool,
}

impl Posts {
    pub fn new(door: Arc<Door>, reader: Reader) -> Self {
        Self { door, reader }
    }

    /// Says something that was asked for at `begun`.
    ///
    /// # Errors
    /// It is not said, or not known to be.
    pub async fn publish(&self, keys: &Keys, post: NewPost, begun: Instant) -> Result<Posted, FeedError> {
        let account = keys.public_key();
        let NewPost { content, kind, tags, created_at, pubkey, id } = post;
        let kind = kind.unwrap_or(kind::NOTE);
        check(kind, &content, &tags)?;
        if pubkey.is_some_and(|pubkey| pubkey != account) {
            return Err(FeedError::unfit("pubkey", "it is not the key of your account"));
        }
        let now = clock::now();
        let event = keys.sign(created_at.unwrap_or(now), kind, tags, &content);
        if id.is_some_and(|id| id != event.id()) {
            return Err(FeedError::unfit("id", "it is not the id of this event"));
        }
        if event.created_at().abs_diff(now) > AROUND {
            // It may have been sent in time, and the answer was lost.
            return match self.reader.event(event.id(), &own(account)).await? {
                Some(event) => Ok(Posted { event, is_duplicate: true }),
                None => Err(FeedError::unfit("created_at", "it is more than 15 minutes from now")),
            };
        }
        let published = self.door.publish_since(event.clone(), begun).await?;
        Ok(Posted { event, is_duplicate: published == Published::Duplicate })
    }

    /// Takes something back that the account has said.
    ///
    /// # Errors
    /// There is nothing of that id, or it is somebody else's; or as for a post.
    pub async fn delete(&self, keys: &Keys, id: EventId) -> Result<(), FeedError> {
        let account = keys.public_key();
        let Some(event) = self.reader.event(id, &own(account)).await? else {
            let before = Filter { ..by([account], &[kind::DELETION]) };
            let requests = Filter { tags: tagged(b'e', [id.to_hex()], &[]).tags, ..before };
            return match self.reader.newest(requests, &own(account)).await? {
                Some(_) => Ok(()),
                None => Err(FeedError::NotFound("there is no such post")),
            };
        };
        if event.pubkey() != account {
            return Err(FeedError::NotYours);
        }
        if !is_said(event.kind()) {
            return Err(FeedError::unfit("id", "it is no post"));
        }
        let tags =
            Tags::from_iter([["e".to_owned(), id.to_hex()], ["k".to_owned(), event.kind().to_string()]]);
        // A request takes away what is as old as it, and no newer.
        let request = keys.sign(event.created_at().max(clock::now()), kind::DELETION, tags, "");
        self.door.admit_in_order(request)?.enter().await?;
        Ok(())
    }
}

/// What an account sees of its own.
pub fn own(account: PublicKey) -> Viewer {
    Viewer::client([account])
}

/// The kinds that somebody says by hand. Others have ways of their own, or are none of this relay's.
fn is_said(kind: u16) -> bool {
    matches!(kind, kind::NOTE | kind::REPOST | kind::REACTION)
}

/// What can be said of a post before it is signed.
fn check(kind: u16, content: &str, tags: &Tags) -> Result<(), FeedError> {
    if !is_said(kind) {
        return Err(FeedError::unfit("kind", "a post is of kind 1, 6 or 7"));
    }
    if kind == kind::NOTE && content.trim().is_empty() {
        return Err(FeedError::unfit("content", "there is nothing in it"));
    }
    if tags.iter().any(|tag| tag.name().is_empty()) {
        return Err(FeedError::unfit("tags", "a tag has a name"));
    }
    for (name, value) in tags.iter().map(|tag| (tag.name(), tag.value().unwrap_or_default())) {
        let is_right = match name {
            "e" => EventId::from_hex(value).is_some(),
            "p" => PublicKey::from_hex(value).is_some(),
            _ => true,
        };
        if !is_right {
            return Err(FeedError::unfit("tags", format!("{name} is followed by 64 hexadecimal digits")));
        }
    }
    if kind != kind::NOTE && tags.values("e").next().is_none() {
        return Err(FeedError::unfit("tags", "a repost and a reaction name the post that they are about: e"));
    }
    Ok(())
}
