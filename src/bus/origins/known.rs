//! What is known of one process.

use std::{collections::VecDeque, time::Duration};

use super::Times;
use crate::{
    clock::Moment,
    store::log::{Heartbeat, Origin, Sequence},
};

/// Another process, as far as it was heard of.
pub struct KnownOrigin {
    /// Everything up to there has been routed.
    pub safe: Sequence,
    /// Whether something of it may have been missed.
    pub in_doubt: bool,
    /// Whether it is gone, and nothing of it is to come any more.
    pub over: bool,
    /// The last watermark through each primary of this link.
    pub watermarks: Vec<Option<HeardWatermark>>,
    /// When it was first heard of, on this link.
    pub since: Moment,
    /// As in [`Watermark`](crate::bus::envelope::Watermark); `None` until one has come.
    pub lost: Option<u64>,
    /// What it last told in the log, and when that changed.
    pub heartbeat: Heartbeat,
    pub heartbeat_at: Moment,
    /// Whether the log listed it when it was last asked.
    pub listed: bool,
    /// The reads of its log since the doubt arose: when each was over, and how far it came.
    pub reads: VecDeque<(Moment, Sequence)>,
    /// Nothing from before this moment was missed, but for what the log has not settled.
    pub good_at: Moment,
    /// Something may have been missed that is not in the log any more, and nobody has been told.
    pub beyond_help: bool,
    /// Whether a link was made anew because it is silent on this one though it is alive.
    pub suspected: bool,
}

/// A watermark that has come.
#[derive(Clone, Copy)]
pub struct HeardWatermark {
    pub at: Moment,
    pub sequence: Sequence,
    pub leaving: bool,
    /// Everything that was published before this moment has come, too.
    pub proves: Moment,
}

impl KnownOrigin {
    pub fn new(origin: Origin, in_doubt: bool, primaries: usize, now: Moment, good_at: Moment) -> Self {
        Self {
            safe: 0,
            in_doubt,
            over: false,
            watermarks: vec![None; primaries],
            since: now,
            lost: None,
            heartbeat: Heartbeat { origin, count: 0, head: 0 },
            heartbeat_at: now,
            listed: false,
            reads: VecDeque::new(),
            good_at,
            beyond_help: false,
            suspected: false,
        }
    }

    /// Whether watermarks have come lately through all primaries.
    pub fn is_heard(&self, now: Moment, patience: Duration) -> bool {
        let is_fresh =
            |heard: &Option<HeardWatermark>| heard.is_some_and(|heard| now.since(heard.at) <= patience);
        !self.watermarks.is_empty() && self.watermarks.iter().all(is_fresh)
    }

    /// When it last told something, by a watermark or a heartbeat.
    pub fn heard_at(&self) -> Moment {
        self.watermarks.iter().flatten().map(|heard| heard.at).fold(self.heartbeat_at, Moment::max)
    }

    /// Takes for routed what the watermarks of all primaries prove, unless something is in doubt.
    pub fn rest_on_watermarks(&mut self) {
        if self.in_doubt {
            return;
        }
        self.reads.clear();
        let Some(watermarks) = self.watermarks.iter().copied().collect::<Option<Vec<HeardWatermark>>>()
        else {
            return;
        };
        let Some(proved) = watermarks.iter().map(|heard| heard.sequence).min() else { return };
        self.safe = self.safe.max(proved);
        // A process that was held up finds old watermarks first: they prove nothing of what came later.
        let good_at = watermarks.iter().map(|heard| heard.proves).min();
        self.good_at = self.good_at.max(good_at.unwrap_or(self.good_at));
        if watermarks.iter().all(|heard| heard.leaving) {
            self.end();
        }
    }

    /// Its log was read up to its end, in a read that began at `begun`, and what was wanted of it was routed.
    /// `undisturbed`: all that was published meanwhile has come, or is on its way.
    pub fn read(&mut self, end: Sequence, begun: Moment, undisturbed: bool, times: Times, now: Moment) {
        let Times { patience, settles_in, kept_for } = times;
        // The log keeps nothing for longer: some of what was missed may have gone before it was read.
        self.beyond_help |= now.since(self.good_at) > kept_for;
        self.good_at = self.good_at.max(begun);
        while let Some(&(at, end)) = self.reads.front()
            && begun.since(at) >= settles_in
        {
            // Whatever of that is ever committed was committed before this read began.
            self.safe = self.safe.max(end);
            self.reads.pop_front();
        }
        self.reads.push_back((now, end));
        if undisturbed && self.is_heard(now, patience) {
            self.in_doubt = false;
            self.rest_on_watermarks();
        } else if begun.since(self.heard_at()) > patience + settles_in {
            // The process is dead or gone, and all that it wrote had settled before the read began.
            self.safe = self.safe.max(end);
            self.end();
        }
    }

    /// The process is gone, nothing of it is to come any more, and nothing was missed.
    fn end(&mut self) {
        self.in_doubt = false;
        self.over = true;
        self.reads.clear();
    }

    /// How far the log goes, as far as it is known.
    pub fn head(&self) -> Sequence {
        let watermarks = self.watermarks.iter().flatten().map(|heard| heard.sequence).max();
        self.heartbeat.head.max(watermarks.unwrap_or_default())
    }
}
