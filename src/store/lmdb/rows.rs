//! What a batch changes in the index tables. It is collected and put in the order of the keys, which is most of what
//! makes a batch cheaper than its events one by one.

use heed::RwTxn;

use super::{
    schema::{Key, Row, Table, Tables, TagHash, Tail},
    stored_event::StoredEvent,
};
use crate::{
    protocol::{Fields, Timestamp},
    store::Position,
};

/// Changes to the indexes, in the order in which they were decided. `None` takes a key away.
#[derive(Default)]
pub struct Rows {
    author: Vec<(Key, Option<Row>)>,
    author_kind: Vec<(Key, Option<Row>)>,
    kind: Vec<(Key, Option<Row>)>,
    tag: Vec<(Key, Option<Row>)>,
    time: Vec<(Key, Option<Row>)>,
    expiration: Vec<(Key, Option<Row>)>,
}

impl Rows {
    /// Puts (or takes away) every index row of an event.
    pub fn change(&mut self, record: &StoredEvent<'_>, position: Position, put: bool, hash: TagHash) {
        let kind = record.kind();
        let row = put.then_some(Row { position, kind });
        let tail = Tail::new(record.created_at(), record.id());
        self.author.push((Key::author(record.pubkey()).tail(tail), row));
        self.author_kind.push((Key::author_kind(record.pubkey(), kind).tail(tail), row));
        self.kind.push((Key::kind(kind).tail(tail), row));
        self.time.push((Key::time().tail(tail), row));
        self.tag
            .extend(record.tags().map(|(letter, value)| (Key::tag(hash.of(letter, value)).tail(tail), row)));
        if let Some(at) = record.expiration() {
            self.expiration.push((Key::expiration(at, position), row));
        }
    }

    /// Takes the row away that says when the event of a position expires.
    pub fn forget_expiration(&mut self, at: Timestamp, position: Position) {
        self.expiration.push((Key::expiration(at, position), None));
    }

    /// Writes them down.
    pub fn apply(self, txn: &mut RwTxn<'_>, tables: &Tables) -> heed::Result<()> {
        for (table, rows) in [
            (tables.author, self.author),
            (tables.author_kind, self.author_kind),
            (tables.kind, self.kind),
            (tables.tag, self.tag),
            (tables.time, self.time),
            (tables.expiration, self.expiration),
        ] {
            apply(txn, table, rows)?;
        }
        Ok(())
    }
}

/// Changes a table in the order of its keys. Of several changes to one key, the last one holds.
fn apply(txn: &mut RwTxn<'_>, table: Table, mut rows: Vec<(Key, Option<Row>)>) -> heed::Result<()> {
    rows.sort_by_key(|(key, _)| *key);
    let mut rows = rows.into_iter().peekable();
    while let Some((key, row)) = rows.next() {
        if rows.peek().is_some_and(|(next, _)| *next == key) {
            continue;
        }
        match row {
            Some(row) => table.put(txn, key.as_bytes(), &row.to_bytes())?,
            None => {
                table.delete(txn, key.as_bytes())?;
            }
        }
    }
    Ok(())
}
