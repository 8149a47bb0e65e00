//! `bench ingest`: publishes events and waits for their `OK`.

use clap::Args;
use serde_json::json;

use super::{
    Bench, Common, PublishArgs,
    publish::{Ledger, publish},
    report::{Figures, Meter, Report, Run},
};

/// Measure publishing: server CPU an event and the time to OK
#[derive(Debug, Args)]
#[command(after_help = "Example: what 500 events a second cost, and how soon they are acknowledged
  rookery bench ingest ws://127.0.0.1:7777 --rate 500 --runs 3")]
pub struct IngestArgs {
    #[command(flatten)]
    publish: PublishArgs,
    /// Events a run [default: 100000, or 20 s at --rate]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: Option<u32>,
    /// Connections that publish
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Unanswered events a connection, without --rate
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    #[command(flatten)]
    common: Common,
}

impl IngestArgs {
    pub fn common(&self) -> &Common {
        &self.common
    }
}

pub async fn run(bench: &Bench, args: &IngestArgs) -> anyhow::Result<Report> {
    let count = args.events.map_or_else(|| args.publish.default_events(100_000), |count| count as usize);
    let mut runs = Vec::new();
    for number in 0..args.common.runs {
        runs.push(one(bench, args, number, count).await?);
    }
    let settings = json!({
        "events": count,
        "connections": args.connections,
        "in_flight": args.publish.rate.is_none().then_some(args.in_flight),
        "rate": args.publish.rate,
    });
    Ok(bench.report("ingest", settings, runs))
}

async fn one(bench: &Bench, args: &IngestArgs, number: u32, count: usize) -> anyhow::Result<Run> {
    // The first run publishes what `bench query --stored` asks about.
    let ledger = Ledger::new(bench.events(number.into(), count).into(), |_| {});
    let connections = bench.relay.connect_all(args.connections as usize).await?;
    let before = bench.resident()?;
    let meter = Meter::start(bench.server.as_ref())?;
    let connections = publish(bench, connections, &ledger, args.publish.pace(args.in_flight)).await;
    let cost = meter.stop()?;
    bench.check_fresh(&ledger)?;
    let mut figures = Figures::default();
    if let Some(cpu) = cost.server_cpu_seconds {
        figures.add("server_cpu_us_per_event", 1e6 * cpu / count as f64);
        figures.add("server_cpu_s_per_10000_events", 1e4 * cpu / count as f64);
    }
    figures.add_latencies("ok", &ledger.latencies());
    figures.add("events_per_s", ledger.stored() as f64 / cost.seconds);
    bench.add_cost(&mut figures, &cost, before)?;
    drop(connections);
    Ok(vec![("ingest".to_owned(), figures)])
}
