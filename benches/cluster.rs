//! What a cluster costs: nodes on one Redis, subscribers spread over all of them, the same load whatever their
//! number. CPU is fitted as a·events + b·(event, receiving node) + c·deliveries.
//!
//!   cargo bench --bench cluster -- [NODES…]    1 2 4 8 when nothing is said
//!
//! `CQL=HOST:PORT` stores the events there instead of in a folder for each node, `RUNS=3` and `RATE=250` and
//! `SECONDS=20` are what they say. `AUTHORS=1 SUBSCRIBERS=10,1000,10000`: one author, whom so many follow; without,
//! 5,000 authors, of whom 2,000 subscribers, and then 400, follow 50 each. `CONTACTS=2000`: the events are contact
//! lists of so many tags; other nodes fetch those from the store, so they need one in common. Needs `redis-server`.

mod nodes;

use std::env;

use common::{Relay, redis::Redis, rookery};
use nodes::{cpu_seconds, info, node, number, report};

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
    /// Bytes that Redis took and gave.
    redis_bytes: f64,
    p50: f64,
    p99: f64,
}

fn main() {
    let sizes: Vec<usize> = env::args().skip(1).filter_map(|argument| argument.parse().ok()).collect();
    let sizes = if sizes.is_empty() { vec![1, 2, 4, 8] } else { sizes };
    let mut points = Vec::new();
    println!(
        "nodes subscribers  CPU/event µs  Redis/event µs  Redis commands/event  Redis bytes/event  copies/event  receiving nodes  deliveries  p50 ms  p99 ms"
    );
    let audiences = env::var("SUBSCRIBERS").unwrap_or_else(|_| "2000,400".to_owned());
    let audiences: Vec<usize> =
        audiences.split(',').map(|text| text.parse().expect("a number of subscribers")).collect();
    for run in 0..number("RUNS", 3.0) as u64 {
        for &nodes in &sizes {
            for (nth, &subscribers) in audiences.iter().enumerate() {
                let point = measure(nodes, subscribers, 1 + run * audiences.len() as u64 + nth as u64);
                let per_event = |value: f64| value / point.events;
                println!(
                    "{:>5} {:>11}  {:>12.0}  {:>14.1}  {:>20.1}  {:>17.0}  {:>12.1}  {:>15.2}  {:>10.1}  {:>6.1}  {:>6.1}",
                    point.nodes,
                    point.subscribers,
                    1e6 * per_event(point.nodes_cpu),
                    1e6 * per_event(point.redis_cpu),
                    per_event(point.published),
                    per_event(point.redis_bytes),
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
    if sizes.len() < 3 {
        // Of fewer, the three costs can not be told apart.
        return;
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
    let redis = Redis::start();
    let keyspace = format!("bench_{}_{seed}_{count}", std::process::id());
    let store = env::var("CQL").ok();
    let mut arguments = Vec::new();
    if let Some(server) = &store {
        arguments.extend(["--scylla", server, "--keyspace", &keyspace]);
        let mut apply = rookery(&["schema", "apply", "--scylla", server, "--keyspace", &keyspace]);
        apply.args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"]);
        assert!(apply.status().expect("rookery").success());
    }
    let contacts = number("CONTACTS", 0.0);
    if contacts > 0.0 {
        // What takes longer than it may is to be measured, not refused.
        arguments.extend(["--set", "persister.deadline_ms=20000", "--set", "scylla.deadline_ms=20000"]);
    }
    let nodes: Vec<Relay> = (0..count).map(|_| node(Some(&redis), &arguments)).collect();
    let urls: Vec<String> = nodes.iter().map(Relay::url).collect();
    let (at, urls) = (&urls[0], urls.join(","));
    let (rate, seconds) = (number("RATE", 250.0), number("SECONDS", 20.0));
    let mut bench =
        rookery(&["bench", "fanout", at, "--even", "--publish-at", &urls, "--subscribe-at", &urls]);
    bench.args(["--seed", &seed.to_string(), "--subscribers", &subscribers.to_string()]);
    bench.args(["--rate", &rate.to_string(), "--events", &(rate * seconds).to_string()]);
    bench.args(["--contacts", &contacts.to_string()]);
    let authors = number("AUTHORS", 5_000.0);
    bench.args(["--authors", &authors.to_string(), "--follows", &authors.min(50.0).to_string()]);
    let bytes = || info(&redis, "total_net_input_bytes") + info(&redis, "total_net_output_bytes");
    let mut before = (0.0, 0.0);
    let subscribed = || before = (cpu_seconds(redis.id()), bytes());
    let report = report(bench, &nodes, subscribers, subscribed);
    let (redis_cpu, redis_bytes) = (cpu_seconds(redis.id()) - before.0, bytes() - before.1);
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
        redis_bytes,
        p50: figure("delivery_p50_ms"),
        p99: figure("delivery_p99_ms"),
    }
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
