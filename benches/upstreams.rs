//! What it costs to read another relay: memory while the store takes nothing and the other one has much, and then time
//! and CPU from there into the store, beside `rookery import` of the same events into an empty relay.
//!
//!   EVENTS=1000000 cargo bench --bench upstreams
//!
//! `EVENTS=100000` and `RUNS=1` are what they say; `STANDSTILL=60`: seconds for which the store takes nothing once the
//! queue is full. `UPSTREAM=ws://…`: a relay that has the events already; then only memory is looked at.

mod nodes;

use std::{
    env,
    fs::File,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    },
    thread::{JoinHandle, sleep, spawn},
    time::{Duration, Instant},
};

use common::{Relay, rookery, standstill::Standstill};
use nodes::{cpu_seconds, end, node, number};
use serde_json::{Value, json};
use tempfile::TempDir;

const ALLOW: [&str; 2] = ["--set", "aggregator.allow_private=true"];
const LOOK: Duration = Duration::from_millis(100);
/// Longest that nothing may change.
const PATIENCE: Duration = Duration::from_secs(120);

fn main() {
    let events = number("EVENTS", 100_000.0) as u64;
    let standstill = Duration::from_secs_f64(number("STANDSTILL", 60.0));
    if let Ok(url) = env::var("UPSTREAM") {
        return memory(&url, standstill);
    }
    let folder = TempDir::new().expect("a folder");
    let file = folder.path().join("events.jsonl");
    let file = file.to_str().expect("a path");
    // However slow the machine is, it is to have all of them.
    let there = node(None, &["--set", "persister.deadline_ms=60000"]);
    let some = ["--connections", "8", "--patience", "60", "--events", &events.to_string()];
    done(rookery(&[&["bench", "ingest", &there.url()], &some[..]].concat()));
    let mut export = rookery(&["export", "-", "--relay", &there.url()]);
    export.stdout(File::create(file).expect("a file"));
    done(export);

    memory(&there.url(), standstill);
    println!("{:<34} {:>9} {:>9} {:>12}", "into an empty relay", "seconds", "events/s", "CPU µs/event");
    for _ in 0..number("RUNS", 1.0) as u64 {
        let imported = node(None, &["--set", "persister.deadline_ms=60000"]);
        let (begun, cpu) = (Instant::now(), cpu_seconds(imported.process.id()));
        done(rookery(&["import", file, "--relay", &imported.url()]));
        row("imported", events, begun, cpu_seconds(imported.process.id()) - cpu);
        end(imported);
        for cores in ["0.5", "4"] {
            let verify = format!("aggregator.verify_cores={cores}");
            let here = node(None, &[&ALLOW[..], &["--set", &verify]].concat());
            let (begun, cpu) = (Instant::now(), cpu_seconds(here.process.id()));
            add(&here, &there);
            wait(&here, |view| view["stored"] == events);
            let what = format!("read, aggregator.verify_cores={cores}");
            row(&what, events, begun, cpu_seconds(here.process.id()) - cpu);
            end(here);
        }
    }
    end(there);
}

/// What a node takes that may put nothing into its store.
fn memory(there: &str, standstill: Duration) {
    let here = node(None, &ALLOW);
    let bound = 64 << 10;
    // What any first message makes.
    wait_for_quiet(&here);
    let peak = Peak::watch(here.process.id());
    let before = anonymous(here.process.id());
    // So that it is known when the store begins to stand still.
    ask(&here, "POST", "", &json!({ "url": there, "paused": true }));
    let id = view(&here)["id"].as_str().expect("an id").to_owned();
    ask(&here, "POST", &format!("/{id}/resume"), &Value::Null);
    let held = Standstill::begin(&here);
    wait_until_full(&here);
    sleep(standstill);
    let view = view(&here);
    drop(held);
    let highest = peak.end();
    println!(
        "memory: {before} KiB before, {highest} KiB at the most: {} KiB more; queue_bytes {bound} KiB; {} received, {} waiting",
        highest - before,
        view["received"],
        view["waiting"],
    );
    end(here);
}

fn wait_for_quiet(relay: &Relay) {
    let mut cpu = cpu_seconds(relay.process.id());
    loop {
        sleep(Duration::from_secs(1));
        let now = cpu_seconds(relay.process.id());
        if now - cpu < 0.02 {
            return;
        }
        cpu = now;
    }
}

/// Until no more goes into the queue: the next event may be longer than what is left.
fn wait_until_full(relay: &Relay) {
    let fill = || relay.ask("GET", "/v1/queue", "").2["fill"].as_f64().expect("a part");
    let (mut last, mut since) = (0.0, Instant::now());
    while since.elapsed() < if last > 0.9 { PATIENCE / 20 } else { PATIENCE } {
        let now = fill();
        if now > last {
            (last, since) = (now, Instant::now());
        }
        sleep(LOOK);
    }
    println!("the queue is full to {:.0} %", 100.0 * last);
}

fn done(mut command: Command) {
    assert!(command.status().expect("the program").success(), "{command:?}");
}

fn row(what: &str, events: u64, begun: Instant, cpu: f64) {
    let (seconds, events) = (begun.elapsed().as_secs_f64(), events as f64);
    println!("{what:<34} {seconds:>9.1} {:>9.0} {:>12.0}", events / seconds, 1e6 * cpu / events);
}

fn ask(relay: &Relay, method: &str, path: &str, body: &Value) {
    let (status, _, answer) = relay.ask(method, &format!("/v1/upstreams{path}"), &body.to_string());
    assert!((200..300).contains(&status), "{answer}");
}

fn add(here: &Relay, there: &Relay) {
    ask(here, "POST", "", &json!({ "url": there.url() }));
}

/// How it stands with the only upstream.
fn view(relay: &Relay) -> Value {
    relay.ask("GET", "/v1/upstreams", "").2[0].clone()
}

fn wait(relay: &Relay, is_so: impl Fn(&Value) -> bool) {
    let (mut last, mut since) = (Value::Null, Instant::now());
    loop {
        let view = view(relay);
        if is_so(&view) {
            return;
        }
        if view["stored"] != last {
            (last, since) = (view["stored"].clone(), Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{view}");
        sleep(LOOK);
    }
}

/// Memory of a process that is no file's, in KiB.
fn anonymous(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("a process");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    line.and_then(|line| line.trim().strip_suffix(" kB")?.parse().ok()).expect("a figure")
}

/// The most of it, looked at again and again.
struct Peak {
    most: Arc<AtomicU64>,
    is_over: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Peak {
    fn watch(process: u32) -> Self {
        let (most, is_over) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
        let (seen, stop) = (Arc::clone(&most), Arc::clone(&is_over));
        let thread = spawn(move || {
            while !stop.load(Relaxed) {
                seen.fetch_max(anonymous(process), Relaxed);
                sleep(LOOK);
            }
        });
        Self { most, is_over, thread }
    }

    fn end(self) -> u64 {
        self.is_over.store(true, Relaxed);
        self.thread.join().expect("its end");
        self.most.load(Relaxed)
    }
}
