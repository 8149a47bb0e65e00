//! How the rows of one index key are spread over partitions, so that none grows without bound.
//!
//! A key begins with one partition that holds any time. When it is busy, rows go to buckets of a finer
//! level, each a span of time. Which buckets there are is listed with the key; nothing else is known of
//! them, so a row may stand in any bucket that holds its time.

use std::{collections::BTreeSet, fmt};

use crate::protocol::{EventId, Timestamp};

/// Bits of a time that a bucket of each level leaves out: 24 days, 36 hours, 68 minutes, and the same
/// again in sixteen parts by the id.
const SPANS: [u32; 4] = [21, 17, 12, 12];
const FINEST: u8 = SPANS.len() as u8;

/// When a bucket is busy: some of its rows are counted, the same ones on every node.
#[derive(Debug, Clone, Copy)]
pub struct Sampling {
    /// One row of so many is sampled, by its id.
    one_of: usize,
    /// Samples from which on a bucket is busy.
    busy: usize,
}

impl Sampling {
    /// Sampling for buckets that are to hold about so many rows.
    pub fn for_rows(rows: usize) -> Self {
        const SAMPLES: usize = 64;
        let busy = rows.clamp(1, SAMPLES);
        Self { one_of: (rows / busy).max(1), busy }
    }

    pub fn takes(self, id: &EventId) -> bool {
        usize::from(u16::from_be_bytes([id.0[30], id.0[31]])).is_multiple_of(self.one_of)
    }

    pub fn is_busy(self, samples: usize) -> bool {
        samples >= self.busy
    }
}

/// A partition of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Bucket {
    level: u8,
    /// Which span of time it holds: the time without its last bits.
    index: u64,
    /// Of the finest level, the first half byte of the ids; else 0.
    shard: u8,
}

impl Bucket {
    /// The first bucket of a key, which holds any time.
    pub const BASE: Self = Self { level: 0, index: 0, shard: 0 };

    /// The bucket of a level that an event belongs to.
    fn at(level: u8, created_at: Timestamp, id: &EventId) -> Self {
        let Some(span) = span(level) else { return Self::BASE };
        let shard = if level == FINEST { id.0[0] >> 4 } else { 0 };
        Self { level, index: created_at >> span, shard }
    }

    /// Whether an event may stand here.
    pub fn holds(self, created_at: Timestamp, id: &EventId) -> bool {
        Self::at(self.level, created_at, id) == self
    }

    /// The oldest and the newest second that it holds.
    pub fn window(self) -> (Timestamp, Timestamp) {
        match span(self.level) {
            None => (0, Timestamp::MAX),
            Some(span) => {
                let first = self.index << span;
                (first, first | ((1 << span) - 1))
            }
        }
    }

    /// The bucket whose rows go to this one since it is busy; `None` for the base.
    fn parent(self) -> Option<Self> {
        let level = self.level.checked_sub(1)?;
        let index = match (span(level), span(self.level)) {
            (Some(wide), Some(narrow)) => self.index >> (wide - narrow),
            _ => 0,
        };
        Some(Self { level, index, shard: 0 })
    }

    /// Reads what [`fmt::Display`] writes.
    pub fn parse(text: &str) -> Option<Self> {
        if text == "0" {
            return Some(Self::BASE);
        }
        let mut parts = text.split('/');
        let level = parts.next()?.parse().ok().filter(|level| (1..=FINEST).contains(level))?;
        let index = parts.next()?.parse().ok()?;
        let shard = match parts.next() {
            Some(shard) => shard.parse().ok()?,
            None => 0,
        };
        Some(Self { level, index, shard })
    }
}

fn span(level: u8) -> Option<u32> {
    SPANS.get(usize::from(level).checked_sub(1)?).copied()
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.level {
            0 => f.write_str("0"),
            FINEST => write!(f, "{}/{}/{}", self.level, self.index, self.shard),
            level => write!(f, "{level}/{}", self.index),
        }
    }
}

/// What a writer knows of a key. Knowing less puts rows into coarser buckets, which is no mistake.
#[derive(Debug, Clone, Default)]
pub struct Directory {
    listed: BTreeSet<Bucket>,
    busy: BTreeSet<Bucket>,
}

impl Directory {
    /// Notes that a bucket is listed. Those that it was split from are busy then.
    pub fn list(&mut self, bucket: Bucket) {
        self.listed.insert(bucket);
        self.busy.extend(std::iter::successors(bucket.parent(), |bucket| bucket.parent()));
    }

    pub fn mark_busy(&mut self, bucket: Bucket) {
        self.busy.insert(bucket);
    }

    pub fn is_listed(&self, bucket: Bucket) -> bool {
        bucket == Bucket::BASE || self.listed.contains(&bucket)
    }

    /// Where an event is to be written.
    pub fn place(&self, created_at: Timestamp, id: &EventId) -> Bucket {
        let buckets = (0..=FINEST).map(|level| Bucket::at(level, created_at, id));
        let mut free = buckets.filter(|bucket| bucket.level == FINEST || !self.busy.contains(bucket));
        free.next().unwrap_or(Bucket::BASE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: EventId = EventId([0xab; 32]);

    #[test]
    fn buckets_nest_and_survive_their_text() {
        for time in [0, 1, 1_750_000_000, u64::MAX] {
            let mut finer = Bucket::at(FINEST, time, &ID);
            for level in (0..=FINEST).rev() {
                let bucket = Bucket::at(level, time, &ID);
                assert_eq!(bucket, finer);
                assert_eq!(Bucket::parse(&bucket.to_string()), Some(bucket));
                let (first, last) = bucket.window();
                assert!(first <= time && time <= last && bucket.holds(time, &ID));
                assert!(last == u64::MAX || !bucket.holds(last + 1, &ID));
                finer = bucket.parent().unwrap_or(Bucket::BASE);
            }
        }
        assert_eq!(Bucket::parse("5/1"), None);
        assert_eq!(Bucket::parse(""), None);
    }

    #[test]
    fn rows_go_to_the_coarsest_bucket_that_is_not_busy() {
        let mut directory = Directory::default();
        assert_eq!(directory.place(1_750_000_000, &ID), Bucket::BASE);
        directory.mark_busy(Bucket::BASE);
        let month = directory.place(1_750_000_000, &ID);
        assert_eq!(month, Bucket::at(1, 1_750_000_000, &ID));
        assert!(!directory.is_listed(month));
        let hour = Bucket::at(3, 1_750_000_000, &ID);
        let mut other = Directory::default();
        other.list(hour);
        assert_eq!(other.place(1_750_000_000, &ID), hour);
        assert_eq!(other.place(1_000_000_000, &ID), Bucket::at(1, 1_000_000_000, &ID));
        other.mark_busy(hour);
        assert_eq!(other.place(1_750_000_000, &ID), Bucket::at(FINEST, 1_750_000_000, &ID));
    }
}
