//! The tables: made from `cluster/schema.cql`, and checked before they are used.

use std::{
    collections::HashSet,
    time::{Duration, Instant},
};

use scylla::{
    client::session::Session,
    errors::ExecutionError,
    statement::{Consistency, Statement},
};
use tokio::time::sleep;
use tracing::info;

use super::{
    OpenError,
    consistency::{self, Replicas},
    declared::{columns, creation, statements},
    dial,
};
use crate::{clock, store::Identity};

/// Replication of a keyspace that has to be made, in the syntax of CQL.
pub const DEFAULT_REPLICATION: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}";

/// For how long one change of the schema may take, which all servers have to learn.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// For how long is waited for servers that are not known yet.
const JOINING: Duration = Duration::from_secs(5);

/// Version of the tables that this program writes.
pub const VERSION: u32 = 2;

/// The oldest program that can use what this one writes.
pub const READABLE_FROM: u32 = 1;

/// The row of table `meta` with the version that the tables are written by.
pub const WRITTEN: &str = "written";

/// The row with the oldest version of programs that can use them. The first one knew of this number only.
pub const READABLE: &str = "schema";

/// The row with the identity of the tables.
const IDENTITY: &str = "store";

/// The pause before a change is tried again that servers could not carry out.
const PAUSE: Duration = Duration::from_millis(500);

/// What tables say of themselves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub written: u32,
    pub readable: u32,
}

impl Versions {
    /// Whether this program may use the tables.
    ///
    /// # Errors
    /// When it is too old.
    pub fn check(self) -> Result<(), OpenError> {
        match self.readable <= VERSION {
            true => Ok(()),
            false => Err(too_new(self.readable.to_string())),
        }
    }

    pub fn is_current(self) -> bool {
        self.written >= VERSION
    }
}

/// The tables are of a version that this program does not know.
fn too_new(found: String) -> OpenError {
    OpenError::Version { found, own: VERSION }
}

/// Makes the keyspace, and the table that says what is in it, where they are missing.
///
/// # Errors
/// When the servers refuse.
pub async fn make_keyspace(session: &Session, keyspace: &str, replication: &str) -> Result<(), OpenError> {
    check_name(keyspace)?;
    let create = format!("CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {replication}");
    change(session, create.into()).await?;
    let replicas = consistency::replicas(session, keyspace).await?;
    if is_first_mistake(session, keyspace, &replicas).await? {
        info!(keyspace, replication, "there is nothing in the keyspace yet; its replication is changed");
        let replication = in_datacenters(replication, &replicas);
        let alter = format!("ALTER KEYSPACE \"{keyspace}\" WITH replication = {replication}");
        change(session, alter.into()).await?;
    }
    add_table(session, keyspace, "meta").await
}

/// Makes a table where it is missing.
///
/// # Errors
/// When the servers refuse.
pub async fn add_table(session: &Session, keyspace: &str, name: &str) -> Result<(), OpenError> {
    let is_of_it = |statement: &&String| columns(statement).is_some_and(|(table, _)| table == name);
    match statements().iter().find(is_of_it) {
        Some(statement) => change(session, creation(statement, keyspace).into()).await,
        None => Ok(()),
    }
}

/// Makes all tables and columns that are missing.
///
/// # Errors
/// When the servers refuse.
pub async fn add_all(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    let all = statements();
    for statement in &all {
        change(session, creation(statement, keyspace).into()).await?;
    }
    for statement in &all {
        add_columns(session, keyspace, statement).await?;
    }
    Ok(())
}

/// Notes a version in table `meta`. The highest one wins, whoever is late.
///
/// # Errors
/// When the servers refuse.
pub async fn note(
    session: &Session,
    keyspace: &str,
    name: &str,
    version: u32,
    write: Consistency,
) -> Result<(), OpenError> {
    let mut note = Statement::new(format!(
        "INSERT INTO \"{keyspace}\".meta (name, value) VALUES ('{name}', '{version}') USING TIMESTAMP {version}"
    ));
    note.set_consistency(write);
    change(session, note).await
}

/// Adds the columns that a table lacks which was made before there were those.
async fn add_columns(session: &Session, keyspace: &str, statement: &str) -> Result<(), OpenError> {
    let Some((table, columns)) = columns(statement) else { return Ok(()) };
    let there = patiently(session, || columns_there(session, keyspace, table)).await?;
    for (name, kind) in columns.into_iter().filter(|(name, _)| !there.contains(*name)) {
        let added =
            change(session, format!("ALTER TABLE \"{keyspace}\".{table} ADD {name} {kind}").into()).await;
        // Another node may have been faster, and then the statement is refused.
        if let Err(error) = added
            && !patiently(session, || columns_there(session, keyspace, table)).await?.contains(name)
        {
            return Err(error);
        }
        info!(keyspace, table, name, "a column is added");
    }
    Ok(())
}

async fn columns_there(session: &Session, keyspace: &str, table: &str) -> Result<HashSet<String>, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
    let text = "SELECT column_name FROM system_schema.columns WHERE keyspace_name = ? AND table_name = ?";
    let result = session.query_unpaged(text, (keyspace, table)).await;
    let result = result.map_err(|error| OpenError::Schema(Box::new(error)))?;
    let result = result.into_rows_result().map_err(|error| failed(error.into()))?;
    let rows = result.rows::<(String,)>().map_err(|error| failed(error.into()))?;
    rows.map(|row| row.map(|(name,)| name).map_err(|error| failed(error.into()))).collect()
}

/// Carries out a statement that may be carried out twice.
async fn change(session: &Session, mut statement: Statement) -> Result<(), OpenError> {
    statement.set_request_timeout(Some(PATIENCE));
    let carry_out = || async {
        let done = session.query_unpaged(statement.clone(), ()).await;
        done.map(drop).map_err(|error| OpenError::Schema(Box::new(error)))
    };
    patiently(session, carry_out).await
}

/// Whether the keyspace was made with more copies than there are servers, and could not be filled.
async fn is_first_mistake(session: &Session, keyspace: &str, replicas: &Replicas) -> Result<bool, OpenError> {
    // One copy is enough to know: what wrote the version wrote it to all who were there.
    let is_empty =
        || async { Ok(noted(session, keyspace, READABLE, Some(Consistency::One)).await?.is_none()) };
    let copies: usize = replicas.iter().map(|(_, count)| count).sum();
    Ok(copies > servers(session) && patiently(session, is_empty).await?)
}

/// A number of copies for all datacentres, said of each: a change leaves those as they are that it does not name.
fn in_datacenters(replication: &str, replicas: &Replicas) -> String {
    let factor = replication.split_once("'replication_factor'").and_then(|(_, rest)| {
        let number = rest.trim_start_matches([' ', ':', '\'']);
        number.split(|digit: char| !digit.is_ascii_digit()).next()?.parse::<usize>().ok()
    });
    match factor.filter(|_| replication.contains("NetworkTopologyStrategy")) {
        None => replication.to_owned(),
        Some(factor) => {
            let each = replicas.iter().map(|(datacenter, _)| format!(", '{datacenter}': {factor}"));
            format!("{{'class': 'NetworkTopologyStrategy'{}}}", each.collect::<String>())
        }
    }
}

fn servers(session: &Session) -> usize {
    session.get_cluster_state().get_nodes_info().len()
}

/// Tries again what servers fail to do while one of them is joining.
async fn patiently<T, W>(session: &Session, work: impl Fn() -> W) -> Result<T, OpenError>
where
    W: Future<Output = Result<T, OpenError>>,
{
    let begun = Instant::now();
    loop {
        let error = match work().await {
            Err(OpenError::Schema(error)) => error,
            done => return done,
        };
        let cause = error.downcast_ref::<ExecutionError>();
        let servers = servers(session);
        match cause.and_then(dial::required).filter(|required| *required > servers) {
            Some(required) if begun.elapsed() > JOINING => {
                return Err(OpenError::FewServers { required, servers });
            }
            _ if cause.is_none_or(dial::is_final) || begun.elapsed() > PATIENCE => {
                return Err(OpenError::Schema(error));
            }
            _ => {}
        }
        info!("trying again in {} ms: {error}", PAUSE.as_millis());
        sleep(PAUSE).await;
    }
}

/// Refuses a keyspace whose tables are missing, or newer than this program can use.
///
/// # Errors
/// Says what to do.
pub async fn check(session: &Session, keyspace: &str) -> Result<Versions, OpenError> {
    check_name(keyspace)?;
    let found = versions(session, keyspace).await?;
    let found = found.ok_or_else(|| OpenError::NoKeyspace(keyspace.to_owned()))?;
    found.check()?;
    Ok(found)
}

/// The versions of the tables; `None` where there are none.
///
/// # Errors
/// When the servers do not answer.
pub async fn versions(session: &Session, keyspace: &str) -> Result<Option<Versions>, OpenError> {
    let read = || async {
        let readable = noted(session, keyspace, READABLE, None).await?;
        // Tables of the first version do not say by which they are written.
        let written = noted(session, keyspace, WRITTEN, None).await?.unwrap_or_default();
        Ok(readable.map(|readable| Versions { written: written.max(readable), readable }))
    };
    patiently(session, read).await
}

/// A version in table `meta`. As many copies are asked as the configuration says, unless told otherwise.
async fn noted(
    session: &Session,
    keyspace: &str,
    name: &str,
    consistency: Option<Consistency>,
) -> Result<Option<u32>, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'meta'";
    let found = session.query_unpaged(text, (keyspace,)).await.map_err(|error| failed(error.into()))?;
    let found = found.into_rows_result().map_err(|error| failed(error.into()))?;
    if found.rows_num() == 0 {
        return Ok(None);
    }
    match value(session, keyspace, name, consistency).await? {
        None => Ok(None),
        Some(value) => value.parse().map(Some).map_err(|_| too_new(value)),
    }
}

/// What table `meta` says.
async fn value(
    session: &Session,
    keyspace: &str,
    name: &str,
    consistency: Option<Consistency>,
) -> Result<Option<String>, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
    let mut ask = Statement::new(format!("SELECT value FROM \"{keyspace}\".meta WHERE name = ?"));
    if let Some(consistency) = consistency {
        ask.set_consistency(consistency);
    }
    let result = session.query_unpaged(ask, (name,)).await.map_err(|error| failed(error.into()))?;
    let rows = result.into_rows_result().map_err(|error| failed(error.into()))?;
    let row = rows.maybe_first_row::<(Option<String>,)>().map_err(|error| failed(error.into()))?;
    Ok(row.and_then(|(value,)| value))
}

/// The identity of the tables. Those that an older program made have none yet.
///
/// # Errors
/// When the servers do not answer.
pub async fn identity(session: &Session, keyspace: &str, write: Consistency) -> Result<Identity, OpenError> {
    /// Until another node that draws at the same time has drawn.
    const SETTLES: Duration = Duration::from_secs(2);
    if value(session, keyspace, IDENTITY, None).await?.is_none() {
        draw_identity(session, keyspace, write).await?;
        sleep(SETTLES).await;
    }
    let found = value(session, keyspace, IDENTITY, None).await?;
    let number = found.as_deref().and_then(|text| u64::from_str_radix(text, 16).ok());
    number.map(Identity::Shared).ok_or_else(|| too_new(format!("identity {found:?}")))
}

/// Draws an identity where the tables have none.
///
/// # Errors
/// When the servers do not answer.
pub async fn make_identity(session: &Session, keyspace: &str, write: Consistency) -> Result<(), OpenError> {
    if patiently(session, || value(session, keyspace, IDENTITY, None)).await?.is_none() {
        draw_identity(session, keyspace, write).await?;
    }
    Ok(())
}

/// Draws an identity. The one that is drawn first stays, and of two in the same second the larger one.
async fn draw_identity(session: &Session, keyspace: &str, write: Consistency) -> Result<(), OpenError> {
    /// The later an identity is drawn, the smaller is its timestamp. Small ones no server refuses.
    const LAST: u64 = 1 << 40;
    let text = format!("INSERT INTO \"{keyspace}\".meta (name, value) VALUES (?, ?) USING TIMESTAMP ?");
    let mut draw = Statement::new(text);
    draw.set_consistency(write);
    let drawn = format!("{:016x}", rand::random::<u64>());
    let at = LAST.saturating_sub(clock::now()).max(1) as i64;
    let drawn = session.query_unpaged(draw, (IDENTITY, drawn, at)).await;
    drawn.map(drop).map_err(|error| OpenError::Schema(Box::new(error)))
}

/// Refuses what is no name of a keyspace: it stands in statements, where nothing can be bound.
fn check_name(keyspace: &str) -> Result<(), OpenError> {
    let fits = (1..=48).contains(&keyspace.len());
    match fits && keyspace.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(()),
        false => Err(OpenError::BadName(keyspace.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_of_copies_is_said_of_each_datacentre() {
        let replicas: Replicas = vec![("dc1".into(), 3), ("dc2".into(), 3)];
        for (given, expected) in [
            (
                "{'class': 'NetworkTopologyStrategy', 'replication_factor': 2}",
                "{'class': 'NetworkTopologyStrategy', 'dc1': 2, 'dc2': 2}",
            ),
            (
                "{'class':'NetworkTopologyStrategy','replication_factor':'10'}",
                "{'class': 'NetworkTopologyStrategy', 'dc1': 10, 'dc2': 10}",
            ),
            (
                "{'class': 'NetworkTopologyStrategy', 'dc1': 1}",
                "{'class': 'NetworkTopologyStrategy', 'dc1': 1}",
            ),
            (
                "{'class': 'SimpleStrategy', 'replication_factor': 1}",
                "{'class': 'SimpleStrategy', 'replication_factor': 1}",
            ),
            ("nonsense", "nonsense"),
        ] {
            assert_eq!(in_datacenters(given, &replicas), expected);
        }
    }

    #[test]
    fn names_that_would_need_quotes_are_refused() {
        assert!(check_name("rookery_2").is_ok());
        assert!(check_name("").is_err() && check_name("a\"b").is_err() && check_name("a.b").is_err());
    }
}
