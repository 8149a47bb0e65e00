//! A real Jaeger: what two nodes exported to it, one by gRPC and one by HTTP, it answers as one trace.

use std::{
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rookery::protocol::Event;
use serde_json::{Value, json};

use crate::traces::{
    node,
    nodes::{bus, through},
    upstreams,
};
use common::redis::Redis;
use common::{PATIENCE, Relay, free_port, fresh, watch};

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

    /// The trace that begins with the receipt of an event, once it has so many spans.
    async fn trace(&self, event: &Event, count: usize) -> Shown {
        let tags =
            json!({ "messaging.message.id": event.id(), "messaging.operation.name": "EVENT" }).to_string();
        let parameters = [("service", "rookery"), ("operation", "message"), ("tags", &*tags)];
        let whole =
            |answer: &Value| answer["data"][0]["spans"].as_array().is_some_and(|spans| spans.len() == count);
        let answer = self.answers("api/traces", &parameters, whole).await;
        if std::env::var_os("ROOKERY_TEST_SHOW").is_some() {
            println!("{answer:#}");
        }
        Shown(answer["data"][0].clone())
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

/// A trace as Jaeger shows it.
struct Shown(Value);

impl Shown {
    fn node_of(&self, span: &Value) -> &str {
        let process = &self.0["processes"][span["processID"].as_str().unwrap()];
        let tags = process["tags"].as_array().unwrap();
        let node = tags.iter().find(|tag| tag["key"] == "service.instance.id").unwrap();
        node["value"].as_str().unwrap()
    }

    /// The spans of that name, of a node.
    fn all(&self, node: &str, name: &str) -> Vec<&Value> {
        let spans = self.0["spans"].as_array().unwrap().iter();
        spans.filter(|span| span["operationName"] == name && self.node_of(span) == node).collect()
    }

    fn find(&self, node: &str, name: &str) -> &Value {
        self.all(node, name).first().unwrap_or_else(|| panic!("no {name} of {node} in {:#}", self.0))
    }

    /// Each is a child of the one before, and begins no earlier.
    fn is_chain(&self, chain: &[(&str, &str)]) {
        let spans: Vec<&Value> = chain.iter().map(|(node, name)| self.find(node, name)).collect();
        for pair in spans.windows(2) {
            let (parent, child) = (pair[0], pair[1]);
            let references = child["references"].as_array().unwrap();
            let is_child = |reference: &Value| {
                reference["refType"] == "CHILD_OF" && reference["spanID"] == parent["spanID"]
            };
            assert!(references.iter().any(is_child), "{child:#}");
            assert!(child["startTime"].as_u64() >= parent["startTime"].as_u64(), "{:#}", self.0);
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
    let upstream = Relay::start(&[]);
    let a = upstreams::reads(&upstream.url(), &by_grpc, &["--redis", &url]);
    let b = node(&by_http, &["--node-id", "b", "--redis", &url]);
    bus([&a, &b]).await;

    let event = through(&a, &b, |keys| fresh(keys, "")).await;
    let trace = jaeger.trace(&event, 9).await;
    trace.is_chain(&[("a", "message"), ("a", "publish"), ("b", "route"), ("b", "deliver")]);
    for name in ["admit", "persist", "batch", "store transaction", "deliver"] {
        trace.find("a", name);
    }

    // What another relay has sent, at the socket of a client of the other node.
    upstreams::is_read(&a, &upstream.url()).await;
    let event = upstreams::through(&upstream, &b).await;
    let trace = jaeger.trace(&event, 11).await;
    trace.is_chain(&[("a", "message"), ("a", "consume"), ("a", "publish"), ("b", "route"), ("b", "deliver")]);
    trace.is_chain(&[("a", "message"), ("a", "queue")]);
    trace.is_chain(&[("a", "consume"), ("a", "persist"), ("a", "batch"), ("a", "store transaction")]);
    trace.is_chain(&[("a", "consume"), ("a", "admit")]);
    let tags = trace.find("a", "message")["tags"].as_array().unwrap();
    let says = |key: &str| &tags.iter().find(|tag| tag["key"] == key).unwrap()["value"];
    assert_eq!((says("rookery.upstream"), says("nostr.event.kind")), (&json!(upstream.url()), &json!(1)));
}
