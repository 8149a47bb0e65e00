//! A real Jaeger: what two nodes exported to it, one by gRPC and one by HTTP, it answers as one trace.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::traces::{
    node,
    nodes::{bus, through},
};
use common::redis::Redis;
use common::{PATIENCE, free_port, fresh, watch};

/// Running; killed when dropped.
struct Jaeger {
    process: Child,
    grpc: u16,
    http: u16,
    query: u16,
}

impl Jaeger {
    /// Built when it is needed for the first time, which takes minutes; `None` where there is no Go to do that.
    async fn start() -> Option<Self> {
        /// How the script ends then.
        const NO_GO: Option<i32> = Some(2);
        watch::allow(Duration::from_secs(1_800));
        let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/dev");
        let built = Command::new(here.join("jaeger-build.sh")).stderr(Stdio::inherit()).output().unwrap();
        if built.status.code() == NO_GO {
            return None;
        }
        assert!(built.status.success(), "{built:?}");
        let [grpc, http, query, own, health] = [(); 5].map(|()| free_port());
        let process = Command::new(String::from_utf8(built.stdout).unwrap().trim())
            .arg("--config")
            .arg(here.join("jaeger/config.yaml"))
            .env("JAEGER_OTLP_GRPC", grpc.to_string())
            .env("JAEGER_OTLP_HTTP", http.to_string())
            .env("JAEGER_HTTP", query.to_string())
            .env("JAEGER_GRPC", own.to_string())
            .env("JAEGER_HEALTH", health.to_string())
            .spawn()
            .unwrap();
        let jaeger = Self { process, grpc, http, query };
        jaeger
            .answers("api/services", &[], |answer| answer["data"].is_array() || answer["data"].is_null())
            .await;
        Some(jaeger)
    }

    /// What the query API answers, once it is what is awaited.
    async fn answers(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        awaited: impl Fn(&Value) -> bool,
    ) -> Value {
        let mut ask = Command::new("curl");
        ask.args(["--silent", "--get", &format!("http://127.0.0.1:{}/{path}", self.query)]);
        for (name, value) in parameters {
            ask.args(["--data-urlencode", &format!("{name}={value}")]);
        }
        let begun = Instant::now();
        loop {
            let output = ask.output().unwrap();
            let answer = serde_json::from_slice(&output.stdout).ok();
            if let Some(answer) = answer.clone().filter(&awaited) {
                return answer;
            }
            assert!(begun.elapsed() < PATIENCE, "Jaeger answers {path} with {answer:#?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

impl Drop for Jaeger {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn jaeger_shows_one_trace_of_both_nodes() {
    let Some(jaeger) = Jaeger::start().await else {
        return eprintln!(
            "SKIPPED: traces in a real Jaeger, which is built with Go 1.25 or later (https://go.dev/dl)"
        );
    };
    let redis = Redis::start();
    let url = redis.url();
    let by_grpc = format!("http://127.0.0.1:{}", jaeger.grpc);
    let by_http = format!("http://127.0.0.1:{}/v1/traces", jaeger.http);
    let nodes = [("a", by_grpc), ("b", by_http)]
        .map(|(name, otlp)| node(&otlp, &["--node-id", name, "--redis", &url]));
    bus(&nodes).await;
    let [a, b] = nodes;
    let event = through(&a, &b, |keys| fresh(keys, "")).await;

    let tags = json!({ "messaging.message.id": event.id(), "messaging.operation.name": "EVENT" }).to_string();
    let parameters = [("service", "rookery"), ("operation", "message"), ("tags", &*tags)];
    let whole = |answer: &Value| answer["data"][0]["spans"].as_array().is_some_and(|spans| spans.len() == 9);
    let answer = jaeger.answers("api/traces", &parameters, whole).await;
    let trace = &answer["data"][0];
    let spans = trace["spans"].as_array().unwrap();
    let node_of = |span: &Value| {
        let process = &trace["processes"][span["processID"].as_str().unwrap()];
        let tags = process["tags"].as_array().unwrap();
        tags.iter().find(|tag| tag["key"] == "service.instance.id").unwrap()["value"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let find = |node: &str, name: &str| {
        let found = spans.iter().find(|span| span["operationName"] == name && node_of(span) == node);
        found.unwrap_or_else(|| panic!("no {name} of {node} in {answer:#}"))
    };
    let chain = [("a", "message"), ("a", "publish"), ("b", "route"), ("b", "deliver")]
        .map(|(node, name)| find(node, name));
    for pair in chain.windows(2) {
        let (parent, child) = (pair[0], pair[1]);
        let references = child["references"].as_array().unwrap();
        let is_child = |reference: &&Value| {
            reference["refType"] == "CHILD_OF" && reference["spanID"] == parent["spanID"]
        };
        assert!(references.iter().any(|reference| is_child(&reference)), "{child:#}");
        assert!(child["startTime"].as_u64() >= parent["startTime"].as_u64(), "{answer:#}");
    }
    for name in ["admit", "persist", "batch", "store transaction", "deliver"] {
        find("a", name);
    }
    if std::env::var_os("ROOKERY_TEST_SHOW").is_some() {
        println!("{answer:#}");
    }
}
