//! What it costs to read another relay into the cluster store: by one process through a queue in memory, and by one that
//! reads and one, two or four that store, through streams of Redis. Then how long clients of a node wait for OK while
//! four of them have more to store than the store takes, once they have heard of the clients.
//!
//!   EVENTS=50000 cargo bench --bench streams
//!
//! It starts a CQL server, or uses that of `ROOKERY_TEST_CQL`. `PACED=10`: seconds for which clients publish, three times,
//! which has to be less than the others need. `CONSUMERS="0 4"`: how many store, 0 for the queue in memory.
//! `SET="aggregator.clients_wait=0"`: settings of all processes.

mod nodes;

use std::{
    env,
    process::Command,
    thread::{scope, sleep},
    time::{Duration, Instant},
};

use common::{Relay, cassandra, fresh, redis::Redis, rookery, start_aggregator};
use nodes::{cpu_seconds, end, info, node, number};
use rookery::protocol::sign::Keys;
use serde_json::json;

const LOOK: Duration = Duration::from_millis(100);
/// Longest that nothing may be stored.
const PATIENCE: Duration = Duration::from_secs(120);
/// Between events of a client.
const PACE: Duration = Duration::from_millis(25);

/// Processes that share a new keyspace and a Redis.
struct Stage {
    redis: Redis,
    keyspace: String,
    processes: Vec<Relay>,
}

impl Stage {
    fn new() -> Self {
        let keyspace = cassandra::new_name();
        let mut apply =
            rookery(&["schema", "apply", "--scylla", cassandra::server(), "--keyspace", &keyspace]);
        apply.args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"]);
        done(apply);
        Self { redis: Redis::start(), keyspace, processes: Vec::new() }
    }

    fn flags(&self) -> Vec<String> {
        let url = self.redis.url();
        let flags = ["--redis", &url, "--scylla", cassandra::server(), "--keyspace", &self.keyspace];
        // However slow the machine is, what is offered is taken in the end.
        let settings =
            ["aggregator.allow_private=true", "aggregator.verify_cores=4", "aggregator.look_seconds=1"];
        let more = env::var("SET").unwrap_or_default();
        let settings = settings.into_iter().chain(more.split_whitespace());
        let settings = settings.flat_map(|setting| ["--set", setting]);
        flags.into_iter().chain(settings).map(str::to_owned).collect()
    }

    fn start(&mut self, arguments: &[&str]) {
        let flags = self.flags();
        let all: Vec<&str> = arguments.iter().copied().chain(flags.iter().map(String::as_str)).collect();
        self.processes.push(start_aggregator(&all));
    }

    fn cpu(&self) -> Vec<f64> {
        self.processes.iter().map(|process| cpu_seconds(process.process.id())).collect()
    }

    fn redis_cpu(&self) -> f64 {
        info(&self.redis, "used_cpu_user") + info(&self.redis, "used_cpu_sys")
    }

    /// Has the first process read that relay.
    fn add(&self, there: &Relay) {
        let (status, _, answer) =
            self.processes[0].ask("POST", "/v1/upstreams", &json!({ "url": there.url() }).to_string());
        assert_eq!(status, 201, "{answer}");
    }

    /// How many of its events are stored. What was written, though the answer came too late, is known when it is tried
    /// again. By metrics, as the store is not asked for these.
    fn stored(&self) -> u64 {
        let metrics = self.processes[0].metrics();
        let of = |outcome: &str| {
            let is_this = |line: &&str| {
                line.starts_with("rookery_upstream_events_total{")
                    && line.contains(&format!(r#"outcome="{outcome}""#))
            };
            let value =
                metrics.lines().find(is_this).and_then(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
            value.unwrap_or_default() as u64
        };
        of("stored") + of("known")
    }

    fn end(self) {
        self.processes.into_iter().for_each(end);
    }
}

fn done(mut command: Command) {
    let output = command.output().expect("the program");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn main() {
    let events = number("EVENTS", 30_000.0) as u64;
    let paced = Duration::from_secs_f64(number("PACED", 10.0));
    let there = node(None, &["--set", "persister.deadline_ms=60000"]);
    let some = ["--connections", "8", "--patience", "60", "--events", &events.to_string()];
    done(rookery(&[&["bench", "ingest", &there.url()], &some[..]].concat()));

    println!(
        "{:<28} {:>8} {:>9} | {:>9} {:>9} {:>9}",
        "CPU in µs an event", "seconds", "events/s", "reading", "storing", "Redis"
    );
    let consumers = env::var("CONSUMERS").unwrap_or_else(|_| "0 1 2 4".to_owned());
    for consumers in consumers.split_whitespace() {
        into_the_store(&there, events, consumers.parse().expect("a number"));
    }
    clients(&there, paced);
    end(there);
}

/// `consumers`: none, and one process does all of it through a queue in memory.
fn into_the_store(there: &Relay, events: u64, consumers: usize) {
    let mut stage = Stage::new();
    match consumers {
        0 => stage.start(&["--role", "both"]),
        count => {
            let streams = ["--set", "aggregator.queue=redis"];
            stage.start(&[&["--role", "read"], &streams[..]].concat());
            (0..count).for_each(|_| stage.start(&[&["--role", "consume"], &streams[..]].concat()));
            wait_for_members(&stage);
        }
    }
    let (cpu, redis, begun) = (stage.cpu(), stage.redis_cpu(), Instant::now());
    stage.add(there);
    wait_for(&stage, |stored| stored >= events);
    let (seconds, all) = (begun.elapsed().as_secs_f64(), events as f64);
    let spent: Vec<f64> =
        stage.cpu().iter().zip(&cpu).map(|(after, before)| 1e6 * (after - before) / all).collect();
    let redis = 1e6 * (stage.redis_cpu() - redis) / all;
    let what = match consumers {
        0 => "in memory, one process".to_owned(),
        count => format!("streams, one reads, {count} store"),
    };
    println!(
        "{what:<28} {seconds:>8.1} {:>9.0} | {:>9.0} {:>9.0} {redis:>9.0}",
        all / seconds,
        spent[0],
        spent[1..].iter().fold(0.0, |sum, more| sum + more)
    );
    stage.end();
}

/// Until each of them has its part of the streams: nobody is to wait for that.
fn wait_for_members(stage: &Stage) {
    let begun = Instant::now();
    let are_there = || {
        let taken = |process: &Relay| process.metrics().matches("rookery_upstream_queue_entries{").count();
        stage.processes.iter().map(taken).sum::<usize>() >= 8
    };
    while !are_there() {
        assert!(begun.elapsed() < PATIENCE, "the streams are not taken from");
        sleep(LOOK);
    }
}

fn wait_for(stage: &Stage, is_so: impl Fn(u64) -> bool) {
    let (mut last, mut since) = (0, Instant::now());
    loop {
        let stored = stage.stored();
        if is_so(stored) {
            return;
        }
        if stored > last {
            (last, since) = (stored, Instant::now());
        }
        assert!(since.elapsed() < PATIENCE, "{stored} are stored");
        sleep(LOOK);
    }
}

/// Clients of a node, alone and while four processes store what another relay sends.
fn clients(there: &Relay, paced: Duration) {
    let mut stage = Stage::new();
    let streams = ["--set", "aggregator.queue=redis"];
    let flags = stage.flags();
    let own: Vec<&str> =
        flags.iter().map(String::as_str).chain(streams).chain(["--set", "aggregator.role=none"]).collect();
    let relay = node(None, &own);
    stage.start(&[&["--role", "read"], &streams[..]].concat());
    (0..4).for_each(|_| stage.start(&[&["--role", "consume"], &streams[..]].concat()));
    wait_for_members(&stage);
    // What each thing is when it is done for the first time.
    publish(&relay, paced / 4);
    let alone = publish(&relay, paced);
    let (beside, rate) = scope(|scope| {
        // The answer is read from a store that has much to do.
        scope.spawn(|| stage.add(there));
        wait_for(&stage, |stored| stored > 100);
        // Until those who store have heard of the clients, and go by them.
        publish(&relay, paced);
        let (before, begun) = (stage.stored(), Instant::now());
        let beside = publish(&relay, paced);
        (beside, (stage.stored() - before) as f64 / begun.elapsed().as_secs_f64())
    });
    println!("clients' OK, one event every {} ms, milliseconds:", PACE.as_millis());
    for (what, times) in [("alone", &alone), ("beside four that store", &beside)] {
        let at = |part: f64| 1e3 * times[((times.len() - 1) as f64 * part) as usize].as_secs_f64();
        println!("{what:<28} median {:>7.1}, p99 {:>7.1}, {} events", at(0.5), at(0.99), times.len());
    }
    println!("{:<28} {rate:.0} events/s stored meanwhile", "");
    end(relay);
    stage.end();
}

/// Publishes at a pace: how long each waited for its OK, sorted.
fn publish(relay: &Relay, paced: Duration) -> Vec<Duration> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut times: Vec<Duration> = runtime.block_on(async {
        let (keys, mut client) = (Keys::generate(), relay.connect().await);
        let (begun, mut times) = (Instant::now(), Vec::new());
        let mut ticks = tokio::time::interval(PACE);
        while begun.elapsed() < paced {
            ticks.tick().await;
            let (event, sent) = (fresh(&keys, "paced"), Instant::now());
            let (accepted, why) = client.publish(&event).await;
            assert!(accepted, "{why}");
            times.push(sent.elapsed());
        }
        times
    });
    times.sort_unstable();
    times
}
