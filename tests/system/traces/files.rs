//! The files that set up what takes traces: each part that a pipeline names is there, and nothing beside.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Map, Value};

fn read(name: &str) -> Value {
    let text = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    serde_saphyr::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn table<'v>(value: &'v Value, name: &str) -> &'v Map<String, Value> {
    value[name].as_object().unwrap_or_else(|| panic!("{name} is no table in {value:#}"))
}

fn names(list: &Value) -> BTreeSet<&str> {
    list.as_array().into_iter().flatten().map(|name| name.as_str().unwrap()).collect()
}

/// What both have in common: the format of the OpenTelemetry Collector, which Jaeger is built of.
fn check(config: &Value) {
    let sections: BTreeSet<&str> = config.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(sections.is_subset(&["receivers", "processors", "exporters", "extensions", "service"].into()));
    let pipelines = table(&config["service"], "pipelines");
    for kind in ["receivers", "processors", "exporters"] {
        let used: BTreeSet<&str> = pipelines.values().flat_map(|pipeline| names(&pipeline[kind])).collect();
        let declared: BTreeSet<&str> = table(config, kind).keys().map(String::as_str).collect();
        assert_eq!(used, declared, "{kind}");
    }
    let protocols = table(&config["receivers"]["otlp"], "protocols");
    for (protocol, port) in [("grpc", "4317"), ("http", "4318")] {
        assert!(protocols[protocol]["endpoint"].as_str().unwrap().contains(port));
    }
}

#[test]
fn the_collector_hands_traces_to_jaeger_and_zipkin() {
    let config = read("cluster/collector.yaml");
    check(&config);
    let pipeline = &config["service"]["pipelines"]["traces"];
    assert_eq!(names(&pipeline["exporters"]), ["otlp/jaeger", "zipkin"].into());
    // It must come first, or what it is to bound is gathered before it.
    assert_eq!(pipeline["processors"][0], "memory_limiter");
    let endpoint = |exporter: &str| config["exporters"][exporter]["endpoint"].as_str().unwrap().to_owned();
    assert!(endpoint("zipkin").ends_with("/api/v2/spans}") && !endpoint("otlp/jaeger").contains("://"));
}

#[test]
fn jaeger_keeps_and_answers() {
    let config = read("cluster/dev/jaeger/config.yaml");
    check(&config);
    let extensions = table(&config, "extensions").keys().map(String::as_str).collect::<BTreeSet<_>>();
    assert_eq!(names(&config["service"]["extensions"]), extensions);
}

#[test]
fn docker_compose_shows_the_nodes_where_jaeger_is() {
    let compose = read("docker-compose.yml");
    assert!(compose["services"]["jaeger"]["image"].as_str().unwrap().starts_with("jaegertracing/jaeger:2."));
    let environment = &compose["x-node"]["environment"];
    assert_eq!(environment["ROOKERY_TRACES_OTLP"], "http://jaeger:4317");
}
