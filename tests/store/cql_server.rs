//! Stores on the real CQL server of the tests.
//!
//! Keyspaces take seconds to make, so each is used by one test after the other, emptied in between. None is dropped, nor
//! any table: for that the server writes all tables of all tests to the disk, and whoever asks it something waits.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock, Mutex},
};

use futures_util::future::try_join_all;
use rookery::{
    config,
    route::key::digests,
    store::scylla::{CqlConnection, Scylla, apply_schema},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::subject::Subject;
pub use common::cassandra::new_name;
use common::cassandra::server;

pub const ONE_REPLICA: &str = "{'class': 'SimpleStrategy', 'replication_factor': 1}";

/// What the tests themselves ask the server runs here.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

/// Keyspaces that nobody uses.
static POOL: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

struct Keyspace {
    name: String,
    connection: Arc<CqlConnection>,
    session: Session,
    /// How many writes its tables had seen when they were empty last.
    seen: HashMap<String, i64>,
}

/// A keyspace in use; goes back into the pool when it is dropped.
struct Lease(Option<Keyspace>);

/// Opens an empty store.
pub fn open(config: config::Scylla) -> Subject {
    let [store] = nodes(config);
    store
}

/// Opens an empty store on several nodes.
pub fn nodes<const N: usize>(config: config::Scylla) -> [Subject; N] {
    nodes_and_keyspace(config).0
}

/// The same, and the name of the keyspace.
pub fn nodes_and_keyspace<const N: usize>(config: config::Scylla) -> ([Subject; N], String) {
    let free = POOL.lock().unwrap().pop();
    let keyspace = match free {
        Some(mut keyspace) => {
            RUNTIME.block_on(keyspace.empty());
            keyspace
        }
        None => RUNTIME.block_on(Keyspace::make()),
    };
    let (connection, name) = (Arc::clone(&keyspace.connection), keyspace.name.clone());
    let lease = Arc::new(Lease(Some(keyspace)));
    let node =
        |()| Subject::on_server(Scylla::over(Arc::clone(&connection), &config, digests), Arc::clone(&lease));
    ([(); N].map(node), name)
}

/// The settings for a keyspace of that name on the server of the tests.
pub fn settings(keyspace: &str) -> config::Scylla {
    let nodes = vec![server().to_owned()];
    config::Scylla { nodes, keyspace: keyspace.to_owned(), threads: 1, ..patient() }
}

/// Settings for a machine that is busy with other tests.
pub fn patient() -> config::Scylla {
    config::Scylla { deadline_ms: 60_000, request_timeout_ms: 10_000, ..config::Scylla::default() }
}

/// Asks the server itself.
pub fn ask_server(statement: &str) {
    RUNTIME.block_on(async {
        let session = SessionBuilder::new().known_node(server()).build().await.unwrap();
        session.query_unpaged(statement, ()).await.unwrap();
    });
}

/// Makes a keyspace with the tables of an earlier version, but for one of them perhaps.
pub fn earlier_tables(keyspace: &str, schema: &str, version: u32, lacking: Option<&str>) {
    ask_server(&format!("CREATE KEYSPACE {keyspace} WITH replication = {ONE_REPLICA}"));
    let code = schema.lines().filter(|line| !line.starts_with("--")).collect::<Vec<_>>().join("\n");
    let statements = code.split(';').map(str::trim).filter(|statement| !statement.is_empty());
    let is_there = |statement: &&str| {
        lacking.is_none_or(|table| !statement.starts_with(&format!("CREATE TABLE IF NOT EXISTS {table} (")))
    };
    for statement in statements.filter(is_there) {
        ask_server(&statement.replace("IF NOT EXISTS ", &format!("{keyspace}.")));
    }
    for (name, value) in [("schema", version.to_string()), ("store", "00000000000000ab".to_owned())] {
        ask_server(&format!(
            "INSERT INTO {keyspace}.meta (name, value) VALUES ('{name}', '{value}') USING TIMESTAMP 1"
        ));
    }
}

/// The text that a statement selects.
pub fn value_on_server(statement: &str) -> Option<String> {
    RUNTIME.block_on(async {
        let session = SessionBuilder::new().known_node(server()).build().await.unwrap();
        let result = session.query_unpaged(statement, ()).await.unwrap().into_rows_result().unwrap();
        result.maybe_first_row::<(String,)>().unwrap().map(|(value,)| value)
    })
}

/// How many rows the server has of what a statement selects.
pub fn count_on_server(selection: &str) -> i64 {
    RUNTIME.block_on(async {
        let session = SessionBuilder::new().known_node(server()).build().await.unwrap();
        let result = session.query_unpaged(format!("SELECT count(*) FROM {selection}"), ()).await.unwrap();
        result.into_rows_result().unwrap().first_row::<(i64,)>().unwrap().0
    })
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

impl Keyspace {
    async fn make() -> Self {
        let name = new_name();
        let session = SessionBuilder::new().known_node(server()).build().await.unwrap();
        // Without a commit log there is nothing to flush when it is emptied.
        let create = format!(
            "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}} \
             AND durable_writes = false"
        );
        session.query_unpaged(create, ()).await.unwrap();
        session.use_keyspace(&name, true).await.unwrap();
        let config = settings(&name);
        apply_schema(&config, "{}").await.unwrap();
        let connection = Arc::new(CqlConnection::open(&config).await.unwrap());
        let mut keyspace = Self { name, connection, session, seen: HashMap::new() };
        keyspace.seen = keyspace.written().await;
        keyspace
    }

    /// Empties the tables that were written to. One that holds nothing but what was removed was written to as well.
    async fn empty(&mut self) {
        let written = self.written().await;
        let tables = written.iter().filter(|(table, writes)| self.seen.get(*table) != Some(writes));
        let truncate = tables.map(|(table, _)| self.session.query_unpaged(format!("TRUNCATE {table}"), ()));
        try_join_all(truncate).await.unwrap();
        self.seen = written;
    }

    /// How many writes each table has seen, but for what the schema says of itself.
    async fn written(&self) -> HashMap<String, i64> {
        let statement = "SELECT table_name, count FROM system_views.local_write_latency WHERE keyspace_name = ? \
                         ALLOW FILTERING";
        let answer = self.session.query_unpaged(statement, (&self.name,)).await.unwrap();
        let rows = answer.into_rows_result().unwrap();
        let tables = rows.rows::<(String, i64)>().unwrap().map(Result::unwrap);
        tables.filter(|(table, _)| table != "meta").collect()
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // A test that failed may have broken the pool; then there are enough new keyspaces.
        if let (Ok(mut pool), Some(keyspace)) = (POOL.lock(), self.0.take()) {
            pool.push(keyspace);
        }
    }
}
