//! The records of the relay itself: one table, changed by conditional writes (lightweight transactions) alone.
//!
//! Servers may lose the answer to a conditional write, and may make it after they have said that they did not come to
//! it in time. So whoever has no answer reads what is there, in the way that ends whatever is under way, and looks for
//! the number that it has drawn. If that is not there, and nothing else is new either, it sends the same write again:
//! made twice it would be made once, because it expects a number that is not there any more after the first time.
//!
//! A record that is removed stays as a mark for a while: else two who remove the same one, and lose both answers, would
//! both find nothing, and each take the removal for its own.

use std::{collections::VecDeque, sync::Arc, time::Duration};

use futures_util::{FutureExt, future::BoxFuture};
use scylla::value::CqlValue;
use tokio::time::sleep;

use super::{
    Scylla,
    cql::{Cql, Failure, Values, blob, large, limit, number, text},
};
use crate::store::{
    StoreError,
    records::{self, Conditional, Gathering, Listed, MAX_PAGE, Race, Record, RecordKind, Records, Version},
};

/// For how long a record that was removed can be told from one that never was: much longer than anybody waits for an
/// answer, or a statement stays on its way.
const MARKED: Duration = Duration::from_secs(60 * 60);

/// Pause before a write is sent again, doubled each time, with jitter: others may be at the same record.
const FIRST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(320);

/// Most rows that are read at once of a shard: each may have 64 KiB.
const MOST_ROWS: usize = 16;

/// Reads records, and has conditional writes decided.
#[derive(Clone)]
pub struct Recorder {
    cql: Arc<Cql>,
}

/// Where a record is.
#[derive(Clone)]
struct Place {
    kind: RecordKind,
    key: String,
}

/// What is at a place: a record, or the mark of one that was removed, which has no value.
struct Found {
    version: Version,
    value: Option<Vec<u8>>,
}

/// What a conditional write makes. No value: a mark.
struct NewRow {
    version: Version,
    value: Option<Vec<u8>>,
    /// 0: it stays.
    seconds: i32,
}

type Columns = (Option<Vec<u8>>, Option<i64>, Option<i64>);

/// The same with the key before them.
type Row = (String, Option<Vec<u8>>, Option<i64>, Option<i64>);

impl Found {
    /// A row without a version is one of which nothing is left.
    fn of((value, number, write): Columns) -> Option<Self> {
        let version = Version { number: number? as u64, write: write? as u64 };
        Some(Self { version, value })
    }

    fn into_record(self, key: &str) -> Option<Record> {
        Some(Record { key: key.to_owned(), value: self.value?, version: self.version })
    }
}

impl Place {
    fn values(&self) -> [CqlValue; 3] {
        [text(self.kind.name()), shard(self.kind.shard(&self.key)), text(&self.key)]
    }
}

/// The number of a shard, of which there are at most some dozens.
fn shard(shard: u64) -> CqlValue {
    number(shard as i32)
}

impl Recorder {
    pub fn new(cql: Arc<Cql>) -> Self {
        Self { cql }
    }

    async fn get(&self, place: &Place) -> Result<Option<Record>, Failure> {
        let row = self.cql.first(&self.cql.statements.get_record, place.values().into()).await?;
        Ok(row.and_then(Found::of).and_then(|found| found.into_record(&place.key)))
    }

    async fn get_decided(&self, place: &Place) -> Result<Option<Found>, Failure> {
        let row = self.cql.first(&self.cql.statements.get_decided_record, place.values().into()).await?;
        Ok(row.and_then(Found::of))
    }

    /// Changes a record if the expected version is there. Does not give up by itself.
    async fn change(
        &self,
        place: &Place,
        expected: Option<Version>,
        mut row: NewRow,
    ) -> Result<Race, Failure> {
        // What is expected to be in the table, which may be a mark.
        let mut over = expected;
        let mut is_in_doubt = false;
        let mut pause = FIRST_PAUSE;
        loop {
            match self.try_once(place, over, &row).await {
                Ok(true) => return Ok(Race::Won(row.version)),
                Ok(false) => {}
                Err(Failure::Undecided(_)) => is_in_doubt = true,
                Err(refused) => return Err(refused),
            }
            let found = self.get_decided(place).await?;
            let there = found.as_ref().map(|found| found.version);
            if there.is_some_and(|there| there.write == row.version.write) {
                return Ok(Race::Won(row.version));
            }
            match found {
                _ if there == over => {
                    sleep(pause.mul_f64(rand::random_range(0.5..1.5))).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                // Nothing but a mark. Where an earlier try may have been made, it may be what was removed.
                Some(Found { version: mark, value: None }) if expected.is_none() && !is_in_doubt => {
                    over = Some(mark);
                    row.version.number = mark.number.saturating_add(1);
                }
                found => return Ok(Race::Overtaken(found.and_then(|found| found.into_record(&place.key)))),
            }
        }
    }

    async fn try_once(&self, place: &Place, over: Option<Version>, row: &NewRow) -> Result<bool, Failure> {
        let Version { number: version, write } = row.version;
        let mut values = vec![
            Some(number(row.seconds)),
            row.value.as_ref().map(blob),
            Some(large(version)),
            Some(large(write)),
        ];
        values.extend(place.values().map(Some));
        values.push(over.map(|over| large(over.write)));
        self.cql.decide(&self.cql.statements.change_record, values).await
    }

    /// Merges the shards, each of which has its keys in order.
    async fn list(
        &self,
        kind: RecordKind,
        prefix: &str,
        after: Option<&str>,
        most: usize,
    ) -> Result<Listed, Failure> {
        let mut page = Gathering::new(most);
        let from = match after.filter(|after| *after >= prefix) {
            Some(after) => From::Behind(after.to_owned()),
            None => From::At(prefix.to_owned()),
        };
        let mut shards: Vec<Shard> =
            kind.all_shards().map(|number| Shard::new(number, from.clone())).collect();
        let rows = (most.min(MAX_PAGE) / shards.len() + 2).min(MOST_ROWS);
        loop {
            let mut reads = Vec::new();
            for shard in &mut shards {
                if shard.is_hungry() {
                    reads.push(shard.read(&self.cql, kind, prefix, rows));
                }
            }
            self.cql.all(reads).await?;
            if shards.iter().any(Shard::is_hungry) {
                // Nothing but marks was read of some shard.
                continue;
            }
            let first = shards.iter_mut().filter(|shard| !shard.records.is_empty());
            let Some(first) = first.min_by(|a, b| a.next_key().cmp(&b.next_key())) else {
                return Ok(page.end(false));
            };
            if let Some(record) = first.records.pop_front()
                && !page.push(record)
            {
                return Ok(page.end(true));
            }
        }
    }
}

/// Where the rest of a shard begins.
#[derive(Clone)]
enum From {
    At(String),
    Behind(String),
    End,
}

/// A part of the keys of a kind, being read.
struct Shard {
    number: u64,
    from: From,
    records: VecDeque<Record>,
}

impl Shard {
    fn new(number: u64, from: From) -> Self {
        Self { number, from, records: VecDeque::new() }
    }

    fn is_hungry(&self) -> bool {
        self.records.is_empty() && !matches!(self.from, From::End)
    }

    fn next_key(&self) -> Option<&str> {
        self.records.front().map(|record| &*record.key)
    }

    async fn read(&mut self, cql: &Cql, kind: RecordKind, prefix: &str, rows: usize) -> Result<(), Failure> {
        let (statement, from) = match &self.from {
            From::At(key) => (&cql.statements.list_records_from, key),
            From::Behind(key) => (&cql.statements.list_records, key),
            From::End => return Ok(()),
        };
        let values: Values = vec![text(kind.name()), shard(self.number), text(from), limit(rows)];
        let found: Vec<Row> = cql.read(statement, values).await?;
        let last = found.last().map(|(key, ..)| key).filter(|_| found.len() == rows);
        self.from = match last.filter(|key| key.starts_with(prefix)) {
            Some(key) => From::Behind(key.clone()),
            None => From::End,
        };
        let of_these = found.into_iter().take_while(|(key, ..)| key.starts_with(prefix));
        self.records.extend(
            of_these.filter_map(|(key, value, number, write)| {
                Found::of((value, number, write))?.into_record(&key)
            }),
        );
        Ok(())
    }
}

impl Records for Scylla {
    fn get(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let (parts, place) = (Arc::clone(&self.parts), Place { kind, key: key.to_owned() });
        self.run(async move { parts.recorder.cql.within(parts.recorder.get(&place)).await })
    }

    fn get_decided(&self, kind: RecordKind, key: &str) -> BoxFuture<'_, Result<Option<Record>, StoreError>> {
        let (parts, place) = (Arc::clone(&self.parts), Place { kind, key: key.to_owned() });
        self.run(async move {
            let found = parts.recorder.cql.within(parts.recorder.get_decided(&place)).await?;
            Ok(found.and_then(|found| found.into_record(&place.key)))
        })
    }

    fn list(
        &self,
        kind: RecordKind,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<Listed, StoreError>> {
        let parts = Arc::clone(&self.parts);
        let (prefix, after) = (prefix.to_owned(), after.map(str::to_owned));
        self.run(async move {
            let listed = parts.recorder.list(kind, &prefix, after.as_deref(), limit);
            parts.recorder.cql.within(listed).await
        })
    }

    fn change(&self, conditional: Conditional) -> BoxFuture<'_, Race> {
        let Conditional { kind, key, expected, version, value, expires_in } = conditional;
        let seconds = match value {
            Some(_) => expires_in.map_or(0, records::whole_seconds),
            None => MARKED.as_secs(),
        };
        let (place, row) = (Place { kind, key }, NewRow { version, value, seconds: seconds as i32 });
        let parts = Arc::clone(&self.parts);
        let raced = self.run(async move {
            let raced = parts.recorder.change(&place, expected, row);
            parts.recorder.cql.within(raced).await
        });
        raced.map(|raced| raced.unwrap_or_else(Race::Unknown)).boxed()
    }
}
