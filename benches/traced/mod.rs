//! What traces add to the way of an event through a node: the same calls, and nothing else.

use std::{net::Ipv4Addr, sync::Arc, time::Instant};

use opentelemetry_sdk::{
    error::OTelSdkResult,
    trace::{SpanData, SpanExporter},
};
use rookery::{
    config,
    protocol::Event,
    trace::{Client, ConnectionTrace, Pipeline, Subject, Trace, Traced, Tracer, Write},
};
use tracing::subscriber::DefaultGuard;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

/// Nothing; one event of a hundred; all.
pub const RATIOS: [(&str, Option<f64>); 3] =
    [("off", None), ("1_percent", Some(0.01)), ("100_percent", Some(1.0))];

/// Events of a batch.
pub const BATCH: usize = 64;

/// Takes spans and forgets them.
#[derive(Debug)]
struct Nowhere;

impl SpanExporter for Nowhere {
    async fn export(&self, _: Vec<SpanData>) -> OTelSdkResult {
        Ok(())
    }
}

/// Carries batches of events along.
pub struct Way {
    tracer: Tracer,
    connection: ConnectionTrace,
    events: Vec<Arc<Event>>,
    /// The spans' way out, and what takes those of `tracing` on this thread.
    _spans: Option<(Pipeline, DefaultGuard)>,
}

impl Way {
    /// With this part of the events traced; without traces where there is none.
    pub fn new(ratio: Option<f64>, events: Vec<Arc<Event>>) -> Self {
        assert_eq!(events.len(), BATCH);
        let connection = ConnectionTrace::default();
        let Some(ratio) = ratio else {
            return Self { tracer: Tracer::default(), connection, events, _spans: None };
        };
        let config = config::Traces { ratio, ..config::Traces::default() };
        let spans = Pipeline::over(Nowhere, &config);
        let layer = tracing_opentelemetry::layer().with_tracer(spans.layer());
        let subscriber = tracing_subscriber::registry().with(layer).set_default();
        Self { tracer: spans.tracer(&config, "lmdb"), connection, events, _spans: Some((spans, subscriber)) }
    }

    /// Carries one batch from its messages to its deliveries.
    pub fn run(&self) {
        let tracer = &self.tracer;
        let mut traces: Vec<Trace> = self.events.iter().map(|event| self.message(event)).collect();
        let span = tracer.batch(traces.iter_mut(), BATCH);
        let begun = Instant::now();
        drop(span);
        let write = Write { begun, ended: Instant::now(), events: BATCH };
        traces.iter_mut().for_each(|trace| trace.written(write));
        let events = self.events.iter().zip(&traces);
        let traced = Traced::of(events.filter_map(|(event, trace)| Some((event.id(), trace.context()?))));
        // The publishers are answered.
        drop(traces);
        let begun = Instant::now();
        for event in &self.events {
            traced.count(&event.id(), 1);
        }
        tracer.routed(&traced, &self.events, begun);
    }

    fn message(&self, event: &Event) -> Trace {
        let begun = Instant::now();
        let subject = Subject::Event { id: event.id(), kind: event.kind(), bytes: event.json().len() };
        let client = Client { session: 1, address: Ipv4Addr::LOCALHOST.into() };
        let mut trace = self.tracer.message(begun, &self.connection, client, subject);
        trace.lap("admit");
        trace
    }
}
