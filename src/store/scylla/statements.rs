//! Every statement, prepared once. What stands where the question marks are is said at each.

use scylla::{
    client::session::Session,
    statement::{Consistency, SerialConsistency, prepared::PreparedStatement},
};

use super::OpenError;

macro_rules! statements {
    ($($(#[doc = $doc:literal])* $kind:ident $name:ident = $text:literal;)*) => {
        pub struct Statements {
            pub by_author: IndexStatements,
            pub by_kind: IndexStatements,
            pub by_tag: IndexStatements,
            pub by_time: IndexStatements,
            $($(#[doc = $doc])* pub $name: PreparedStatement),*
        }

        impl Statements {
            /// # Errors
            /// When the servers do not know the tables.
            pub async fn prepare(
                session: &Session,
                keyspace: &str,
                write: Consistency,
            ) -> Result<Self, OpenError> {
                let prepare = Prepare { session, keyspace, write };
                Ok(Self {
                    by_author: prepare.index("by_author", &["pubkey", "kind"], &["event", "accepted_at", "written_by"]).await?,
                    by_kind: prepare.index("by_kind", &["kind"], &["event", "accepted_at", "written_by"]).await?,
                    by_tag: prepare.index("by_tag", &["letter", "value"], &["kind", "pubkey"]).await?,
                    by_time: prepare.index("by_time", &[], &["kind", "pubkey"]).await?,
                    $($name: prepare.$kind($text).await?),*
                })
            }
        }
    };
}

statements! {
    /// timestamp, event, created_at, accepted_at, written_by, id.
    write put_event = "UPDATE event USING TIMESTAMP ? SET event = ?, created_at = ?, accepted_at = ?, written_by = ? WHERE id = ?";
    /// id → event, accepted_at, swept, written_by.
    read get_event = "SELECT event, accepted_at, swept, written_by FROM event WHERE id = ?";
    /// id → created_at, whether there is an event.
    read get_time = "SELECT created_at FROM event WHERE id = ?";
    /// timestamp, id: for good.
    write remove_event = "DELETE FROM event USING TIMESTAMP ? WHERE id = ?";
    /// timestamp, id: until it comes again.
    write sweep_event = "DELETE event, created_at, accepted_at, written_by FROM event USING TIMESTAMP ? WHERE id = ?";
    /// timestamp, swept, id.
    write note_swept = "UPDATE event USING TIMESTAMP ? SET swept = ? WHERE id = ?";

    /// pubkey, kind.
    write put_kind = "INSERT INTO author_kind (pubkey, kind) VALUES (?, ?) USING TIMESTAMP 1";
    /// pubkey → kinds.
    read get_kinds = "SELECT kind FROM author_kind WHERE pubkey = ?";

    /// timestamp, best, pubkey, kind, d.
    write put_best = "UPDATE latest USING TIMESTAMP ? SET best = ? WHERE pubkey = ? AND kind = ? AND d = ?";
    /// pubkey, kind, d → best.
    read get_best = "SELECT best FROM latest WHERE pubkey = ? AND kind = ? AND d = ?";

    /// id, author, at, timestamp.
    write mark_id = "INSERT INTO deleted_id (id, author, at) VALUES (?, ?, ?) USING TIMESTAMP ?";
    /// id, author → at.
    read get_id_mark = "SELECT at FROM deleted_id WHERE id = ? AND author = ?";
    /// timestamp, until, pubkey, kind, d.
    write mark_address = "UPDATE deleted_address USING TIMESTAMP ? SET until = ? WHERE pubkey = ? AND kind = ? AND d = ?";
    /// pubkey, kind, d → until.
    read get_address_mark = "SELECT until FROM deleted_address WHERE pubkey = ? AND kind = ? AND d = ?";
    /// timestamp, until, pubkey.
    write mark_author = "UPDATE vanished USING TIMESTAMP ? SET until = ? WHERE pubkey = ?";
    /// pubkey → until.
    read get_author_mark = "SELECT until FROM vanished WHERE pubkey = ?";

    /// pubkey, until, timestamp.
    write put_vanishing = "INSERT INTO vanishing (list, pubkey, until) VALUES (0, ?, ?) USING TIMESTAMP ?";
    /// → pubkey, until.
    read get_vanishing = "SELECT pubkey, until FROM vanishing WHERE list = 0";
    /// timestamp, pubkey.
    write remove_vanishing = "DELETE FROM vanishing USING TIMESTAMP ? WHERE list = 0 AND pubkey = ?";

    /// slot, expiration, id, created_at, timestamp.
    write put_expiration = "INSERT INTO by_expiration (slot, expiration, id, created_at) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    /// slot, expiration and id after which, expiration up to which, most rows → expiration, id, created_at.
    read get_expirations = "SELECT expiration, id, created_at FROM by_expiration WHERE slot = ? AND (expiration, id) > (?, ?) AND (expiration) <= (?) LIMIT ?";
    /// timestamp, slot, expiration, id.
    write remove_expiration = "DELETE FROM by_expiration USING TIMESTAMP ? WHERE slot = ? AND expiration = ? AND id = ?";
    /// → the first slot that programs before places have listed.
    read get_first_slot = "SELECT slot FROM expiring WHERE list = 0 LIMIT 1";
    /// name, value, timestamp.
    write note_place = "INSERT INTO meta (name, value) VALUES (?, ?) USING TIMESTAMP ?";
    /// name → value.
    read get_place = "SELECT value FROM meta WHERE name = ?";

    /// origin, part, seq, written, timestamp.
    write put_log = "INSERT INTO log (origin, part, seq, written) VALUES (?, ?, ?, ?) USING TIMESTAMP ?";
    /// origin, part, seq from which on → seq, written; a partition at most.
    read get_log = "SELECT seq, written FROM log WHERE origin = ? AND part = ? AND seq >= ?";
    /// origin, head, count of heartbeats, settled, timestamp.
    write put_heartbeat = "INSERT INTO node (list, origin, head, beats, settled) VALUES (0, ?, ?, ?, ?) USING TIMESTAMP ?";
    /// → origin, head, count of heartbeats, the time of the last by the clock of its process in microseconds, settled.
    read get_words = "SELECT origin, head, beats, WRITETIME(beats), settled FROM node WHERE list = 0";

    /// → what the clock of a server reads.
    read get_clock = "SELECT toTimestamp(now()) FROM system.local";

    /// origin, part, number, nth, events.
    write put_draft = "INSERT INTO draft (origin, part, number, nth, events) VALUES (?, ?, ?, ?, ?) USING TIMESTAMP 1";
    /// origin, part, number → events; a row for each piece.
    read get_draft = "SELECT events FROM draft WHERE origin = ? AND part = ? AND number = ?";
    /// origin, part.
    write remove_drafts = "DELETE FROM draft USING TIMESTAMP 2 WHERE origin = ? AND part = ?";
    /// origin, part, number.
    write remove_drafts_until =
        "DELETE FROM draft USING TIMESTAMP 2 WHERE origin = ? AND part = ? AND number <= ?";
    /// origin, settled, timestamp.
    write put_writer = "INSERT INTO writer (list, origin, settled) VALUES (0, ?, ?) USING TIMESTAMP ?";
    /// → origin, settled, its timestamp.
    read get_writers = "SELECT origin, settled, WRITETIME(settled) FROM writer WHERE list = 0";
    /// kind, shard, key → value, number, write.
    read get_record = "SELECT value, number, write FROM record WHERE kind = ? AND shard = ? AND key = ?";
    /// The same, when all is decided that is under way.
    decided get_decided_record = "SELECT value, number, write FROM record WHERE kind = ? AND shard = ? AND key = ?";
    /// kind, shard, key after which, most rows → key, value, number, write.
    read list_records = "SELECT key, value, number, write FROM record WHERE kind = ? AND shard = ? AND key > ? LIMIT ?";
    /// The same, from a key on.
    read list_records_from = "SELECT key, value, number, write FROM record WHERE kind = ? AND shard = ? AND key >= ? LIMIT ?";
    /// seconds (0: for ever), value, number, write, kind, shard, key, the write that is expected to be there.
    conditional change_record = "UPDATE record USING TTL ? SET value = ?, number = ?, write = ? WHERE kind = ? AND shard = ? AND key = ? IF write = ?";

    /// timestamp, origin.
    write remove_writer = "DELETE FROM writer USING TIMESTAMP ? WHERE list = 0 AND origin = ?";
}

/// The statements of an index. A key is its columns and the bucket.
pub struct IndexStatements {
    /// key, created_at, id, columns, timestamp.
    pub put: PreparedStatement,
    /// timestamp, key, created_at, id.
    pub remove: PreparedStatement,
    /// buckets, key.
    pub list: PreparedStatement,
    /// samples, key.
    pub sample: PreparedStatement,
    /// key → buckets, sample.
    pub directory: PreparedStatement,
    /// key, since, until, most rows → created_at, id, columns; newest first.
    pub newest: PreparedStatement,
    /// key, created_at, id, most rows → the rows of that second after that id.
    pub rest: PreparedStatement,
}

struct Prepare<'s> {
    session: &'s Session,
    keyspace: &'s str,
    write: Consistency,
}

impl Prepare<'_> {
    async fn write(&self, text: &str) -> Result<PreparedStatement, OpenError> {
        let mut statement = self.read(text).await?;
        statement.set_consistency(self.write);
        Ok(statement)
    }

    /// A conditional write, decided by a quorum of all replicas, wherever they are. It is not for the driver to run it
    /// twice: whoever sends it wants to know what became of the first one.
    async fn conditional(&self, text: &str) -> Result<PreparedStatement, OpenError> {
        let mut statement = self.write(text).await?;
        statement.set_serial_consistency(Some(SerialConsistency::Serial));
        statement.set_is_idempotent(false);
        Ok(statement)
    }

    /// A read that ends whatever conditional write is under way, and sees it.
    async fn decided(&self, text: &str) -> Result<PreparedStatement, OpenError> {
        let mut statement = self.read(text).await?;
        statement.set_consistency(Consistency::Serial);
        Ok(statement)
    }

    /// Reads have the consistency of the session. Every statement may run twice: its timestamp says
    /// which write counts.
    async fn read(&self, text: &str) -> Result<PreparedStatement, OpenError> {
        let text = qualified(text, self.keyspace);
        let prepared = self.session.prepare(&*text).await;
        let mut statement = prepared.map_err(|error| OpenError::Prepare { text, error: Box::new(error) })?;
        statement.set_is_idempotent(true);
        Ok(statement)
    }

    async fn index(&self, table: &str, key: &[&str], columns: &[&str]) -> Result<IndexStatements, OpenError> {
        let key = [key, &["bucket"]].concat();
        let at_key = key.iter().map(|column| format!("{column} = ?")).collect::<Vec<_>>().join(" AND ");
        let row = [&key[..], &["created_at", "id"], columns].concat();
        let marks = vec!["?"; row.len()].join(", ");
        let row = row.join(", ");
        let select = format!("SELECT created_at, id, {} FROM {table} WHERE {at_key}", columns.join(", "));
        Ok(IndexStatements {
            put: self
                .write(&format!("INSERT INTO {table} ({row}) VALUES ({marks}) USING TIMESTAMP ?"))
                .await?,
            remove: self
                .write(&format!(
                    "DELETE FROM {table} USING TIMESTAMP ? WHERE {at_key} AND created_at = ? AND id = ?"
                ))
                .await?,
            list: self
                .write(&format!("UPDATE {table} USING TIMESTAMP 1 SET buckets = buckets + ? WHERE {at_key}"))
                .await?,
            sample: self
                .write(&format!("UPDATE {table} USING TIMESTAMP 1 SET sample = sample + ? WHERE {at_key}"))
                .await?,
            directory: self
                .read(&format!("SELECT buckets, sample FROM {table} WHERE {at_key} LIMIT 1"))
                .await?,
            newest: self.read(&format!("{select} AND created_at >= ? AND created_at <= ? LIMIT ?")).await?,
            rest: self.read(&format!("{select} AND created_at = ? AND id > ? LIMIT ?")).await?,
        })
    }
}

/// Says of each table in which keyspace it is, so that a statement means the same on any connection.
fn qualified(text: &str, keyspace: &str) -> String {
    let words = text.split(' ').scan("", |before, word| {
        let is_table = matches!(*before, "FROM" | "INTO" | "UPDATE");
        *before = word;
        Some(if is_table && !word.contains('.') { format!("\"{keyspace}\".{word}") } else { word.to_owned() })
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_named_with_their_keyspace() {
        for (text, expected) in [
            ("SELECT a FROM t WHERE b = ?", "SELECT a FROM \"k\".t WHERE b = ?"),
            ("INSERT INTO t (a) VALUES (?)", "INSERT INTO \"k\".t (a) VALUES (?)"),
            ("UPDATE t USING TIMESTAMP ? SET a = ?", "UPDATE \"k\".t USING TIMESTAMP ? SET a = ?"),
            ("SELECT a FROM system.t", "SELECT a FROM system.t"),
            ("DELETE a FROM t WHERE b = ?", "DELETE a FROM \"k\".t WHERE b = ?"),
        ] {
            assert_eq!(qualified(text, "k"), expected);
        }
    }
}
