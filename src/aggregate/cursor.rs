//! The record of how far an upstream has been read, and what of it is known to be missing.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::{pace::Spent, progress::Progress, upstream::UpstreamId};
use crate::{
    protocol::{EventId, Timestamp},
    store::{
        StoreError,
        records::{Race, RecordKind, Records, Unfit, Version},
    },
};

/// Events that are remembered by their ids. A reader that has more of them open stops reading.
pub const MAX_LATE: usize = 500;

/// What is kept of an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    pub progress: Progress,
    /// Events that were received and not finished, and that no window will bring again.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub late: Vec<(Timestamp, EventId)>,
    /// What was taken on the last day on which something was.
    #[serde(default)]
    pub spent: Spent,
}

/// A cursor and where it is written.
pub struct Kept {
    key: String,
    version: Option<Version>,
    written: Cursor,
    at: Instant,
    /// After so long it is written also where it has not changed: other nodes see by that that it is read.
    beat: Duration,
}

/// Why a cursor is not written.
#[derive(Debug, thiserror::Error)]
pub enum NotKept {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Unfit(#[from] Unfit),
    /// Somebody else reads this upstream.
    #[error("somebody else has written it")]
    Overtaken,
    #[error("what is stored there can not be read: {0}")]
    Unreadable(#[from] serde_json::Error),
}

impl Kept {
    /// Reads the cursor of an upstream; one that was never read begins at nothing.
    ///
    /// # Errors
    /// The store fails, or what is there is of another kind.
    pub async fn load(
        records: &dyn Records,
        upstream: UpstreamId,
        beat: Duration,
    ) -> Result<(Self, Cursor), NotKept> {
        let key = upstream.to_string();
        let (version, cursor) = match records.get(RecordKind::Cursor, &key).await? {
            Some(record) => (Some(record.version), serde_json::from_slice(&record.value)?),
            None => (None, Cursor::default()),
        };
        Ok((Self { key, version, written: Cursor::clone(&cursor), at: Instant::now(), beat }, cursor))
    }

    /// Which version was read or written last.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Writes it, if it is another than what was written last, or that is a while ago.
    ///
    /// # Errors
    /// The store fails, or somebody else has written it: then this one may not go on.
    pub async fn save(&mut self, records: &dyn Records, cursor: &Cursor) -> Result<(), NotKept> {
        if *cursor == self.written && self.at.elapsed() < self.beat {
            return Ok(());
        }
        let value = serde_json::to_vec(cursor)?;
        match records.put(RecordKind::Cursor, &self.key, self.version, value.clone(), None).await? {
            Race::Won(version) => {
                self.version = Some(version);
                (self.written, self.at) = (cursor.clone(), Instant::now());
                Ok(())
            }
            Race::Overtaken(_) => Err(NotKept::Overtaken),
            Race::Unknown(error) => {
                self.find_out(records, cursor, &value).await?;
                Err(error.into())
            }
        }
    }

    /// Looks which write has been made, after one of which that is not known.
    async fn find_out(
        &mut self,
        records: &dyn Records,
        cursor: &Cursor,
        value: &[u8],
    ) -> Result<(), NotKept> {
        match records.get_decided(RecordKind::Cursor, &self.key).await? {
            Some(record) if record.value == value => {
                self.version = Some(record.version);
                (self.written, self.at) = (cursor.clone(), Instant::now());
                Ok(())
            }
            found if found.as_ref().map(|record| record.version) == self.version => Ok(()),
            _ => Err(NotKept::Overtaken),
        }
    }
}
