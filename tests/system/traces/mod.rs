//! Traces, as a collector sees them: which spans there are, below which, in what order, and what they say.

mod alone;
mod collector;
mod files;
mod jaeger;
mod nodes;
mod tls;
mod upstreams;
mod zipkin;

use common::Relay;

/// A node that exports to `otlp` soon, and everything unless told otherwise.
fn node(otlp: &str, arguments: &[&str]) -> Relay {
    Relay::start(&[&traced(otlp), arguments].concat())
}

/// The arguments for it.
fn traced(otlp: &str) -> [&str; 6] {
    ["--otlp", otlp, "--set", "traces.export_interval_ms=20", "--set", "traces.ratio=1"]
}
