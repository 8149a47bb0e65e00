//! `bench fanout`: publishes to many subscribers. Each delivery that is due is counted once:
//! lost, doubled and undue ones show.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use clap::Args;
use serde_json::json;
use tokio::{task::JoinSet, time::sleep};

use super::{
    Bench, Common, PublishArgs,
    dial::Relay,
    message::{self, Said},
    publish::{Fate, Ledger, note, note_lost, publish, while_progress},
    report::{Figures, Latencies, Meter, Problems, Report, Run},
    wire::Wire,
};
use crate::protocol::{Event, Filter, PublicKey};

const SUBSCRIPTION: &str = "live";
/// Deliveries of a run by default, to be had within seconds.
const DEFAULT_DELIVERIES: usize = 1_000_000;
/// Streams of events from here on are none that other loads store.
const FIRST_STREAM: u64 = 1_000_000;
/// How long a doubled delivery is waited for when all that are due have come.
const GRACE: Duration = Duration::from_millis(300);

/// Measure live delivery: server CPU a delivery (storing included), time from publication to delivery
#[derive(Debug, Args)]
#[command(after_help = "Example: notes of 250 a second reach the followers among 2,000 subscribers
  rookery bench fanout ws://127.0.0.1:7777 --rate 250")]
pub struct FanoutArgs {
    #[command(flatten)]
    publish: PublishArgs,
    /// Connections with one subscription each
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    subscribers: u32,
    /// Authors that each subscriber follows; 0: every subscriber gets every event
    #[arg(long, default_value_t = 50)]
    follows: u32,
    /// Events a run [default: some 1,000,000 deliveries, or 20 s at --rate]
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    events: Option<u32>,
    /// Publish contact lists of so many tags instead of notes; 0: notes
    #[arg(long, value_name = "TAGS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(..=100_000))]
    contacts: u32,
    /// Connections that publish
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    connections: u32,
    /// Unanswered events a publishing connection, without --rate
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..))]
    in_flight: u32,
    /// Nodes of the relay's cluster at which to publish, in turn [default: the relay]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    publish_at: Vec<String>,
    /// Nodes of the relay's cluster at which the subscribers are, in turn [default: the relay]
    #[arg(long, value_name = "URL", value_delimiter = ',')]
    subscribe_at: Vec<String>,
    #[command(flatten)]
    common: Common,
}

impl FanoutArgs {
    pub fn common(&self) -> &Common {
        &self.common
    }

    fn count(&self) -> usize {
        let share =
            if self.follows == 0 { 1.0 } else { f64::from(self.follows) / f64::from(self.common.authors) };
        let each = f64::from(self.subscribers) * share.min(1.0);
        let unpaced = (DEFAULT_DELIVERIES as f64 / each).ceil().clamp(1.0, 1e5) as usize;
        self.events.map_or_else(|| self.publish.default_events(unpaced), |events| events as usize)
    }
}

/// Which subscribers each event is due to.
struct Due {
    /// Ascending.
    by_author: HashMap<PublicKey, Vec<u32>, foldhash::fast::RandomState>,
    everyone: Vec<u32>,
}

impl Due {
    fn new(filters: &[Filter]) -> Self {
        let mut due = Self { by_author: HashMap::default(), everyone: Vec::new() };
        for (subscriber, filter) in (0_u32..).zip(filters) {
            match &filter.authors {
                None => due.everyone.push(subscriber),
                Some(authors) => {
                    for author in authors {
                        due.by_author.entry(*author).or_default().push(subscriber);
                    }
                }
            }
        }
        due
    }

    fn subscribers(&self, event: &Event) -> &[u32] {
        // All subscribers of a run follow authors, or all want everything.
        self.by_author.get(&event.pubkey()).unwrap_or(&self.everyone)
    }
}

/// What was delivered.
struct Deliveries {
    ledger: Rc<Ledger>,
    due: Rc<Due>,
    /// A bit an event for each subscriber.
    seen: Vec<RefCell<Vec<u64>>>,
    /// How many subscribers got the event.
    counts: Vec<Cell<u32>>,
    received: Cell<u64>,
    subscribed: Cell<usize>,
    latencies: RefCell<Latencies>,
    problems: Rc<RefCell<Problems>>,
}

impl Deliveries {
    fn new(ledger: &Rc<Ledger>, due: &Rc<Due>, subscribers: usize, problems: &Rc<RefCell<Problems>>) -> Self {
        let words = ledger.events.len().div_ceil(64);
        Self {
            ledger: Rc::clone(ledger),
            due: Rc::clone(due),
            seen: vec![RefCell::new(vec![0; words]); subscribers],
            counts: vec![Cell::new(0); ledger.events.len()],
            received: Cell::new(0),
            subscribed: Cell::new(0),
            latencies: RefCell::new(Latencies::new()),
            problems: Rc::clone(problems),
        }
    }

    /// Takes one message to a subscriber. `now` is when its batch arrived.
    fn heard(&self, subscriber: usize, text: &[u8], live: &mut bool, now: &mut Option<Instant>) {
        match message::read(text) {
            // Before EOSE events are stored ones, which nobody counts.
            Said::Event { id, .. } if *live => match self.ledger.find(id) {
                Some(event) => self.delivered(subscriber, event, *now.get_or_insert_with(Instant::now)),
                None => self.unexpected("an event that was not published in this run"),
            },
            Said::EndOfStored { .. } if !*live => {
                *live = true;
                self.subscribed.set(self.subscribed.get() + 1);
            }
            said => note(&self.problems, &said),
        }
    }

    fn delivered(&self, subscriber: usize, event: usize, now: Instant) {
        let due = self.due.subscribers(&self.ledger.events[event]);
        if due.binary_search(&(subscriber as u32)).is_err() {
            return self.unexpected("an event that its filter does not match");
        }
        let mut seen = self.seen[subscriber].borrow_mut();
        let bit = 1 << (event % 64);
        if seen[event / 64] & bit != 0 {
            self.problems.borrow_mut().duplicate += 1;
            return;
        }
        seen[event / 64] |= bit;
        self.counts[event].set(self.counts[event].get() + 1);
        self.received.set(self.received.get() + 1);
        if let Some(sent) = self.ledger.sent(event) {
            self.latencies.borrow_mut().record(now.saturating_duration_since(sent));
        }
    }

    fn unexpected(&self, what: &str) {
        let mut problems = self.problems.borrow_mut();
        problems.unexpected += 1;
        problems.example(|| format!("a subscriber got {what}"));
    }

    /// Counts what was due and did not come, and what came of events that were refused.
    fn settle(&self) {
        let mut problems = self.problems.borrow_mut();
        for (event, delivered) in self.counts.iter().enumerate() {
            let delivered = u64::from(delivered.get());
            match self.ledger.fate(event) {
                Fate::Stored => {
                    let due = self.due.subscribers(&self.ledger.events[event]).len() as u64;
                    problems.lost += due - delivered;
                }
                Fate::Refused => problems.unexpected += delivered,
                Fate::Unsent | Fate::Sent | Fate::AlreadyStored => {}
            }
        }
    }
}

pub async fn run(bench: &Bench, args: &FanoutArgs) -> anyhow::Result<Report> {
    let count = args.count();
    let filters = bench.authors.follow_filters(args.subscribers as usize, args.follows as usize);
    let mut runs = Vec::new();
    for number in 0..args.common.runs {
        runs.push(one(bench, args, number, count, &filters).await?);
    }
    let settings = json!({
        "events": count,
        "subscribers": args.subscribers,
        "follows": args.follows,
        "contacts": args.contacts,
        "connections": args.connections,
        "in_flight": args.publish.rate.is_none().then_some(args.in_flight),
        "rate": args.publish.rate,
    });
    Ok(bench.report("fanout", settings, runs))
}

async fn one(
    bench: &Bench,
    args: &FanoutArgs,
    number: u32,
    count: usize,
    filters: &[Filter],
) -> anyhow::Result<Run> {
    let due = Rc::new(Due::new(filters));
    let still_due = Rc::new(Cell::new(0_u64));
    let ledger = {
        let (due, still_due) = (Rc::clone(&due), Rc::clone(&still_due));
        let on_stored = move |event: &Event| {
            still_due.set(still_due.get() + due.subscribers(event).len() as u64);
        };
        let stream = FIRST_STREAM + u64::from(number);
        let events = match args.contacts {
            0 => bench.events(stream, count),
            tags => bench.authors.contact_lists(stream, count, bench.base_time, tags as usize),
        };
        Ledger::new(events.into(), on_stored)
    };
    let deliveries = Rc::new(Deliveries::new(&ledger, &due, filters.len(), &bench.problems));
    let before = bench.resident()?;
    let publishers = connect(bench, &args.publish_at, args.connections as usize).await?;
    let subscribers = connect(bench, &args.subscribe_at, filters.len()).await?;
    let subscribers = subscribe(bench, subscribers, &deliveries, filters).await?;

    let meter = Meter::start(bench.server.as_ref())?;
    let publishers = publish(bench, publishers, &ledger, args.publish.pace(args.in_flight)).await;
    let all = async {
        while deliveries.received.get() < still_due.get() {
            sleep(Duration::from_millis(1)).await;
        }
    };
    while_progress(bench.patience, || deliveries.received.get(), all).await;
    let cost = meter.stop()?;
    bench.check_fresh(&ledger)?;
    sleep(GRACE).await;
    deliveries.settle();

    let mut figures = Figures::default();
    let received = deliveries.received.get() as f64;
    if let Some(cpu) = cost.server_cpu_seconds {
        figures.add("server_cpu_s_per_100000_deliveries", 1e5 * cpu / received);
        figures.add("server_cpu_us_per_event", 1e6 * cpu / count as f64);
    }
    figures.add_latencies("delivery", &deliveries.latencies.borrow());
    figures.add_latencies("ok", &ledger.latencies());
    figures.add("deliveries", received);
    figures.add("deliveries_per_event", received / count as f64);
    figures.add("deliveries_per_s", received / cost.seconds);
    bench.add_cost(&mut figures, &cost, before)?;
    drop((publishers, subscribers));
    Ok(vec![("fanout".to_owned(), figures)])
}

/// Opens connections to these nodes, in turn.
async fn connect(bench: &Bench, nodes: &[String], count: usize) -> anyhow::Result<Vec<Wire>> {
    if nodes.is_empty() {
        return bench.relay.connect_all(count).await;
    }
    let mut connections: Vec<Wire> = Vec::with_capacity(count);
    for (nth, url) in nodes.iter().enumerate() {
        let share = count.saturating_sub(nth).div_ceil(nodes.len());
        let relay = Rc::new(Relay::find(url)?);
        let opened = relay.connect_all(share).await?;
        for (place, connection) in opened.into_iter().enumerate() {
            connections.insert(connections.len().min(place * (nth + 1) + nth), connection);
        }
    }
    Ok(connections)
}

/// Opens the subscriptions; live when this returns, closed when its result is dropped.
async fn subscribe(
    bench: &Bench,
    connections: Vec<Wire>,
    deliveries: &Rc<Deliveries>,
    filters: &[Filter],
) -> anyhow::Result<JoinSet<()>> {
    let mut tasks = JoinSet::new();
    for (subscriber, (mut connection, filter)) in connections.into_iter().zip(filters).enumerate() {
        request(&mut connection, SUBSCRIPTION, &serde_json::to_string(filter)?);
        let deliveries = Rc::clone(deliveries);
        tasks.spawn_local(async move {
            let mut live = false;
            loop {
                let mut now = None;
                let heard = |text: &[u8]| deliveries.heard(subscriber, text, &mut live, &mut now);
                if let Err(lost) = connection.exchange(heard).await {
                    return note_lost(&deliveries.problems, "subscribed", &lost);
                }
            }
        });
    }
    let all = async {
        while deliveries.subscribed.get() < filters.len() {
            sleep(Duration::from_millis(5)).await;
        }
    };
    let subscribed = while_progress(bench.patience, || deliveries.subscribed.get() as u64, all).await;
    anyhow::ensure!(
        subscribed,
        "{} of {} subscriptions got no EOSE{}",
        filters.len() - deliveries.subscribed.get(),
        filters.len(),
        deliveries.problems.borrow().first_example()
    );
    Ok(tasks)
}

/// Queues a `REQ`.
pub fn request(connection: &mut Wire, subscription: &str, filter: &str) {
    connection.queue(&["[\"REQ\",\"", subscription, "\",", filter, "]"]);
}

#[cfg(test)]
mod tests {
    use super::super::workload::Authors;
    use super::*;

    #[test]
    fn what_is_due_is_what_the_filters_match() {
        let authors = Authors::new(1, 40);
        let events = authors.events(0, 300, 1_700_000_000);
        for follows in [0, 7, 40] {
            let filters = authors.follow_filters(25, follows);
            let due = Due::new(&filters);
            for event in &events {
                let matching: Vec<u32> = (0..25).filter(|&at| filters[at as usize].matches(event)).collect();
                assert_eq!(due.subscribers(event), matching);
            }
        }
    }

    #[test]
    fn counts_lost_doubled_and_undue_deliveries() {
        let authors = Authors::new(1, 4);
        let filters = authors.follow_filters(2, 2);
        let events = authors.events(0, 50, 1_700_000_000);
        let wanted = events.iter().position(|event| filters[0].matches(event)).unwrap();
        let unwanted = events.iter().position(|event| !filters[0].matches(event)).unwrap();
        let texts: Vec<String> =
            events.iter().map(|event| format!(r#"["EVENT","live",{}]"#, event.json())).collect();
        let ledger = Ledger::new(Rc::new(events), |_| {});
        let due = Rc::new(Due::new(&filters));
        let deliveries = Deliveries::new(&ledger, &due, 2, &Rc::default());
        let (mut live, mut now) = (false, None);
        let mut hear = |text: &str| deliveries.heard(0, text.as_bytes(), &mut live, &mut now);
        hear(&texts[wanted]);
        hear(r#"["EOSE","live"]"#);
        hear(&texts[wanted]);
        hear(&texts[wanted]);
        hear(&texts[unwanted]);
        assert_eq!((deliveries.received.get(), deliveries.subscribed.get()), (1, 1));
        let all_due: usize = (0..50).map(|event| due.subscribers(&ledger.events[event]).len()).sum();
        for event in 0..50 {
            ledger.set_fate(event, Fate::Stored);
        }
        deliveries.settle();
        let problems = deliveries.problems.borrow();
        assert_eq!((problems.duplicate, problems.unexpected), (1, 1));
        assert_eq!(problems.lost, all_due as u64 - 1);
    }
}
