//! Small durable records of the relay itself: what it is told and has to know again after a restart, such as
//! settings that were changed while it ran, accounts, or how far another relay has been read.
//!
//! A record is changed by conditional writes only: whoever writes says which version they have seen. So two nodes
//! that change the same record at once need not ask each other, and of two that take the same name one has it.
//!
//! Every version carries a random number that its writer has drawn. Where an answer is lost, the writer reads the
//! record and looks for its own number: there is no other way to tell a write that was made from one that was not.
//! The number also tells a record from another one of the same key that was made after the first was gone.
//!
//! Records are for what lasts. What guards one use for a minute, or is counted many times a second, costs more here
//! than it is worth.

use std::time::Duration;

use futures_util::{FutureExt, future::BoxFuture};
use xxhash_rust::xxh3::xxh3_64;

use super::StoreError;
use crate::{clock, protocol::Timestamp};

/// Most bytes of a record's value. Every node that shares a store must be able to read what the others wrote.
pub const MAX_VALUE_BYTES: usize = 64 * 1024;

/// Most bytes of a key.
pub const MAX_KEY_BYTES: usize = 256;

/// Most records of a page.
pub const MAX_PAGE: usize = 1_000;

/// Bytes of values after which a page ends.
pub const PAGE_BYTES: usize = 1024 * 1024;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $kind:ident = $name:literal, $shards:literal;)*) => {
        /// What a record is about. Keys are told apart within a kind.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum RecordKind {
            $($(#[doc = $doc])* $kind),*
        }

        impl RecordKind {
            /// As stores write it. Never changed, or what is stored is not found.
            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),* }
            }

            /// The kind that is called so.
            pub fn named(name: &str) -> Option<Self> {
                match name { $($name => Some(Self::$kind),)* _ => None }
            }

            /// How many parts its keys are spread over where a store has parts. Never changed either.
            fn shards(self) -> u64 {
                match self { $(Self::$kind => $shards),* }
            }
        }
    };
}

kinds! {
    /// Settings that were changed while nodes ran: one record, as each must fit the others. Key: `live`.
    Setting = "setting", 16;
    /// Somebody whose key the relay keeps. Key: the public key.
    Account = "account", 64;
    /// A name that is taken (NIP-05). Key: the name.
    Name = "name", 64;
    /// Somebody who is signed in. Key: the account, a slash, a random number.
    Session = "session", 64;
    /// A challenge that was answered by a key. Key: its number.
    Spent = "spent", 64;
    /// What lets somebody sign up. Key: its digest.
    Invitation = "invitation", 16;
    /// What only the right master key opens. Key: `check`.
    MasterKey = "master_key", 16;
    /// An entry of a list of who may write and read. Key: the list, a slash, the entry.
    ListEntry = "list", 16;
    /// A relay that is read. Key: its number.
    Upstream = "upstream", 16;
    /// How far a relay has been read. Key: that of the upstream.
    Cursor = "cursor", 16;
    /// Events that a relay has which is read, and that are not taken, a batch of them. Key: the upstream, a slash, the
    /// filter, a slash, a number that grows.
    Refused = "refused", 16;
    /// An event that could not be stored. Key: the upstream, a slash, the id.
    DeadLetters = "dead_letters", 16;
    /// Somebody who is followed, wherever they write. Key: the public key.
    Followed = "followed", 16;
    /// What came of a relay that is read in an hour. Key: its number, a slash, when the hour began.
    UpstreamHour = "upstream_hour", 64;
    /// Which relays are read for them, and why. Key: `plan`.
    FollowPlan = "follow_plan", 16;
    /// Which follow list of an account stands, and what is being made of it. Key: the public key.
    Follows = "follows", 64;
    /// A follow list that an account has had, in parts. Key: the public key, a slash, the id, a slash, which part.
    FollowVersion = "follow_version", 64;
    /// Which profile of an account stands, and what is being made of it. Key: the public key.
    Profile = "profile", 64;
    /// Which mute list of an account stands, and what is being made of it. Key: the public key.
    Mutes = "mutes", 64;
    /// Up to where an account has read what concerns it. Key: the public key.
    ReadMark = "read_mark", 64;
    /// Who changes the tables at the moment. Key: what is changed.
    Migration = "migration", 16;
}

impl RecordKind {
    /// The part that a key is in.
    pub fn shard(self, key: &str) -> u64 {
        xxh3_64(key.as_bytes()) % self.shards()
    }

    /// All parts.
    pub fn all_shards(self) -> std::ops::Range<u64> {
        0..self.shards()
    }
}

/// Which version of a record it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Version {
    /// Grows by one with each write. One that was removed and is made again may begin anew.
    pub number: u64,
    /// The number that the writer has drawn: no two writes have the same one.
    pub write: u64,
}

impl Version {
    /// The one that a write makes over another one, or over none.
    pub fn after(before: Option<Self>) -> Self {
        let number = before.map_or(0, |before| before.number).saturating_add(1);
        Self { number, write: rand::random() }
    }
}

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub key: String,
    pub value: Vec<u8>,
    pub version: Version,
}

/// Some records, in the order of their keys.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Listed {
    pub records: Vec<Record>,
    /// After which key the list goes on; `None`: this was the end.
    pub next: Option<String>,
}

/// A conditional write, as [`Records::put`] and [`Records::remove`] make it: it fits.
#[derive(Debug, Clone)]
pub struct Conditional {
    pub(super) kind: RecordKind,
    pub(super) key: String,
    /// The version that has to be there; `None`: there must be none.
    pub(super) expected: Option<Version>,
    /// The one that takes its place.
    pub(super) version: Version,
    /// `None` removes the record.
    pub(super) value: Option<Vec<u8>>,
    pub(super) expires_in: Option<Duration>,
}

/// What became of a conditional write.
#[derive(Debug, Clone)]
pub enum Race {
    /// The write is durable.
    Won(Version),
    /// Another write was faster, or the record is not there: what is there now.
    Overtaken(Option<Record>),
    /// The write may have happened, or may yet. Whoever is told so must not go on as if it had, nor as if it had not.
    Unknown(StoreError),
}

impl Race {
    /// The version that was written, if it is known to be.
    pub fn won(&self) -> Option<Version> {
        match self {
            Self::Won(version) => Some(*version),
            Self::Overtaken(_) | Self::Unknown(_) => None,
        }
    }
}

/// Why a record can not be written at all.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unfit {
    #[error("a record has {0} bytes, and may have {MAX_VALUE_BYTES}")]
    Value(usize),
    #[error("the key of a record has {0} bytes, and may have 1 to {MAX_KEY_BYTES}")]
    Key(usize),
    #[error("a record can not expire in {} ms; a second to {} days may be asked for", .0.as_millis(), LONGEST.as_secs() / DAY)]
    Expiry(Duration),
}

const DAY: Timestamp = 24 * 60 * 60;

/// The longest life of a record that expires. Servers take twenty years, and no more.
const LONGEST: Duration = Duration::from_secs(10 * 365 * DAY);

/// When a record expires that is written now, in milliseconds by the clock of this machine.
pub(super) fn expires_at(expires_in: Duration) -> u64 {
    clock::millis().saturating_add(whole_seconds(expires_in).saturating_mul(1_000))
}

/// How many seconds a time has, rounded up.
pub(super) fn whole_seconds(time: Duration) -> u64 {
    time.as_secs() + u64::from(time.subsec_nanos() > 0)
}

/// Says what of a record to be written does not fit.
fn check(key: &str, value: &[u8], expires_in: Option<Duration>) -> Result<(), Unfit> {
    if !(1..=MAX_KEY_BYTES).contains(&key.len()) {
        return Err(Unfit::Key(key.len()));
    }
    if value.len() > MAX_VALUE_BYTES {
        return Err(Unfit::Value(value.len()));
    }
    match expires_in {
        Some(time) if !(Duration::from_secs(1)..=LONGEST).contains(&time) => Err(Unfit::Expiry(time)),
        _ => Ok(()),
    }
}

/// The records of a store. Where several nodes share the store, they share these.
///
/// One that has expired is not there: it is not read, not listed, and a write that expects it is overtaken.
pub trait Records: Send + Sync {
    /// Reads a record. It is at least as new as every write that was won before, where the consistency of the
    /// store's reads and writes says so; for whatever is followed by a conditional write that is enough.
    fn get(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>>;

    /// Reads a record once every write is decided that was under way: for a decision that no conditional write follows.
    /// It costs several times as much where several nodes share the store; where one process writes, nothing is under
    /// way that [`Self::get`] does not know.
    fn get_decided(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        self.get(kind, key)
    }

    /// The records whose keys begin so, in the order of their keys: those after a key, or from the first on. At most
    /// `limit` ([`MAX_PAGE`]), and fewer where values are large. What is written meanwhile may be missed.
    fn list(
        &self,
        kind: RecordKind,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listed, StoreError>>;

    /// Writes a record where the current version is the expected one; `None`: where there is none. It is gone after
    /// `expires_in`, in whole seconds, rounded up; a record is there until it is removed otherwise.
    fn put(
        &self,
        kind: RecordKind,
        key: &str,
        expected: Option<Version>,
        value: Vec<u8>,
        expires_in: Option<Duration>,
    ) -> BoxFuture<'_, Result<Race, Unfit>> {
        if let Err(unfit) = check(key, &value, expires_in) {
            return std::future::ready(Err(unfit)).boxed();
        }
        let (key, version) = (key.to_owned(), Version::after(expected));
        let put = Conditional { kind, key, expected, version, value: Some(value), expires_in };
        self.change(put).map(Ok).boxed()
    }

    /// Removes a record where the current version is the expected one. Of several that remove the same version one
    /// has won, whatever answers are lost.
    fn remove(&self, kind: RecordKind, key: &str, expected: Version) -> BoxFuture<'_, Race> {
        let (key, expected) = (key.to_owned(), Some(expected));
        let version = Version::after(expected);
        self.change(Conditional { kind, key, expected, version, value: None, expires_in: None })
    }

    /// Makes a conditional write: what [`Self::put`] and [`Self::remove`] are in each store.
    fn change(&self, conditional: Conditional) -> BoxFuture<'_, Race>;
}

/// All records whose keys begin so, in the order of their keys, some at a time.
pub struct RecordPages<'r> {
    records: &'r dyn Records,
    kind: RecordKind,
    prefix: &'r str,
    at_once: usize,
    after: Option<String>,
    is_over: bool,
}

impl<'r> RecordPages<'r> {
    pub fn of(records: &'r dyn Records, kind: RecordKind, prefix: &'r str, at_once: usize) -> Self {
        Self { records, kind, prefix, at_once, after: None, is_over: false }
    }

    /// The next ones, at most `at_once`; `None`: that were all.
    ///
    /// # Errors
    /// The store fails.
    pub async fn next(&mut self) -> Result<Option<Vec<Record>>, StoreError> {
        if self.is_over {
            return Ok(None);
        }
        let page = self.records.list(self.kind, self.prefix, self.after.as_deref(), self.at_once).await?;
        self.is_over = page.next.is_none();
        self.after = page.next;
        Ok(Some(page.records))
    }
}

/// Gathers a page, one record after the other: whether another one fits.
#[derive(Default)]
pub(super) struct Gathering {
    records: Vec<Record>,
    bytes: usize,
    limit: usize,
}

impl Gathering {
    pub fn new(limit: usize) -> Self {
        Self { limit: limit.clamp(1, MAX_PAGE), ..Self::default() }
    }

    /// How many more there may be.
    pub fn left(&self) -> usize {
        self.limit - self.records.len()
    }

    /// `false`: the page is full, and goes on after what it has.
    pub fn push(&mut self, record: Record) -> bool {
        let size = record.key.len() + record.value.len();
        if self.left() == 0 || !self.records.is_empty() && self.bytes + size > PAGE_BYTES {
            return false;
        }
        self.bytes += size;
        self.records.push(record);
        true
    }

    /// What was gathered, and whether there is more.
    pub fn end(self, is_more: bool) -> Listed {
        let next = self.records.last().filter(|_| is_more).map(|record| record.key.clone());
        Listed { records: self.records, next }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_named() {
        let second = Some(Duration::from_secs(1));
        assert_eq!(check("k", &[], second), Ok(()));
        assert_eq!(check("", &[], None), Err(Unfit::Key(0)));
        assert_eq!(check(&"k".repeat(MAX_KEY_BYTES + 1), &[], None), Err(Unfit::Key(257)));
        assert_eq!(check("k", &[0; MAX_VALUE_BYTES + 1], None), Err(Unfit::Value(65_537)));
        assert!(check("k", &[], Some(Duration::from_millis(999))).is_err());
        assert!(check("k", &[], Some(Duration::MAX)).is_err());
    }

    /// Stores would not find what they have written.
    #[test]
    fn keys_stay_where_they_are() {
        let shards = ["", "limits.max_tags", "alice"].map(|key| RecordKind::Setting.shard(key));
        assert_eq!(shards, [2, 6, 0]);
        assert_eq!(RecordKind::Name.shard("alice"), 48);
    }
}
