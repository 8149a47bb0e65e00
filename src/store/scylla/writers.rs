//! The processes that write to the tables, and what they tell of themselves.

use std::collections::HashMap;

use super::{
    batch::Told,
    cql::{Cql, Failure, Values},
};
use crate::store::log::{Heartbeat, Origin};

/// A process that may have batches which are not settled.
#[derive(Debug, Clone)]
pub struct ListedWriter {
    pub origin: Origin,
    /// All of its batches up to there are settled.
    pub floor: u64,
    /// The timestamp of the row that says so.
    pub at: i64,
    /// What it told lately, and how often it did; `None` when it has been silent for hours.
    pub told: Option<(u64, Told)>,
}

impl ListedWriter {
    pub fn covers(&self, number: u64) -> bool {
        number <= self.floor || self.told.as_ref().is_some_and(|(_, told)| told.covers(number))
    }
}

/// What a process last told of itself.
pub struct LastWord {
    pub heartbeat: Heartbeat,
    /// When it told that, by its own clock, in microseconds.
    pub at: i64,
    /// Which of its batches are settled. Older programs do not tell.
    pub settled: Option<Told>,
}

/// What the processes last told of themselves.
///
/// # Errors
/// When the servers refuse.
pub async fn words(cql: &Cql) -> Result<Vec<LastWord>, Failure> {
    type Row = (i64, i64, i64, i64, Option<Vec<u8>>);
    let rows: Vec<Row> = cql.read(&cql.statements.get_words, Values::new()).await?;
    let read = |(origin, head, count, at, settled): Row| LastWord {
        heartbeat: Heartbeat { origin: origin as u64, head: head as u64, count: count as u64 },
        at,
        settled: settled.as_deref().and_then(Told::parse),
    };
    Ok(rows.into_iter().map(read).collect())
}

/// The processes that may have batches which are not settled.
///
/// # Errors
/// When the servers refuse.
pub async fn writers(cql: &Cql) -> Result<Vec<ListedWriter>, Failure> {
    type Listed = (i64, Option<i64>, Option<i64>);
    // In this order: a process tells of itself before it lists itself.
    let listed: Vec<Listed> = cql.read(&cql.statements.get_writers, Values::new()).await?;
    let pair = |word: LastWord| Some((word.heartbeat.origin, (word.heartbeat.count, word.settled?)));
    let mut told: HashMap<Origin, (u64, Told)> = words(cql).await?.into_iter().filter_map(pair).collect();
    let writers = listed.into_iter().map(|(origin, floor, at)| ListedWriter {
        origin: origin as u64,
        floor: floor.unwrap_or_default() as u64,
        at: at.unwrap_or_default(),
        told: told.remove(&(origin as u64)),
    });
    Ok(writers.collect())
}
