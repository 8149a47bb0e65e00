//! What is known of the other processes: how much of what each wrote has been routed here, and whether
//! something may have been missed. A plain struct; time is the caller's.
//!
//! Of each origin there is a number up to which everything has been routed, `safe`. Watermarks raise it while
//! nothing is in doubt. After a doubt the log raises it, until a read of the log that began on a whole link
//! has come to the end: what was published before that is in the log, what is published after it arrives.
//!
//! An origin that is gone is over once all that it wrote has settled and was read, or once it has left and its
//! last word was heard. It is in no doubt any more, whatever becomes of the link, and it is forgotten when
//! nothing of it can be in the log. If it was not gone, it is in doubt from when it is heard of again.

mod known;

use std::{collections::HashMap, time::Duration};

use self::known::{HeardWatermark, KnownOrigin};
use super::envelope::Watermark;
use crate::{
    clock::Moment,
    store::log::{Heartbeat, Origin, Sequence},
};

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// An origin whose watermarks do not come for so long is silent.
    pub patience: Duration,
    /// What is in the log for so long is committed, or never will be.
    pub settles_in: Duration,
    /// What was missed for longer is not in the log any more.
    pub kept_for: Duration,
}

/// Batches that a process may have in the log and not have committed yet: it writes one after the other, and puts
/// one that was held up into the log twice.
const IN_FLIGHT: Sequence = 2;

/// The other processes.
pub struct Origins {
    own: Origin,
    times: Times,
    known: HashMap<Origin, KnownOrigin>,
    /// Processes that have another store, and when each last said so. What they tell does not count.
    strangers: HashMap<Origin, Moment>,
    /// Primaries of the link; 0 while there is none.
    primaries: usize,
    /// Counts doubts, so that one that arises during a read outlives it.
    doubts: u64,
    /// Counts origins that were new, or have come back. Each is in doubt, and no other for it.
    newcomers: u64,
    /// When the log was last asked who there is: a process that it did not list had written nothing by then.
    listed_at: Moment,
    /// Whether there is a log. Without one, a doubt is something to be told, so a newcomer is none.
    has_log: bool,
    /// Only without a log: something of any process may have been missed, also of one that is not known.
    unsure: bool,
}

/// A part of a log that is to be read: that of `origin` behind the number `after`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub origin: Origin,
    pub after: Sequence,
    /// The log is known to go so far.
    pub up_to: Sequence,
}

/// What a read of the logs rests on, noted before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    at: Moment,
    /// Whether all that is wanted was subscribed to and acknowledged.
    settled: bool,
    doubts: u64,
}

impl Origins {
    /// `heartbeats`: the processes that the log tells of already, if there is one, as it was asked at `now`. What they
    /// have written is stored for whoever asks, but for what is being written.
    pub fn new(own: Origin, times: Times, heartbeats: Option<&[Heartbeat]>, now: Moment) -> Self {
        let mut origins = Self {
            own,
            times,
            known: HashMap::new(),
            strangers: HashMap::new(),
            primaries: 0,
            doubts: 0,
            newcomers: 0,
            listed_at: now,
            has_log: heartbeats.is_some(),
            unsure: false,
        };
        origins.list(heartbeats.unwrap_or_default(), now, now);
        for known in origins.known.values_mut() {
            known.safe = known.heartbeat.head.saturating_sub(IN_FLIGHT);
        }
        origins
    }

    /// The log was asked at `asked`, and tells of these. One that is new may have published before it was
    /// heard of.
    pub fn list(&mut self, heartbeats: &[Heartbeat], asked: Moment, now: Moment) {
        for known in self.known.values_mut() {
            known.listed = false;
        }
        for heartbeat in heartbeats {
            let Some(known) = self.known(heartbeat.origin, now) else { continue };
            known.listed = true;
            if known.heartbeat.count != heartbeat.count {
                known.heartbeat = *heartbeat;
                known.heartbeat_at = now;
                self.is_back(heartbeat.origin);
            }
        }
        self.listed_at = asked;
    }

    fn known(&mut self, origin: Origin, now: Moment) -> Option<&mut KnownOrigin> {
        let counts = origin != self.own && !self.strangers.contains_key(&origin);
        let (primaries, in_doubt, good_at) = (self.primaries, self.has_log, self.listed_at);
        let newcomers = &mut self.newcomers;
        let meet = || {
            *newcomers += 1;
            KnownOrigin::new(origin, in_doubt, primaries, now, good_at)
        };
        counts.then(|| self.known.entry(origin).or_insert_with(meet))
    }

    /// An origin tells something. If it was taken to be over, it was only held up.
    fn is_back(&mut self, origin: Origin) {
        if let Some(known) = self.known.get_mut(&origin)
            && std::mem::take(&mut known.over)
        {
            known.in_doubt = self.has_log;
            self.newcomers += 1;
        }
    }

    /// An origin says that it has another store.
    pub fn estrange(&mut self, origin: Origin, now: Moment) {
        self.known.remove(&origin);
        self.strangers.insert(origin, now);
    }

    /// A link is up, through which nothing has come yet.
    pub fn link_up(&mut self, primaries: usize, now: Moment) {
        self.primaries = primaries;
        for known in self.known.values_mut() {
            known.watermarks = vec![None; primaries];
            known.since = now;
        }
    }

    /// The link is lost.
    pub fn link_down(&mut self) {
        self.primaries = 0;
        self.doubt();
    }

    pub fn is_linked(&self) -> bool {
        self.primaries > 0
    }

    /// Something of any origin may have been missed.
    pub fn doubt(&mut self) {
        self.doubts += 1;
        self.unsure = true;
        for known in self.known.values_mut().filter(|known| !known.over) {
            known.in_doubt = true;
        }
    }

    /// A watermark has come at `now`, after everything that it proves has been routed; and everything that was
    /// published through its primary before `proves` has come. `true`: its origin says that it could not
    /// publish something.
    pub fn hear(&mut self, primary: usize, watermark: &Watermark, proves: Moment, now: Moment) -> bool {
        let Watermark { origin, sequence, lost, leaving } = *watermark;
        let Some(known) = self.known(origin, now) else { return false };
        if let Some(heard) = known.watermarks.get_mut(primary) {
            *heard = Some(HeardWatermark { at: now, sequence, leaving, proves });
        }
        known.suspected = false;
        let lost = known.lost.replace(lost).is_some_and(|before| lost > before);
        self.is_back(origin);
        let Some(known) = self.known.get_mut(&origin) else { return false };
        if lost {
            known.in_doubt = true;
            self.doubts += 1;
        } else {
            known.rest_on_watermarks();
        }
        lost
    }

    /// The origins that have fallen silent are in doubt from now on: how many.
    pub fn notice_silence(&mut self, now: Moment) -> usize {
        let patience = self.times.patience;
        let mut silent = 0;
        for known in self.known.values_mut().filter(|known| !known.in_doubt && !known.over) {
            if !known.is_heard(now, patience) && now.since(known.since) > patience {
                known.in_doubt = true;
                silent += 1;
            }
        }
        self.doubts += silent as u64;
        silent
    }

    /// Forgets the origins of which nothing can be in the log any more. They come and go for as long as this
    /// process lives.
    pub fn forget(&mut self, now: Moment) {
        let Times { patience, kept_for, .. } = self.times;
        // Longer than watermarks of one that has left may take through different primaries.
        let gone = patience + kept_for;
        self.known.retain(|_, known| !known.over || known.listed || now.since(known.heard_at()) <= gone);
        self.strangers.retain(|_, said| now.since(*said) <= gone);
    }

    /// Whether an origin that tells of itself in the log is silent on a link that has been up for a
    /// while. Said once of each, until it is heard again.
    pub fn suspects_the_link(&mut self, now: Moment) -> bool {
        let patience = self.times.patience;
        let linked = self.primaries > 0;
        let begins_to_suspect = |known: &mut KnownOrigin| {
            let suspect = linked
                && !known.over
                && !known.suspected
                && now.since(known.heartbeat_at) < patience
                && now.since(known.since) > 2 * patience
                && !known.is_heard(now, patience);
            known.suspected |= suspect;
            suspect
        };
        self.known.values_mut().map(begins_to_suspect).fold(false, |any, suspect| any | suspect)
    }

    /// To be asked before the logs are read. `settled`: see [`Begun`].
    pub fn begin(&self, settled: bool, now: Moment) -> Begun {
        Begun { at: now, settled: settled && self.is_linked(), doubts: self.doubts }
    }

    /// The logs to be read.
    pub fn due(&self) -> Vec<Due> {
        let due = self.known.iter().filter(|(_, known)| known.in_doubt);
        due.map(|(&origin, known)| Due { origin, after: known.safe, up_to: known.head() }).collect()
    }

    /// The log of an origin was read up to its end, and what was wanted of it was routed.
    pub fn read(&mut self, origin: Origin, end: Sequence, begun: Begun, now: Moment) {
        let undisturbed = begun.settled && begun.doubts == self.doubts;
        if let Some(known) = self.known.get_mut(&origin) {
            known.read(end, begun.at, undisturbed, self.times, now);
        }
    }

    /// There is no log, and whoever waits has been told: it goes on from here.
    pub fn forgive(&mut self, now: Moment) {
        self.unsure = false;
        let patience = self.times.patience;
        self.known.retain(|_, known| {
            known.in_doubt = false;
            known.over || known.is_heard(now, patience) || now.since(known.since) <= patience
        });
    }

    pub fn is_in_doubt(&self) -> bool {
        self.unsure || self.known.values().any(|known| known.in_doubt)
    }

    /// Whether everything comes that is published: another number than before if it may not have in between.
    pub fn certainty(&self) -> Option<u64> {
        let sure = self.is_linked() && self.known.values().all(|known| !known.in_doubt);
        sure.then_some(self.doubts + self.newcomers)
    }

    /// Whether something was missed that is not in the log any more. Said once: it goes on from what
    /// is known then.
    pub fn is_beyond_help(&mut self, now: Moment) -> bool {
        let kept_for = self.times.kept_for;
        let mut beyond = false;
        for known in self.known.values_mut() {
            if known.in_doubt && now.since(known.good_at) > kept_for {
                known.safe = known.safe.max(known.head());
                known.good_at = now;
                known.beyond_help = true;
            }
            beyond |= std::mem::take(&mut known.beyond_help);
        }
        beyond
    }
}

#[cfg(test)]
mod tests;
