//! Processes on this machine: nodes, and the Redis between them. Each ends with the benchmark that started it.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything is waited for; signing the events of a load is part of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A process; killed when dropped.
pub struct Process(Child);

impl Process {
    pub fn id(&self) -> u32 {
        self.0.id()
    }

    /// User and system time so far.
    pub fn cpu_seconds(&self) -> f64 {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.id())).expect("a process");
        let fields: Vec<&str> = stat.rsplit(") ").next().expect("its fields").split(' ').collect();
        let ticks = |field: usize| fields[field].parse::<f64>().expect("ticks");
        (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

pub struct Redis {
    pub process: Process,
    port: u16,
    _data: TempDir,
}

impl Redis {
    pub fn start() -> Self {
        let data = TempDir::new().expect("a folder");
        let port =
            TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
        let redis = Command::new("redis-server")
            .args(["--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(data.path())
            .stdout(Stdio::null())
            .spawn();
        let process = Process(redis.expect("redis-server is needed"));
        eventually("Redis", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Self { process, port, _data: data }
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// A figure of `INFO`.
    pub fn info(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("Redis");
        stream.write_all(b"INFO\r\nQUIT\r\n").expect("a command");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        value.and_then(|value| value.parse().ok()).expect("a figure")
    }
}

pub struct Node {
    pub process: Process,
    clients: SocketAddr,
    operators: SocketAddr,
    _data: TempDir,
}

impl Node {
    /// Starts a node, connected to this Redis if there is one.
    pub fn start(redis: Option<&Redis>, arguments: &[&str]) -> Self {
        let data = TempDir::new().expect("a folder");
        let mut command = rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        command.args(["--workers", "1", "--data"]).arg(data.path().join("relay")).args(arguments);
        if let Some(redis) = redis {
            command.args(["--redis", &redis.url(), "--set", "bus.start_seconds=30"]);
            // All subscribers come at once, and are to be subscribed before anything is measured.
            command.args(["--set", "bus.acknowledge_ms=30000"]);
        }
        let mut process = Process(command.stderr(Stdio::piped()).spawn().expect("rookery"));
        let mut lines = BufReader::new(process.0.stderr.take().expect("its log")).lines();
        for line in &mut lines {
            let entry: Value = serde_json::from_str(&line.expect("text")).expect("a line of its log");
            if entry["message"] == "listening" {
                let address = |name: &str| entry[name].as_str().and_then(|text| text.parse().ok());
                let (clients, operators) = address("address").zip(address("operators")).expect("addresses");
                std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| eprintln!("{line}")));
                return Self { process, clients, operators, _data: data };
            }
        }
        panic!("a node ended");
    }

    pub fn url(&self) -> String {
        format!("ws://{}", self.clients)
    }

    /// What Prometheus would be told.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.operators).expect("its metrics");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        text
    }

    pub fn metric(&self, name: &str) -> f64 {
        let text = self.metrics();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }

    /// Has it shut down in order, and waits for that.
    pub fn end(mut self) {
        let pid = Pid::from_child(&self.process.0);
        kill_process(pid, Signal::TERM).expect("a process");
        self.process.0.wait().expect("its end");
    }
}

/// The program that was built with the benchmark, or the one that the tests are told of.
pub fn rookery(arguments: &[&str]) -> Command {
    let program = env::var_os("ROOKERY_TEST_BINARY").unwrap_or_else(|| env!("CARGO_BIN_EXE_rookery").into());
    let mut command = Command::new(program);
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// Has `rookery bench` do its work and returns its report. `subscribed` is called when so many subscriptions stand and
/// nothing has been published yet, or hardly.
pub fn report(mut bench: Command, nodes: &[Node], subscriptions: usize, subscribed: impl FnOnce()) -> Value {
    for node in nodes {
        bench.args(["--pid", &node.process.id().to_string()]);
    }
    let mut bench = Process(bench.arg("--json").stdout(Stdio::piped()).spawn().expect("rookery bench"));
    eventually("the subscriptions", || {
        let stand = |node: &Node| node.metric(r#"rookery_stage_seconds_count{stage="subscribe"}"#);
        nodes.iter().map(stand).sum::<f64>() as usize >= subscriptions
            || bench.0.try_wait().expect("a process").is_some()
    });
    subscribed();
    let report = serde_json::from_reader(bench.0.stdout.take().expect("its output"));
    let report: Value = report.expect("a report");
    assert!(bench.0.wait().expect("its end").success(), "{report}");
    report
}

/// A variable of the environment.
pub fn number(name: &str, default: f64) -> f64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < PATIENCE, "not yet: {what}");
        sleep(Duration::from_millis(20));
    }
}
