//! What operators are told.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::super::{
    cursor::{Cursor, Lease},
    dead::DeadLetter,
    manager::Observed,
    status::{CatchUp, State},
    upstream::{Upstream, UpstreamLimits},
};
use crate::{
    clock,
    protocol::{Filter, Timestamp, nip19},
    telemetry::ConnectResult,
};

/// An upstream, and how it stands with it. Its state and counts are those at the node that was asked, since that began.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct View {
    /// Its number, as it stands in paths.
    #[schema(example = "0f6c1d2e3a4b5c6d")]
    pub id: String,
    pub url: String,
    /// Whether the configuration of the node names it: then it is changed there.
    pub configured: bool,
    /// Since when it has been an upstream, in seconds since 1970; 0: the configuration names it.
    pub added: Timestamp,
    #[schema(value_type = Vec<Object>)]
    pub filters: Vec<Filter>,
    pub overlap_seconds: Option<u64>,
    pub limits: UpstreamLimits,
    /// Public key of whoever this relay is there.
    pub auth: Option<String>,
    /// For how many people it is asked who are followed.
    pub people: usize,
    /// Whether it is read for nothing else: no operator has named it.
    pub for_people_alone: bool,
    /// Which node of all reads it, and how often that has changed; `null`: none has yet.
    pub lease: Option<Lease>,
    pub state: State,
    /// Since when it has been in that state, in seconds since 1970.
    pub since: Timestamp,
    /// Up to when everything of it is finished, in seconds since 1970; 0: nothing was read to its end yet.
    pub read_through: Timestamp,
    /// Seconds between that and now.
    pub behind_seconds: Option<u64>,
    pub last_error: Option<LastError>,
    pub last_catch_up: Option<CatchUp>,
    /// Sessions that have begun.
    pub sessions: u64,
    pub received: u64,
    pub bytes: u64,
    pub stored: u64,
    pub known: u64,
    pub refused: BTreeMap<String, u64>,
    pub dead: u64,
    /// received = stored + known + refused + dead + waiting.
    pub waiting: u64,
    /// Events a second, over the last minute.
    pub rate: f64,
    /// Bytes of an event.
    pub mean_bytes: Option<f64>,
    /// By a histogram: at most 5 % off.
    pub median_bytes: Option<f64>,
    /// Part of what was received that was here before, from 0 to 1.
    pub duplicates: Option<f64>,
}

/// Why an upstream was not read when that was so last.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// In seconds since 1970.
    pub at: Timestamp,
    pub text: String,
}

/// What waits for the store at the node that was asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// How much of its room is taken, from 0 to 1.
    pub fill: f64,
    /// Events by upstream, where some wait.
    pub waiting: BTreeMap<String, u64>,
}

/// An event that the store has not taken, though it took others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Number of the upstream that has sent it.
    #[schema(example = "0f6c1d2e3a4b5c6d")]
    pub upstream: String,
    /// Its id.
    pub event: String,
    /// URL of the upstream, where it is one still.
    pub url: Option<String>,
    #[serde(flatten)]
    #[schema(inline)]
    pub letter: DeadLetter,
}

/// Some of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterPage {
    pub letters: Vec<DeadLetterView>,
    /// What `after` is to be, for those that follow; `null`: there are no more.
    pub next: Option<String>,
}

impl View {
    /// `cursor`: what is written of how far it is read, whoever reads it.
    pub(super) fn of(upstream: &Upstream, observed: Option<&Observed>, cursor: Option<Cursor>) -> Self {
        let Cursor { lease, progress, .. } = cursor.unwrap_or_default();
        let read_through = progress.through;
        let counted = observed.map(|observed| observed.counts.at_this_moment()).unwrap_or_default();
        let standing = observed.map(|observed| observed.status.at_this_moment());
        let (state, since) = match (&standing, upstream.paused) {
            (_, true) => (State::Paused, 0),
            (Some(standing), false) => (standing.state, standing.since),
            // Its reader begins in a moment.
            (None, false) => (State::Connecting, clock::now()),
        };
        let share = |part: f64| (counted.received > 0).then(|| part / counted.received as f64);
        let sizes = observed.and_then(|observed| observed.counts.median_bytes());
        Self {
            id: upstream.id().to_string(),
            url: upstream.url.to_string(),
            configured: observed.is_some_and(|observed| observed.is_configured),
            added: upstream.added,
            filters: upstream.filters.clone(),
            overlap_seconds: upstream.overlap_seconds,
            limits: upstream.limits,
            auth: upstream.auth.as_ref().map(|key| nip19::npub(&key.public)),
            people: upstream.followed.as_ref().map_or(0, |followed| followed.people.len()),
            for_people_alone: upstream.is_for_followed_alone(),
            lease: Some(lease).filter(|lease| !lease.node.is_empty()),
            state,
            since,
            read_through,
            behind_seconds: (read_through > 0).then(|| clock::now().saturating_sub(read_through)),
            last_error: standing
                .as_ref()
                .and_then(|standing| standing.error.clone())
                .map(|(at, text)| LastError { at, text }),
            last_catch_up: standing.and_then(|standing| standing.caught_up),
            sessions: observed
                .map_or(0, |observed| observed.counts.connects.of(ConnectResult::Subscribed).get()),
            received: counted.received,
            bytes: counted.bytes,
            stored: counted.stored,
            known: counted.known,
            refused: counted
                .refused
                .iter()
                .filter(|(_, count)| *count > 0)
                .map(|(reason, count)| ((*reason).to_owned(), *count))
                .collect(),
            dead: counted.dead,
            waiting: counted.waiting,
            rate: observed.map_or(0.0, |observed| observed.counts.rate()),
            mean_bytes: share(counted.bytes as f64),
            median_bytes: sizes,
            duplicates: share(counted.known as f64),
        }
    }
}
