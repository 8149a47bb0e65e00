//! `bench idle`: what an open socket costs a relay in resident memory.

use std::{cell::Cell, rc::Rc, time::Duration};

use anyhow::{Context, ensure};
use clap::Args;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Bench, Common,
    fanout::request,
    message::{self, Said},
    publish::{note, note_lost, while_progress},
    query::store,
    report::{Figures, Report},
    wire::Wire,
};
use crate::protocol::{Event, Filter, filter::sorted};

/// Size of the answer after which memory is measured again.
const ANSWER_BYTES: usize = 30_000;
/// A stream of events of its own, so that no other load is disturbed by much.
const STREAM: u64 = 2_000_000;
/// Events of which the answer is made; more than enough.
const EVENTS: usize = 100;
/// What a relay gets to come to rest before its memory is read.
const REST: Duration = Duration::from_secs(3);

/// Measure memory: a socket with one subscription, idle, and once it was answered 30 KB
#[derive(Debug, Args)]
#[command(after_help = "One run a relay process, as memory once taken is rarely given back.
Example:
  rookery bench idle ws://127.0.0.1:7777 --connections 10000")]
pub struct IdleArgs {
    /// Sockets
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    connections: u32,
    #[command(flatten)]
    common: Common,
}

impl IdleArgs {
    pub fn common(&self) -> &Common {
        &self.common
    }
}

pub async fn run(bench: &Bench, args: &IdleArgs) -> anyhow::Result<Report> {
    ensure!(bench.server.is_some(), "no process of this machine listens there; name the relay's by --pid");
    ensure!(args.common.runs == 1, "idle measures once; start the relay anew for another run");
    let count = args.connections as usize;
    let events = Rc::new(answer_events(bench));
    store(bench, &events).await?;
    // The first sockets make the relay allocate what all share: that is not what one more socket costs.
    let mut first = bench.relay.connect_all(1).await?;
    first = ask(bench, first, &Filter { limit: Some(0), ..Filter::default() }).await?;
    sleep(REST).await;
    let before = resident_kib(bench)?;

    let connections = bench.relay.connect_all(count).await?;
    let author = bench.authors.public_keys().first().copied().context("no authors")?;
    let idle = Filter { authors: Some(Box::new([author])), limit: Some(0), ..Filter::default() };
    let connections = ask(bench, connections, &idle).await?;
    sleep(REST).await;
    let opened = resident_kib(bench)?;

    let ids = Filter { ids: Some(sorted(events.iter().map(Event::id).collect())), ..Filter::default() };
    let connections = ask(bench, connections, &ids).await?;
    sleep(REST).await;
    let answered = resident_kib(bench)?;
    ensure!(connections.len() == count, "{} connections were lost", count - connections.len());

    let mut figures = Figures::default();
    figures.add("idle_socket_kib", (opened - before) / count as f64);
    figures.add("answered_socket_kib", (answered - before) / count as f64);
    figures.add("server_resident_before_mib", before / 1024.0);
    figures.add("server_resident_idle_mib", opened / 1024.0);
    figures.add("server_resident_answered_mib", answered / 1024.0);
    drop(first);
    let settings = json!({ "connections": count, "answer_bytes": ANSWER_BYTES });
    Ok(bench.report("idle", settings, vec![vec![("idle".to_owned(), figures)]]))
}

/// Events that make an answer of 30 KB.
fn answer_events(bench: &Bench) -> Vec<Event> {
    let mut size = 0;
    let mut events = bench.events(STREAM, EVENTS);
    events.retain(|event| {
        let wanted = size < ANSWER_BYTES;
        size += event.json().len();
        wanted
    });
    events
}

fn resident_kib(bench: &Bench) -> anyhow::Result<f64> {
    let mebibytes = bench.resident()?.context("name the relay's process by --pid")?;
    Ok(mebibytes * 1024.0)
}

/// Subscribes on every connection and waits until all have their EOSE.
async fn ask(bench: &Bench, connections: Vec<Wire>, filter: &Filter) -> anyhow::Result<Vec<Wire>> {
    let filter: Rc<str> = serde_json::to_string(filter)?.into();
    let count = connections.len();
    let answered = Rc::new(Cell::new(0));
    let mut tasks = JoinSet::new();
    for mut connection in connections {
        let (filter, answered, problems) =
            (Rc::clone(&filter), Rc::clone(&answered), Rc::clone(&bench.problems));
        tasks.spawn_local(async move {
            request(&mut connection, "idle", &filter);
            let mut ended = false;
            while !ended {
                let heard = |text: &[u8]| match message::read(text) {
                    Said::EndOfStored { .. } => ended = true,
                    said => note(&problems, &said),
                };
                if let Err(lost) = connection.exchange(heard).await {
                    note_lost(&problems, "idle", &lost);
                    return None;
                }
            }
            answered.set(answered.get() + 1);
            Some(connection)
        });
    }
    let mut kept = Vec::with_capacity(count);
    let all = async {
        while let Some(task) = tasks.join_next().await {
            kept.extend(task.ok().flatten());
        }
    };
    while_progress(bench.patience, || answered.get(), all).await;
    let example = bench.problems.borrow().first_example();
    ensure!(kept.len() == count, "{} of {count} subscriptions got no EOSE{example}", count - kept.len());
    Ok(kept)
}
