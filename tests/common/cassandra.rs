//! A real CQL server for tests: the one that `ROOKERY_TEST_CQL` names (`HOST:PORT`), or an Apache Cassandra that
//! is started for this run and ends with it. A run is this program, or all programs of tests that one process runs,
//! whose id `ROOKERY_TEST_RUN` says: then the first that needs the server starts it, and the others find it.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
    process::{self, Command},
    sync::{
        LazyLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::free_port;

static SERVER: LazyLock<String> = LazyLock::new(|| env::var("ROOKERY_TEST_CQL").unwrap_or_else(|_| start()));

/// Its address, such as `127.0.0.1:9042`.
pub fn server() -> &'static str {
    &SERVER
}

/// A name for a keyspace that no other test uses, of this run or of another.
pub fn new_name() -> String {
    static PROGRAM: LazyLock<u64> = LazyLock::new(rand::random);
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    format!("test_{:x}_{}", *PROGRAM, NUMBER.fetch_add(1, Ordering::Relaxed))
}

fn start() -> String {
    remove_old();
    let folder = folder(run());
    fs::create_dir_all(&folder).unwrap();
    // Programs may run beside each other. Who comes second waits until the first has started it.
    let turn = File::create(folder.join("turn")).unwrap();
    turn.lock().unwrap();
    let (server, address) = (folder.join("server"), folder.join("address"));
    if !is_running(&server) {
        // Of an earlier process with that id.
        let _ = fs::remove_dir_all(&server);
        let ports = [free_port(), free_port()];
        up(&server, run(), 1, ports, &[FORGETFUL, ("CASSANDRA_HEAP", SHARED_HEAP)]);
        fs::write(&address, format!("127.0.0.1:{}", ports[0])).unwrap();
    }
    fs::read_to_string(&address).unwrap()
}

/// The process that runs all programs of tests, or this one.
fn run() -> u32 {
    let id = env::var("ROOKERY_TEST_RUN");
    id.map_or_else(|_| process::id(), |id| id.parse().expect("ROOKERY_TEST_RUN is the id of a process"))
}

/// Whether the server in that folder runs.
fn is_running(folder: &Path) -> bool {
    let script = crate::root().join("cluster/dev/processes.sh");
    let mut ask = Command::new("bash");
    ask.args(["-c", r#". "$0" && is_running "$1""#]).arg(script).arg(folder.join("pid"));
    ask.status().unwrap().success()
}

/// Every test has a keyspace of its own, and a server keeps some of each: all programs together fill a gigabyte.
const SHARED_HEAP: &str = "1536m";

/// What is stored need not outlive the server.
const FORGETFUL: (&str, &str) = ("CASSANDRA_JVM_FLAGS", "-Dcassandra.unsafesystem=true");

/// What goes when that process has ended.
fn folder(owner: u32) -> PathBuf {
    crate::scratch().join(format!("cassandra-{owner}"))
}

/// Starts a server on 127.0.0.`number` with these ports, for clients and for other servers, and waits until
/// it answers. It ends with its owner.
fn up(folder: &Path, owner: u32, number: usize, [cql, storage]: [u16; 2], more: &[(&str, &str)]) {
    const FLAGS: &str = "CASSANDRA_JVM_FLAGS";
    let flags = more.iter().find(|(name, _)| *name == FLAGS).map_or("", |(_, flags)| *flags);
    let output = Command::new(crate::root().join("cluster/dev/cassandra-up.sh"))
        .arg(folder)
        .arg(number.to_string())
        .env("CASSANDRA_CQL_PORT", cql.to_string())
        .env("CASSANDRA_STORAGE_PORT", storage.to_string())
        .env("CASSANDRA_OWNER", owner.to_string())
        .env("CASSANDRA_SEEDS", "127.0.0.1,127.0.0.2,127.0.0.3")
        .envs(more.iter().copied())
        // Half of the time that a start takes is otherwise spent on code that a test hardly runs.
        .env(FLAGS, format!("-XX:TieredStopAtLevel=1 {flags}"))
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "no CQL server for the tests (they need Java 17 and Maven, or ROOKERY_TEST_CQL):\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
}

/// Servers of their own, for those who stop them. Each holds everything.
pub struct Servers {
    pub count: usize,
    ports: [u16; 2],
}

impl Servers {
    pub fn start(count: usize) -> Self {
        remove_old();
        let servers = Self { count, ports: [free_port(), free_port()] };
        servers.numbers().for_each(|number| servers.up(number));
        let begun = Instant::now();
        while !servers.numbers().all(|number| servers.sees_the_others(number)) {
            assert!(begun.elapsed() < Duration::from_secs(120), "the CQL servers do not find each other");
            std::thread::sleep(Duration::from_millis(100));
        }
        servers
    }

    fn numbers(&self) -> impl Iterator<Item = usize> + Clone + use<> {
        1..=self.count
    }

    /// Its log says which others are up.
    fn sees_the_others(&self, number: usize) -> bool {
        let log = fs::read_to_string(self.folder(number).join("log")).unwrap();
        let ups = log.lines().filter(|line| line.ends_with("is now UP"));
        let is_seen = |other: usize| ups.clone().any(|line| line.contains(&format!("/127.0.0.{other}:")));
        self.numbers().filter(|other| *other != number).all(is_seen)
    }

    /// The addresses, separated by commas.
    pub fn addresses(&self) -> String {
        let addresses = self.numbers().map(|number| format!("127.0.0.{number}:{}", self.ports[0]));
        addresses.collect::<Vec<_>>().join(",")
    }

    /// Starts one, on what it has stored.
    pub fn up(&self, number: usize) {
        // An equal part of the ring each, so that they need not talk about it.
        let token = i64::MIN.wrapping_add_unsigned((number as u64 - 1) * (u64::MAX / self.count as u64));
        let flags = format!("-Dcassandra.initial_token={token} -Dcassandra.auto_bootstrap=false");
        // What is acknowledged must be there when they are back.
        let settings = [("CASSANDRA_COMMITLOG_SYNC", "batch"), ("CASSANDRA_JVM_FLAGS", &*flags)];
        up(&self.folder(number), process::id(), number, self.ports, &settings);
    }

    /// `kill -9`
    pub fn kill(&self, number: usize) {
        kill(&self.folder(number));
    }

    /// `STOP` and `CONT` freeze it and let it go on.
    pub fn signal(&self, number: usize, name: &str) {
        signal(&self.folder(number), name);
    }

    fn folder(&self, number: usize) -> PathBuf {
        folder(process::id()).join(format!("{}-{number}", self.ports[0]))
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        for number in self.numbers() {
            if self.folder(number).join("pid").exists() {
                self.kill(number);
            }
        }
    }
}

/// A server that speaks TLS alone; killed when dropped.
pub struct Guarded {
    folder: PathBuf,
    pub address: String,
}

impl Guarded {
    /// `identity`: its key and certificate. `clients`: authorities, where clients must show a certificate.
    pub fn start(identity: &Path, clients: Option<&Path>) -> Self {
        remove_old();
        let ports = [free_port(), free_port()];
        let server = Self {
            folder: folder(process::id()).join(format!("tls-{}", ports[0])),
            address: format!("127.0.0.1:{}", ports[0]),
        };
        let identity = identity.to_str().unwrap();
        let clients = clients.map_or("", |clients| clients.to_str().unwrap());
        let settings = [FORGETFUL, ("CASSANDRA_TLS", identity), ("CASSANDRA_TLS_CLIENTS", clients)];
        up(&server.folder, process::id(), 1, ports, &settings);
        server
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        if self.folder.join("pid").exists() {
            kill(&self.folder);
        }
    }
}

/// `kill -9` of the server in that folder.
fn kill(folder: &Path) {
    signal(folder, "KILL");
    let _ = fs::remove_file(folder.join("pid"));
}

fn signal(folder: &Path, name: &str) {
    let pid = fs::read_to_string(folder.join("pid")).unwrap();
    assert!(Command::new("kill").args([&format!("-{name}"), pid.trim()]).status().unwrap().success());
}

/// What earlier runs have left behind is of no use.
fn remove_old() {
    let Ok(folders) = fs::read_dir(crate::scratch()) else { return };
    for folder in folders.flatten() {
        let name = folder.file_name().to_string_lossy().into_owned();
        let owner = name.strip_prefix("cassandra-").and_then(|owner| owner.parse::<u32>().ok());
        if owner.is_some_and(|owner| !Path::new("/proc").join(owner.to_string()).exists()) {
            // Another run may be removing it too.
            let _ = fs::remove_dir_all(folder.path());
        }
    }
}
