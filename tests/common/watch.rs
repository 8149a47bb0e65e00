//! No test runs for ever: one that takes longer than it may ends the program of tests, by name.
//!
//! The harness of the standard library knows no time-outs, and a thread can not be ended from outside. Whoever
//! starts a relay or connects to one says so here; the watch ends with the thread of the test.

use std::{
    collections::HashMap,
    env,
    fs::{self, OpenOptions},
    io::{self, Write},
    process::Command,
    sync::{LazyLock, Mutex, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// Longest that a test may take, unless it says more. Most take less than a second.
const LIMIT: Duration = Duration::from_secs(300);

/// When the test of that name must have ended.
static DEADLINES: LazyLock<Mutex<HashMap<String, Instant>>> = LazyLock::new(|| {
    thread::Builder::new().name("watch".into()).spawn(watch).unwrap();
    Mutex::default()
});

/// What was said lately by the programs that tests wait for. Where a test takes too long, nobody else tells it.
static SAID: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// Lines of it that are kept.
const KEPT: usize = 40;

thread_local! {
    static TEST: Option<Test> = Test::begin();
}

/// Names a file in which a line is added for each test that ends: for how many seconds it ran, and its name.
const TIMES: &str = "ROOKERY_TEST_TIMES";

/// A test that runs on this thread.
struct Test {
    name: String,
    begun: Instant,
}

impl Test {
    /// Nothing where all tests share the first thread, and nothing on threads that tests started.
    fn begin() -> Option<Self> {
        let name = thread::current().name()?.to_owned();
        if name == "main" || name.starts_with("tokio-") {
            return None;
        }
        set(&name, LIMIT);
        Some(Self { name, begun: Instant::now() })
    }
}

impl Drop for Test {
    fn drop(&mut self) {
        let mut deadlines = DEADLINES.lock().unwrap_or_else(PoisonError::into_inner);
        deadlines.remove(&self.name);
        if let Some(path) = env::var_os(TIMES) {
            let line = format!("{:.1} {}\n", self.begun.elapsed().as_secs_f64(), self.name);
            let file = OpenOptions::new().append(true).create(true).open(path);
            // What nobody can write down is of no use to the test.
            let _ = file.and_then(|mut file| file.write_all(line.as_bytes()));
        }
    }
}

fn set(name: &str, limit: Duration) {
    let mut deadlines = DEADLINES.lock().unwrap_or_else(PoisonError::into_inner);
    deadlines.insert(name.to_owned(), Instant::now() + limit);
}

/// The test on this thread is watched from now on.
pub fn begin() {
    // While a thread ends, there is nothing left to watch.
    let _ = TEST.try_with(|_| ());
}

/// The test on this thread may take so long from now on.
pub fn allow(limit: Duration) {
    TEST.with(|test| test.iter().for_each(|test| set(&test.name, limit)));
}

/// Keeps what a program has said that a test waits for.
pub fn note(line: &str) {
    let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
    if said.len() == KEPT {
        said.remove(0);
    }
    said.push(line.to_owned());
}

fn watch() {
    loop {
        thread::sleep(Duration::from_secs(1));
        let deadlines = DEADLINES.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let Some((name, _)) = deadlines.iter().find(|(_, deadline)| **deadline < now) else { continue };
        // Not by a macro, as the harness keeps for itself what those print.
        let _ = writeln!(io::stderr(), "test {name} ... FAILED: it took longer than it may");
        let said = SAID.lock().unwrap_or_else(PoisonError::into_inner).join("\n");
        let _ = writeln!(io::stderr(), "{said}");
        end_children();
        std::process::exit(101);
    }
}

/// Nobody is left to drop those who would end them.
fn end_children() {
    for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
        let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
        for child in children.split_whitespace() {
            let _ = Command::new("kill").args(["-KILL", child]).status();
        }
    }
}
