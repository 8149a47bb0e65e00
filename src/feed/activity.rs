//! What an account does, told to those whom it has chosen: that it signed in, signed out, or followed somebody.
//!
//! Only the node makes these events, and nobody else may publish them. They go by themselves after a day.

use std::sync::Arc;

use super::{
    door::Door,
    error::FeedError,
    posts::own,
    reading::{Reader, Span, by},
};
use crate::{
    clock,
    protocol::{Audience, PublicKey, Tags, Timestamp, kind, sign::Keys},
};

/// How long it is told.
const LASTS: u64 = 24 * 60 * 60;
/// Each is dated after the one before, so that they stand in the order in which they were done. Whoever does more than
/// one a second for so many seconds does more than anybody is told.
const AHEAD: u64 = 60;

/// What somebody has done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    SignedIn,
    SignedOut,
    Followed {
        person: PublicKey,
        /// What that one is called.
        name: String,
    },
}

/// Tells what accounts do.
pub struct Activity {
    door: Arc<Door>,
    reader: Reader,
}

impl Deed {
    fn word(&self) -> &'static str {
        match self {
            Self::SignedIn => "signed-in",
            Self::SignedOut => "signed-out",
            Self::Followed { .. } => "followed",
        }
    }

    fn content(&self) -> String {
        match self {
            Self::SignedIn => "signed in".to_owned(),
            Self::SignedOut => "signed out".to_owned(),
            Self::Followed { name, .. } => format!("followed {name}"),
        }
    }
}

impl Activity {
    pub fn new(door: Arc<Door>, reader: Reader) -> Self {
        Self { door, reader }
    }

    /// Tells what an account has done. `false`: it does more than is told.
    ///
    /// # Errors
    /// It is not known to be told.
    pub async fn tell(&self, keys: &Keys, audience: Audience, deed: &Deed) -> Result<bool, FeedError> {
        let (account, now) = (keys.public_key(), clock::now());
        let newest = self.reader.newest(by([account], &[kind::ACTIVITY]), &own(account)).await?;
        let at = newest.map_or(now, |newest| now.max(newest.created_at() + 1));
        if at > now + AHEAD {
            return Ok(false);
        }
        let event = keys.sign(at, kind::ACTIVITY, tags(audience, deed, at), &deed.content());
        self.door.publish_own(event).await?;
        Ok(true)
    }

    /// Takes back everything that is told of an account.
    ///
    /// # Errors
    /// Something of it may still stand.
    pub async fn take_back(&self, keys: &Keys) -> Result<(), FeedError> {
        /// Taken back by one request.
        const AT_ONCE: usize = 500;
        let account = keys.public_key();
        loop {
            let wanted = by([account], &[kind::ACTIVITY]);
            let told = self.reader.read([wanted], &own(account), Span::default(), AT_ONCE).await?;
            let Some(newest) = told.first() else { return Ok(()) };
            let mut tags = Tags::default();
            // By id alone: everybody may read the request, and not of which kind they were.
            told.iter().for_each(|event| tags.push(["e", &event.id().to_hex()]));
            let at = newest.created_at().max(clock::now());
            self.door.admit_in_order(keys.sign(at, kind::DELETION, tags, ""))?.enter().await?;
        }
    }
}

fn tags(audience: Audience, deed: &Deed, at: Timestamp) -> Tags {
    let mut tags = Tags::default();
    tags.push(["activity", deed.word()]);
    if let Deed::Followed { person, .. } = deed {
        tags.push(["p", &person.to_hex()]);
    }
    tags.push(["expiration", &(at + LASTS).to_string()]);
    tags.push(["-"]);
    tags.push(["audience", audience.as_str()]);
    tags
}
