//! What the system says of this process, read when Prometheus asks. The names are those that
//! Prometheus' own clients use.

use std::{
    fmt,
    time::{SystemTime, UNIX_EPOCH},
};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Unit,
};
use rustix::{
    param::page_size,
    process::{Resource, getrlimit},
    time::{ClockId, clock_gettime},
};

/// Reads what the system says of the process that it was made in.
#[derive(Debug)]
pub struct Process {
    started: f64,
}

/// Name without unit, unit, type and help of each metric.
pub const PROCESS_METRICS: &[(&str, Option<Unit>, MetricType, &str)] = &[
    ("process_cpu", Some(Unit::Seconds), MetricType::Counter, "Processor time of all threads"),
    ("process_resident_memory", Some(Unit::Bytes), MetricType::Gauge, "Memory in use"),
    (
        "process_virtual_memory",
        Some(Unit::Bytes),
        MetricType::Gauge,
        "Address space, all that LMDB may map included",
    ),
    ("process_open_fds", None, MetricType::Gauge, "Open file descriptors"),
    ("process_max_fds", None, MetricType::Gauge, "File descriptors that may be open"),
    ("process_start_time", Some(Unit::Seconds), MetricType::Gauge, "When the process began, since 1970"),
];

impl Process {
    /// Takes the time of now for the start of the process.
    pub fn new() -> Self {
        let started = SystemTime::now().duration_since(UNIX_EPOCH);
        Self { started: started.map_or(0.0, |since| since.as_secs_f64()) }
    }
}

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        let cpu = cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9;
        let (virtual_bytes, resident_bytes) = memory().unwrap_or_default();
        let allowed = getrlimit(Resource::Nofile).current.map_or(f64::INFINITY, |limit| limit as f64);
        let values = [cpu, resident_bytes, virtual_bytes, open_descriptors(), allowed, self.started];
        for ((name, unit, kind, help), value) in PROCESS_METRICS.iter().zip(values) {
            let encoder = encoder.encode_descriptor(name, help, unit.as_ref(), *kind)?;
            match kind {
                MetricType::Counter => ConstCounter::new(value).encode(encoder)?,
                _ => ConstGauge::new(value).encode(encoder)?,
            }
        }
        Ok(())
    }
}

/// Address space and resident memory, in bytes.
fn memory() -> Option<(f64, f64)> {
    let text = std::fs::read_to_string("/proc/self/statm").ok()?;
    let mut pages = text.split(' ').map(|pages| pages.parse::<f64>().ok());
    let bytes = |pages: f64| pages * page_size() as f64;
    Some((bytes(pages.next()??), bytes(pages.next()??)))
}

fn open_descriptors() -> f64 {
    // The folder itself is open while it is read.
    std::fs::read_dir("/proc/self/fd").map_or(0, |entries| entries.count().saturating_sub(1)) as f64
}
