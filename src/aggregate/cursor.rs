//! The record of how far an upstream has been read, and what of it is known to be missing.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use xxhash_rust::xxh3::xxh3_64;

use super::{pace::Spent, progress::Progress, upstream::UpstreamId};
use crate::{
    protocol::{EventId, Timestamp},
    store::{
        StoreError,
        records::{Race, Record, RecordKind, RecordPages, Records, Unfit, Version},
    },
};

/// Events that are remembered by their ids. A reader that has more of them open stops reading.
pub const MAX_LATE: usize = 500;
/// Cursors that are read at once where all are.
const PAGE: usize = 100;

/// Who reads an upstream.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Lease {
    /// Name of the node.
    pub node: String,
    /// How often another one has read it before.
    pub epoch: u64,
}

impl Lease {
    /// This node reads it from now on.
    pub fn hand_over(self, node: &str) -> Self {
        match self.node == node {
            true => self,
            false => Self { epoch: self.epoch + u64::from(!self.node.is_empty()), node: node.to_owned() },
        }
    }
}

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
    #[serde(default)]
    pub lease: Lease,
    /// For how many seconds it was tried to reach it, in vain, since it was reached last.
    #[serde(default)]
    pub silent: u64,
    /// What was asked for, by its digest: of anything else the past has not been read.
    #[serde(default)]
    pub asked: Option<u64>,
}

/// A cursor as it is written: two who are equally far write different ones.
#[derive(Serialize)]
struct Signed<'c> {
    #[serde(flatten)]
    cursor: &'c Cursor,
    reader: u64,
}

/// A cursor and where it is written.
pub struct Kept {
    key: String,
    /// Drawn by whoever reads.
    reader: u64,
    version: Option<Version>,
    written: Cursor,
    at: Instant,
    /// Writes of which it is not known whether they were made, or yet will be, by their digests: the answer was lost, or
    /// nobody waited for it.
    tried: HashSet<u64>,
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

impl Cursor {
    /// The one of an upstream as it is written, for who does not read by it. One that can not be read here was written by
    /// a newer node: it is as if it were not there.
    ///
    /// # Errors
    /// The store fails.
    pub async fn written(records: &dyn Records, upstream: UpstreamId) -> Result<Option<Self>, StoreError> {
        let found = records.get(RecordKind::Cursor, &upstream.to_string()).await?;
        Ok(found.and_then(|record| serde_json::from_slice(&record.value).ok()))
    }

    /// Those of all upstreams that were ever read, by their numbers.
    ///
    /// # Errors
    /// The store fails.
    pub async fn all_written(records: &dyn Records) -> Result<HashMap<String, Self>, StoreError> {
        let (mut all, mut pages) = (HashMap::new(), RecordPages::of(records, RecordKind::Cursor, "", PAGE));
        while let Some(page) = pages.next().await? {
            let read = |record: Record| Some((record.key, serde_json::from_slice(&record.value).ok()?));
            all.extend(page.into_iter().filter_map(read));
        }
        Ok(all)
    }
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
        let written = Cursor::clone(&cursor);
        let reader = rand::random();
        Ok((Self { key, reader, version, written, at: Instant::now(), tried: HashSet::new(), beat }, cursor))
    }

    /// Which version was read or written last.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// Writes it, if it is another than what was written last, or that is a while ago. Safe to cancel.
    ///
    /// # Errors
    /// The store fails, or somebody else has written it: then this one may not go on.
    pub async fn save(&mut self, records: &dyn Records, cursor: &Cursor) -> Result<(), NotKept> {
        if !self.tried.is_empty() {
            let found = records.get_decided(RecordKind::Cursor, &self.key).await?;
            if found.as_ref().map(|record| record.version) != self.version {
                self.adopt(found)?;
            }
        }
        // The second time over an own write that had been given up.
        for _ in 0..2 {
            if *cursor == self.written && self.at.elapsed() < self.beat {
                return Ok(());
            }
            let value = self.signed(cursor)?;
            self.tried.insert(xxh3_64(&value));
            match records.put(RecordKind::Cursor, &self.key, self.version, value, None).await? {
                Race::Won(version) => {
                    self.note(version, cursor.clone());
                    return Ok(());
                }
                Race::Overtaken(found) => self.adopt(found)?,
                // The next time it is found out.
                Race::Unknown(error) => return Err(error.into()),
            }
        }
        Err(NotKept::Overtaken)
    }

    fn signed(&self, cursor: &Cursor) -> Result<Vec<u8>, serde_json::Error> {
        serde_json::to_vec(&Signed { cursor, reader: self.reader })
    }

    /// What is there is what this one has tried to write.
    fn adopt(&mut self, found: Option<Record>) -> Result<(), NotKept> {
        let own = found.filter(|record| self.tried.contains(&xxh3_64(&record.value)));
        let record = own.ok_or(NotKept::Overtaken)?;
        self.note(record.version, serde_json::from_slice(&record.value)?);
        Ok(())
    }

    /// This is what was written last. Earlier tries expect a version that is gone.
    fn note(&mut self, version: Version, written: Cursor) {
        (self.version, self.written, self.at) = (Some(version), written, Instant::now());
        self.tried.clear();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;
    use tokio::time::timeout;

    use super::*;
    use crate::store::{Store, memory::Memory};

    #[test]
    fn an_epoch_is_from_one_node_to_the_next() {
        let [a, b] = ["a", "b"];
        let lease = Lease::default().hand_over(a);
        assert_eq!(lease, Lease { node: a.into(), epoch: 0 });
        assert_eq!(lease.clone().hand_over(a), lease);
        assert_eq!(lease.hand_over(b), Lease { node: b.into(), epoch: 1 });
    }

    fn cursor(through: Timestamp) -> Cursor {
        Cursor { progress: Progress { through, ..Progress::default() }, ..Cursor::default() }
    }

    /// ```text
    /// A  writes 1 ── writes 2 ‖ given up ── writes 3, over 2 ── won
    /// B                                                           reads, writes ── won     A  writes ── overtaken
    /// ```
    #[tokio::test]
    async fn who_gives_a_write_up_is_not_overtaken_by_it() {
        let store = Memory::new();
        let id = super::super::upstream::RelayUrl::parse("ws://a").unwrap().id();
        let load = || Kept::load(store.records(), id, Duration::from_secs(60));
        let (mut a, nothing) = load().await.unwrap();
        assert_eq!(nothing, Cursor::default());
        a.save(store.records(), &cursor(1)).await.unwrap();
        // Made, and nobody has heard the answer.
        let value = a.signed(&cursor(2)).unwrap();
        a.tried.insert(xxh3_64(&value));
        let put = store.records().put(RecordKind::Cursor, &a.key, a.version, value, None);
        assert!(put.now_or_never().unwrap().unwrap().won().is_some());
        a.save(store.records(), &cursor(3)).await.unwrap();
        let (mut b, written) = load().await.unwrap();
        assert_eq!(written, cursor(3));
        // Both are equally far.
        b.save(store.records(), &cursor(4)).await.unwrap();
        let overtaken = timeout(Duration::from_secs(5), a.save(store.records(), &cursor(4))).await.unwrap();
        assert!(matches!(overtaken, Err(NotKept::Overtaken)));
    }
}
