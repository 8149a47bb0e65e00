//! Where the time goes between an event's arrival at a node and its delivery, stage by stage: inside one node, and
//! from one node to another through Redis. Every event is traced; the nodes export their spans when they end, so
//! that this takes nothing from what is measured but the noting of times.
//!
//!   cargo bench --bench latency
//!
//! `RUNS=3`, `RATE=250` and `SECONDS=20` are what they say. Needs `redis-server`.

#[path = "../nodes/mod.rs"]
mod nodes;
mod spans;

use common::{Relay, redis::Redis, rookery};
use nodes::{end, node, number, report};
use spans::{Collector, Way};

const SUBSCRIBERS: usize = 2_000;

/// Milliseconds of each stage, at the median and at the 99th percentile; none where there is no such stage.
type Stages = Vec<(&'static str, Option<[f64; 2]>)>;

fn main() {
    let runs = number("RUNS", 3.0) as usize;
    let (mut one, mut two) = (Vec::new(), Vec::new());
    for run in 0..runs {
        one.push(measure(1, run));
        two.push(measure(2, run));
    }
    println!("ms, medians of {runs} runs");
    println!("{:<40} {:>16} {:>16}", "", "inside one node", "node to node");
    println!("{:<40} {:>8}{:>8} {:>8}{:>8}", "stage", "p50", "p99", "p50", "p99");
    for ((stage, one), (_, two)) in medians(&one).into_iter().zip(medians(&two)) {
        println!("{stage:<40} {} {}", milliseconds(one), milliseconds(two));
    }
}

fn milliseconds(quantiles: Option<[f64; 2]>) -> String {
    quantiles.map_or_else(|| format!("{:>8}{:>8}", "–", "–"), |[p50, p99]| format!("{p50:>8.2}{p99:>8.2}"))
}

fn medians(runs: &[Stages]) -> Stages {
    let of_stage = |(place, (stage, first)): (usize, &(&'static str, Option<[f64; 2]>))| {
        let of_all = |which: usize| {
            quantile(runs.iter().filter_map(|stages| Some(stages[place].1?[which])).collect(), 0.5)
        };
        (*stage, first.map(|_| [0, 1].map(of_all)))
    };
    runs[0].iter().enumerate().map(of_stage).collect()
}

/// The value that this part of all does not exceed.
fn quantile(mut values: Vec<f64>, part: f64) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * part) as usize]
}

/// Publishes at the first of so many nodes what is delivered by the last.
fn measure(count: usize, run: usize) -> Stages {
    let redis = (count > 1).then(Redis::start);
    let collector = Collector::start();
    let url = collector.url();
    // All at once, in the end.
    let mut arguments = vec!["--otlp", &url, "--set", "traces.ratio=1", "--set", "traces.queue=200000"];
    arguments.extend(["--set", "traces.export_batch=200000", "--set", "traces.export_interval_ms=600000"]);
    arguments.extend(["--set", "traces.export_timeout_ms=30000", "--set", "traces.flush_ms=30000"]);
    let nodes: Vec<Relay> = (0..count).map(|_| node(redis.as_ref(), &arguments)).collect();
    let (publish_at, subscribe_at) = (nodes[0].url(), nodes[count - 1].url());
    let (rate, seconds) = (number("RATE", 250.0), number("SECONDS", 20.0));
    let mut bench = rookery(&["bench", "fanout", &publish_at, "--even", "--seed", &(run + 1).to_string()]);
    bench.args(["--publish-at", &publish_at, "--subscribe-at", &subscribe_at]);
    bench.args(["--subscribers", &SUBSCRIBERS.to_string()]);
    bench.args(["--rate", &rate.to_string(), "--events", &(rate * seconds).to_string()]);
    let report = report(bench, &nodes, SUBSCRIBERS, || {});
    let to_outbox = spans::quantiles_of_stage(&nodes[count - 1].metrics(), "deliver");
    nodes.into_iter().for_each(end);

    let ways: Vec<_> = collector.ways().iter().map(Way::stages).collect();
    assert_eq!(ways.len(), (rate * seconds) as usize, "an event, a trace");
    let of_stage = |place: usize| {
        let times: Vec<f64> = ways.iter().filter_map(|stages| stages[place].1).collect();
        (!times.is_empty()).then(|| [0.5, 0.99].map(|part| quantile(times.clone(), part)))
    };
    let mut stages: Stages =
        ways[0].iter().enumerate().map(|(place, (stage, _))| (*stage, of_stage(place))).collect();
    stages.push(("deliver: into the outbox of each", Some(to_outbox)));
    let of_client = ["delivery_p50_ms", "delivery_p99_ms"];
    let of_client = of_client.map(|name| report["median"][name].as_f64().expect("a figure"));
    stages.push(("from when it is due to the subscriber", Some(of_client)));
    stages
}
