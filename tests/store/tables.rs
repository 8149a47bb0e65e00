//! Tables of an earlier version on a real CQL server: brought to this one while others wait, whenever that is cut off,
//! and refused only where they say so.

use std::{
    process::{Child, Stdio},
    time::Duration,
};

use futures_util::future::try_join_all;
use rookery::{
    config,
    route::key::digests,
    store::{
        Identity, Outcome,
        records::RecordKind,
        scylla::{CqlConnection, OpenError, Scylla, apply_schema, migrate_schema},
    },
};
use tokio::time::timeout;

use common::{
    cassandra::server,
    gate::{Gate, Way},
    rookery,
};

use crate::{
    cql_server::{
        ONE_REPLICA, ask_server, block_on, count_on_server, earlier_tables, new_name, settings,
        value_on_server,
    },
    subject::{Subject, note, user},
};

/// As `rookery schema apply` of version 1 carried it out.
const SCHEMA_1: &str = include_str!("fixtures/schema-1.cql");

/// Version 1 of the tables, and who they are.
fn tables_of_version_1() -> config::Scylla {
    let config = settings(&new_name());
    earlier_tables(&config.keyspace, SCHEMA_1, 1, None);
    config
}

fn meta(config: &config::Scylla, name: &str) -> Option<String> {
    value_on_server(&format!("SELECT value FROM {}.meta WHERE name = '{name}'", config.keyspace))
}

/// What a node does with them, and what it leaves to nodes of the version before.
fn are_changed(config: &config::Scylla) {
    let store = Subject::new(block_on(Scylla::open(config, digests)).unwrap());
    assert_eq!(store.store().identity(), Identity::Shared(0xab));
    assert_eq!(store.put(&note(&user(0), 10, "")), Outcome::Stored);
    let put = store.store().records().put(RecordKind::Setting, "key", None, Vec::new(), None);
    assert!(store.block_on(put).unwrap().won().is_some());
    assert_eq!(meta(config, "written").as_deref(), Some("2"));
    // All that a program of version 1 asks for.
    assert_eq!(meta(config, "schema").as_deref(), Some("1"));
}

#[test]
fn are_changed_by_one_node_while_others_wait() {
    let config = tables_of_version_1();
    block_on(try_join_all((0..3).map(|_| CqlConnection::open(&config)))).unwrap();
    are_changed(&config);
    let turn = format!("{}.record WHERE kind = 'migration' ALLOW FILTERING", config.keyspace);
    assert_eq!(count_on_server(&turn), 0, "who had the turn has given it back");
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    are_still_readable(&config);
}

fn are_still_readable(config: &config::Scylla) {
    assert_eq!(meta(config, "schema").as_deref(), Some("1"));
    block_on(CqlConnection::open(config)).unwrap();
}

/// `kill -9` before the first change and before the last one: whoever comes next has it done.
#[test]
fn that_were_changed_half_way_are_changed_by_the_next() {
    let config = tables_of_version_1();
    for statement in
        ["CREATE TABLE IF NOT EXISTS record", "CREATE TABLE IF NOT EXISTS meta", "INSERT INTO meta"]
    {
        let gate = block_on(Gate::start(server()));
        let held = gate.hold(Way::Request, statement);
        let mut process = migrating(&gate, &config);
        block_on(held.caught());
        process.kill().unwrap();
        process.wait().unwrap();
        block_on(async { held.discard() });
        assert_eq!(meta(&config, "written"), None, "{statement}");
    }
    are_changed(&config);
}

fn migrating(gate: &Gate, config: &config::Scylla) -> Child {
    rookery(&["schema", "migrate", "--scylla", &gate.address.to_string()])
        .args(["--set", &format!("scylla.keyspace={}", config.keyspace)])
        .args(["--set", "scylla.request_timeout_ms=60000"])
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Who waits says so and goes on when it is done, and does not do it again.
#[test]
fn are_waited_for() {
    let config = tables_of_version_1();
    let gate = block_on(Gate::start(server()));
    let first = config::Scylla { nodes: vec![gate.address.to_string()], ..config.clone() };
    block_on(async {
        let held = gate.hold(Way::Request, "INSERT INTO meta");
        let first = tokio::spawn(async move { CqlConnection::open(&first).await.map(drop) });
        held.caught().await;
        let waiting = config.clone();
        let mut second = tokio::spawn(async move { CqlConnection::open(&waiting).await.map(drop) });
        // It looks twice a second, so by then it would have gone on.
        let is_early = timeout(Duration::from_secs(3), &mut second).await.is_ok();
        assert!(!is_early, "it did not wait");
        held.release();
        first.await.unwrap().unwrap();
        second.await.unwrap().unwrap();
    });
    are_changed(&config);
}

/// A later version that has only added something is no reason to refuse it; one that older programs can not read is.
#[test]
fn of_a_later_version_are_used_until_they_refuse_it() {
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let say = |name: &str, value: u32| {
        let keyspace = &config.keyspace;
        ask_server(&format!(
            "INSERT INTO {keyspace}.meta (name, value) VALUES ('{name}', '{value}') USING TIMESTAMP {value}"
        ));
    };
    say("written", 3);
    block_on(CqlConnection::open(&config)).unwrap();
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    block_on(migrate_schema(&config, false)).unwrap();
    assert_eq!(meta(&config, "written").as_deref(), Some("3"));
    say("schema", 3);
    for refused in [
        block_on(CqlConnection::open(&config)).map(drop),
        block_on(apply_schema(&config, ONE_REPLICA)),
        block_on(migrate_schema(&config, true)),
    ] {
        assert!(matches!(&refused, Err(OpenError::Version { found, .. }) if found == "3"), "{refused:?}");
    }
}

#[test]
fn are_closed_to_older_programs_when_that_is_said() {
    let config = tables_of_version_1();
    block_on(migrate_schema(&config, false)).unwrap();
    are_still_readable(&config);
    block_on(migrate_schema(&config, true)).unwrap();
    assert_eq!(meta(&config, "schema").as_deref(), Some("2"));
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    assert_eq!(meta(&config, "schema").as_deref(), Some("2"));
    block_on(CqlConnection::open(&config)).unwrap();
}

/// As ScyllaDB before 2025.4 where a keyspace has tablets.
#[test]
fn on_servers_without_conditional_writes_are_refused_with_what_to_do() {
    let current = settings(&new_name());
    block_on(apply_schema(&current, ONE_REPLICA)).unwrap();
    for config in [current, tables_of_version_1()] {
        let gate = block_on(Gate::start(server()));
        gate.refuse("UPDATE record", "LWT is not yet supported with tablets");
        let through = config::Scylla { nodes: vec![gate.address.to_string()], ..config.clone() };
        let refused = block_on(CqlConnection::open(&through)).map(drop).unwrap_err();
        assert!(matches!(refused, OpenError::NoConditions { .. }), "{refused}");
        let text = refused.to_string();
        assert!(text.contains("2025.4") && text.contains("not yet supported with tablets"), "{text}");
    }
}
