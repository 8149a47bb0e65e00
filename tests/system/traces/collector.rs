//! A receiver of OTLP, over gRPC or HTTP, that keeps what it is sent.

use std::{
    collections::HashMap,
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use actix_web::{App, HttpResponse, HttpServer, web};
use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1 as proto,
};
use prost::Message;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

use common::{PATIENCE, eventually};

/// A running receiver; it ends with the test.
pub struct Collector {
    pub address: SocketAddr,
    received: Received,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Kept>>);

#[derive(Default)]
struct Kept {
    spans: Vec<Span>,
    /// All of it, as it is encoded.
    bytes: Vec<u8>,
}

/// A span, as the tests look at it.
#[derive(Debug, Clone)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub kind: i32,
    pub begun: u64,
    pub ended: u64,
    pub attributes: HashMap<String, String>,
    /// Of whoever made it.
    pub resource: HashMap<String, String>,
    /// Ids of spans.
    pub links: Vec<String>,
    pub failed: bool,
}

impl Collector {
    pub async fn grpc() -> Self {
        let received = Received::default();
        let incoming = TcpIncoming::bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let address = incoming.local_addr().unwrap();
        let service = TraceServiceServer::new(received.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming));
        Self { address, received }
    }

    /// Takes binary OTLP at `/v1/traces`.
    pub async fn http() -> Self {
        let received = Received::default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let kept = received.clone();
        std::thread::spawn(move || {
            actix_web::rt::System::new().block_on(async move {
                let take = move |body: web::Bytes| {
                    kept.take(ExportTraceServiceRequest::decode(body).unwrap());
                    std::future::ready(
                        HttpResponse::Ok().body(ExportTraceServiceResponse::default().encode_to_vec()),
                    )
                };
                let app = move || App::new().route("/v1/traces", web::post().to(take.clone()));
                HttpServer::new(app).workers(1).disable_signals().listen(listener).unwrap().run().await
            })
        });
        Self { address, received }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn spans(&self) -> Vec<Span> {
        self.received.0.lock().unwrap().spans.clone()
    }

    /// Everything that it was sent, whatever it is. Texts are in it as they are.
    pub fn bytes(&self) -> Vec<u8> {
        self.received.0.lock().unwrap().bytes.clone()
    }

    /// The spans of the trace that has one of that name with this attribute, once it has as many as are awaited.
    pub async fn trace(&self, name: &str, attribute: (&str, &str), count: usize) -> Trace {
        self.trace_until(name, attribute, &format!("{count} spans"), |trace| trace.0.len() >= count).await
    }

    /// The same, once it has spans of all these names.
    pub async fn trace_with(&self, name: &str, attribute: (&str, &str), names: &[&str]) -> Trace {
        let has_all = |trace: &Trace| names.iter().all(|name| trace.0.iter().any(|span| span.name == *name));
        self.trace_until(name, attribute, &names.join(", "), has_all).await
    }

    async fn trace_until(
        &self,
        name: &str,
        attribute: (&str, &str),
        awaited: &str,
        is_whole: impl Fn(&Trace) -> bool,
    ) -> Trace {
        let find = || {
            let spans = self.spans();
            let (key, value) = attribute;
            let is_meant =
                |span: &&Span| span.name == name && span.attributes.get(key).is_some_and(|v| v == value);
            let trace = spans.iter().find(is_meant)?.trace.clone();
            Some(Trace(spans.into_iter().filter(|span| span.trace == trace).collect::<Vec<_>>()))
        };
        let begun = std::time::Instant::now();
        loop {
            let found = find();
            if let Some(trace) = &found
                && is_whole(trace)
            {
                return found.unwrap();
            }
            assert!(begun.elapsed() < PATIENCE, "{awaited} were awaited, not {found:#?}");
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    }

    pub async fn has(&self, count: usize) {
        eventually("spans", || self.spans().len() >= count).await;
    }
}

/// The spans of one trace.
#[derive(Debug)]
pub struct Trace(pub Vec<Span>);

impl Trace {
    /// The one of that name.
    pub fn the(&self, name: &str) -> &Span {
        let mut named = self.0.iter().filter(|span| span.name == name);
        match (named.next(), named.next()) {
            (Some(span), None) => span,
            (found, _) => {
                panic!("{} spans {name:?} in {self:#?}", if found.is_some() { "several" } else { "no" })
            }
        }
    }

    /// Names, in the order in which they began.
    pub fn names(&self) -> Vec<&str> {
        let mut spans: Vec<&Span> = self.0.iter().collect();
        spans.sort_by_key(|span| span.begun);
        spans.into_iter().map(|span| &*span.name).collect()
    }

    /// `of` is a child of `parent`, and did not begin before it.
    pub fn is_below(&self, of: &str, parent: &str) {
        let (child, parent) = (self.the(of), self.the(parent));
        assert!(child.parent == parent.id && child.begun >= parent.begun, "{self:#?}");
    }
}

impl Span {
    pub fn says(&self, attribute: &str) -> &str {
        let value = self.attributes.get(attribute).or_else(|| self.resource.get(attribute));
        value.unwrap_or_else(|| panic!("{attribute} is not in {self:#?}"))
    }
}

impl Received {
    fn take(&self, request: ExportTraceServiceRequest) {
        let mut kept = self.0.lock().unwrap();
        kept.bytes.extend(request.encode_to_vec());
        for of_resource in request.resource_spans {
            let resource = texts(of_resource.resource.unwrap_or_default().attributes);
            for span in of_resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                kept.spans.push(Span {
                    trace: hex::encode(&span.trace_id),
                    id: hex::encode(&span.span_id),
                    parent: hex::encode(&span.parent_span_id),
                    kind: span.kind,
                    begun: span.start_time_unix_nano,
                    ended: span.end_time_unix_nano,
                    attributes: texts(span.attributes),
                    resource: resource.clone(),
                    links: span.links.iter().map(|link| hex::encode(&link.span_id)).collect(),
                    failed: span
                        .status
                        .is_some_and(|status| status.code() == proto::status::StatusCode::Error),
                    name: span.name,
                });
            }
        }
    }
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.take(request.into_inner());
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

fn texts(attributes: Vec<KeyValue>) -> HashMap<String, String> {
    let text = |attribute: KeyValue| {
        let value = match attribute.value.and_then(|value| value.value)? {
            Value::StringValue(text) => text,
            Value::IntValue(number) => number.to_string(),
            Value::DoubleValue(number) => number.to_string(),
            Value::BoolValue(truth) => truth.to_string(),
            other => format!("{other:?}"),
        };
        Some((attribute.key, value))
    };
    attributes.into_iter().filter_map(text).collect()
}
