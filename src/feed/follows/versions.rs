//! The follow lists that an account has had, so that each can be taken back. A list may be larger than a record.

use std::{io, sync::Arc};

use super::{ledger::Version, list::List};
use crate::{
    feed::error::FeedError,
    protocol::{Event, EventId, ParsedEvent, PublicKey},
    store::{
        Store, StoreError,
        records::{MAX_VALUE_BYTES, Race, RecordKind, Records},
    },
};

/// The versions of all accounts.
#[derive(Clone)]
pub struct Versions {
    store: Arc<dyn Store>,
}

/// A list, ready to be kept.
pub struct Packed {
    pub version: Version,
    account: PublicKey,
    bytes: Vec<u8>,
}

impl Packed {
    /// # Errors
    /// There is no memory to pack it in.
    pub fn new(event: &Event, is_foreign: bool) -> io::Result<Self> {
        const LEVEL: i32 = 3;
        let bytes = zstd::bulk::compress(event.json().as_bytes(), LEVEL)?;
        let version = Version {
            id: event.id(),
            created_at: event.created_at(),
            people: super::list::people(event.tags()).len(),
            is_foreign,
            parts: bytes.len().div_ceil(MAX_VALUE_BYTES),
        };
        Ok(Self { version, account: event.pubkey(), bytes })
    }
}

impl Versions {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    fn records(&self) -> &dyn Records {
        self.store.records()
    }

    /// Keeps one. What is there of it already is the same.
    ///
    /// # Errors
    /// It is not known to be kept.
    pub async fn keep(&self, packed: &Packed) -> Result<(), FeedError> {
        for (part, bytes) in packed.bytes.chunks(MAX_VALUE_BYTES).enumerate() {
            let key = key(packed.account, packed.version.id, part);
            let put = self.records().put(RecordKind::FollowVersion, &key, None, bytes.to_vec(), None);
            if let Race::Unknown(_) = put.await? {
                return Err(FeedError::Unknown);
            }
        }
        Ok(())
    }

    /// One of them; `None`: it is not there, or not whole.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list(&self, account: PublicKey, version: &Version) -> Result<Option<List>, StoreError> {
        /// No event is larger.
        const MOST: usize = 1 << 26;
        let mut packed = Vec::new();
        for part in 0..version.parts {
            let key = key(account, version.id, part);
            let Some(record) = self.records().get(RecordKind::FollowVersion, &key).await? else {
                return Ok(None);
            };
            packed.extend(record.value);
        }
        let text = zstd::bulk::decompress(&packed, MOST).ok().and_then(|text| String::from_utf8(text).ok());
        let list = text.and_then(|text| {
            let parsed: ParsedEvent<'_> = serde_json::from_str(&text).ok()?;
            Some(List { tags: parsed.tags, content: parsed.content.into_owned() })
        });
        Ok(list)
    }

    /// Lets go of versions. What is left of one because the store fails is never looked at again.
    pub async fn forget(&self, account: PublicKey, versions: &[Version]) {
        for version in versions {
            for part in 0..version.parts {
                let key = key(account, version.id, part);
                if let Ok(Some(record)) = self.records().get(RecordKind::FollowVersion, &key).await {
                    self.records().remove(RecordKind::FollowVersion, &key, record.version).await;
                }
            }
        }
    }
}

fn key(account: PublicKey, id: EventId, part: usize) -> String {
    format!("{account}/{id}/{part}")
}
