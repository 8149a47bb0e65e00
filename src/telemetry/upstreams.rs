//! The labels of metrics about relays that are read: not known before they are named.

use std::fmt;

use prometheus_client::{
    encoding::{EncodeLabelSet, LabelSetEncoder},
    metrics::{TypedMetric, counter::Counter, family::Family},
};

use super::labels::{Label, LabelValues, Labelled};

/// A relay that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabel {
    pub upstream: String,
}

/// A relay that is read, and another label.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamAnd<L> {
    pub upstream: String,
    pub value: L,
}

/// What became of an event of a relay that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OutcomeLabel {
    pub outcome: &'static str,
}

/// The same, of which relay.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamOutcome {
    pub upstream: String,
    pub outcome: &'static str,
}

/// A stream of Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct PartitionLabel {
    pub partition: u16,
}

/// A metric for each stream that events of relays wait in.
pub type ByPartition<M> = Family<PartitionLabel, M>;

impl<M> Labelled for ByPartition<M>
where
    Self: TypedMetric,
{
    const LABEL: Option<LabelValues> =
        Some(("partition", &[("0, 1, …", "a stream that this process takes from: aggregator.partitions")]));
}

/// A metric for each relay that is read.
pub type ByUpstream<M> = Family<UpstreamLabel, M>;

/// One for each value of a label, too.
pub type ByUpstreamAnd<L> = Family<UpstreamAnd<L>, Counter>;

impl<L: Label> EncodeLabelSet for UpstreamAnd<L> {
    fn encode(&self, encoder: &mut LabelSetEncoder<'_>) -> fmt::Result {
        [("upstream", &*self.upstream), (L::NAME, self.value.name())].encode(encoder)
    }
}

impl<M> Labelled for ByUpstream<M>
where
    Self: TypedMetric,
{
    const LABEL: Option<LabelValues> = Some(("upstream", UPSTREAM));
}

const UPSTREAM: &[(&str, &str)] =
    &[("its URL", "without what follows a ?; `other` beyond so many of them: aggregator.metrics_upstreams")];

impl<L: Label> Labelled for ByUpstreamAnd<L> {
    const LABEL: Option<LabelValues> = Some((L::NAME, L::VALUES));
    const ALSO: Option<&'static str> = Some("upstream");
}

impl Labelled for Family<OutcomeLabel, Counter> {
    const LABEL: Option<LabelValues> = Some((
        "outcome",
        &[
            ("again", "the store did not take it for now: it is tried again"),
            ("stored, known, …", "its verdict, as in `rookery_upstream_events_total`"),
        ],
    ));
}

impl Labelled for Family<UpstreamOutcome, Counter> {
    const ALSO: Option<&'static str> = Some("upstream");
    const LABEL: Option<LabelValues> = Some((
        "outcome",
        &[
            ("stored", "it is stored, or was ephemeral and is handed on"),
            ("known", "it was stored before"),
            ("dead", "it could not be stored, and is kept as a dead letter"),
            ("shape", "refused: it is no event"),
            ("too_large", "refused: it is longer than messages may be"),
            ("unasked", "refused: nobody asked for it"),
            ("forged", "refused: its id or signature is wrong"),
            ("superseded", "refused: a newer version is known"),
            ("deleted", "refused: its author has deleted it, or has asked to vanish"),
            ("expired", "refused: its time is over"),
            ("ahead", "refused: it is dated too far ahead"),
            (
                "policy",
                "refused: this relay does not take it from anybody, or not from others than its author",
            ),
        ],
    ));
}
