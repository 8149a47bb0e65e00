//! `bench query`: asks for stored events and checks each answer against the workload.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Instant,
};

use anyhow::{bail, ensure};
use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;

use super::{
    Bench, Common,
    fanout::request,
    message::{self, Said},
    publish::{Ledger, Pace, note, note_lost, publish, while_progress},
    report::{Figures, Latencies, Meter, Problems, Report},
    shapes::{LEGEND, Query, Shape, Tally},
    wire::{Lost, Wire},
};
use crate::protocol::Event;

/// Publishing connections and events in flight on each while the workload is stored.
const PREPARING: (usize, usize) = (64, 64);
/// Queries one at a time, for the latency; at most.
const ALONE: usize = 200;

/// Measure queries: server CPU a query with many clients, time to EOSE with one
#[derive(Debug, Args)]
#[command(after_help = format!("{LEGEND}

The relay must be empty, or with --stored hold these events alone: others would be wrong answers.

Example: home feeds again, once all events are stored
  rookery bench query ws://127.0.0.1:7777 --stored --shape home"))]
pub struct QueryArgs {
    /// What is asked (repeat for several) [default: each]
    #[arg(long, value_enum)]
    shape: Vec<Shape>,
    /// The events are in the relay, and no others: from an earlier query, or one ingest without --rate
    #[arg(long)]
    stored: bool,
    /// Events stored
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    events: u32,
    /// Connections that ask, one query at a time each
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Queries of a shape in all
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    repeat: u32,
    #[command(flatten)]
    common: Common,
}

impl QueryArgs {
    pub fn common(&self) -> &Common {
        &self.common
    }
}

pub async fn run(bench: &Bench, args: &QueryArgs) -> anyhow::Result<Report> {
    let events = Rc::new(bench.events(0, args.events as usize));
    if !args.stored {
        store(bench, &events).await?;
    }
    let shapes = if args.shape.is_empty() { Shape::ALL.to_vec() } else { args.shape.clone() };
    let asked: Vec<(Shape, Rc<Queries>)> = shapes
        .into_iter()
        .map(|shape| {
            (
                shape,
                Rc::new(Queries::new(
                    bench,
                    shape.queries(args.common.seed, &events, bench.authors.public_keys()),
                )),
            )
        })
        .collect();
    let mut runs = Vec::new();
    for _ in 0..args.common.runs {
        let mut run = Vec::new();
        for (shape, queries) in &asked {
            let figures = one(bench, args, queries).await?;
            run.push((shape.name().to_owned(), figures));
        }
        runs.push(run);
    }
    let settings = json!({ "events": args.events, "connections": args.connections, "repeat": args.repeat });
    Ok(bench.report("query", settings, runs))
}

/// Publishes the events. Those that are there already are welcome.
pub async fn store(bench: &Bench, events: &Rc<Vec<Event>>) -> anyhow::Result<()> {
    eprintln!("publishing {} events", events.len());
    let (connections, window) = PREPARING;
    let ledger = Ledger::new(Rc::clone(events), |_| {});
    let connections = bench.relay.connect_all(connections).await?;
    publish(bench, connections, &ledger, Pace::Window(window)).await;
    let stored = ledger.stored() + ledger.already_stored();
    ensure!(
        stored == events.len(),
        "the relay stored {stored} of {} events{}",
        events.len(),
        bench.problems.borrow().first_example()
    );
    Ok(())
}

async fn one(bench: &Bench, args: &QueryArgs, queries: &Rc<Queries>) -> anyhow::Result<Figures> {
    let connections = bench.relay.connect_all(args.connections as usize).await?;
    let repeat = args.repeat as usize;
    let meter = Meter::start(bench.server.as_ref())?;
    let (connections, together) = ask_all(bench, connections, queries, repeat).await?;
    let cost = meter.stop()?;
    drop(connections);
    let (_, alone) = ask_all(bench, vec![bench.relay.connect().await?], queries, repeat.min(ALONE)).await?;

    let mut figures = Figures::default();
    if let Some(cpu) = cost.server_cpu_seconds {
        figures.add("server_cpu_s_per_1000_queries", 1e3 * cpu / repeat as f64);
    }
    figures.add_latencies("alone_eose", &alone);
    figures.add_latencies("together_eose", &together);
    figures.add("queries_per_s", repeat as f64 / cost.seconds);
    figures.add("events_per_answer", queries.mean_size());
    bench.add_cost(&mut figures, &cost, None)?;
    Ok(figures)
}

/// Asks `repeat` queries over all connections, one at a time on each.
async fn ask_all(
    bench: &Bench,
    connections: Vec<Wire>,
    queries: &Rc<Queries>,
    repeat: usize,
) -> anyhow::Result<(Vec<Wire>, Latencies)> {
    queries.next.set(0);
    queries.answered.set(0);
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let queries = Rc::clone(queries);
        tasks.spawn_local(async move {
            match queries.ask(&mut connection, repeat).await {
                Ok(()) => Some(connection),
                Err(lost) => {
                    note_lost(&queries.problems, "querying", &lost);
                    None
                }
            }
        });
    }
    let mut kept = Vec::new();
    let all = async {
        while let Some(task) = tasks.join_next().await {
            kept.extend(task.ok().flatten());
        }
    };
    while_progress(bench.patience, || queries.answered.get() as u64, all).await;
    let unanswered = repeat - queries.answered.get();
    bench.problems.borrow_mut().unanswered += unanswered as u64;
    if unanswered > 0 {
        bail!("{unanswered} of {repeat} queries got no EOSE{}", bench.problems.borrow().first_example());
    }
    Ok((kept, queries.latencies.replace(Latencies::new())))
}

/// The queries of a shape, and how far they are answered.
struct Queries {
    queries: Vec<(String, Query)>,
    next: Cell<usize>,
    answered: Cell<usize>,
    latencies: RefCell<Latencies>,
    problems: Rc<RefCell<Problems>>,
}

impl Queries {
    fn new(bench: &Bench, queries: Vec<Query>) -> Self {
        let queries = queries
            .into_iter()
            .map(|query| (serde_json::to_string(&query.filter).unwrap_or_default(), query));
        Self {
            queries: queries.collect(),
            next: Cell::new(0),
            answered: Cell::new(0),
            latencies: RefCell::new(Latencies::new()),
            problems: Rc::clone(&bench.problems),
        }
    }

    fn mean_size(&self) -> f64 {
        let sum: usize = self.queries.iter().map(|(_, query)| query.expected.count()).sum();
        sum as f64 / self.queries.len() as f64
    }

    async fn ask(&self, connection: &mut Wire, repeat: usize) -> Result<(), Lost> {
        while self.next.get() < repeat {
            let number = self.next.replace(self.next.get() + 1);
            let (filter, query) = &self.queries[number % self.queries.len()];
            // A name of its own, so that nothing of an earlier query counts.
            let subscription = format!("q{number}");
            request(connection, &subscription, filter);
            let start = Instant::now();
            let mut answer = Tally::default();
            let mut ended = None;
            while ended.is_none() {
                connection
                    .exchange(|text| match message::read(text) {
                        Said::Event { subscription: of, id } if of == subscription.as_bytes() => {
                            answer.add(id)
                        }
                        Said::EndOfStored { subscription: of } if of == subscription.as_bytes() => {
                            ended = Some(true);
                        }
                        said @ Said::Closed { subscription: of, .. } if of == subscription.as_bytes() => {
                            note(&self.problems, &said);
                            ended = Some(false);
                        }
                        said @ Said::Notice { .. } => note(&self.problems, &said),
                        _ => {}
                    })
                    .await?;
            }
            self.latencies.borrow_mut().record(start.elapsed());
            self.answered.set(self.answered.get() + 1);
            if ended == Some(true) {
                connection.queue(&["[\"CLOSE\",\"", &subscription, "\"]"]);
                self.check(filter, query, &answer);
            }
        }
        Ok(())
    }

    fn check(&self, filter: &str, query: &Query, answer: &Tally) {
        if query.expected.is_met(answer) {
            return;
        }
        let mut problems = self.problems.borrow_mut();
        problems.wrong_answers += 1;
        problems.example(|| {
            let start: String = filter.chars().take(100).collect();
            let (got, due) = (answer.count, query.expected.count());
            if got == due {
                format!("{start}… was answered with {got} events, but not the newest that match")
            } else {
                format!("{start}… was answered with {got} events, not {due}: is just this workload stored?")
            }
        });
    }
}
