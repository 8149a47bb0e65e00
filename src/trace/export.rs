//! The way of spans out of the node: a bounded queue, a thread that gathers, and OTLP over gRPC or HTTP. Nobody
//! waits for it, and a collector that is away costs nothing but spans.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use hyper_rustls::HttpsConnectorBuilder;
use opentelemetry::{Context as OtelContext, KeyValue, trace::TracerProvider};
use opentelemetry_http::hyper::HyperClient;
use opentelemetry_otlp::{
    Protocol, SpanExporter as Otlp, WithExportConfig, WithHttpConfig, WithTonicConfig,
    tonic_types::transport::ClientTlsConfig,
};
use opentelemetry_sdk::{
    Resource,
    error::{OTelSdkError, OTelSdkResult},
    trace::{
        BatchConfigBuilder, BatchSpanProcessor, SdkTracer, SdkTracerProvider, Span, SpanData, SpanExporter,
        SpanProcessor,
    },
};
use rustls::ClientConfig;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    time::timeout,
};
use tracing::{info, warn};
use url::Url;

use super::Tracer;
use crate::{config, tls};

/// What exports spans. Its threads end when it is shut down.
pub struct Pipeline {
    processor: Arc<BatchSpanProcessor>,
    provider: SdkTracerProvider,
    /// The runtime that makes the exporter's requests; none where the exporter makes none.
    runtime: Option<Runtime>,
    flush: Duration,
}

impl Pipeline {
    /// Exports to `traces.otlp`, if that is set, as this node.
    ///
    /// # Errors
    /// When the address is not valid.
    pub fn start(config: &config::Traces, node: &str) -> anyhow::Result<Option<Self>> {
        if config.otlp.is_empty() {
            return Ok(None);
        }
        let threads = Builder::new_multi_thread().worker_threads(1).thread_name("otlp").enable_all().build();
        let runtime = threads.context("cannot start the thread that exports spans")?;
        let mut otlp = {
            let _within = runtime.enter();
            connect(config).with_context(|| format!("cannot export traces to {}", config.otlp))?
        };
        otlp.set_resource(&resource(node));
        let exporter = Exporter {
            otlp: Arc::new(otlp),
            runtime: runtime.handle().clone(),
            timeout: Duration::from_millis(config.export_timeout_ms),
            lost: AtomicU64::new(0),
        };
        Ok(Some(Self { runtime: Some(runtime), ..Self::over(exporter, config) }))
    }

    /// Hands batches of spans to this exporter.
    pub fn over(exporter: impl SpanExporter + 'static, config: &config::Traces) -> Self {
        let bounds = BatchConfigBuilder::default()
            .with_max_queue_size(config.queue)
            .with_max_export_batch_size(config.export_batch)
            .with_scheduled_delay(Duration::from_millis(config.export_interval_ms))
            .build();
        let processor = Arc::new(BatchSpanProcessor::new(exporter, bounds));
        let provider =
            SdkTracerProvider::builder().with_span_processor(SharedProcessor(Arc::clone(&processor))).build();
        Self { processor, provider, runtime: None, flush: Duration::from_millis(config.flush_ms) }
    }

    /// Makes the spans of messages; `store` is the name that these spans give to the storage system.
    pub fn tracer(&self, config: &config::Traces, store: &'static str) -> Tracer {
        Tracer::new(Arc::clone(&self.processor), config, store)
    }

    /// Makes exported spans of the spans of `tracing`.
    pub fn layer(&self) -> SdkTracer {
        self.provider.tracer_with_scope(super::scope())
    }

    /// Exports what waits, but not for longer than `traces.flush_ms`, nor than `until`. Blocks.
    pub fn shut_down(self, until: Option<Instant>) {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let flush = left.map_or(self.flush, |left| left.min(self.flush));
        if let Err(error) = self.processor.shutdown_with_timeout(flush) {
            warn!("spans were still waiting to be exported: {error}");
        }
        if let Some(runtime) = self.runtime {
            runtime.shutdown_background();
        }
    }
}

/// Makes spans that are exported nowhere; only their ids are used.
pub fn unexported() -> SdkTracer {
    SdkTracerProvider::default().tracer_with_scope(super::scope())
}

fn connect(config: &config::Traces) -> anyhow::Result<Otlp> {
    let url = Url::parse(&config.otlp)?;
    ensure!(matches!(url.scheme(), "http" | "https"), "the URL must begin with http:// or https://");
    let timeout = Duration::from_millis(config.export_timeout_ms);
    if !is_http(config, &url) {
        let mut grpc = Otlp::builder().with_tonic().with_endpoint(&config.otlp).with_timeout(timeout);
        if url.scheme() == "https" {
            let authorities = tls::system_authorities()?.roots;
            grpc = grpc.with_tls_config(ClientTlsConfig::new().trust_anchors(authorities));
        }
        return Ok(grpc.build()?);
    }
    let endpoint = match url.path() {
        "/" => url.join("v1/traces")?,
        _ => url,
    };
    let connector = HttpsConnectorBuilder::new();
    let connector = match endpoint.scheme() {
        "https" => connector.with_tls_config(ClientConfig::clone(&*tls::system()?)),
        // Without a look at authorities, which a system need not have.
        _ => connector.with_provider_and_webpki_roots(tls::provider())?,
    };
    let client = HyperClient::new(connector.https_or_http().enable_http1().build(), timeout, None);
    let http = Otlp::builder().with_http().with_http_client(client).with_protocol(Protocol::HttpBinary);
    Ok(http.with_endpoint(endpoint).with_timeout(timeout).build()?)
}

/// 4317 is the port of gRPC, 4318 that of HTTP; only HTTP has paths.
fn is_http(config: &config::Traces, url: &Url) -> bool {
    match config.protocol.as_str() {
        "" => url.port() == Some(4318) || url.path() != "/",
        protocol => protocol == "http/protobuf",
    }
}

/// The service and the node that the spans are of. `OTEL_SERVICE_NAME` and `OTEL_RESOURCE_ATTRIBUTES` add to it.
fn resource(node: &str) -> Resource {
    let ours = [
        KeyValue::new("service.instance.id", node.to_owned()),
        KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let named = Resource::builder().build();
    let service =
        named.get(&"service.name".into()).filter(|name| !name.as_str().starts_with("unknown_service"));
    let builder = Resource::builder().with_attributes(ours);
    match service {
        Some(_) => builder.build(),
        None => builder.with_service_name("rookery").build(),
    }
}

/// Makes requests on the runtime, one at a time, and tells the log when that begins to fail and when it is over.
#[derive(Debug)]
struct Exporter {
    otlp: Arc<Otlp>,
    runtime: Handle,
    timeout: Duration,
    lost: AtomicU64,
}

impl SpanExporter for Exporter {
    async fn export(&self, batch: Vec<SpanData>) -> OTelSdkResult {
        let (spans, otlp) = (batch.len() as u64, Arc::clone(&self.otlp));
        let most = self.timeout;
        let request = self.runtime.spawn(async move { timeout(most, otlp.export(batch)).await });
        let exported = match request.await {
            Ok(Ok(exported)) => exported,
            Ok(Err(_)) => Err(OTelSdkError::Timeout(most)),
            Err(_) => Err(OTelSdkError::AlreadyShutdown),
        };
        match &exported {
            Ok(()) => match self.lost.swap(0, Ordering::Relaxed) {
                0 => {}
                lost => info!(lost, "spans are exported again"),
            },
            Err(error) => {
                if self.lost.fetch_add(spans, Ordering::Relaxed) == 0 {
                    warn!("spans are lost, because they can not be exported: {error}");
                }
            }
        }
        exported
    }
}

/// The same processor for the provider and for ourselves.
#[derive(Debug)]
struct SharedProcessor(Arc<BatchSpanProcessor>);

impl SpanProcessor for SharedProcessor {
    fn on_start(&self, span: &mut Span, context: &OtelContext) {
        self.0.on_start(span, context);
    }

    fn on_end(&self, span: SpanData) {
        self.0.on_end(span);
    }

    fn force_flush(&self) -> OTelSdkResult {
        self.0.force_flush()
    }

    /// Shutting the processor down is left to the pipeline, which has a deadline for it.
    fn shutdown_with_timeout(&self, _: Duration) -> OTelSdkResult {
        Ok(())
    }
}
