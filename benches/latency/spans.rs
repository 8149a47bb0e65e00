//! The spans of all nodes, and what they say of the way of each event.

use std::{
    collections::HashMap,
    mem::take,
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    thread,
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
        trace_service_server::{TraceService, TraceServiceServer},
    },
    trace::v1::Span,
};
use tokio::runtime::Builder;
use tonic::{Request, Response, Status, transport::server::TcpIncoming};

/// Takes the spans of nodes, on a thread of its own.
pub struct Collector {
    address: SocketAddr,
    received: Received,
}

#[derive(Clone, Default)]
struct Received(Arc<Mutex<Vec<Span>>>);

/// When an event was where, in nanoseconds since 1970.
pub struct Way {
    received: u64,
    parsed: u64,
    admitted: u64,
    batch_begun: u64,
    stored: u64,
    /// Begins and ends, where there is another node; and when that node had it.
    published: Option<(u64, u64)>,
    arrived: Option<u64>,
    routing: u64,
    delivered: u64,
}

impl Collector {
    pub fn start() -> Self {
        let received = Received::default();
        let runtime = Builder::new_current_thread().enable_all().build().expect("a runtime");
        let incoming = {
            let _within = runtime.enter();
            TcpIncoming::bind(SocketAddr::from(([127, 0, 0, 1], 0))).expect("a port")
        };
        let address = incoming.local_addr().expect("its address");
        let service = TraceServiceServer::new(received.clone()).max_decoding_message_size(usize::MAX);
        let server = tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming);
        thread::spawn(move || runtime.block_on(server));
        Self { address, received }
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The ways of all events, of what has come.
    pub fn ways(&self) -> Vec<Way> {
        let spans = take(&mut *self.received.0.lock().unwrap_or_else(PoisonError::into_inner));
        let mut traces: HashMap<Vec<u8>, Vec<Span>> = HashMap::new();
        for span in spans {
            traces.entry(span.trace_id.clone()).or_default().push(span);
        }
        traces.values().filter_map(|spans| Way::of(spans)).collect()
    }
}

impl Way {
    /// `None` where this is no trace of an event.
    fn of(spans: &[Span]) -> Option<Self> {
        let find = |name: &str| spans.iter().find(|span| span.name == name);
        // A part of `batch`, or the whole of it as others of the batch see it.
        let store = spans.iter().find(|span| span.name.starts_with("store"))?;
        let (admit, persist, batch) = (find("admit")?, find("persist")?, find("batch"));
        let (publish, route) = (find("publish"), find("route"));
        let last = route.map_or_else(|| find("message"), Some)?;
        let deliver =
            spans.iter().find(|span| span.name == "deliver" && span.parent_span_id == last.span_id)?;
        Some(Self {
            received: find("message")?.start_time_unix_nano,
            parsed: admit.start_time_unix_nano,
            admitted: admit.end_time_unix_nano,
            batch_begun: batch.unwrap_or(store).start_time_unix_nano,
            stored: persist.end_time_unix_nano,
            published: publish.map(|span| (span.start_time_unix_nano, span.end_time_unix_nano)),
            arrived: route.map(|span| span.start_time_unix_nano),
            routing: deliver.start_time_unix_nano,
            delivered: deliver.end_time_unix_nano,
        })
    }

    /// Each stage of the way, in order, and how long it took in milliseconds.
    pub fn stages(&self) -> Vec<(&'static str, Option<f64>)> {
        let between = |begun: u64, ended: u64| Some(ended as f64 / 1e6 - begun as f64 / 1e6);
        let published = self.published;
        vec![
            ("parse", between(self.received, self.parsed)),
            ("admit: id, signature", between(self.parsed, self.admitted)),
            ("wait for the batch", between(self.admitted, self.batch_begun)),
            ("store: commit, sync", between(self.batch_begun, self.stored)),
            ("dispatch", between(self.stored, published.map_or(self.routing, |(begun, _)| begun))),
            (
                "to the other node, by Redis",
                published.zip(self.arrived).and_then(|((begun, _), at)| between(begun, at)),
            ),
            ("  until Redis has answered", published.and_then(|(begun, ended)| between(begun, ended))),
            ("taken up there", self.arrived.and_then(|at| between(at, self.routing))),
            ("route: handed to all its sessions", between(self.routing, self.delivered)),
            ("from arrival to there", between(self.received, self.delivered)),
        ]
    }
}

/// Median and 99th percentile of a stage that a node has measured by itself, in milliseconds: as exact as its buckets.
pub fn quantiles_of_stage(metrics: &str, stage: &str) -> [f64; 2] {
    let buckets: Vec<(f64, f64)> = metrics
        .lines()
        .filter_map(|line| {
            let (bound, count) = line
                .strip_prefix("rookery_stage_seconds_bucket{le=\"")?
                .split_once(&format!("\",stage=\"{stage}\"}} "))?;
            Some((bound.parse().ok()?, count.parse().ok()?))
        })
        .collect();
    let all = buckets.last().map_or(0.0, |(_, count)| *count);
    [0.5, 0.99].map(|part| {
        let (mut below, mut counted) = (0.0, 0.0);
        for &(bound, count) in &buckets {
            if count >= part * all {
                return 1e3 * (below + (bound - below) * (part * all - counted) / (count - counted));
            }
            (below, counted) = (bound, count);
        }
        f64::NAN
    })
}

#[tonic::async_trait]
impl TraceService for Received {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        let of_nodes = request.into_inner().resource_spans.into_iter();
        let spans = of_nodes.flat_map(|node| node.scope_spans).flat_map(|scope| scope.spans);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).extend(spans);
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}
