//! What became of the messages of an upstream. Each is counted once, so that at any moment
//! received = stored + known + refused + dead + waiting.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;

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
    distrusted: AtomicU64,
    /// Whether it has events that could not be stored, and no place for another dead letter.
    is_full: AtomicBool,
    whole: AtomicU64,
    pub connects: By<ConnectResult, Counter>,
    pub messages: By<UpstreamMessage, Counter>,
    pub cleanups: By<CleanupResult, Counter>,
    sizes: Sizes,
    rate: Mutex<VecDeque<(Instant, u64)>>,
}

/// How many messages had which size: eight steps from a size to its double, so that a step is half of 9 % off at most.
#[derive(Debug)]
struct Sizes([AtomicU64; Self::STEPS]);

impl Sizes {
    const STEPS: usize = 28 * Self::PER_DOUBLE as usize;
    const PER_DOUBLE: f64 = 8.0;

    fn add(&self, bytes: usize) {
        let step = ((bytes.max(1) as f64).log2() * Self::PER_DOUBLE) as usize;
        self.0[step.min(Self::STEPS - 1)].fetch_add(1, Relaxed);
    }

    fn median(&self) -> Option<f64> {
        let counts: Vec<u64> = self.0.iter().map(|count| count.load(Relaxed)).collect();
        let half = counts.iter().sum::<u64>().div_ceil(2);
        let mut sum = 0;
        let step = counts.iter().position(|count| {
            sum += count;
            sum >= half && half > 0
        })?;
        Some(((step as f64 + 0.5) / Self::PER_DOUBLE).exp2())
    }
}

impl Default for Sizes {
    fn default() -> Self {
        Self(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

/// The same at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
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
    /// How often it was not read for a while, as too many of its events were forged.
    pub distrusted: u64,
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
        self.sizes.add(bytes);
    }

    /// The median of their sizes.
    pub fn median_bytes(&self) -> Option<f64> {
        self.sizes.median()
    }

    /// Looks how many have come by this moment: to be called every few seconds.
    pub fn look(&self, now: Instant) {
        const MINUTE: Duration = Duration::from_secs(60);
        let mut looks = self.rate.lock();
        looks.push_back((now, self.received.load(Relaxed)));
        while looks.len() > 2 && now.saturating_duration_since(looks[1].0) >= MINUTE {
            looks.pop_front();
        }
    }

    /// How many a second, over the last minute.
    pub fn rate(&self) -> f64 {
        let looks = self.rate.lock();
        match (looks.front(), looks.back()) {
            (Some((begin, before)), Some((end, after))) if begin < end => {
                after.saturating_sub(*before) as f64 / (*end - *begin).as_secs_f64()
            }
            _ => 0.0,
        }
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

    /// It is not read for a while, as too many of its events were forged.
    pub fn distrust(&self) {
        self.distrusted.fetch_add(1, Relaxed);
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
            distrusted: of(&self.distrusted),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_at_most_5_percent_off() {
        assert_eq!(Counts::default().median_bytes(), None);
        for size in [1, 64, 100, 350, 1_000, 65_535, 1_000_000, 16 << 20] {
            let counts = Counts::default();
            [1, size, 1 << 27].iter().for_each(|&bytes| counts.receive(bytes));
            let median = counts.median_bytes().unwrap();
            assert!((median / size as f64 - 1.0).abs() < 0.05, "{size}: {median}");
        }
    }

    #[test]
    fn the_rate_is_that_of_the_last_minute() {
        let (counts, begin) = (Counts::default(), Instant::now());
        let at = |seconds: u64| begin + Duration::from_secs(seconds);
        assert_eq!(counts.rate(), 0.0);
        for second in (0..=120).step_by(5) {
            counts.look(at(second));
            (0..50).for_each(|_| counts.receive(1));
        }
        assert_eq!(counts.rate(), 10.0);
        for second in (125..=180).step_by(5) {
            counts.look(at(second));
        }
        assert!(counts.rate() < 1.0);
    }
}
