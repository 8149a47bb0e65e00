//! What `cluster/schema.cql` declares, statement by statement.

use sha2::{Digest, Sha256};

/// What `rookery schema apply` carries out.
pub const SCHEMA: &str = include_str!("../../../cluster/schema.cql");

/// The statements of the file, without its comments.
pub fn statements() -> Vec<String> {
    let code: Vec<&str> = SCHEMA.lines().filter(|line| !line.trim_start().starts_with("--")).collect();
    let code = code.join("\n");
    code.split(';').map(str::trim).filter(|statement| !statement.is_empty()).map(str::to_owned).collect()
}

/// The statement that makes a table in a keyspace, with an id that follows from its name: two nodes that make it at the
/// same time through different servers would else make two tables of one name, and lose what is written to one of them.
pub fn creation(statement: &str, keyspace: &str) -> String {
    /// Part of all ids, so never changed.
    const IDS: u32 = 1;
    let Some((name, rest)) =
        statement.strip_prefix("CREATE TABLE IF NOT EXISTS ").and_then(|rest| rest.split_once(' '))
    else {
        return statement.to_owned();
    };
    let mut id = [0; 16];
    id.copy_from_slice(&Sha256::digest(format!("rookery {IDS} {keyspace}.{name}"))[..16]);
    // Servers want a time-based id (RFC 9562), and look at nothing else in it.
    id[6] = id[6] & 0x0f | 0x10;
    id[8] = id[8] & 0x3f | 0x80;
    let hex = hex::encode(id);
    let parts = [&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-");
    format!("CREATE TABLE IF NOT EXISTS \"{keyspace}\".{name} {rest} AND id = {parts}")
}

/// The name of the table that a statement makes, and of each column the name and what it is.
pub fn columns(statement: &str) -> Option<(&str, Vec<(&str, &str)>)> {
    let (name, rest) = statement.strip_prefix("CREATE TABLE IF NOT EXISTS ")?.split_once(" (")?;
    let (body, _) = rest.split_once("\n)")?;
    let lines = body.lines().map(|line| line.trim().trim_end_matches(','));
    let columns =
        lines.filter(|line| !line.starts_with("PRIMARY KEY")).filter_map(|line| line.split_once(' '));
    Some((name, columns.collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_table_has_an_id_of_its_own() {
        let all = statements();
        assert!(all.len() > 10);
        let mut ids: Vec<_> = all
            .iter()
            .map(|statement| {
                assert!(statement.starts_with("CREATE TABLE IF NOT EXISTS "), "{statement}");
                assert!(statement.contains(" WITH "), "an id is appended with AND: {statement}");
                creation(statement, "rookery").rsplit(' ').next().map(str::to_owned)
            })
            .collect();
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), all.len());
        assert_ne!(creation(&all[0], "rookery"), creation(&all[0], "other"));
    }

    #[test]
    fn the_columns_of_tables_are_read_from_their_statements() {
        let all = statements();
        let tables: Vec<_> = all.iter().map(|statement| columns(statement).unwrap()).collect();
        let of = |name: &str| &tables.iter().find(|(table, _)| *table == name).unwrap().1;
        assert_eq!(of("vanishing"), &[("list", "int"), ("pubkey", "blob"), ("until", "bigint")]);
        assert!(of("by_author").contains(&("buckets", "set<text> static")));
    }
}
