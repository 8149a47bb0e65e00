//! The records of the relay itself: one table, and one that says which of them expire next.
//!
//! Conditional writes that wait for each other are one transaction, each decided by what those before it have left.

use std::ops::Bound;

use heed::{Env, RoTxn, RwTxn, WithoutTls};

use super::schema::{Tables, number};
use crate::{
    clock,
    store::records::{self, Conditional, Gathering, Listed, Race, Record, RecordKind, Version},
};

/// Which records are listed.
pub struct RecordRange {
    pub kind: RecordKind,
    pub prefix: String,
    pub after: Option<String>,
    pub limit: usize,
}

/// Of a record that does not expire.
const NEVER: u64 = 0;

/// A row of the table.
struct Row<'t> {
    /// In milliseconds.
    expires_at: u64,
    version: Version,
    value: &'t [u8],
}

impl<'t> Row<'t> {
    const HEAD: usize = 3 * 8;

    fn decode(bytes: &'t [u8]) -> Option<Self> {
        let (head, value) = bytes.split_at_checked(Self::HEAD)?;
        let version = Version { number: number(&head[8..16])?, write: number(&head[16..])? };
        Some(Self { expires_at: number(&head[..8])?, version, value })
    }

    fn encode(&self) -> Vec<u8> {
        let head = [self.expires_at, self.version.number, self.version.write].map(u64::to_be_bytes);
        [head.as_flattened(), self.value].concat()
    }

    fn has_expired(&self, now: u64) -> bool {
        self.expires_at != NEVER && self.expires_at <= now
    }

    fn to_record(&self, key: &str) -> Record {
        Record { key: key.to_owned(), value: self.value.to_vec(), version: self.version }
    }
}

/// No name of a kind has a zero in it.
fn row_key(kind: RecordKind, key: &str) -> Vec<u8> {
    [kind.name().as_bytes(), &[0], key.as_bytes()].concat()
}

fn expiration_key(expires_at: u64, row_key: &[u8]) -> Vec<u8> {
    [&expires_at.to_be_bytes(), row_key].concat()
}

/// Reads a record.
pub fn get(
    env: &Env<WithoutTls>,
    tables: &Tables,
    kind: RecordKind,
    key: &str,
) -> heed::Result<Option<Record>> {
    let txn = env.read_txn()?;
    Ok(found(&txn, tables, kind, key)?.map(|row| row.to_record(key)))
}

fn found<'t>(
    txn: &'t RoTxn<'_>,
    tables: &Tables,
    kind: RecordKind,
    key: &str,
) -> heed::Result<Option<Row<'t>>> {
    let row = tables.record.get(txn, &row_key(kind, key))?.and_then(Row::decode);
    Ok(row.filter(|row| !row.has_expired(clock::millis())))
}

/// Reads a page of records.
pub fn list(env: &Env<WithoutTls>, tables: &Tables, span: &RecordRange) -> heed::Result<Listed> {
    let (txn, now) = (env.read_txn()?, clock::millis());
    let mut page = Gathering::new(span.limit);
    let prefix = row_key(span.kind, &span.prefix);
    let after = span.after.as_ref().map(|after| row_key(span.kind, after)).filter(|after| *after >= prefix);
    let from = after.as_deref().map_or(Bound::Included(&*prefix), Bound::Excluded);
    for row in tables.record.range(&txn, &(from, Bound::Unbounded))? {
        let (key, row) = row?;
        if !key.starts_with(&prefix) {
            break;
        }
        let key = key.get(span.kind.name().len() + 1..).and_then(|key| str::from_utf8(key).ok());
        let (Some(key), Some(row)) = (key, Row::decode(row)) else { continue };
        if !row.has_expired(now) && !page.push(row.to_record(key)) {
            return Ok(page.end(true));
        }
    }
    Ok(page.end(false))
}

/// Decides conditional writes, one after the other, and syncs what they change.
pub fn change<'c>(
    env: &Env<WithoutTls>,
    tables: &Tables,
    all: impl Iterator<Item = &'c Conditional>,
) -> heed::Result<Vec<Race>> {
    let mut txn = env.write_txn()?;
    let races =
        all.map(|conditional| decide(&mut txn, tables, conditional)).collect::<heed::Result<Vec<_>>>()?;
    if races.iter().any(|race| race.won().is_some()) {
        txn.commit()?;
    }
    Ok(races)
}

fn decide(txn: &mut RwTxn<'_>, tables: &Tables, conditional: &Conditional) -> heed::Result<Race> {
    let Conditional { kind, key, expected, version, value, expires_in } = conditional;
    let current = found(txn, tables, *kind, key)?;
    if current.as_ref().map(|row| row.version) != *expected {
        return Ok(Race::Overtaken(current.map(|row| row.to_record(key))));
    }
    let row_key = row_key(*kind, key);
    take(txn, tables, &row_key)?;
    if let Some(value) = value {
        let expires_at = expires_in.map_or(NEVER, records::expires_at);
        let row = Row { expires_at, version: *version, value };
        tables.record.put(txn, &row_key, &row.encode())?;
        if expires_at != NEVER {
            tables.record_expiration.put(txn, &expiration_key(expires_at, &row_key), &[])?;
        }
    }
    Ok(Race::Won(*version))
}

/// Takes a row away, and what says when it expires.
fn take(txn: &mut RwTxn<'_>, tables: &Tables, row_key: &[u8]) -> heed::Result<()> {
    let before = tables.record.get(txn, row_key)?.and_then(Row::decode).map(|row| row.expires_at);
    if let Some(expires_at) = before.filter(|at| *at != NEVER) {
        tables.record_expiration.delete(txn, &expiration_key(expires_at, row_key))?;
    }
    tables.record.delete(txn, row_key)?;
    Ok(())
}

/// Removes some records that have expired by then, in milliseconds: how many.
pub fn sweep(txn: &mut RwTxn<'_>, tables: &Tables, now: u64, most: usize) -> heed::Result<usize> {
    let mut expired = Vec::new();
    for row in tables.record_expiration.iter(txn)?.take(most) {
        let (key, _) = row?;
        let Some((at, row_key)) = key.split_at_checked(8) else { continue };
        if number(at).is_some_and(|at| at > now) {
            break;
        }
        expired.push((key.to_vec(), row_key.to_vec()));
    }
    for (key, row_key) in &expired {
        take(txn, tables, row_key)?;
        tables.record_expiration.delete(txn, key)?;
    }
    Ok(expired.len())
}
