//! Candidates, and how they are read: a chunk of one partition at a time.

use std::cmp::Reverse;

use futures_util::future::try_join;
use scylla::statement::prepared::PreparedStatement;

use super::{
    batch::BatchId,
    bucket::Bucket,
    cql::{Cql, Failure, Values, blob, limit, time},
    index::Key,
    key,
};
use crate::protocol::{EventId, PublicKey, Timestamp};

/// A candidate.
#[derive(Debug, Clone)]
pub struct Row {
    pub created_at: Timestamp,
    pub id: EventId,
    pub body: Body,
}

/// What the row of a candidate says of it.
#[derive(Debug, Clone)]
pub enum Body {
    Text {
        text: String,
        accepted_at: u64,
        /// The batch that wrote the row.
        batch: Option<BatchId>,
        /// Whether the event is known to be committed.
        committed: bool,
    },
    Fields {
        kind: u16,
        pubkey: PublicKey,
    },
    /// Nothing but the id.
    Unread,
}

/// Where a row stands in the answer; the smaller one comes first.
pub type Place = (Reverse<Timestamp>, EventId);

/// A span of time: its first and its last second.
pub type TimeWindow = (Timestamp, Timestamp);

/// What is to be read of a partition.
pub struct Question {
    /// Whose chunk it is to be.
    pub source: usize,
    pub key: Key,
    pub bucket: Bucket,
    pub window: TimeWindow,
    pub after: Option<(Timestamp, EventId)>,
    /// How many rows are read.
    pub rows: usize,
}

/// What was read of a partition.
pub struct Chunk {
    pub source: usize,
    pub rows: Vec<Row>,
    /// Whether there are no more.
    pub finished: bool,
}

impl Question {
    /// How many statements the question takes.
    pub fn statements(&self) -> usize {
        let (since, until) = self.window;
        match self.after {
            Some((at, _)) if at < since => 0,
            Some((at, _)) if at <= until && at > since => 2,
            _ => 1,
        }
    }
}

impl Row {
    pub fn without_text(self) -> Self {
        let body = match self.body {
            Body::Text { .. } => Body::Unread,
            small => small,
        };
        Self { body, ..self }
    }

    pub fn place(&self) -> Place {
        place((self.created_at, self.id))
    }

    pub fn bytes(&self) -> usize {
        match &self.body {
            Body::Text { text, .. } => text.len(),
            Body::Fields { .. } | Body::Unread => 64,
        }
    }
}

pub fn place((created_at, id): (Timestamp, EventId)) -> Place {
    (Reverse(created_at), id)
}

/// Reads a chunk. What comes after a row is the rest of its second and the older ones: two statements,
/// since no server orders by a time descending and an id ascending in one comparison.
pub async fn read(cql: &Cql, question: Question) -> Result<Chunk, Failure> {
    let Question { source, key, bucket, window: (since, until), after, rows: count } = question;
    let index = key.index(&cql.statements);
    let select = |statement, mut values: Vec<_>, key: &Key| {
        let mut all = key.partition(bucket);
        all.append(&mut values);
        all.push(limit(count));
        let has_text = key.has_text();
        async move { rows(cql, statement, all, has_text).await }
    };
    let after = after.filter(|(at, _)| *at <= until);
    let Some((at, id)) = after else {
        let rows = select(&index.newest, vec![time(since), time(until)], &key).await?;
        return Ok(Chunk { source, finished: rows.len() < count, rows });
    };
    if at < since {
        return Ok(Chunk { source, rows: Vec::new(), finished: true });
    }
    let rest = select(&index.rest, vec![time(at), blob(id.0)], &key);
    if at == since {
        let rows = rest.await?;
        return Ok(Chunk { source, finished: rows.len() < count, rows });
    }
    let older = select(&index.newest, vec![time(since), time(at - 1)], &key);
    let (mut rows, older) = try_join(rest, older).await?;
    let mut finished = false;
    if rows.len() < count {
        finished = older.len() < count;
        rows.extend(older);
    }
    Ok(Chunk { source, rows, finished })
}

async fn rows(
    cql: &Cql,
    statement: &PreparedStatement,
    values: Values,
    has_text: bool,
) -> Result<Vec<Row>, Failure> {
    let row = |created_at: i64, id: &[u8], body: Option<Body>| {
        let body = body.unwrap_or(Body::Unread);
        Some(Row { created_at: key::seconds(created_at), id: key::id(id)?, body })
    };
    if has_text {
        type Texts = (i64, Vec<u8>, Option<String>, Option<i64>, Option<Vec<u8>>);
        let body = |text: Option<String>, accepted_at: Option<i64>, batch: Option<Vec<u8>>| {
            let accepted_at = key::seconds(accepted_at.unwrap_or_default());
            let batch = batch.as_deref().and_then(BatchId::parse);
            Some(Body::Text { text: text?, accepted_at, batch, committed: false })
        };
        let rows: Vec<Texts> = cql.read(statement, values).await?;
        let rows = rows
            .into_iter()
            .filter_map(|(at, id, text, accepted_at, batch)| row(at, &id, body(text, accepted_at, batch)));
        return Ok(rows.collect());
    }
    type Fields = (i64, Vec<u8>, Option<i32>, Option<Vec<u8>>);
    let fields = |kind: Option<i32>, pubkey: Option<Vec<u8>>| {
        Some(Body::Fields { kind: kind?.try_into().ok()?, pubkey: key::pubkey(&pubkey?)? })
    };
    let rows: Vec<Fields> = cql.read(statement, values).await?;
    Ok(rows.into_iter().filter_map(|(at, id, kind, pubkey)| row(at, &id, fields(kind, pubkey))).collect())
}
