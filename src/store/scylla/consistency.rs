//! How many replicas answer a read and a write, and whether every read then sees every write before it.

use std::collections::HashMap;

use scylla::{client::session::Session, statement::Consistency};

use tracing::info;

use super::OpenError;
use crate::config;

/// The consistencies that make sense here, by their names in CQL.
const NAMES: [(&str, Consistency); 8] = [
    ("ONE", Consistency::One),
    ("TWO", Consistency::Two),
    ("THREE", Consistency::Three),
    ("QUORUM", Consistency::Quorum),
    ("ALL", Consistency::All),
    ("LOCAL_ONE", Consistency::LocalOne),
    ("LOCAL_QUORUM", Consistency::LocalQuorum),
    ("EACH_QUORUM", Consistency::EachQuorum),
];

/// Reads the name of a consistency.
///
/// # Errors
/// Says which names there are.
pub fn parse(name: &str) -> Result<Consistency, OpenError> {
    let found = NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map(|(_, consistency)| *consistency).ok_or_else(|| OpenError::Consistency {
        name: name.to_owned(),
        known: NAMES.map(|(name, _)| name).join(", "),
    })
}

/// Refuses a keyspace whose reads could miss what was acknowledged.
///
/// # Errors
/// Says how many replicas there are, and how many answer.
pub async fn check(session: &Session, config: &config::Scylla) -> Result<(), OpenError> {
    let read = parse(&config.read_consistency)?;
    let write = parse(&config.write_consistency)?;
    let replicas = replicas(session, &config.keyspace).await?;
    let is_local = |name: &str| name.to_ascii_uppercase().starts_with("LOCAL");
    let local = is_local(&config.read_consistency) || is_local(&config.write_consistency);
    if local && replicas.len() > 1 && config.datacenter.is_empty() {
        return Err(OpenError::WhichDatacenter(config.keyspace.clone()));
    }
    if replicas.len() > 1 {
        info!(
            "the relay's own records are decided by a quorum of all datacentres: each change takes some ways between them"
        );
    }
    match overlap(&replicas, read, write) {
        true => Ok(()),
        false => Err(OpenError::NoOverlap {
            keyspace: config.keyspace.clone(),
            replicas: replicas
                .iter()
                .map(|(at, count)| format!("{at}: {count}"))
                .collect::<Vec<_>>()
                .join(", "),
            read: config.read_consistency.clone(),
            write: config.write_consistency.clone(),
        }),
    }
}

/// Replicas in each datacentre.
pub type Replicas = Vec<(String, usize)>;

/// How many replicas the keyspace has in each datacentre.
///
/// # Errors
/// When the servers refuse, and when there is no such keyspace.
pub async fn replicas(session: &Session, keyspace: &str) -> Result<Replicas, OpenError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| OpenError::Schema(error);
    let text = "SELECT replication FROM system_schema.keyspaces WHERE keyspace_name = ?";
    let result = session.query_unpaged(text, (keyspace,)).await.map_err(|error| failed(error.into()))?;
    let rows = result.into_rows_result().map_err(|error| failed(error.into()))?;
    let row = rows.maybe_first_row::<(HashMap<String, String>,)>().map_err(|error| failed(error.into()))?;
    let Some((options,)) = row else { return Err(OpenError::NoKeyspace(keyspace.to_owned())) };
    // The class beside them is no number; of a transient replica's "3/1" only the first part counts.
    let count = |text: &String| text.split('/').next()?.parse().ok();
    let mut replicas: Replicas =
        options.iter().filter_map(|(at, text)| Some((at.clone(), count(text)?))).collect();
    replicas.sort();
    Ok(replicas)
}

/// Whether in every datacentre, and over all of them, a read meets a replica of each write.
fn overlap(replicas: &Replicas, read: Consistency, write: Consistency) -> bool {
    let total: usize = replicas.iter().map(|(_, count)| count).sum();
    // How many replicas have answered at the least in one datacentre, which has `here` of them.
    let count_local = |consistency, here: usize| match consistency {
        Consistency::LocalOne => 1,
        Consistency::LocalQuorum | Consistency::EachQuorum => here / 2 + 1,
        other => anywhere(other, total).saturating_sub(total - here),
    };
    let meets = |&(_, here): &(String, usize)| count_local(read, here) + count_local(write, here) > here;
    let everywhere = anywhere(read, total) + anywhere(write, total) > total;
    total > 0 && (everywhere || replicas.iter().all(meets))
}

/// How many replicas have answered at the least, wherever they are.
fn anywhere(consistency: Consistency, total: usize) -> usize {
    match consistency {
        Consistency::One => 1,
        Consistency::Two => 2,
        Consistency::Three => 3,
        Consistency::Quorum => total / 2 + 1,
        Consistency::All => total,
        // Those of one datacentre alone say nothing of the others.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_meet_writes() {
        use Consistency::{All, EachQuorum, LocalOne, LocalQuorum, One, Quorum, Two};
        let one = vec![("replication_factor".to_owned(), 1)];
        let three = vec![("replication_factor".to_owned(), 3)];
        let two_centres = vec![("a".to_owned(), 3), ("b".to_owned(), 3)];
        for (replicas, read, write, expected) in [
            (&one, LocalQuorum, LocalQuorum, true),
            (&one, One, One, true),
            (&one, LocalOne, LocalOne, true),
            (&three, LocalQuorum, LocalQuorum, true),
            (&three, One, LocalQuorum, false),
            (&three, One, All, true),
            (&three, LocalOne, All, true),
            (&three, Two, Two, true),
            (&three, One, Two, false),
            (&two_centres, LocalQuorum, LocalQuorum, true),
            (&two_centres, Quorum, Quorum, true),
            (&two_centres, LocalQuorum, EachQuorum, true),
            (&two_centres, LocalQuorum, Quorum, false),
            (&two_centres, LocalOne, LocalQuorum, false),
            (&Vec::new(), All, All, false),
        ] {
            assert_eq!(overlap(replicas, read, write), expected, "{read:?} {write:?} of {replicas:?}");
        }
    }

    #[test]
    fn names_are_those_of_cql() {
        assert!(matches!(parse("local_quorum"), Ok(Consistency::LocalQuorum)));
        assert!(parse("ANY").is_err_and(|error| error.to_string().contains("LOCAL_QUORUM")));
    }
}
