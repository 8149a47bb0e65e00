//! What a cluster costs: nodes on one Redis, subscribers spread over all of them, the same load whatever their
//! number. CPU is fitted as a·events + b·(event, receiving node) + c·deliveries.
//!
//!   cargo bench --bench cluster -- [NODES…]    1 2 4 8 when nothing is said
//!
//! `CQL=HOST:PORT` stores the events there instead of in a folder for each node, `RUNS=3` and `RATE=250` and
//! `SECONDS=20` are what they say. Needs `redis-server`.

use std::{
    env,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::Value;
use tempfile::TempDir;

/// A process; killed when dropped.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

struct Node {
    process: Process,
    clients: SocketAddr,
    operators: SocketAddr,
    _data: TempDir,
}

/// What one load came to.
struct Point {
    nodes: usize,
    subscribers: usize,
    events: f64,
    /// Events that nodes took from others, each counted once.
    received: f64,
    deliveries: f64,
    nodes_cpu: f64,
    redis_cpu: f64,
    /// Messages given to Redis, and messages that it handed out.
    published: f64,
    copies: f64,
    p50: f64,
    p99: f64,
}

fn number(name: &str, default: f64) -> f64 {
    env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn main() {
    let sizes: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1, 2, 4, 8] } else { sizes };
    let mut points = Vec::new();
    println!(
        "nodes subscribers  CPU/event µs  Redis/event µs  Redis commands/event  copies/event  receiving nodes  deliveries  p50 ms  p99 ms"
    );
    for run in 0..number("RUNS", 3.0) as u64 {
        for &nodes in &sizes {
            for subscribers in [2_000, 400] {
                let point = measure(nodes, subscribers, 1 + run * 2 + u64::from(subscribers == 400));
                let per_event = |value: f64| value / point.events;
                println!(
                    "{:>5} {:>11}  {:>12.0}  {:>14.1}  {:>20.1}  {:>12.1}  {:>15.2}  {:>10.1}  {:>6.1}  {:>6.1}",
                    point.nodes,
                    point.subscribers,
                    1e6 * per_event(point.nodes_cpu),
                    1e6 * per_event(point.redis_cpu),
                    per_event(point.published),
                    per_event(point.copies),
                    per_event(point.received),
                    per_event(point.deliveries),
                    point.p50,
                    point.p99,
                );
                points.push(point);
            }
        }
    }
    let [a, b, c] = fit(&points);
    println!(
        "CPU of nodes = {:.0} µs · events + {:.1} µs · (event, receiving node) + {:.1} µs · deliveries",
        a * 1e6,
        b * 1e6,
        c * 1e6
    );
    for &nodes in &sizes {
        let of_size = points.iter().filter(|point| point.nodes == nodes);
        let (measured, fitted) = of_size.fold((0.0, 0.0), |(measured, fitted), point| {
            let predicted = a * point.events + b * point.received + c * point.deliveries;
            (measured + point.nodes_cpu, fitted + predicted)
        });
        println!(
            "  {nodes} nodes: measured {:+.1} % of what the fit says",
            100.0 * (measured / fitted - 1.0)
        );
    }
}

fn measure(count: usize, subscribers: usize, seed: u64) -> Point {
    let folder = TempDir::new().expect("a folder");
    let port =
        TcpListener::bind("127.0.0.1:0").and_then(|socket| socket.local_addr()).expect("a port").port();
    let redis = Command::new("redis-server")
        .args([
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--appendonly",
            "no",
            "--port",
            &port.to_string(),
            "--dir",
        ])
        .arg(folder.path())
        .stdout(Stdio::null())
        .spawn();
    let redis = Process(redis.expect("redis-server is needed"));
    eventually("Redis", || TcpStream::connect(("127.0.0.1", port)).is_ok());
    let keyspace = format!("bench_{}_{seed}_{count}", std::process::id());
    let store = env::var("CQL").ok();
    if let Some(server) = &store {
        let mut apply = rookery(&["schema", "apply", "--scylla", server, "--keyspace", &keyspace]);
        apply.args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"]);
        assert!(apply.status().expect("rookery").success());
    }
    let nodes: Vec<Node> = (0..count)
        .map(|_| Node::start(&format!("redis://127.0.0.1:{port}"), store.as_deref(), &keyspace))
        .collect();
    for node in &nodes {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0);
    }
    let urls: Vec<String> = nodes.iter().map(|node| format!("ws://{}", node.clients)).collect();
    let urls = urls.join(",");
    let (rate, seconds) = (number("RATE", 250.0), number("SECONDS", 20.0));
    let before = cpu_seconds(redis.0.id());
    let mut bench =
        rookery(&["bench", "fanout", urls.split(',').next().unwrap_or_default(), "--even", "--json"]);
    bench.args(["--publish-at", &urls, "--subscribe-at", &urls, "--seed", &seed.to_string()]);
    bench.args(["--subscribers", &subscribers.to_string(), "--rate", &rate.to_string()]);
    bench.args(["--events", &(rate * seconds).to_string()]);
    for node in &nodes {
        bench.args(["--pid", &node.process.0.id().to_string()]);
    }
    let output = bench.stderr(Stdio::inherit()).output().expect("rookery bench");
    let report: Value = serde_json::from_slice(&output.stdout).expect("a report");
    assert!(output.status.success(), "{report}");
    let redis_cpu = cpu_seconds(redis.0.id()) - before;
    let figure = |name: &str| report["median"][name].as_f64().expect("a figure");
    let sum = |name: &str| nodes.iter().map(|node| node.metric(name)).sum::<f64>();
    let copies = sum("rookery_bus_events_copies_total");
    let events = rate * seconds;
    Point {
        nodes: count,
        subscribers,
        events,
        received: sum("rookery_bus_events_received_total") - copies,
        deliveries: figure("deliveries"),
        nodes_cpu: figure("server_cpu_us_per_event") * events / 1e6,
        redis_cpu,
        published: sum("rookery_bus_messages_published_total"),
        copies,
        p50: figure("delivery_p50_ms"),
        p99: figure("delivery_p99_ms"),
    }
}

impl Node {
    fn start(redis: &str, store: Option<&str>, keyspace: &str) -> Self {
        let data = TempDir::new().expect("a folder");
        let mut command = rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
        command.args(["--redis", redis, "--workers", "1", "--data"]).arg(data.path().join("relay"));
        // All subscribers come at once, and are to be subscribed before anything is measured.
        command.args(["--set", "bus.acknowledge_ms=30000"]);
        if let Some(store) = store {
            command.args(["--scylla", store, "--keyspace", keyspace]);
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

    fn metric(&self, name: &str) -> f64 {
        let mut stream = TcpStream::connect(self.operators).expect("its metrics");
        write!(stream, "GET /metrics HTTP/1.1\r\nHost: bench\r\nConnection: close\r\n\r\n")
            .expect("a request");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("an answer");
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

fn rookery(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

fn eventually(what: &str, condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < Duration::from_secs(30), "not yet: {what}");
        sleep(Duration::from_millis(20));
    }
}

/// User and system time of a process.
fn cpu_seconds(pid: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("its fields").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

/// Least squares of the three costs, each error relative to what was measured.
fn fit(points: &[Point]) -> [f64; 3] {
    let mut matrix = [[0.0; 4]; 3];
    for point in points {
        let row = [point.events, point.received, point.deliveries].map(|value| value / point.nodes_cpu);
        for (equation, left) in matrix.iter_mut().zip(row) {
            for (cell, right) in equation.iter_mut().zip(row.into_iter().chain([1.0])) {
                *cell += left * right;
            }
        }
    }
    for pivot in 0..3 {
        let scale = matrix[pivot][pivot];
        matrix[pivot].iter_mut().for_each(|cell| *cell /= scale);
        let reduced = matrix[pivot];
        for (other, equation) in matrix.iter_mut().enumerate().filter(|(other, _)| *other != pivot) {
            debug_assert_ne!(other, pivot);
            let factor = equation[pivot];
            equation.iter_mut().zip(reduced).for_each(|(cell, reduced)| *cell -= factor * reduced);
        }
    }
    [matrix[0][3], matrix[1][3], matrix[2][3]]
}
