//! From one version of the tables to the next, while nodes of the version before go on.
//!
//! Tables carry two numbers in table `meta`: the version that they are *written* by, and the one that they are *readable*
//! from. Steps only add tables and columns, which older programs do not look at, so a step raises the first number alone.
//! A program refuses tables that are readable from a later version than its own, and nothing else. The second number is
//! raised when it is told that no older node runs any more (`rookery schema migrate --last`).
//!
//! One node at a time migrates, and says so in a record that expires; the others wait. Two at once would do no harm: all
//! that is done may be done twice.

use std::time::{Duration, Instant};

use scylla::{
    client::session::Session,
    errors::ExecutionError,
    statement::{Consistency, SerialConsistency, Statement},
    value::{CqlValue, Row},
};
use tokio::time::{interval, sleep};
use tracing::{info, warn};

use super::{
    OpenError, consistency, dial,
    schema::{self, PATIENCE, READABLE, READABLE_FROM, VERSION, Versions, WRITTEN},
};
use crate::{config, store::records::RecordKind};

/// What each version added, for the log. What is added is what `cluster/schema.cql` has and the servers have not.
const STEPS: [(u32, &str); 1] = [(2, "the table of records")];

/// For how long the record of who migrates stays without being renewed, and how often it is renewed.
const HELD: Duration = Duration::from_secs(15);
const RENEWED: Duration = Duration::from_secs(5);

/// How often others look whether the migration is done, and how often they say that they wait.
const LOOK: Duration = Duration::from_millis(500);
const TELL: Duration = Duration::from_secs(5);

/// The record of who migrates. Its key says what.
const KEY: &str = "schema";

/// Makes the keyspace and the tables, as far as they are missing, and migrates those of an earlier version. May run on
/// several nodes at once.
///
/// # Errors
/// When the servers refuse, or when the tables are newer than this program.
pub async fn apply(config: &config::Scylla, replication: &str) -> Result<(), OpenError> {
    let write = consistency::parse(&config.write_consistency)?;
    let session = dial::connect(config, PATIENCE).await?;
    let keyspace = &config.keyspace;
    schema::make_keyspace(&session, keyspace, replication).await?;
    // Another node may have made the tables, so their versions are asked for only now.
    if let Some(found) = schema::versions(&session, keyspace).await? {
        found.check()?;
        if !found.is_current() {
            migrate(&session, keyspace, write).await?;
        }
    }
    schema::add_all(&session, keyspace).await?;
    schema::note(&session, keyspace, WRITTEN, VERSION, write).await?;
    schema::note(&session, keyspace, READABLE, READABLE_FROM, write).await?;
    schema::make_identity(&session, keyspace, write).await?;
    info!(keyspace, version = VERSION, "the tables are there");
    Ok(())
}

/// Migrates tables that are there; with `last`, says that no program of an earlier version uses them any more.
///
/// # Errors
/// When the servers refuse, when there are no tables, and when they are newer than this program.
pub async fn bring_up(config: &config::Scylla, last: bool) -> Result<(), OpenError> {
    let write = consistency::parse(&config.write_consistency)?;
    let session = dial::connect(config, PATIENCE).await?;
    let keyspace = &config.keyspace;
    if !schema::check(&session, keyspace).await?.is_current() {
        migrate(&session, keyspace, write).await?;
    }
    if last {
        schema::note(&session, keyspace, READABLE, VERSION, write).await?;
        info!(keyspace, version = VERSION, "programs of earlier versions are refused from now on");
    }
    Ok(())
}

/// Brings tables to the version of this program, if they are of an earlier one and no other node is at it.
///
/// # Errors
/// When the servers refuse.
pub async fn migrate(session: &Session, keyspace: &str, write: Consistency) -> Result<(), OpenError> {
    // The first step makes the table that says who migrates.
    schema::add_table(session, keyspace, "record").await?;
    take_conditions(session, keyspace).await?;
    let turn = Turn { session, keyspace, write, number: rand::random() };
    let Some(before) = turn.wait().await? else { return Ok(()) };
    for (to, what) in STEPS.iter().filter(|(to, _)| *to > before.written) {
        info!(keyspace, version = to, "changing the tables: {what}");
    }
    tokio::select! {
        done = turn.carry_out() => done?,
        never = turn.renew() => never,
    }
    info!(keyspace, version = VERSION, "the tables are changed");
    turn.end().await;
    Ok(())
}

/// Finds out whether the keyspace takes conditional writes, by one that changes nothing.
///
/// # Errors
/// When the servers refuse them. Where they do not answer in time, that is no reason not to start.
pub async fn take_conditions(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let kind = RecordKind::Migration.name();
    // No record has this key, so the condition is true of nothing.
    let text = format!(
        "UPDATE \"{keyspace}\".record SET write = 1 WHERE kind = '{kind}' AND shard = 0 AND key = '' IF write = 0"
    );
    let mut statement = Statement::new(text);
    statement.set_serial_consistency(Some(SerialConsistency::Serial));
    match session.query_unpaged(statement, ()).await {
        Ok(_) => Ok(()),
        Err(error) if dial::is_final(&error) => {
            Err(OpenError::NoConditions { keyspace: keyspace.to_owned(), error: Box::new(error) })
        }
        Err(error) => {
            warn!(
                keyspace,
                "it is not known whether the keyspace takes lightweight transactions, which records need: {error}"
            );
            Ok(())
        }
    }
}

/// The turn of this process.
struct Turn<'s> {
    session: &'s Session,
    keyspace: &'s str,
    write: Consistency,
    /// Drawn, so that this process finds its own record again.
    number: i64,
}

impl Turn<'_> {
    /// Waits for the turn: what the tables were before. `None`: another node was faster, and nothing is left to do.
    async fn wait(&self) -> Result<Option<Versions>, OpenError> {
        let mut told: Option<Instant> = None;
        loop {
            let versions = schema::versions(self.session, self.keyspace).await?;
            let Some(versions) = versions.filter(|versions| !versions.is_current()) else {
                return Ok(None);
            };
            let taken = self.take(None).await;
            if let Err(error) = &taken
                && (dial::is_final(error) || matches!(error, ExecutionError::PrepareError(_)))
            {
                return Err(OpenError::Schema(error.to_string().into()));
            }
            let holder = match self.holder().await {
                Ok(Some((number, _))) if number == self.number => return Ok(Some(versions)),
                Ok(holder) => holder.map_or("nobody".to_owned(), |(_, name)| name),
                Err(error) => error.to_string(),
            };
            if told.is_none_or(|told| told.elapsed() >= TELL) {
                told = Some(Instant::now());
                let error = taken.err().map(|error| format!(" ({error})")).unwrap_or_default();
                info!(self.keyspace, "waiting for the tables to be changed; who does it: {holder}{error}");
            }
            sleep(LOOK).await;
        }
    }

    /// Takes the turn where it is nobody's, or takes it again.
    async fn take(&self, expected: Option<i64>) -> Result<bool, ExecutionError> {
        let name = format!(
            "{}, process {}",
            rustix::system::uname().nodename().to_string_lossy(),
            std::process::id()
        );
        let values: Vec<Option<CqlValue>> = vec![
            Some(CqlValue::Int(HELD.as_secs() as i32)),
            Some(CqlValue::Blob(name.into_bytes())),
            Some(CqlValue::BigInt(self.number)),
            expected.map(CqlValue::BigInt),
        ];
        let change = "USING TTL ? SET value = ?, number = 1, write = ?";
        self.decide(&format!("UPDATE {} {change} WHERE {} IF write = ?", self.table(), place()), values).await
    }

    /// Who has the turn, and by which number.
    async fn holder(&self) -> Result<Option<(i64, String)>, OpenError> {
        let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
        let mut ask = Statement::new(format!("SELECT write, value FROM {} WHERE {}", self.table(), place()));
        ask.set_consistency(Consistency::Serial);
        let result = self.session.query_unpaged(ask, ()).await.map_err(|error| failed(error.into()))?;
        let rows = result.into_rows_result().map_err(|error| failed(error.into()))?;
        let row =
            rows.maybe_first_row::<(Option<i64>, Option<Vec<u8>>)>().map_err(|error| failed(error.into()))?;
        let read_name =
            |value: Option<Vec<u8>>| String::from_utf8_lossy(&value.unwrap_or_default()).into_owned();
        Ok(row.and_then(|(number, value)| Some((number?, read_name(value)))))
    }

    async fn carry_out(&self) -> Result<(), OpenError> {
        schema::add_all(self.session, self.keyspace).await?;
        schema::note(self.session, self.keyspace, WRITTEN, VERSION, self.write).await
    }

    async fn renew(&self) -> ! {
        let mut ticks = interval(RENEWED);
        loop {
            ticks.tick().await;
            // If it fails, whoever takes the turn over does what this process does.
            let _ = self.take(Some(self.number)).await;
        }
    }

    async fn end(&self) {
        let text =
            format!("DELETE value, number, write FROM {} WHERE {} IF write = ?", self.table(), place());
        // If it fails, the record expires by itself.
        let _ = self.decide(&text, vec![Some(CqlValue::BigInt(self.number))]).await;
    }

    async fn decide(&self, text: &str, values: Vec<Option<CqlValue>>) -> Result<bool, ExecutionError> {
        let mut statement = Statement::new(text);
        statement.set_serial_consistency(Some(SerialConsistency::Serial));
        statement.set_consistency(self.write);
        let rows = self.session.query_unpaged(statement, values).await?.into_rows_result();
        let first = rows.ok().and_then(|rows| rows.first_row::<Row>().ok());
        Ok(first.is_some_and(|row| matches!(row.columns.first(), Some(Some(CqlValue::Boolean(true))))))
    }

    fn table(&self) -> String {
        format!("\"{}\".record", self.keyspace)
    }
}

fn place() -> String {
    let kind = RecordKind::Migration;
    format!("kind = '{}' AND shard = {} AND key = '{KEY}'", kind.name(), kind.shard(KEY))
}
