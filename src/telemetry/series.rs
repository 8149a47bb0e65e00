//! The series about a relay that is read: made when it is named, and taken away with it.

use prometheus_client::metrics::{counter::Counter, gauge::Gauge};

use super::{
    labels::{By, CleanupResult, ConnectResult, Label, UpstreamMessage},
    metrics::Metrics,
    upstreams::{ByUpstreamAnd, OutcomeLabel, PartitionLabel, UpstreamAnd, UpstreamLabel, UpstreamOutcome},
};

/// The series of a relay, or of all that have none of their own.
pub struct UpstreamSeries {
    pub received: Counter,
    pub bytes: Counter,
    pub phantoms: Counter,
    pub distrusted: Counter,
    pub outcomes: Vec<(&'static str, Counter)>,
    pub waiting: Gauge,
    pub up: Gauge,
    pub full: Gauge,
    pub cursor: Gauge,
    pub lag: Gauge,
    pub connects: By<ConnectResult, Counter>,
    pub messages: By<UpstreamMessage, Counter>,
    pub cleanups: By<CleanupResult, Counter>,
}

/// The gauges of a stream that events of relays wait in.
pub struct PartitionSeries {
    pub entries: Gauge,
    pub taken: Gauge,
    pub age: Gauge,
}

impl Metrics {
    /// Gives a relay of this name its series, with these outcomes.
    pub fn upstream(&self, upstream: &str, outcomes: &[&'static str]) -> UpstreamSeries {
        let label = UpstreamLabel { upstream: upstream.to_owned() };
        let outcome = |outcome: &&'static str| {
            let label = UpstreamOutcome { upstream: upstream.to_owned(), outcome };
            (*outcome, self.upstream_events.get_or_create_owned(&label))
        };
        UpstreamSeries {
            received: self.upstream_received.get_or_create_owned(&label),
            bytes: self.upstream_bytes.get_or_create_owned(&label),
            phantoms: self.upstream_phantoms.get_or_create_owned(&label),
            distrusted: self.upstream_distrusted.get_or_create_owned(&label),
            outcomes: outcomes.iter().map(outcome).collect(),
            waiting: self.upstream_waiting.get_or_create_owned(&label),
            up: self.upstream_up.get_or_create_owned(&label),
            full: self.upstream_full.get_or_create_owned(&label),
            cursor: self.upstream_cursor.get_or_create_owned(&label),
            lag: self.upstream_lag.get_or_create_owned(&label),
            connects: each(&self.upstream_connects, upstream),
            messages: each(&self.upstream_messages, upstream),
            cleanups: each(&self.upstream_cleanups, upstream),
        }
    }

    /// Takes these series away again.
    pub fn forget_upstream(&self, upstream: &str, outcomes: &[&'static str]) {
        let label = UpstreamLabel { upstream: upstream.to_owned() };
        for family in [
            &self.upstream_received,
            &self.upstream_bytes,
            &self.upstream_phantoms,
            &self.upstream_distrusted,
        ] {
            family.remove(&label);
        }
        for family in [
            &self.upstream_waiting,
            &self.upstream_up,
            &self.upstream_full,
            &self.upstream_cursor,
            &self.upstream_lag,
        ] {
            family.remove(&label);
        }
        for outcome in outcomes {
            self.upstream_events.remove(&UpstreamOutcome { upstream: upstream.to_owned(), outcome });
        }
        forget(&self.upstream_connects, upstream);
        forget(&self.upstream_messages, upstream);
        forget(&self.upstream_cleanups, upstream);
    }

    /// The gauges of a stream that this process takes from.
    pub fn partition(&self, partition: u16) -> PartitionSeries {
        let label = PartitionLabel { partition };
        PartitionSeries {
            entries: self.upstream_queue_entries.get_or_create_owned(&label),
            taken: self.upstream_queue_taken.get_or_create_owned(&label),
            age: self.upstream_queue_age.get_or_create_owned(&label),
        }
    }

    /// Takes them away again.
    pub fn forget_partition(&self, partition: u16) {
        let label = PartitionLabel { partition };
        for family in [&self.upstream_queue_entries, &self.upstream_queue_taken, &self.upstream_queue_age] {
            family.remove(&label);
        }
    }

    /// The counters of what became of events that came through the queue, one an outcome.
    pub fn consumer_outcomes(&self, outcomes: &[&'static str]) -> Vec<(&'static str, Counter)> {
        let counter = |outcome: &&'static str| {
            (*outcome, self.consumer_events.get_or_create_owned(&OutcomeLabel { outcome }))
        };
        outcomes.iter().map(counter).collect()
    }
}

fn each<L: Label>(family: &ByUpstreamAnd<L>, upstream: &str) -> By<L, Counter> {
    let mut values = L::ALL.iter();
    By::new(|| match values.next() {
        Some(&value) => family.get_or_create_owned(&UpstreamAnd { upstream: upstream.to_owned(), value }),
        None => Counter::default(),
    })
}

fn forget<L: Label>(family: &ByUpstreamAnd<L>, upstream: &str) {
    for &value in L::ALL {
        family.remove(&UpstreamAnd { upstream: upstream.to_owned(), value });
    }
}
