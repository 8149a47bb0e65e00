//! The order that makes `OK true` a promise: data written, data synced, the commit's meta page
//! written through, and only then the OK. Watched from outside, system call by system call.

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
};

use common::{Relay, now, relay_command, run_by, spawn};
use rookery::protocol::{Event, Tags, sign::Keys};
use tempfile::TempDir;

/// Set to go without; what is not tested is then said.
const WITHOUT: &str = "ROOKERY_TEST_WITHOUT_STRACE";

/// The calls that open, write and sync files, and those that write sockets.
const CALLS: &str = "trace=openat,fdatasync,fsync,msync,pwrite64,pwritev,write,writev,sendto,sendmsg";

/// A relay under strace. The tracer ends with it.
struct Traced {
    relay: Relay,
    pid: String,
    log: PathBuf,
}

impl Traced {
    fn start() -> Option<Self> {
        if std::env::var_os(WITHOUT).is_some_and(|value| value == "1") {
            println!("skipped, as {WITHOUT} says: that the store syncs before a client reads OK");
            return None;
        }
        let data = TempDir::new().unwrap();
        let log = data.path().join("strace.log");
        let relay = relay_command(data.path(), &[]);
        let mut command = Command::new("strace");
        command.args(["-f", "-y", "-s", "400", "-e", CALLS, "-o"]).arg(&log);
        if Command::new("strace").arg("-V").output().is_err() {
            panic!(
                "this test watches system calls with strace, which is not installed: install the \
                 package strace (Debian, Ubuntu: apt install strace), or set {WITHOUT}=1 to go without"
            );
        }
        let (process, clients, operators) = spawn(run_by(command, &relay));
        let children = format!("/proc/{0}/task/{0}/children", process.id());
        let pid = std::fs::read_to_string(children).unwrap().trim().to_owned();
        Some(Self { relay: Relay { process, clients, operators, data }, pid, log })
    }

    fn signal(&self, name: &str) -> ExitStatus {
        Command::new("kill").args([&format!("-{name}"), &self.pid]).status().unwrap()
    }

    /// Ends the relay, and reads what it did.
    fn calls(mut self) -> Vec<Call> {
        assert!(self.signal("TERM").success());
        assert!(self.relay.process.wait().unwrap().success());
        let log = std::fs::read_to_string(&self.log).unwrap();
        self.pid.clear();
        parse(&log)
    }
}

impl Drop for Traced {
    fn drop(&mut self) {
        if !self.pid.is_empty() {
            self.signal("KILL");
        }
    }
}

/// A system call: the lines of the log at which it began and at which it had returned.
struct Call {
    text: String,
    begun: usize,
    returned: usize,
}

impl Call {
    fn is(&self, name: &str) -> bool {
        self.text.strip_prefix(name).is_some_and(|rest| rest.starts_with('('))
    }

    /// Whether its first argument is a descriptor of that file.
    fn is_on(&self, file: &Path) -> bool {
        let descriptor = self.text.split([',', ')']).next().unwrap_or_default();
        descriptor.trim_end().ends_with(&format!("<{}>", file.display()))
    }

    fn descriptor(&self) -> &str {
        self.text.split(['(', '<']).nth(1).unwrap_or_default()
    }

    fn succeeded(&self) -> bool {
        self.text.rsplit_once(" = ").is_some_and(|(_, result)| !result.starts_with('-'))
    }
}

/// `<pid> call(…) = result`; or, when another thread came between, `<pid> call(… <unfinished ...>`
/// and later `<pid> <... call resumed>…) = result`.
fn parse(log: &str) -> Vec<Call> {
    let mut calls: Vec<Call> = Vec::new();
    let mut open: HashMap<&str, (String, usize)> = HashMap::new();
    for (line, text) in log.lines().enumerate() {
        let Some((pid, text)) = text.split_once(' ') else { continue };
        let text = text.trim_start();
        if let Some(begin) = text.strip_suffix("<unfinished ...>") {
            open.insert(pid, (begin.to_owned(), line));
        } else if let Some((_, end)) = text.strip_prefix("<... ").and_then(|t| t.split_once(" resumed>")) {
            if let Some((begin, begun)) = open.remove(pid) {
                calls.push(Call { text: begin + end, begun, returned: line });
            }
        } else {
            calls.push(Call { text: text.to_owned(), begun: line, returned: line });
        }
    }
    calls
}

/// One event of each kind that a store treats in a way of its own.
fn events() -> Vec<Event> {
    let keys = Keys::generate();
    let at = now();
    let note = keys.sign(at, 1, Tags::default(), "note");
    let deletion = Tags::from_iter([["e", &note.id().to_hex()]]);
    vec![
        keys.sign(at, 0, Tags::default(), "first"),
        keys.sign(at + 1, 0, Tags::default(), "second"),
        keys.sign(at, 30_000, Tags::from_iter([["d", "x"]]), ""),
        note,
        keys.sign(at, 5, deletion, ""),
        keys.sign(at, 62, Tags::from_iter([["relay", "ALL_RELAYS"]]), ""),
    ]
}

#[tokio::test]
async fn the_store_is_synced_before_the_ok_is_sent() {
    let Some(traced) = Traced::start() else { return };
    let mut client = traced.relay.connect().await;
    let events = events();
    for event in &events {
        assert_eq!(client.publish(event).await, (true, String::new()));
    }
    drop(client);
    let file = traced.relay.data.path().join("relay/data.mdb").canonicalize().unwrap();
    let folder = file.parent().unwrap().to_owned();
    let calls = traced.calls();

    let of_file = |call: &&Call| call.is_on(&file) && call.succeeded();
    let opened = |flag: &str| {
        let name = format!("\"{}\"", file.display());
        let call = calls.iter().find(|call| {
            call.is("openat") && call.text.contains(&name) && call.text.contains(flag) && call.succeeded()
        });
        call.unwrap_or_else(|| panic!("data.mdb is opened with {flag}"))
    };
    // The name of the file is as durable as what is in it.
    let created = opened("O_CREAT");
    assert!(
        calls.iter().any(|call| call.is("fsync") && call.is_on(&folder) && call.begun > created.returned),
        "the folder is synced once data.mdb is in it"
    );
    let through = opened("DSYNC").text.rsplit(" = ").next().unwrap().split('<').next().unwrap().to_owned();

    let mut after = 0;
    for event in &events {
        let id = event.id().to_hex();
        // strace writes quotes as \", and cuts at 400 bytes, which an OK does not fill.
        let ok = format!("[\\\"OK\\\",\\\"{id}\\\",true");
        let sent = calls
            .iter()
            .find(|call| {
                ["sendto", "sendmsg", "write", "writev"].iter().any(|name| call.is(name))
                    && call.text.contains(&ok)
            })
            .unwrap_or_else(|| panic!("the OK of {id} is sent"));
        let between =
            || calls.iter().filter(|call| call.begun > after && call.returned < sent.begun).filter(of_file);
        let is_meta = |call: &&Call| call.descriptor() == through;
        let is_data = |call: &&Call| {
            !is_meta(call) && ["pwrite64", "pwritev", "writev"].iter().any(|name| call.is(name))
        };
        let data = between().find(is_data);
        let data = data.unwrap_or_else(|| panic!("{id}: data pages are written before the OK"));
        let synced = between().find(|call| call.is("fdatasync") && call.begun > data.returned);
        let synced = synced.unwrap_or_else(|| panic!("{id}: data pages are synced before the OK"));
        let meta = between().filter(is_meta).find(|call| call.is("pwrite64") && call.begun > synced.returned);
        let meta = meta.unwrap_or_else(|| panic!("{id}: the meta page is written through before the OK"));
        let late =
            between().filter(is_data).any(|call| call.returned > synced.begun && call.begun < meta.returned);
        assert!(!late, "{id}: no data page is written between the sync and the meta page");
        assert!(meta.returned < sent.begun);
        after = sent.returned;
    }
}

#[test]
fn interleaved_calls_are_put_together() {
    let log = "1 fdatasync(9</d/data.mdb> <unfinished ...>\n2 write(3</x>, \"a\", 1) = 1\n\
               1 <... fdatasync resumed>)       = 0\n3 write(4<socket:[1]>, \"b\", 1) = -1 EPIPE (x)\n";
    let calls = parse(log);
    let sync = calls.iter().find(|call| call.is("fdatasync")).unwrap();
    assert_eq!((sync.begun, sync.returned, sync.descriptor()), (0, 2, "9"));
    assert!(sync.is_on(Path::new("/d/data.mdb")) && sync.succeeded());
    assert!(!calls[2].succeeded());
}
