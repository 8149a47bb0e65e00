//! What Prometheus is told of the relays that are read.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

use super::{
    counts::{Counted, Counts, Verdict},
    queue::Queue,
    status::Status,
};
use crate::{
    clock,
    protocol::Timestamp,
    telemetry::{BoundedQueue, By, Label, Metrics, UpstreamSeries},
};

/// The series of those that have none of their own.
const OTHERS: &str = "other";

/// A relay that is read, as metrics call it.
#[derive(Clone)]
pub struct Shown {
    pub name: Arc<str>,
    pub counts: Arc<Counts>,
    pub status: Arc<Status>,
}

/// Has the metrics look at those that are listed, whenever they are asked for. At most `by_name` have series of their
/// own: those that were seen first.
pub fn show(
    list: impl Fn() -> Vec<Shown> + Send + Sync + 'static,
    by_name: usize,
    queue: &Arc<dyn Queue>,
    metrics: &Metrics,
) {
    let queue = Arc::downgrade(queue);
    let board = Mutex::new(Board { by_name, outcomes: Verdict::names(), ..Board::default() });
    metrics.before_scrapes(move |metrics| {
        if let Some(queue) = queue.upgrade() {
            metrics.queue_fill.of(BoundedQueue::Aggregator).set(queue.fill());
        }
        board.lock().bring_up_to_date(&list(), metrics);
    });
}

/// What is shown.
#[derive(Default)]
struct Board {
    by_name: usize,
    outcomes: Vec<&'static str>,
    lines: Vec<Line>,
    /// By the name under which they are shown.
    series: HashMap<Arc<str>, Series>,
}

/// A relay that is shown. Several may have one name, as what follows a `?` is no part of that.
struct Line {
    shown_as: Arc<str>,
    /// By these it is known again: one that is taken away and added again has others.
    counts: Arc<Counts>,
    /// What its series have of it already, in the order of [`counters`].
    told: Vec<u64>,
}

struct Series {
    series: UpstreamSeries,
    now: Gauges,
}

/// What those of one name are at, together.
#[derive(Default)]
struct Gauges {
    waiting: u64,
    up: u64,
    /// Those that are not read, as all room for their dead letters is taken.
    full: u64,
    /// The oldest.
    cursor: Option<Timestamp>,
    /// That of the one furthest behind.
    lag: u64,
}

impl Board {
    fn bring_up_to_date(&mut self, all: &[Shown], metrics: &Metrics) {
        self.lines.retain(|line| all.iter().any(|shown| Arc::ptr_eq(&shown.counts, &line.counts)));
        for series in self.series.values_mut() {
            series.now = Gauges::default();
        }
        for shown in all {
            self.tell(shown, metrics);
        }
        self.forget(metrics);
        for Series { series, now } in self.series.values() {
            series.waiting.set(now.waiting as i64);
            series.up.set(now.up as i64);
            series.full.set(now.full as i64);
            series.cursor.set(now.cursor.unwrap_or_default() as i64);
            series.lag.set(now.lag as i64);
        }
    }

    /// Takes away the series of those that are not read any more.
    fn forget(&mut self, metrics: &Metrics) {
        let (lines, outcomes) = (&self.lines, &self.outcomes);
        self.series.retain(|name, _| {
            let is_used = lines.iter().any(|line| line.shown_as == *name);
            if !is_used {
                metrics.forget_upstream(name, outcomes);
            }
            is_used
        });
    }

    /// The name under which a new one is shown.
    fn name_of(&self, shown: &Shown) -> Arc<str> {
        let own: HashSet<&str> =
            self.lines.iter().map(|line| &*line.shown_as).filter(|name| *name != OTHERS).collect();
        match own.contains(&*shown.name) || own.len() < self.by_name {
            true => Arc::clone(&shown.name),
            false => OTHERS.into(),
        }
    }

    fn tell(&mut self, shown: &Shown, metrics: &Metrics) {
        let known = self.lines.iter().position(|line| Arc::ptr_eq(&line.counts, &shown.counts));
        let at = known.unwrap_or_else(|| {
            let (shown_as, counts) = (self.name_of(shown), Arc::clone(&shown.counts));
            self.lines.push(Line { shown_as, counts, told: Vec::new() });
            self.lines.len() - 1
        });
        let line = &mut self.lines[at];
        let new =
            || Series { series: metrics.upstream(&line.shown_as, &self.outcomes), now: Gauges::default() };
        let Series { series, now } = self.series.entry(Arc::clone(&line.shown_as)).or_insert_with(new);
        let counted = shown.counts.at_this_moment();
        now.waiting += counted.waiting;
        now.up += u64::from(shown.status.is_up());
        now.full += u64::from(shown.counts.is_full());
        now.cursor = Some(now.cursor.map_or(counted.cursor, |cursor| cursor.min(counted.cursor)));
        let lag = counted.whole.map_or(0, |whole| clock::now().saturating_sub(whole));
        now.lag = now.lag.max(lag);
        let counters = counters(series, &shown.counts, &counted);
        line.told.resize(counters.len(), 0);
        for ((counter, count), told) in counters.into_iter().zip(&mut line.told) {
            counter.inc_by(count.saturating_sub(*told));
            *told = count.max(*told);
        }
    }
}

/// Each counter of a relay's series, and what it has come to.
fn counters<'s>(series: &'s UpstreamSeries, counts: &Counts, counted: &Counted) -> Vec<(&'s Counter, u64)> {
    let mut all = vec![
        (&series.received, counted.received),
        (&series.bytes, counted.bytes),
        (&series.phantoms, counted.phantoms),
        (&series.distrusted, counted.distrusted),
    ];
    let of = |name: &str| counted.outcomes().find(|(other, _)| *other == name).map_or(0, |(_, count)| count);
    all.extend(series.outcomes.iter().map(|(name, counter)| (counter, of(name))));
    all.extend(by_label(&series.connects, &counts.connects));
    all.extend(by_label(&series.messages, &counts.messages));
    all.extend(by_label(&series.cleanups, &counts.cleanups));
    all
}

fn by_label<'s, L: Label>(
    series: &'s By<L, Counter>,
    counts: &By<L, Counter>,
) -> impl Iterator<Item = (&'s Counter, u64)> {
    L::ALL.iter().map(|&value| (series.of(value), counts.of(value).get()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::aggregate::queue::{Deaf, memory::Memory};

    /// Relays that come and go, and what is shown of them.
    struct Stage {
        all: Arc<Mutex<Vec<Shown>>>,
        metrics: Metrics,
        _queue: Arc<dyn Queue>,
    }

    impl Stage {
        fn new(by_name: usize) -> Self {
            let queue: Arc<dyn Queue> = Arc::new(Memory::new(65_536, Arc::new(Deaf)));
            let (all, metrics) = (Arc::<Mutex<Vec<Shown>>>::default(), Metrics::new("n1"));
            let list = Arc::clone(&all);
            show(move || list.lock().clone(), by_name, &queue, &metrics);
            Self { all, metrics, _queue: queue }
        }

        /// Adds one that has received so many events, all of which wait.
        fn add(&self, name: &str, received: usize) -> Arc<Counts> {
            let (name, counts) = (Arc::from(name), Arc::<Counts>::default());
            (0..received).for_each(|_| counts.receive(10));
            self.all.lock().push(Shown { name, counts: Arc::clone(&counts), status: Arc::default() });
            counts
        }

        fn remove(&self, name: &str) {
            self.all.lock().retain(|shown| &*shown.name != name);
        }

        /// How many of that name were received, how many wait, and how many were stored.
        fn shown(&self, name: &str) -> Option<[u64; 3]> {
            let text = self.metrics.render();
            let value = |series: String| {
                let line = text.lines().find_map(|line| line.strip_prefix(&series));
                line.map(|value| value.trim().parse().unwrap())
            };
            Some([
                value(format!(r#"rookery_upstream_events_received_total{{upstream="{name}"}}"#))?,
                value(format!(r#"rookery_upstream_events_waiting{{upstream="{name}"}}"#))?,
                value(format!(r#"rookery_upstream_events_total{{upstream="{name}",outcome="stored"}}"#))?,
            ])
        }
    }

    #[test]
    fn one_whose_dead_letters_take_all_room_is_shown_so() {
        let stage = Stage::new(9);
        let counts = stage.add("full", 1);
        let shown =
            || stage.metrics.render().contains(r#"rookery_upstream_dead_letters_full{upstream="full"} 1"#);
        assert!(!shown());
        counts.set_full(true);
        assert!(shown());
        counts.set_full(false);
        assert!(!shown());
    }

    #[test]
    fn counts_go_on_whoever_comes_and_goes() {
        let stage = Stage::new(1);
        let first = stage.add("first", 3);
        let second = stage.add("second", 10);
        let third = stage.add("third", 100);
        first.settle(Verdict::Stored);
        third.settle(Verdict::Stored);
        assert_eq!(stage.shown("first"), Some([3, 2, 1]));
        assert_eq!((stage.shown("second"), stage.shown(OTHERS)), (None, Some([110, 109, 1])));
        // What was counted of one that has gone stays counted, and the others are counted on.
        stage.remove("second");
        second.settle(Verdict::Stored);
        assert_eq!(stage.shown(OTHERS), Some([110, 99, 1]));
        third.settle(Verdict::Stored);
        assert_eq!(stage.shown(OTHERS), Some([110, 98, 2]));
        // One that comes back begins at nothing, which is added.
        stage.add("second", 5);
        assert_eq!(stage.shown(OTHERS), Some([115, 103, 2]));
        // A relay may be read twice, by two tokens that are no part of its name.
        stage.add("first", 20);
        assert_eq!((stage.shown("first"), stage.shown("first")), (Some([23, 22, 1]), Some([23, 22, 1])));
        // The place of one that has gone is the next one's.
        stage.remove("first");
        stage.add("fourth", 7);
        assert_eq!((stage.shown("first"), stage.shown("fourth")), (None, Some([7, 7, 0])));
        stage.remove("second");
        stage.remove("third");
        assert_eq!(stage.shown(OTHERS), None);
        // Taken away and added again between two looks.
        stage.remove("fourth");
        stage.add("fourth", 2);
        assert_eq!(stage.shown("fourth"), Some([9, 2, 0]));
    }
}
