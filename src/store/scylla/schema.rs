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
use sha2::{Digest, Sha256};
use tokio::time::sleep;
use tracing::info;

use super::{
    OpenError,
    consistency::{self, Replicas},
    dial,
};
use crate::{clock, config, store::Identity};

/// What `rookery schema apply` carries out.
pub const SCHEMA: &str = include_str!("../../../cluster/schema.cql");

/// Version of the tables. Others are refused.
pub const VERSION: u32 = 1;

/// Replication of a keyspace that has to be made, in the syntax of CQL.
pub const DEFAULT_REPLICATION: &str = "{'class': 'NetworkTopologyStrategy', 'replication_factor': 3}";

/// For how long one change of the schema may take, which all servers have to learn.
const PATIENCE: Duration = Duration::from_secs(60);

/// For how long servers are waited for that are not even known.
const JOINING: Duration = Duration::from_secs(5);

/// The row of table `meta` with the identity of the tables.
const IDENTITY: &str = "store";

/// Until a change is tried again that servers could not carry out.
const PAUSE: Duration = Duration::from_millis(500);

/// Makes the keyspace and the tables, as far as they are missing. May run on several nodes at once.
///
/// # Errors
/// When the servers refuse, or when the tables are newer than this program.
pub async fn apply(config: &config::Scylla, replication: &str) -> Result<(), OpenError> {
    let write = consistency::parse(&config.write_consistency)?;
    let session = dial::connect(config, PATIENCE).await?;
    let keyspace = &config.keyspace;
    check_name(keyspace)?;
    let create = format!("CREATE KEYSPACE IF NOT EXISTS \"{keyspace}\" WITH replication = {replication}");
    change(&session, create.into()).await?;
    let replicas = consistency::replicas(&session, keyspace).await?;
    if is_first_mistake(&session, keyspace, &replicas).await? {
        info!(keyspace, replication, "there is nothing in the keyspace yet; its replication is changed");
        let replication = in_datacenters(replication, &replicas);
        let alter = format!("ALTER KEYSPACE \"{keyspace}\" WITH replication = {replication}");
        change(&session, alter.into()).await?;
    }
    session.use_keyspace(keyspace, true).await.map_err(OpenError::keyspace)?;
    for (index, statement) in statements(SCHEMA).iter().enumerate() {
        change(&session, with_id(statement, keyspace).into()).await?;
        // The first table says the version. Another node may be making it, so it is asked only now.
        if index == 0
            && let Some(found) = patiently(&session, || version(&session, keyspace, None)).await?
            && found > VERSION
        {
            return Err(OpenError::Version { found: found.to_string() });
        }
    }
    for statement in statements(SCHEMA) {
        add_columns(&session, keyspace, &statement).await?;
    }
    // The highest version wins, whoever is late.
    let mut note = Statement::new(format!(
        "INSERT INTO meta (name, value) VALUES ('schema', '{VERSION}') USING TIMESTAMP {VERSION}"
    ));
    note.set_consistency(write);
    change(&session, note).await?;
    if patiently(&session, || value(&session, keyspace, IDENTITY, None)).await?.is_none() {
        draw_identity(&session, keyspace, write).await?;
    }
    info!(keyspace, version = VERSION, "the tables are there");
    Ok(())
}

/// Adds the columns that a table lacks which was made before there were those.
async fn add_columns(session: &Session, keyspace: &str, statement: &str) -> Result<(), OpenError> {
    let Some((table, columns)) = columns(statement) else { return Ok(()) };
    let there = patiently(session, || columns_there(session, keyspace, table)).await?;
    for (name, kind) in columns.into_iter().filter(|(name, _)| !there.contains(*name)) {
        let added = change(session, format!("ALTER TABLE {table} ADD {name} {kind}").into()).await;
        // Another node may have been faster, and then it is refused.
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

/// The name of the table that a statement makes, and of each column the name and what it is.
fn columns(statement: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split_once(" (")?;
    let (body, _) = rest.split_once("\n)")?;
    let lines = body.lines().map(|line| line.trim().trim_end_matches(','));
    let columns =
        lines.filter(|line| !line.starts_with("PRIMARY KEY")).filter_map(|line| line.split_once(' '));
    Some((name, columns.collect()))
}

/// Carries out what may be carried out twice.
async fn change(session: &Session, statement: Statement) -> Result<(), OpenError> {
    let carry_out = || async {
        let done = session.query_unpaged(statement.clone(), ()).await;
        done.map(drop).map_err(|error| OpenError::Schema(Box::new(error)))
    };
    patiently(session, carry_out).await
}

/// Whether the keyspace was made with more copies than there are servers, and could not be filled.
async fn is_first_mistake(session: &Session, keyspace: &str, replicas: &Replicas) -> Result<bool, OpenError> {
    // One copy is enough to know: what wrote the version wrote it to all who were there.
    let is_empty = || async { Ok(version(session, keyspace, Some(Consistency::One)).await?.is_none()) };
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
async fn patiently<T>(
    session: &Session,
    work: impl AsyncFn() -> Result<T, OpenError>,
) -> Result<T, OpenError> {
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

/// Refuses a keyspace whose tables are missing or of another version.
///
/// # Errors
/// Says what to do.
pub async fn check(session: &Session, keyspace: &str) -> Result<(), OpenError> {
    check_name(keyspace)?;
    match version(session, keyspace, None).await? {
        Some(VERSION) => Ok(()),
        Some(found) => Err(OpenError::Version { found: found.to_string() }),
        None => Err(OpenError::NoKeyspace(keyspace.to_owned())),
    }
}

/// The version of the tables; `None` where there are none. As many copies are asked as the configuration says,
/// unless told otherwise.
async fn version(
    session: &Session,
    keyspace: &str,
    consistency: Option<Consistency>,
) -> Result<Option<u32>, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
    let text = "SELECT table_name FROM system_schema.tables WHERE keyspace_name = ? AND table_name = 'meta'";
    let found = session.query_unpaged(text, (keyspace,)).await.map_err(|error| failed(error.into()))?;
    let found = found.into_rows_result().map_err(|error| failed(error.into()))?;
    if found.rows_num() == 0 {
        return Ok(None);
    }
    match value(session, keyspace, "schema", consistency).await? {
        None => Ok(None),
        Some(value) => value.parse().map(Some).map_err(|_| OpenError::Version { found: value }),
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
    number.map(Identity::Shared).ok_or_else(|| OpenError::Version { found: format!("identity {found:?}") })
}

/// Draws one. The one that is drawn first stays, and of two in the same second the larger one.
async fn draw_identity(session: &Session, keyspace: &str, write: Consistency) -> Result<(), OpenError> {
    /// The later, the smaller is the timestamp. Small ones no server refuses.
    const LAST: u64 = 1 << 40;
    let text = format!("INSERT INTO \"{keyspace}\".meta (name, value) VALUES (?, ?) USING TIMESTAMP ?");
    let mut draw = Statement::new(text);
    draw.set_consistency(write);
    let drawn = format!("{:016x}", rand::random::<u64>());
    let at = LAST.saturating_sub(clock::now()).max(1) as i64;
    let drawn = session.query_unpaged(draw, (IDENTITY, drawn, at)).await;
    drawn.map(drop).map_err(|error| OpenError::Schema(Box::new(error)))
}

/// Keyspaces are named in statements, where nothing can be bound.
fn check_name(keyspace: &str) -> Result<(), OpenError> {
    let fits = (1..=48).contains(&keyspace.len());
    match fits && keyspace.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_') {
        true => Ok(()),
        false => Err(OpenError::BadName(keyspace.to_owned())),
    }
}

/// The statements of a file, without its comments.
fn statements(text: &str) -> Vec<String> {
    let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// Gives a table an id that follows from its name: two nodes that make it at the same time through
/// different servers would else make two tables of one name, and lose what is written to one of them.
fn with_id(statement: &str, keyspace: &str) -> String {
    let Some(name) =
        statement.strip_prefix("CREATE TABLE IF NOT EXISTS ").and_then(|rest| rest.split(' ').next())
    else {
        return statement.to_owned();
    };
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(format!("rookery {VERSION} {keyspace}.{name}"))[..16]);
    // Servers want a time-based one (RFC 9562), and look at nothing else in it.
    id[6] = id[6] & 0x0f | 0x10;
    id[8] = id[8] & 0x3f | 0x80;
    let hex = hex::encode(id);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    format!("{statement} AND id = {parts}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_an_id_of_its_own() {
        let all = statements(SCHEMA);
        assert!(all.len() > 10);
        assert!(all[0].contains(" meta ("), "the version is read after the first statement");
        let mut ids: Vec<_> = all
            .iter()
            .map(|statement| {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS "), "{statement}");
                assert!(statement.contains(" WITH "), "an id is appended with AND: {statement}");
                with_id(statement, "rookery").rsplit(' ').next().map(str::to_owned)
            })
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        assert_ne!(with_id(&all[0], "rookery"), with_id(&all[0], "other"));
    }

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
    fn the_columns_of_tables_are_read_from_their_statements() {
        let all = statements(SCHEMA);
        let tables: Vec<_> = all.iter().map(|statement| columns(statement).unwrap()).collect();
        let of = |name: &str| &tables.iter().find(|(table, _)| *table == name).unwrap().1;
        assert_eq!(of("vanishing"), &[("list", "int"), ("pubkey", "blob"), ("until", "bigint")]);
        assert!(of("by_author").contains(&("buckets", "set<text> static")));
    }

    #[test]
    fn names_that_would_need_quotes_are_refused() {
        assert!(check_name("rookery_2").is_ok());
        assert!(check_name("").is_err() && check_name("a\"b").is_err() && check_name("a.b").is_err());
    }
}
