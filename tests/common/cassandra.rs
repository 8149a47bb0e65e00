//! A real CQL server for tests: the one that `ROOKERY_TEST_CQL` names (`HOST:PORT`), or an Apache Cassandra that
//! is started for this run and ends with it.

use std::{
    env,
    net::TcpListener,
    path::Path,
    process::Command,
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
};

static SERVER: LazyLock<String> = LazyLock::new(|| env::var("ROOKERY_TEST_CQL").unwrap_or_else(|_| start()));

/// Its address, such as `127.0.0.1:9042`.
pub fn server() -> &'static str {
    &SERVER
}

/// A name for a keyspace that no other test uses, of this run or of another.
pub fn new_name() -> String {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed))
}

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
        "no CQL server for the tests (they need Java 17 and Maven, or ROOKERY_TEST_CQL):\n{}",
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
