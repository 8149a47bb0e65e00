//! Sessions: that somebody is signed in, at one browser or program.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Activity, Name, Refused};
use crate::{
    protocol::{PublicKey, Timestamp, hex32::decode_lower_hex},
    store::records::Record,
};

const NUMBER_BYTES: usize = 16;
/// Characters that are kept of what a client says of itself.
const CLIENT_CHARS: usize = 120;

/// Which session it is.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SessionKey {
    pub account: PublicKey,
    pub(super) number: [u8; NUMBER_BYTES],
}

impl SessionKey {
    pub(super) fn new(account: PublicKey) -> Self {
        Self { account, number: rand::random() }
    }

    /// That of an account, by what [`Self::id`] says.
    pub fn of(account: PublicKey, id: &str) -> Option<Self> {
        Some(Self { account, number: decode_lower_hex(id)? })
    }

    /// What it is called among those of its account (`jti`).
    pub fn id(&self) -> String {
        hex::encode(self.number)
    }

    /// The key of its record.
    pub(super) fn record(&self) -> String {
        format!("{}/{}", self.account, self.id())
    }
}

impl fmt::Display for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.record())
    }
}

/// What kind of client it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ClientKind {
    /// It keeps its token in a cookie, for as long as it is used.
    Browser,
    Program,
}

/// The record of a session.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct SessionRecord {
    /// What the client says of itself.
    pub client: String,
    pub kind: ClientKind,
    pub since: Timestamp,
    /// When it was last renewed.
    pub seen: Timestamp,
    pub expires_at: Timestamp,
    /// Which generation of the account's sessions it is of: a new one ends all of the last.
    pub generation: u32,
    /// There is no account: whoever it is has a key of their own.
    #[serde(default)]
    pub brought: bool,
}

/// Of a session's record: whose it is, and whether they have an account here.
pub fn whose_session(record: &Record) -> Option<(PublicKey, bool)> {
    let account = record.key.split('/').next().and_then(PublicKey::from_hex)?;
    let session = serde_json::from_slice::<SessionRecord>(&record.value);
    Some((account, !session.is_ok_and(|session| session.brought)))
}

/// A session, as its account sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionView {
    pub key: SessionKey,
    pub client: String,
    pub since: Timestamp,
    pub seen: Timestamp,
}

/// Somebody who is signed in.
#[derive(Debug, Clone)]
pub struct SignedIn {
    pub account: PublicKey,
    pub session: SessionKey,
    /// `None`: by a key of their own, which has no account here.
    pub name: Option<Name>,
    pub activity: Activity,
    pub listed: bool,
    pub kind: ClientKind,
    /// When the operator has let the password be set anew, if that was.
    pub reset_at: Option<Timestamp>,
}

impl SignedIn {
    /// What their account is called.
    ///
    /// # Errors
    /// They have none here.
    pub fn kept(&self) -> Result<&Name, Refused> {
        self.name.as_ref().ok_or(Refused::OwnKey)
    }
}

/// Why somebody is not signed in.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotSignedIn {
    /// The token is none of ours, or has expired.
    #[error("the token is not good, or not any more: sign in again")]
    Token,
    /// The session has ended.
    #[error("you were signed out")]
    SignedOut,
    /// The store does not say.
    #[error("it can not be looked up now whether you are signed in")]
    Unavailable,
}

/// What is kept of what a client says of itself: one line.
pub(super) fn client_line(says: &str) -> String {
    says.chars().filter(|c| !c.is_control()).take(CLIENT_CHARS).collect()
}
