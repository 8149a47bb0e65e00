//! `rookery bench`: a load generator for any relay. It knows what is due, so it also counts what is
//! lost or doubled. Never looks into a relay: sockets, CPU time and memory are all it sees.

mod dial;
mod fanout;
mod idle;
mod ingest;
mod message;
mod pace;
mod process;
mod publish;
mod query;
mod report;
mod shapes;
mod wire;
mod workload;

use std::{cell::RefCell, rc::Rc, time::Duration};

use anyhow::ensure;
use clap::{Args, Subcommand};
use serde_json::Value;
use tokio::task::LocalSet;

use crate::protocol::{Event, Timestamp};
use dial::Relay;
use process::Server;
use publish::{Ledger, Pace};
use report::{Cost, Figures, Problems, Report, Run};
use workload::Authors;

/// How long a paced run takes by default.
const PACED_SECONDS: f64 = 20.0;
/// From here on the generator's own speed shows in the figures.
const BUSY_PERCENT: f64 = 90.0;

#[derive(Debug, Args)]
pub struct BenchArgs {
    #[command(subcommand)]
    load: Load,
}

#[derive(Debug, Subcommand)]
enum Load {
    /// Publish events: CPU an event, time to OK
    Ingest(ingest::IngestArgs),
    /// Publish to many subscribers: CPU a delivery, time from publication to delivery
    Fanout(fanout::FanoutArgs),
    /// Ask for stored events in eight ways: CPU a query, time to EOSE
    Query(query::QueryArgs),
    /// Hold sockets open: memory a socket
    Idle(idle::IdleArgs),
}

/// What all loads take.
#[derive(Debug, Args)]
struct Common {
    /// The relay, such as ws://127.0.0.1:7777
    url: String,
    /// Process of the relay, for its CPU time and memory (repeat for several) [default: who listens at
    /// the URL, on this machine]
    #[arg(long)]
    pid: Vec<i32>,
    /// How often to measure; medians are printed
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    runs: u32,
    /// Other events by the same rules, for a relay that has stored these
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Authors of the events
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    authors: u32,
    /// All authors alike, instead of a few busy ones whom many follow
    #[arg(long)]
    even: bool,
    /// created_at of the first event; the last is 30 days later
    #[arg(long, value_name = "UNIX_TIME", default_value_t = 1_700_000_000)]
    base_time: Timestamp,
    /// Seconds without any answer after which the rest counts as lost
    #[arg(long, value_name = "SECONDS", default_value_t = 10, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    patience: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// How events are published.
#[derive(Debug, Args)]
struct PublishArgs {
    /// Events a second, whether the relay answers or not; latency counts from when an event was due
    /// [default: as fast as it answers]
    #[arg(long, value_parser = rate)]
    rate: Option<f64>,
}

fn rate(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(rate) if (0.01..=1e6).contains(&rate) => Ok(rate),
        _ => Err("a number of events a second from 0.01 to 1000000 is needed".to_owned()),
    }
}

impl PublishArgs {
    fn pace(&self, window: u32) -> Pace {
        self.rate.map_or(Pace::Window(window as usize), Pace::Rate)
    }

    fn default_events(&self, unpaced: usize) -> usize {
        self.rate.map_or(unpaced, |rate| (rate * PACED_SECONDS).ceil() as usize)
    }
}

/// What the loads share.
struct Bench {
    relay: Rc<Relay>,
    server: Option<Server>,
    authors: Authors,
    base_time: Timestamp,
    patience: Duration,
    problems: Rc<RefCell<Problems>>,
}

impl Bench {
    fn new(common: &Common) -> anyhow::Result<Self> {
        let authors = Authors::new(common.seed, common.authors as usize);
        let relay = Relay::find(&common.url)?;
        let server = Server::find(&common.pid, relay.address())?;
        Ok(Self {
            relay: Rc::new(relay),
            server,
            authors: if common.even { authors.even() } else { authors },
            base_time: common.base_time,
            patience: Duration::from_secs(common.patience),
            problems: Rc::default(),
        })
    }

    fn events(&self, stream: u64, count: usize) -> Vec<Event> {
        eprintln!("signing {count} events");
        self.authors.events(stream, count, self.base_time)
    }

    /// Fails where figures would be those of refusing copies.
    fn check_fresh(&self, ledger: &Ledger) -> anyhow::Result<()> {
        let count = ledger.already_stored();
        ensure!(
            count == 0,
            "the relay had {count} of these events already: give it an empty store, or this command another --seed"
        );
        Ok(())
    }

    /// Resident memory of the server in MiB.
    fn resident(&self) -> anyhow::Result<Option<f64>> {
        let usage = self.server.as_ref().map(Server::usage).transpose()?;
        Ok(usage.map(|usage| usage.resident_bytes as f64 / f64::from(1 << 20)))
    }

    fn add_cost(&self, figures: &mut Figures, cost: &Cost, before: Option<f64>) -> anyhow::Result<()> {
        figures.add("seconds", cost.seconds);
        figures.add("generator_cpu_percent", cost.generator_percent);
        if cost.generator_percent > BUSY_PERCENT {
            let hint =
                || "this generator was the slower side: give it a core of its own, or less to do".to_owned();
            self.problems.borrow_mut().example(hint);
        }
        if let Some((before, after)) = before.zip(self.resident()?) {
            figures.add("server_resident_before_mib", before);
            figures.add("server_resident_after_mib", after);
        }
        Ok(())
    }

    fn report(&self, command: &'static str, settings: Value, runs: Vec<Run>) -> Report {
        Report { command, settings, runs, problems: self.problems.take() }
    }
}

/// Runs a load and prints what it measured.
///
/// # Errors
/// The relay can not be reached, or it lost, doubled, refused or failed to answer anything.
pub fn run(args: BenchArgs) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        let common = match &args.load {
            Load::Ingest(args) => args.common(),
            Load::Fanout(args) => args.common(),
            Load::Query(args) => args.common(),
            Load::Idle(args) => args.common(),
        };
        let bench = Bench::new(common)?;
        let report = match &args.load {
            Load::Ingest(args) => ingest::run(&bench, args).await?,
            Load::Fanout(args) => fanout::run(&bench, args).await?,
            Load::Query(args) => query::run(&bench, args).await?,
            Load::Idle(args) => idle::run(&bench, args).await?,
        };
        if common.json {
            println!("{}", report.to_json());
        } else {
            print!("{}", report.to_text());
        }
        ensure!(!report.problems.is_failure(), "the relay did not do all that was due, see above");
        Ok(())
    })
}
