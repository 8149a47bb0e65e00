//! What is scraped, beside what is said of it.

use std::collections::BTreeSet;

use super::*;

#[test]
fn names_follow_the_conventions() {
    let metrics = Metrics::new("n1");
    metrics.messages.of(Verb::Event).inc();
    metrics.stages.of(Stage::Store).observe(0.01);
    metrics.before_scrapes(|metrics| {
        metrics.queue_fill.of(BoundedQueue::Query).set(0.5);
    });
    let text = metrics.render();
    for line in [
        "rookery_messages_total{verb=\"event\"} 1",
        "rookery_messages_total{verb=\"close\"} 0",
        "rookery_stage_seconds_sum{stage=\"store\"} 0.01",
        "rookery_queue_fill_ratio{queue=\"query\"} 0.5",
        "rookery_build_info{version=",
        "process_cpu_seconds_total ",
        "process_open_fds ",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn what_is_scraped_is_what_is_described() {
    let metrics = Metrics::new("n1");
    metrics.lag_of("worker-0");
    metrics.upstream("wss://relay.example.com", &["stored"]);
    metrics.consumer_outcomes(&["stored"]);
    metrics.partition(0);
    let text = metrics.render();
    let scraped: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| match line.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, "info")) => format!("{name}_info"),
            Some((name, _)) => name.to_owned(),
            None => panic!("{line}"),
        })
        .collect();
    let reference = metrics_reference();
    let rows = reference.lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` |"));
    let ours = |name: &&str| ["rookery_", "process_"].iter().any(|own| name.starts_with(own));
    let described: BTreeSet<String> = rows.map(|(name, _)| name).filter(ours).map(str::to_owned).collect();
    assert_eq!(scraped, described);
}
