//! Nodes and the Redis between them, as the tests start them, and what they cost.

#![allow(dead_code, reason = "each benchmark takes what it needs")]

use std::{
    env,
    process::{Child, Command, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

use common::{Relay, redis::Redis, rookery};
use serde_json::Value;
use tempfile::TempDir;

/// How long anything is waited for; signing the events of a load is part of it.
const PATIENCE: Duration = Duration::from_secs(60);

/// User and system time of a process so far.
pub fn cpu_seconds(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("a process");
    let fields: Vec<&str> = stat.rsplit(") ").next().expect("its fields").split(' ').collect();
    let ticks = |field: usize| fields[field].parse::<f64>().expect("ticks");
    (ticks(11) + ticks(12)) / rustix::param::clock_ticks_per_second() as f64
}

/// A figure of Redis's `INFO`.
pub fn info(redis: &Redis, name: &str) -> f64 {
    let text = redis.ask(&["info"]);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    value.and_then(|value| value.trim().parse().ok()).expect("a figure")
}

/// Starts a node as operators do, connected to this Redis if there is one.
pub fn node(redis: Option<&Redis>, arguments: &[&str]) -> Relay {
    let data = TempDir::new().expect("a folder");
    let mut command = rookery(&["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"]);
    command.args(["--workers", "1", "--data"]).arg(data.path().join("relay")).args(arguments);
    if let Some(redis) = redis {
        command.args(["--redis", &redis.url(), "--set", "bus.start_seconds=30"]);
        // All subscribers come at once, and are to be subscribed before anything is measured.
        command.args(["--set", "bus.acknowledge_ms=30000"]);
    }
    Relay::spawn(command, data)
}

/// Has a node shut down in order, and waits for that.
pub fn end(mut node: Relay) {
    node.signal("TERM");
    node.process.wait().expect("its end");
}

/// Ends with the benchmark.
struct Load(Child);

impl Drop for Load {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Has `rookery bench` do its work and returns its report. `subscribed` is called when so many subscriptions stand and
/// nothing has been published yet, or hardly.
pub fn report(mut bench: Command, nodes: &[Relay], subscriptions: usize, subscribed: impl FnOnce()) -> Value {
    for node in nodes {
        bench.args(["--pid", &node.process.id().to_string()]);
    }
    let bench = bench.arg("--json").stdout(Stdio::piped()).spawn().expect("rookery bench");
    let (mut bench, begun) = (Load(bench), Instant::now());
    let stand = || {
        let of_one = |node: &Relay| node.metric(r#"rookery_stage_seconds_count{stage="subscribe"}"#);
        nodes.iter().map(of_one).sum::<f64>() as usize >= subscriptions
    };
    while !stand() && bench.0.try_wait().expect("a process").is_none() {
        assert!(begun.elapsed() < PATIENCE, "the subscriptions do not stand");
        sleep(Duration::from_millis(20));
    }
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
