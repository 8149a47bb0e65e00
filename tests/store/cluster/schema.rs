//! The tables: made at once and again, of an earlier version and of a later one.

use rookery::{
    config,
    store::scylla::{CqlConnection, OpenError, SCHEMA, apply_schema},
};
use tokio::join;

use crate::cql_server::{ONE_REPLICA, ask_server, block_on, earlier_tables, new_name, settings};

#[test]
fn several_nodes_may_apply_the_schema_at_once_and_again() {
    let config = settings(&new_name());
    assert!(matches!(block_on(CqlConnection::open(&config)), Err(OpenError::NoKeyspace(_))));
    block_on(async {
        let apply = || apply_schema(&config, ONE_REPLICA);
        let (a, b, c) = join!(apply(), apply(), apply());
        a.unwrap();
        b.unwrap();
        c.unwrap();
        CqlConnection::open(&config).await.unwrap();
        apply().await.unwrap();
        CqlConnection::open(&config).await.unwrap();
    });
}

/// Tables of earlier versions of the program get what they lack, and nothing is lost.
#[test]
fn what_tables_lack_is_added() {
    let config = settings(&new_name());
    let keyspace = &config.keyspace;
    earlier_tables(keyspace, SCHEMA, 2, Some("draft"));
    ask_server(&format!("ALTER TABLE {keyspace}.by_author DROP written_by"));
    ask_server(&format!("ALTER TABLE {keyspace}.node DROP settled"));
    let refused = block_on(CqlConnection::open(&config)).map(drop).unwrap_err();
    assert!(refused.to_string().contains("rookery schema apply"), "{refused}");
    block_on(async {
        let (a, b) = join!(apply_schema(&config, ONE_REPLICA), apply_schema(&config, ONE_REPLICA));
        a.unwrap();
        b.unwrap();
        CqlConnection::open(&config).await.unwrap();
    });
}

#[test]
fn newer_tables_are_refused() {
    let config = settings(&new_name());
    block_on(apply_schema(&config, ONE_REPLICA)).unwrap();
    let keyspace = &config.keyspace;
    ask_server(&format!(
        "INSERT INTO {keyspace}.meta (name, value) VALUES ('schema', '999') USING TIMESTAMP 999"
    ));
    for result in
        [block_on(apply_schema(&config, ONE_REPLICA)), block_on(CqlConnection::open(&config)).map(drop)]
    {
        assert!(matches!(&result, Err(OpenError::Version { found, .. }) if found == "999"), "{result:?}");
    }
}

#[test]
fn consistencies_that_need_not_meet_are_refused() {
    let one = || "ONE".to_owned();
    let config =
        config::Scylla { read_consistency: one(), write_consistency: one(), ..settings(&new_name()) };
    let three = ONE_REPLICA.replace('1', "3");
    block_on(apply_schema(&config, &three)).unwrap();
    let refused = block_on(CqlConnection::open(&config)).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::NoOverlap { .. }), "{refused}");
    let unknown = config::Scylla { read_consistency: "MOST".into(), ..config.clone() };
    let refused = block_on(CqlConnection::open(&unknown)).map(drop).unwrap_err();
    assert!(matches!(refused, OpenError::Consistency { .. }), "{refused}");
}
