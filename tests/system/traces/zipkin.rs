//! Zipkin: a real collector with the file that operators take hands it what a node exports, in Zipkin's own format.

use std::{
    net::{SocketAddr, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use actix_web::{App, HttpResponse, HttpServer, web};
use common::{
    Relay, eventually,
    proxy::{Flow, Proxy},
    watch,
};
use serde_json::Value;

use crate::traces::{collector::Collector, upstreams};

/// Takes spans as Zipkin does (v2, JSON).
#[derive(Clone, Default)]
struct Zipkin(Arc<Mutex<Vec<Value>>>);

impl Zipkin {
    fn start(&self) -> String {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/api/v2/spans", listener.local_addr().unwrap());
        let kept = self.clone();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let take = move |spans: web::Json<Vec<Value>>| {
                    kept.0.lock().unwrap().extend(spans.into_inner());
                    std::future::ready(HttpResponse::Accepted().finish())
                };
                let app = move || App::new().route("/api/v2/spans", web::post().to(take.clone()));
                HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run().await
            })
        });
        url
    }

    /// The first span of that name with this tag.
    fn find(&self, name: &str, tag: &str, value: &str) -> Option<Value> {
        let spans = self.0.lock().unwrap();
        spans.iter().find(|span| span["name"] == name && span["tags"][tag] == value).cloned()
    }
}

/// Running; killed when dropped.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The collector between a node and both that show traces, and where it takes them. `None` where there is no Go to
/// build it, which takes minutes the first time.
async fn collect(jaeger: &str, zipkin: &str) -> Option<(Running, String)> {
    /// How the script ends then.
    const NO_GO: Option<i32> = Some(2);
    watch::allow(Duration::from_secs(1_800));
    let here = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster");
    let built = Command::new(here.join("dev/collector-build.sh")).stderr(Stdio::inherit()).output().unwrap();
    if built.status.code() == NO_GO {
        return None;
    }
    assert!(built.status.success(), "{built:?}");
    // An address that nobody else has: the ports stand in the file.
    let address: SocketAddr = "127.0.7.7:4317".parse().unwrap();
    let process = Command::new(String::from_utf8(built.stdout).unwrap().trim())
        .arg("--config")
        .arg(here.join("collector.yaml"))
        // Its own metrics would want a port, and the Jaeger of the test knows no gzip.
        .args(["--config", "yaml:service::telemetry::metrics::level: none"])
        .args(["--config", "yaml:exporters::otlp/jaeger::compression: none"])
        .env("COLLECTOR_HOST", address.ip().to_string())
        .env("JAEGER", jaeger)
        .env("ZIPKIN", zipkin)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let running = Running(process);
    eventually("the collector", || TcpStream::connect(address).is_ok()).await;
    Some((running, format!("http://{address}")))
}

#[tokio::test(flavor = "multi_thread")]
async fn zipkin_is_told_of_an_event_that_was_read_and_of_the_session() {
    let (zipkin, jaeger) = (Zipkin::default(), Collector::grpc().await);
    let Some((_running, otlp)) = collect(&jaeger.address.to_string(), &zipkin.start()).await else {
        return eprintln!(
            "SKIPPED: traces at Zipkin by a real collector, which is built with Go 1.25 or later (https://go.dev/dl)"
        );
    };
    let upstream = Relay::start(&[]);
    let proxy = Proxy::start(upstream.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let reader = upstreams::reads(&url, &otlp, &[]);
    upstreams::is_read(&reader, &url).await;
    let event = upstreams::through(&upstream, &reader).await;
    proxy.set(Flow::Cut);

    let id = event.id().to_hex();
    let find = |name: &str| zipkin.find(name, "messaging.message.id", &id);
    for name in ["message", "queue", "consume", "deliver"] {
        eventually(name, || find(name).is_some()).await;
    }
    let message = find("message").unwrap();
    assert!(message.get("parentId").is_none_or(Value::is_null), "{message:#}");
    assert_eq!(message["localEndpoint"]["serviceName"], "rookery");
    for (name, parent) in [("queue", "message"), ("consume", "message"), ("deliver", "consume")] {
        let (child, parent) = (find(name).unwrap(), find(parent).unwrap());
        assert_eq!(
            (&child["parentId"], &child["traceId"]),
            (&parent["id"], &message["traceId"]),
            "{child:#}"
        );
    }
    eventually("cleanup", || zipkin.find("cleanup", "rookery.upstream", &url).is_some()).await;
    let cleanup = zipkin.find("cleanup", "rookery.upstream", &url).unwrap();
    let connect = zipkin.0.lock().unwrap().iter().find(|span| span["id"] == cleanup["parentId"]).cloned();
    assert_eq!(connect.unwrap()["name"], "connect");
    // Jaeger is told the same.
    jaeger.trace("message", ("messaging.message.id", &id), 8).await;
}
