//! What operators see a cluster with: the files for Prometheus and Grafana are accepted by the programs that
//! they are for, and every question in them has an answer.

mod prometheus;
#[allow(dead_code, reason = "a part is used here")]
use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use common::redis::Redis;
use common::{Relay, eventually, fresh, now, start_aggregator};
use prometheus::Prometheus;
use rookery::protocol::{Tags, sign::Keys};
use serde_json::{Value, json};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap()
}

fn promtool(arguments: &[&str], name: &str) {
    let output = Command::new("promtool").args(arguments).arg(file(name)).output();
    let output = output.expect("promtool is needed: cluster/test.sh installs it");
    assert!(output.status.success(), "{output:?}");
}

/// The values of all lines `name: value`.
fn values<'a>(text: &'a str, name: &str) -> Vec<&'a str> {
    let lines = text.lines().map(|line| line.trim_start().trim_start_matches("- "));
    lines.filter_map(|line| line.strip_prefix(name)?.strip_prefix(": ")).collect()
}

fn dashboards() -> Vec<(PathBuf, Value)> {
    let files = fs::read_dir(file("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let parse = |path: PathBuf| (path.clone(), serde_json::from_slice(&fs::read(path).unwrap()).unwrap());
    let all: Vec<_> = files.map(parse).collect();
    assert!(all.len() >= 5, "{all:?}");
    all
}

#[test]
fn prometheus_takes_its_files() {
    promtool(&["check", "config"], "cluster/prometheus.yml");
    // Debian's is built without Kubernetes, so it takes all but the few lines about that, and its alerts lie elsewhere.
    let config = read("cluster/kubernetes/prometheus.yml");
    let (before, discovery) = config.split_once("    kubernetes_sd_configs:\n").unwrap();
    let (_, after) = discovery.split_once("    relabel_configs:\n").unwrap();
    let folder = tempfile::TempDir::new().unwrap();
    let path = folder.path().join("prometheus.yml");
    fs::write(&path, format!("{before}    relabel_configs:\n{after}")).unwrap();
    promtool(&["check", "config", "--syntax-only"], path.to_str().unwrap());
    promtool(&["check", "rules"], "cluster/alerts.yml");
}

#[test]
fn alerts_fire_and_keep_quiet() {
    promtool(&["test", "rules"], "cluster/alerts.test.yml");
    let tested = read("cluster/alerts.test.yml");
    let tested: BTreeSet<&str> = values(&tested, "name").into_iter().collect();
    for alert in values(&read("cluster/alerts.yml"), "alert") {
        for name in [format!("{alert} fires"), format!("{alert} is quiet")] {
            assert!(tested.contains(&*name), "there is no test that {name}");
        }
    }
}

#[test]
fn every_alert_has_a_runbook() {
    let (alerts, document) = (read("cluster/alerts.yml"), read("docs/operations.md"));
    let (names, urls) = (values(&alerts, "alert"), values(&alerts, "runbook_url"));
    assert!(names.len() > 10 && names.len() == urls.len());
    for (name, url) in names.iter().zip(urls) {
        let (page, anchor) = url.split_once('#').unwrap();
        assert!(page.ends_with("/docs/operations.md") && anchor == name.to_lowercase(), "{name}: {url}");
        let mut after = document.lines().skip_while(|line| *line != format!("### {name}")).skip(1);
        let paragraph = after.find(|line| !line.is_empty()).unwrap_or("#");
        assert!(!paragraph.starts_with('#'), "docs/operations.md does not say what to do about {name}");
    }
}

/// A question in one of the files, and where it stands.
struct Question {
    expression: String,
    place: String,
}

/// All of them. What Grafana would put in is put in.
fn questions() -> Vec<Question> {
    let mut all = Vec::new();
    for (path, dashboard) in dashboards() {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().into_iter().flatten() {
                let expression = target["expr"].as_str().unwrap();
                let expression = expression
                    .replace("$__rate_interval", "15s")
                    .replace("$__range", "1m")
                    .replace("\"$node\"", "\".*\"");
                assert!(!expression.contains('$'), "{expression}");
                all.push(Question { expression, place: format!("{name}, {}", panel["title"]) });
            }
        }
    }
    let alerts = read("cluster/alerts.yml");
    for (name, expression) in values(&alerts, "alert").into_iter().zip(values(&alerts, "expr")) {
        // Without its last comparison, which holds only when something is wrong.
        let at = expression.rfind([' ']).and_then(|at| expression[..at].rfind(' ')).unwrap();
        assert!([">", "<"].contains(&expression[at..].split_whitespace().next().unwrap()), "{expression}");
        all.push(Question { expression: expression[..at].to_owned(), place: format!("alert {name}") });
    }
    assert!(all.len() > 100, "{}", all.len());
    all
}

/// One that reads these relays.
fn node(redis: &Redis, upstreams: &[Relay]) -> Relay {
    let urls: Vec<String> = upstreams.iter().map(Relay::url).collect();
    let bus = ["--redis", &redis.url(), "--workers", "2", "--set", "bus.watermark_ms=100"];
    let read = ["--upstream", &urls.join(","), "--set", "aggregator.allow_private=true"];
    Relay::start(&[&bus[..], &read].concat())
}

/// One that reads these by streams of Redis.
fn aggregator(redis: &Redis, upstreams: &[Relay]) -> Relay {
    let urls: Vec<String> = upstreams.iter().map(Relay::url).collect();
    let streams = ["--set", "aggregator.queue=redis", "--set", "aggregator.beat_ms=100"];
    let read = ["--upstream", &urls.join(","), "--set", "aggregator.allow_private=true"];
    start_aggregator(&[&["--redis", &redis.url()], &streams[..], &read].concat())
}

/// One of everything: a feed, a count, an event that is delivered by both nodes, a duplicate, a refusal; an event that
/// both nodes read of a relay.
async fn work(nodes: &[Relay; 2], upstreams: &[Relay; 2]) {
    let keys = Keys::generate();
    for upstream in upstreams {
        // Of another kind than the readers ask for.
        let event = keys.sign(now(), 7, Tags::default(), "");
        assert!(upstream.connect().await.publish(&event).await.0);
    }
    let keys = Keys::generate();
    let filter = json!({ "authors": [keys.public_key()] });
    let mut readers = Vec::new();
    for node in nodes {
        let mut reader = node.connect().await;
        reader.request("feed", &[filter.clone(), json!({ "kinds": [1], "limit": 5 })]).await;
        reader.say(json!(["COUNT", "count", filter])).await;
        assert_eq!(reader.hear().await[0], "COUNT");
        readers.push(reader);
    }
    let mut publisher = nodes[0].connect().await;
    let event = fresh(&keys, "to both nodes");
    assert!(publisher.publish(&event).await.0);
    assert!(publisher.publish(&event).await.0);
    for reader in &mut readers {
        assert_eq!(reader.hear().await[2]["id"], event.id().to_hex());
    }
    publisher.say(json!(["REQ", "refused", { "kinds": [1059] }])).await;
    assert_eq!(publisher.hear().await[0], "CLOSED");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_question_has_an_answer() {
    let redis = Redis::start();
    let upstreams = [Relay::start(&[]), Relay::start(&[])];
    let nodes = [node(&redis, &upstreams), node(&redis, &upstreams)];
    for node in &nodes {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let streams = Redis::start();
    let aggregator = aggregator(&streams, &upstreams);
    let [first, second] = nodes.each_ref().map(|node| node.operators);
    let prometheus = Prometheus::start(&[first, second, aggregator.operators]);
    let load = async {
        loop {
            work(&nodes, &upstreams).await;
        }
    };
    let answers = async {
        for Question { expression, place } in questions() {
            let what = format!("{place}: {expression}");
            eventually(&what, || prometheus.has_numbers(&expression)).await;
        }
    };
    tokio::select! {
        () = load => {}
        () = answers => {}
    }
}
