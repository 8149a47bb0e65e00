//! Traces.

use std::net::Ipv6Addr;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use serde::{Deserialize, Serialize};

use super::{
    network::Network,
    setting::{DAY, HOUR, part, section, whole},
};

section! {
    /// Traces: what happens to messages, as spans of OpenTelemetry. Where there is a variable of OpenTelemetry
    /// for a setting (OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER, OTEL_BSP_MAX_QUEUE_SIZE, …), it counts
    /// as ours, which wins.
    Traces {
        /// URL of a collector that takes OTLP, such as "http://127.0.0.1:4317". Empty: no traces.
        otlp: fixed String = String::new(),
        /// "grpc" or "http/protobuf". Empty: HTTP where the URL has port 4318 or a path, else gRPC.
        protocol: fixed String = String::new(),
        /// Part of the messages and connections that are traced.
        ratio: fixed f64 = 0.01 => part(0.0, 1.0),
        /// Milliseconds from which on a message is slow: it is traced though it was not chosen.
        slow_ms: fixed u64 = 500 => whole(0, DAY * 1_000),
        /// Messages a second that are traced though they were not chosen: slow ones, those that the relay
        /// fails, and those of clients that ask for it.
        extra_per_second: fixed u32 = 20 => whole(0, 1 << 24),
        /// Networks or addresses whose clients may ask for traces, with a traceparent header in their
        /// handshake.
        trusted: fixed Vec<Network> = loopback(),
        /// Spans that may wait to be exported; beyond, they are lost.
        queue: fixed usize = 8_192 => whole(1, 1 << 20),
        /// Most spans of one export.
        export_batch: fixed usize = 512 => whole(1, 1 << 20),
        /// Milliseconds that a span waits for others.
        export_interval_ms: fixed u64 = 1_000 => whole(1, DAY * 1_000),
        /// Milliseconds that an export may take.
        export_timeout_ms: fixed u64 = 5_000 => whole(1, HOUR * 1_000),
        /// Milliseconds that a shutdown waits for spans to be exported.
        flush_ms: fixed u64 = 2_000 => whole(0, HOUR * 1_000),
    }
}

/// The machine itself.
fn loopback() -> Vec<Network> {
    let (v4, v6) = (Ipv4Net::new_assert([127, 0, 0, 0].into(), 8), Ipv6Net::from(Ipv6Addr::LOCALHOST));
    vec![IpNet::from(v4).into(), IpNet::from(v6).into()]
}
