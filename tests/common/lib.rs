//! What black-box tests share: a relay in a process of its own, on ports that the system chose, and
//! a client that says and hears JSON.

pub mod ask;
pub mod cassandra;
mod client;
pub mod dns;
pub mod gate;
pub mod haproxy;
pub mod page;
pub mod people;
pub mod proxy;
pub mod raw;
pub mod redis;
mod relay;
pub mod standstill;
pub mod tls;
pub mod watch;

use std::{
    collections::BTreeSet,
    env,
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
    process::Command,
    sync::{
        LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

pub use client::Client;
pub use relay::{Log, Relay, spawn};
use rookery::protocol::{Event, Tags, sign::Keys};
use tempfile::TempDir;

/// Longest that anything may take which is to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The binary under test: cargo's, or another build (a release, say) that the environment names.
pub fn binary() -> OsString {
    env::var_os("ROOKERY_TEST_BINARY").unwrap_or_else(|| built().join("rookery").into())
}

/// Where cargo has put the program that goes with these tests: above the folder that they are in themselves.
fn built() -> PathBuf {
    env::current_exe().unwrap().ancestors().nth(2).unwrap().to_owned()
}

/// A folder for what tests keep while they run. It goes with the target folder.
pub fn scratch() -> PathBuf {
    let folder = built().with_file_name("tmp");
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

/// The folder of the repository.
pub fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap()
}

/// The program with these arguments, and with nothing of the environment that could change what it does.
pub fn rookery(arguments: &[&str]) -> Command {
    let mut command = Command::new(binary());
    let ours = |name: &OsStr| name == "RUST_LOG" || name.to_string_lossy().starts_with("ROOKERY_");
    env::vars_os().filter(|(name, _)| ours(name)).for_each(|(name, _)| {
        command.env_remove(name);
    });
    command.env("ROOKERY_OPS_TOKEN_FILE", token_file()).env("ROOKERY_MASTER_KEY_FILE", master_key_file());
    // Accounts would have it on, and a node would promise less of what others have stored.
    command.env("ROOKERY_FEEDS_MAX_BYTES", "0");
    command.args(arguments);
    command
}

/// What programs show to nodes of tests, and to whoever asks them by [`rookery`].
pub const TOKEN: &str = "only-for-tests-0123456789";

/// The file that holds it, made by the first test that needs it.
fn token_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| made("ops.token", TOKEN));
    &FILE
}

/// The file that holds the master key of all nodes of tests.
pub fn master_key_file() -> &'static Path {
    static FILE: LazyLock<PathBuf> = LazyLock::new(|| made("master.key", &"5e".repeat(32)));
    &FILE
}

/// A file that only its owner reads.
fn made(name: &str, text: &str) -> PathBuf {
    let folder = root().join("target/tmp");
    std::fs::create_dir_all(&folder).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(&folder).unwrap();
    std::io::Write::write_all(&mut file, text.as_bytes()).unwrap();
    let path = folder.join(name);
    // Of programs that make it at once, each makes the same.
    file.persist(&path).unwrap();
    path
}

/// A command as the last words of another one, such as of a shell that does something first; in its environment.
pub fn run_by(mut outer: Command, inner: &Command) -> Command {
    outer.arg(inner.get_program()).args(inner.get_args());
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => outer.env(name, value),
            None => outer.env_remove(name),
        };
    }
    outer
}

/// Starts `rookery aggregator`, which serves no clients, with these arguments.
pub fn start_aggregator(arguments: &[&str]) -> Relay {
    let data = TempDir::new().unwrap();
    let mut command = rookery(&["aggregator", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.path().join("relay")).args(arguments);
    Relay::spawn(command, data)
}

/// The command that starts a relay on ports of the system's choice.
pub fn relay_command(data: &Path, arguments: &[&str]) -> Command {
    let mut command = rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.join("relay")).args(arguments);
    if !arguments.contains(&"--scylla") {
        // What a slow machine takes too long for is refused. Tests of that say themselves how long it may take.
        command.env("ROOKERY_PERSISTER_DEADLINE_MS", "20000");
    }
    command
}

/// Waits until a condition holds of which nobody tells us.
pub async fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !condition() {
        assert!(begun.elapsed() < 2 * PATIENCE, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// Seconds since the epoch.
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// What an event was answered: no, for a reason that begins so.
#[track_caller]
pub fn refused((accepted, text): (bool, String), prefix: &str) {
    assert!(!accepted && text.starts_with(prefix), "{text}");
}

/// A text note without tags.
pub fn note(keys: &Keys, created_at: u64, content: &str) -> Event {
    keys.sign(created_at, 1, Tags::default(), content)
}

/// A text note of now, numbered: two of a second are two, though they say the same.
pub fn fresh(keys: &Keys, content: &str) -> Event {
    static MADE: AtomicU64 = AtomicU64::new(0);
    note(keys, now(), &format!("{content} {}", MADE.fetch_add(1, Ordering::Relaxed)))
}

/// A port that nobody listens on, and that no other test of this program is given. Somebody else could take it before it
/// is used; nobody does here.
pub fn free_port() -> u16 {
    /// From here on, Linux gives ports to connections of its own accord.
    const OF_CONNECTIONS: u16 = 32_768;
    static GIVEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());
    loop {
        let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 20_000;
        if port < OF_CONNECTIONS
            && std::net::TcpListener::bind(("127.0.0.1", port)).is_ok()
            && GIVEN.lock().unwrap().insert(port)
        {
            return port;
        }
    }
}
