//! What became of the messages of an upstream. Each is counted once, so that at any moment
//! received = stored + known + refused + dead + waiting.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use prometheus_client::metrics::counter::Counter;
use serde::Serialize;

use crate::{
    client::{ClientError, Observer},
    ingest::Objection,
    protocol::{Reply, Timestamp},
    store::Outcome,
    telemetry::{By, CleanupResult, ConnectResult, UpstreamMessage},
};

macro_rules! refusals {
    ($($(#[doc = $doc:literal])* $refusal:ident = $name:literal,)*) => {
        /// Why an event of an upstream was refused.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Refusal { $($(#[doc = $doc])* $refusal),* }

        impl Refusal {
            pub const ALL: &[(Self, &'static str)] = &[$((Self::$refusal, $name)),*];

            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$refusal => $name),*
                }
            }
        }
    };
}

refusals! {
    /// It is no event by shape.
    Shape = "shape",
    /// It is longer than events may be.
    TooLarge = "too_large",
    /// No filter of the upstream asks for it.
    Unasked = "unasked",
    /// Its id or signature is wrong.
    Forged = "forged",
    /// It is older than what replaces it.
    Superseded = "superseded",
    /// Its author has deleted it, or has asked to vanish.
    Deleted = "deleted",
    /// Its time is over.
    Expired = "expired",
    /// It is dated too far ahead.
    Ahead = "ahead",
    /// The policy of this relay is against it.
    Policy = "policy",
}

/// The counters of an upstream, since the process began.
#[derive(Debug, Default)]
pub struct Counts {
    received: AtomicU64,
    bytes: AtomicU64,
    stored: AtomicU64,
    known: AtomicU64,
    dead: AtomicU64,
    refused: [AtomicU64; Refusal::ALL.len()],
    cursor: AtomicU64,
    phantoms: AtomicU64,
    /// Whether it has events that could not be stored, and no place for another dead letter.
    is_full: AtomicBool,
    whole: AtomicU64,
    pub connects: By<ConnectResult, Counter>,
    pub messages: By<UpstreamMessage, Counter>,
    pub cleanups: By<CleanupResult, Counter>,
}

/// The same at a moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Counted {
    pub received: u64,
    pub bytes: u64,
    pub stored: u64,
    pub known: u64,
    pub refused: Vec<(&'static str, u64)>,
    pub dead: u64,
    pub waiting: u64,
    /// Up to where it is read, as it is noted.
    pub cursor: Timestamp,
    /// Up to when everything of it is finished, as far as is known; `None` before that is known.
    pub whole: Option<Timestamp>,
    /// Events that it named and did not send.
    pub phantoms: u64,
}

/// What became of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Stored,
    /// It is ephemeral, and was handed on.
    Routed,
    Known,
    Refused(Refusal),
    /// It could not be stored, and is kept as a dead letter.
    Dead,
}

impl Counts {
    pub fn receive(&self, bytes: usize) {
        self.received.fetch_add(1, Relaxed);
        self.bytes.fetch_add(bytes as u64, Relaxed);
    }

    /// A message that was received before is not read from this process any more: it was given up, and comes again.
    pub fn give_up(&self, messages: u64) {
        self.received.fetch_sub(messages, Relaxed);
    }

    /// It is noted that the upstream has been read up to here.
    pub fn note(&self, cursor: Timestamp) {
        self.cursor.store(cursor, Relaxed);
    }

    /// Everything that it had by then is finished.
    pub fn note_whole(&self, moment: Timestamp) {
        self.whole.fetch_max(moment, Relaxed);
    }

    /// It has named so many events, and not sent them.
    pub fn note_phantoms(&self, count: usize) {
        self.phantoms.fetch_add(count as u64, Relaxed);
    }

    /// Whether there is a place for its dead letters is known now.
    pub fn set_full(&self, is_full: bool) {
        self.is_full.store(is_full, Relaxed);
    }

    pub fn is_full(&self) -> bool {
        self.is_full.load(Relaxed)
    }

    pub fn settle(&self, verdict: Verdict) {
        let counter = match verdict {
            Verdict::Stored | Verdict::Routed => &self.stored,
            Verdict::Known => &self.known,
            Verdict::Dead => &self.dead,
            Verdict::Refused(refusal) => &self.refused[refusal as usize],
        };
        counter.fetch_add(1, Relaxed);
    }

    pub fn at_this_moment(&self) -> Counted {
        let of = |counter: &AtomicU64| counter.load(Relaxed);
        // What is settled first, so that what waits is never less than nothing.
        let refused: Vec<_> = Refusal::ALL
            .iter()
            .map(|(refusal, name)| (*name, of(&self.refused[*refusal as usize])))
            .collect();
        let (stored, known, dead) = (of(&self.stored), of(&self.known), of(&self.dead));
        let settled = stored + known + dead + refused.iter().map(|(_, count)| count).sum::<u64>();
        let received = of(&self.received);
        let waiting = received.saturating_sub(settled);
        Counted {
            received,
            bytes: of(&self.bytes),
            stored,
            known,
            refused,
            dead,
            waiting,
            cursor: of(&self.cursor),
            phantoms: of(&self.phantoms),
            whole: Some(of(&self.whole)).filter(|moment| *moment > 0),
        }
    }
}

impl Counted {
    /// How many have each outcome.
    pub fn outcomes(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let own = [("stored", self.stored), ("known", self.known), ("dead", self.dead)];
        own.into_iter().chain(self.refused.iter().copied())
    }
}

impl Verdict {
    /// The names of all, and of events that are dead letters.
    pub fn names() -> Vec<&'static str> {
        ["stored", "known", "dead"].into_iter().chain(Refusal::ALL.iter().map(|(_, name)| *name)).collect()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Stored | Self::Routed => "stored",
            Self::Known => "known",
            Self::Dead => "dead",
            Self::Refused(refusal) => refusal.name(),
        }
    }
}

/// Hears what an upstream says, over all connections to it.
impl Observer for Counts {
    fn heard(&self, message: Option<&Reply<'_>>) {
        let kind = match message {
            Some(Reply::Event { .. }) => UpstreamMessage::Event,
            Some(Reply::Eose { .. }) => UpstreamMessage::Eose,
            Some(Reply::Closed { .. }) => UpstreamMessage::Closed,
            Some(Reply::Ok { .. }) => UpstreamMessage::Ok,
            Some(Reply::Auth { .. }) => UpstreamMessage::Auth,
            Some(Reply::Notice(_)) => UpstreamMessage::Notice,
            Some(Reply::Count { .. }) => UpstreamMessage::Count,
            Some(Reply::NegMsg { .. } | Reply::NegErr { .. }) => UpstreamMessage::Negentropy,
            Some(Reply::Unknown(_)) | None => UpstreamMessage::Unknown,
        };
        self.messages.of(kind).inc();
    }
}

impl From<Outcome> for Verdict {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Stored => Self::Stored,
            Outcome::Duplicate => Self::Known,
            Outcome::Superseded => Self::Refused(Refusal::Superseded),
            Outcome::Deleted | Outcome::Vanished => Self::Refused(Refusal::Deleted),
            Outcome::Expired => Self::Refused(Refusal::Expired),
            // Whoever asks tries it again, so this is never counted.
            Outcome::NoSpace(_) => Self::Refused(Refusal::Policy),
        }
    }
}

impl From<Objection> for Refusal {
    fn from(objection: Objection) -> Self {
        match objection {
            Objection::Forged => Self::Forged,
            Objection::Ahead => Self::Ahead,
            Objection::Expired => Self::Expired,
            Objection::Policy => Self::Policy,
        }
    }
}

/// What came of an attempt that this ended.
pub fn connect_result(error: &ClientError) -> ConnectResult {
    match error {
        ClientError::Unreachable { .. }
        | ClientError::UnknownHost { .. }
        | ClientError::NoRequest { .. }
        | ClientError::NoRelay { .. } => ConnectResult::Unreachable,
        ClientError::Forbidden { .. } => ConnectResult::Forbidden,
        ClientError::NoKey
        | ClientError::AuthRefused(_)
        | ClientError::Refused(_)
        | ClientError::Ended(_) => ConnectResult::Refused,
        _ => ConnectResult::Lost,
    }
}
