//! The labels of metrics about relays that are read: not known before they are named.

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{TypedMetric, counter::Counter, family::Family},
};

use super::labels::{LabelValues, Labelled};

/// A relay that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamLabel {
    pub upstream: String,
}

/// What became of events of a relay that is read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct UpstreamOutcome {
    pub upstream: String,
    pub outcome: &'static str,
}

/// A metric for each relay that is read.
pub type ByUpstream<M> = Family<UpstreamLabel, M>;

impl<M> Labelled for ByUpstream<M>
where
    Self: TypedMetric,
{
    const LABEL: Option<LabelValues> =
        Some(("upstream", &[("its URL", "without what follows a ?; `other` beyond a hundred of them")]));
}

impl Labelled for Family<UpstreamOutcome, Counter> {
    const LABEL: Option<LabelValues> = Some((
        "outcome",
        &[
            ("stored", "it is stored"),
            ("known", "it was stored before"),
            ("dead", "it could not be stored, and is kept as a dead letter"),
            ("shape", "refused: it is no event"),
            ("too_large", "refused: it is longer than messages may be"),
            ("unasked", "refused: nobody asked for it"),
            ("forged", "refused: its id or signature is wrong, or it is too far ahead"),
            ("superseded", "refused: a newer version is known"),
            ("deleted", "refused: its author has deleted it, or has asked to vanish"),
            ("expired", "refused: its time is over"),
            (
                "policy",
                "refused: this relay does not take it from anybody, or not from others than its author",
            ),
        ],
    ));
}
