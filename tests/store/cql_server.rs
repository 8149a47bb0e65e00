//! A real CQL server for the tests of the cluster store: the one that `ROOKERY_TEST_CQL` names
//! (`HOST:PORT`), or an Apache Cassandra that is started for this run and ends with it.
//!
//! Keyspaces take seconds to make, so each is used by one test after the other, emptied in between.

use std::{
    env,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use futures_util::future::try_join_all;
use rookery::{
    config,
    store::scylla::{Connection, SCHEMA, Scylla, apply_schema},
};
use scylla::client::{session::Session, session_builder::SessionBuilder};
use tokio::runtime::{Builder, Runtime};

use crate::subject::Subject;

/// What the tests themselves ask the server runs here.
static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());

static SERVER: LazyLock<String> = LazyLock::new(|| env::var("ROOKERY_TEST_CQL").unwrap_or_else(|_| start()));

/// Keyspaces that nobody uses.
static POOL: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

struct Keyspace {
    connection: Arc<Connection>,
    session: Session,
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
    let free = POOL.lock().unwrap().pop();
    let keyspace = match free {
        Some(keyspace) => keyspace,
        None => RUNTIME.block_on(Keyspace::make()),
    };
    RUNTIME.block_on(keyspace.empty());
    let connection = Arc::clone(&keyspace.connection);
    let lease = Arc::new(Lease(Some(keyspace)));
    [(); N].map(|()| Subject::on_server(Scylla::over(Arc::clone(&connection), &config), Arc::clone(&lease)))
}

/// The settings for a keyspace of that name on the server of the tests.
pub fn settings(keyspace: &str) -> config::Scylla {
    let nodes = vec![SERVER.clone()];
    config::Scylla { nodes, keyspace: keyspace.to_owned(), threads: 1, ..patient() }
}

/// Settings for a machine that is busy with other tests.
pub fn patient() -> config::Scylla {
    config::Scylla { deadline_ms: 60_000, request_timeout_ms: 10_000, ..config::Scylla::default() }
}

/// A name that no other test uses, of this run or of another.
pub fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// Asks the server itself.
pub fn ask_server(statement: &str) {
    RUNTIME.block_on(async {
        let session = SessionBuilder::new().known_node(&*SERVER).build().await.unwrap();
        session.query_unpaged(statement, ()).await.unwrap();
    });
}

pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    RUNTIME.block_on(future)
}

impl Keyspace {
    async fn make() -> Self {
        let name = new_name();
        let session = SessionBuilder::new().known_node(&*SERVER).build().await.unwrap();
        // Without a commit log there is nothing to flush when it is emptied.
        let create = format!(
            "CREATE KEYSPACE {name} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}} \
             AND durable_writes = false"
        );
        session.query_unpaged(create, ()).await.unwrap();
        session.use_keyspace(&name, true).await.unwrap();
        let config = settings(&name);
        apply_schema(&config, "{}").await.unwrap();
        let connection = Arc::new(Connection::open(&config).await.unwrap());
        Self { connection, session }
    }

    async fn empty(&self) {
        let tables = SCHEMA.lines().filter_map(|line| line.strip_prefix("CREATE TABLE IF NOT EXISTS "));
        let tables = tables.map(|rest| rest.trim_end_matches(" (")).filter(|table| *table != "meta");
        let truncate = tables.map(|table| self.session.query_unpaged(format!("TRUNCATE {table}"), ()));
        try_join_all(truncate).await.unwrap();
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

/// Starts a server that ends with this process.
fn start() -> String {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/cassandra-up.sh");
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("cassandra-{}", std::process::id()));
    remove_old();
    let [cql, storage] = [free_port(), free_port()];
    let output = Command::new(script)
        .arg(&folder)
        .env("CASSANDRA_CQL_PORT", cql.to_string())
        .env("CASSANDRA_STORAGE_PORT", storage.to_string())
        .env("CASSANDRA_OWNER", std::process::id().to_string())
        .env("CASSANDRA_JVM_FLAGS", "-Dcassandra.unsafesystem=true")
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "no CQL server for the tests of the cluster store (they need Java 17 and Maven, or ROOKERY_TEST_CQL):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    format!("127.0.0.1:{cql}")
}

/// What earlier runs have left behind is of no use.
fn remove_old() {
    let Ok(folders) = std::fs::read_dir(env!("CARGO_TARGET_TMPDIR")) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("cassandra-").and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            // Another run may be removing it too.
            let _ = std::fs::remove_dir_all(folder.path());
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}
