//! What is known of the other processes: how much of what each wrote has been routed here, and whether
//! something may have been missed. A plain struct; time is the caller's.
//!
//! Of each origin there is a number up to which everything has been routed, `safe`. Fences raise it while
//! nothing is in doubt. After a doubt the log raises it, until a read of the log that began on a whole link
//! has come to the end: what was published before that is in the log, what is published after it arrives.

use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

use super::envelope::Fence;
use crate::store::log::{Beat, Origin, Sequence};

/// How long things take.
#[derive(Debug, Clone, Copy)]
pub struct Times {
    /// An origin whose fences do not come for so long is silent.
    pub patience: Duration,
    /// What is in the log for so long is committed, or never will be.
    pub settles_in: Duration,
    /// What was missed for longer is not in the log any more.
    pub kept_for: Duration,
}

/// The other processes.
pub struct Origins {
    own: Origin,
    times: Times,
    known: HashMap<Origin, Known>,
    /// Primaries of the link; 0 while there is none.
    primaries: usize,
    /// Counts doubts, so that one that arises during a read outlives it.
    doubts: u64,
    /// Counts origins that were new. Each is in doubt, and no other for it.
    newcomers: u64,
    /// Whether there is a log. Without one, a doubt is something to be told, so a newcomer is none.
    has_log: bool,
    /// Without a log: something of anybody may have been missed, also of who is not known.
    unsure: bool,
}

struct Known {
    /// Everything up to there has been routed.
    safe: Sequence,
    in_doubt: bool,
    /// The last fence through each primary of this link.
    fences: Vec<Option<(Instant, Sequence)>>,
    /// When it was first heard of, on this link.
    since: Instant,
    /// As in [`Fence`]; `None` until one has come.
    lost: Option<u64>,
    /// It said that no more will come.
    left: bool,
    /// What it last told in the log, and when that changed.
    beat: Beat,
    beat_at: Instant,
    /// The ends of the reads since the doubt arose, and when they were over.
    reads: VecDeque<(Instant, Sequence)>,
    /// When nothing was in doubt, or the log was read to its end.
    good_at: Instant,
    /// Whether a link was made anew because it is silent on this one though it is alive.
    suspected: bool,
}

/// A log to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Due {
    pub origin: Origin,
    pub after: Sequence,
    /// The log is known to go there.
    pub up_to: Sequence,
}

/// What a read of the logs rests on, noted before it begins.
#[derive(Debug, Clone, Copy)]
pub struct Begun {
    at: Instant,
    /// Whether all that is wanted was subscribed to and acknowledged.
    settled: bool,
    doubts: u64,
}

impl Origins {
    /// `beats`: the processes that the log tells of already, if there is one. What they have written is
    /// stored for whoever asks.
    pub fn new(own: Origin, times: Times, beats: Option<&[Beat]>, now: Instant) -> Self {
        let has_log = beats.is_some();
        let known = HashMap::new();
        let mut origins =
            Self { own, times, known, primaries: 0, doubts: 0, newcomers: 0, has_log, unsure: false };
        origins.meet(beats.unwrap_or_default(), now);
        for known in origins.known.values_mut() {
            known.safe = known.beat.head;
        }
        origins
    }

    /// The log tells of these. One that is new may have published before it was heard of.
    pub fn meet(&mut self, beats: &[Beat], now: Instant) {
        for beat in beats {
            let Some(known) = self.known(beat.origin, now) else { continue };
            if known.beat.count != beat.count {
                known.beat = *beat;
                known.beat_at = now;
            }
        }
        // The table forgets whoever is long gone.
        let gone = 2 * self.times.kept_for;
        self.known.retain(|_, known| now.duration_since(known.heard_at()) < gone);
    }

    fn known(&mut self, origin: Origin, now: Instant) -> Option<&mut Known> {
        let (primaries, in_doubt) = (self.primaries, self.has_log);
        let newcomers = &mut self.newcomers;
        let newcomer = || {
            *newcomers += 1;
            Known::new(origin, in_doubt, primaries, now)
        };
        (origin != self.own).then(|| self.known.entry(origin).or_insert_with(newcomer))
    }

    /// A link is up, through which nothing has come yet.
    pub fn link_up(&mut self, primaries: usize, now: Instant) {
        self.primaries = primaries;
        for known in self.known.values_mut() {
            known.fences = vec![None; primaries];
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
        for known in self.known.values_mut() {
            known.in_doubt = true;
        }
    }

    /// A fence has come, after everything that it proves has been routed. `true`: its origin says that it
    /// could not publish something.
    pub fn fence(&mut self, primary: usize, fence: &Fence, now: Instant) -> bool {
        let Some(known) = self.known(fence.origin, now) else { return false };
        if let Some(heard) = known.fences.get_mut(primary) {
            *heard = Some((now, fence.sequence));
        }
        known.left = fence.leaving;
        known.suspected = false;
        let lost = known.lost.replace(fence.lost).is_some_and(|before| fence.lost > before);
        if lost {
            known.in_doubt = true;
            self.doubts += 1;
        } else {
            known.rest_on_fences(now);
        }
        lost
    }

    /// Whether a batch has been routed already.
    pub fn is_routed(&self, origin: Origin, sequence: Sequence) -> bool {
        self.known.get(&origin).is_some_and(|known| sequence <= known.safe)
    }

    /// The origins that have fallen silent are in doubt from now on: how many.
    pub fn notice_silence(&mut self, now: Instant) -> usize {
        let patience = self.times.patience;
        let mut silent = 0;
        for known in self.known.values_mut().filter(|known| !known.in_doubt && !known.left) {
            if !known.is_heard(now, patience) && now.duration_since(known.since) > patience {
                known.in_doubt = true;
                silent += 1;
            }
        }
        self.doubts += silent as u64;
        silent
    }

    /// Whether an origin that tells of itself in the log is silent on a link that has been up for a
    /// while. Said once of each, until it is heard again.
    pub fn suspects_the_link(&mut self, now: Instant) -> bool {
        let patience = self.times.patience;
        let linked = self.primaries > 0;
        let suspects = |known: &mut Known| {
            let suspect = linked
                && !known.left
                && !known.suspected
                && now.duration_since(known.beat_at) < patience
                && now.duration_since(known.since) > 2 * patience
                && !known.is_heard(now, patience);
            known.suspected |= suspect;
            suspect
        };
        self.known.values_mut().map(suspects).fold(false, |any, suspect| any | suspect)
    }

    /// To be asked before the logs are read. `settled`: see [`Begun`].
    pub fn begin(&self, settled: bool, now: Instant) -> Begun {
        Begun { at: now, settled: settled && self.is_linked(), doubts: self.doubts }
    }

    /// The logs to be read, of all origins in doubt but those that have been dead for long enough.
    pub fn due(&self, now: Instant) -> Vec<Due> {
        let due = self.known.iter().filter(|(_, known)| known.in_doubt && !known.is_over(now, &self.times));
        due.map(|(&origin, known)| Due { origin, after: known.safe, up_to: known.head() }).collect()
    }

    /// The log of an origin was read up to its end, and what was wanted of it was routed.
    pub fn read(&mut self, origin: Origin, end: Sequence, begun: Begun, now: Instant) {
        let Times { patience, settles_in, .. } = self.times;
        let undisturbed = begun.settled && begun.doubts == self.doubts;
        let Some(known) = self.known.get_mut(&origin) else { return };
        known.good_at = begun.at;
        while let Some(&(at, end)) = known.reads.front()
            && begun.at.saturating_duration_since(at) >= settles_in
        {
            // This read found all of it committed that ever will be.
            known.safe = known.safe.max(end);
            known.reads.pop_front();
        }
        known.reads.push_back((now, end));
        if undisturbed && known.is_heard(now, patience) {
            known.in_doubt = false;
            known.rest_on_fences(now);
        }
    }

    /// There is no log, and whoever waits has been told: it goes on from here.
    pub fn forgive(&mut self, now: Instant) {
        self.unsure = false;
        let patience = self.times.patience;
        self.known.retain(|_, known| {
            known.in_doubt = false;
            known.is_heard(now, patience) || now.duration_since(known.since) <= patience
        });
    }

    pub fn is_in_doubt(&self) -> bool {
        self.unsure || self.known.values().any(|known| known.in_doubt)
    }

    /// Whether everything comes that is published: another number than before if it may not have in between.
    pub fn certainty(&self, now: Instant) -> Option<u64> {
        let mut known = self.known.values();
        let sure = self.is_linked() && known.all(|known| !known.in_doubt || known.is_over(now, &self.times));
        sure.then_some(self.doubts + self.newcomers)
    }

    /// Whether something was missed that is not in the log any more. Said once: it goes on from what
    /// is known then.
    pub fn is_beyond_help(&mut self, now: Instant) -> bool {
        let kept_for = self.times.kept_for;
        let mut beyond = false;
        for known in self.known.values_mut() {
            if known.in_doubt && !known.left && now.duration_since(known.good_at) > kept_for {
                known.safe = known.safe.max(known.head());
                known.good_at = now;
                beyond = true;
            }
        }
        beyond
    }
}

impl Known {
    fn new(origin: Origin, in_doubt: bool, primaries: usize, now: Instant) -> Self {
        Self {
            safe: 0,
            in_doubt,
            fences: vec![None; primaries],
            since: now,
            lost: None,
            left: false,
            beat: Beat { origin, count: 0, head: 0 },
            beat_at: now,
            reads: VecDeque::new(),
            good_at: now,
            suspected: false,
        }
    }

    /// Whether fences have come lately through all primaries.
    fn is_heard(&self, now: Instant, patience: Duration) -> bool {
        let fresh = |fence: &Option<(Instant, Sequence)>| {
            fence.is_some_and(|(at, _)| now.duration_since(at) <= patience)
        };
        !self.fences.is_empty() && self.fences.iter().all(fresh)
    }

    fn heard_at(&self) -> Instant {
        self.fences.iter().flatten().map(|&(at, _)| at).fold(self.beat_at, Instant::max)
    }

    /// What the fences of all primaries prove is routed, unless something is in doubt.
    fn rest_on_fences(&mut self, now: Instant) {
        if self.in_doubt {
            return;
        }
        self.good_at = now;
        self.reads.clear();
        let proved = self.fences.iter().map(|fence| fence.map_or(0, |(_, sequence)| sequence)).min();
        self.safe = self.safe.max(proved.unwrap_or_default());
    }

    /// How far the log goes, as far as it is known.
    fn head(&self) -> Sequence {
        let fences = self.fences.iter().flatten().map(|&(_, sequence)| sequence).max();
        self.beat.head.max(fences.unwrap_or_default())
    }

    /// Whether it is dead, or gone, and its log was read after all of it had settled.
    fn is_over(&self, now: Instant, times: &Times) -> bool {
        let over_at = self.heard_at() + times.patience + times.settles_in;
        now > over_at && self.reads.back().is_some_and(|&(at, _)| at > over_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Origin = 1;
    const OTHER: Origin = 2;
    const TIMES: Times = Times {
        patience: Duration::from_secs(3),
        settles_in: Duration::from_secs(4),
        kept_for: Duration::from_secs(3_600),
    };

    /// Seconds since the test began.
    struct Clock(Instant);

    impl Clock {
        fn at(&self, seconds: f64) -> Instant {
            self.0 + Duration::from_secs_f64(seconds)
        }
    }

    fn beat(count: u64, head: Sequence) -> Beat {
        Beat { origin: OTHER, count, head }
    }

    fn fence(sequence: Sequence) -> Fence {
        Fence { origin: OTHER, sequence, lost: 0, leaving: false }
    }

    fn due(after: Sequence, up_to: Sequence) -> Vec<Due> {
        vec![Due { origin: OTHER, after, up_to }]
    }

    /// A node on one primary that has heard of another up to its batch 10, and is in no doubt.
    fn in_touch() -> (Origins, Clock) {
        let clock = Clock(Instant::now());
        let mut origins = Origins::new(OWN, TIMES, Some(&[beat(1, 10)]), clock.at(0.0));
        origins.link_up(1, clock.at(0.0));
        origins.fence(0, &fence(10), clock.at(0.1));
        let begun = origins.begin(true, clock.at(0.2));
        origins.read(OTHER, 10, begun, clock.at(0.3));
        assert_eq!(origins.due(clock.at(0.3)), []);
        (origins, clock)
    }

    #[test]
    fn fences_prove_what_came_before_them() {
        let (mut origins, clock) = in_touch();
        assert!(!origins.is_routed(OTHER, 11));
        origins.fence(0, &fence(12), clock.at(1.0));
        assert!(origins.is_routed(OTHER, 12) && !origins.is_routed(OTHER, 13));
        assert!(!origins.is_routed(3, 1) && !origins.is_routed(OWN, 1));
        // Its own fences tell nothing of others.
        origins.fence(0, &Fence { origin: OWN, ..fence(99) }, clock.at(1.0));
        assert!(!origins.is_routed(OWN, 1));
    }

    #[test]
    fn a_fence_proves_what_went_through_its_primary_alone() {
        let (mut origins, clock) = in_touch();
        origins.link_up(2, clock.at(1.0));
        origins.fence(0, &fence(20), clock.at(1.1));
        assert!(!origins.is_routed(OTHER, 11));
        origins.fence(1, &fence(15), clock.at(1.2));
        assert!(origins.is_routed(OTHER, 15) && !origins.is_routed(OTHER, 16));
    }

    #[test]
    fn a_lost_link_is_read_for_until_a_whole_one_has_brought_fences() {
        let (mut origins, clock) = in_touch();
        origins.link_down();
        assert_eq!(origins.due(clock.at(1.0)), due(10, 10));
        let begun = origins.begin(true, clock.at(1.0));
        origins.read(OTHER, 14, begun, clock.at(1.1));
        // Up again: a fence proves nothing of what went before the link.
        origins.link_up(1, clock.at(2.0));
        origins.fence(0, &fence(17), clock.at(2.1));
        assert_eq!(origins.due(clock.at(2.2)), due(10, 17));
        // A subscription went on without an acknowledgement: not yet.
        let begun = origins.begin(false, clock.at(2.2));
        origins.read(OTHER, 17, begun, clock.at(2.3));
        assert_eq!(origins.due(clock.at(2.4)), due(10, 17));
        // The link was lost and found while the log was read.
        let begun = origins.begin(true, clock.at(2.5));
        origins.link_down();
        origins.link_up(1, clock.at(2.6));
        origins.fence(0, &fence(18), clock.at(2.7));
        origins.read(OTHER, 18, begun, clock.at(2.8));
        assert_eq!(origins.due(clock.at(2.9)), due(10, 18));
        let begun = origins.begin(true, clock.at(3.0));
        origins.read(OTHER, 18, begun, clock.at(3.1));
        assert_eq!(origins.due(clock.at(3.2)), []);
        assert!(origins.is_routed(OTHER, 18));
    }

    /// A batch is in the log before it is committed: who reads it in between must look again.
    #[test]
    fn what_was_read_is_read_again_until_it_has_settled() {
        let (mut origins, clock) = in_touch();
        origins.link_down();
        for at in [1.0, 2.0, 3.0, 4.0] {
            let begun = origins.begin(true, clock.at(at));
            origins.read(OTHER, 12, begun, clock.at(at + 0.1));
            assert_eq!(origins.due(clock.at(at + 0.2)), due(10, 10));
        }
        assert!(!origins.is_routed(OTHER, 11));
        let begun = origins.begin(true, clock.at(5.2));
        origins.read(OTHER, 13, begun, clock.at(5.3));
        assert!(origins.is_routed(OTHER, 12) && !origins.is_routed(OTHER, 13));
        assert_eq!(origins.due(clock.at(5.4)), due(12, 10));
    }

    #[test]
    fn a_silent_origin_is_read_for_as_long_as_it_lives() {
        let (mut origins, clock) = in_touch();
        assert_eq!(origins.notice_silence(clock.at(3.0)), 0);
        assert_eq!(origins.notice_silence(clock.at(3.2)), 1);
        assert_eq!(origins.notice_silence(clock.at(3.3)), 0);
        // It tells of itself in the log: the link may be the wrong one, which is said once.
        let mut at = 4.0;
        while at < 60.0 {
            origins.meet(&[beat(at as u64, 20)], clock.at(at));
            assert_eq!(origins.due(clock.at(at)).len(), 1, "{at}");
            let begun = origins.begin(true, clock.at(at));
            origins.read(OTHER, 20, begun, clock.at(at));
            assert_eq!(origins.suspects_the_link(clock.at(at)), at == 7.0, "{at}");
            at += 1.0;
        }
        // It tells no more: once all of it has settled, nobody asks again, until it comes back.
        while !origins.due(clock.at(at)).is_empty() {
            let begun = origins.begin(true, clock.at(at));
            origins.read(OTHER, 20, begun, clock.at(at));
            at += 1.0;
        }
        assert_eq!(at, 68.0);
        assert!(origins.is_routed(OTHER, 20));
        origins.meet(&[beat(99, 21)], clock.at(at));
        assert_eq!(origins.due(clock.at(at)), due(20, 21));
    }

    #[test]
    fn who_says_that_something_is_not_published_is_read_for() {
        let (mut origins, clock) = in_touch();
        assert!(origins.fence(0, &Fence { lost: 1, ..fence(12) }, clock.at(1.0)));
        assert!(!origins.is_routed(OTHER, 11));
        assert_eq!(origins.due(clock.at(1.1)), due(10, 12));
        let begun = origins.begin(true, clock.at(1.2));
        origins.read(OTHER, 12, begun, clock.at(1.3));
        assert_eq!(origins.due(clock.at(1.4)), []);
        assert!(!origins.fence(0, &Fence { lost: 1, ..fence(13) }, clock.at(2.0)));
    }

    #[test]
    fn certainty_is_another_after_every_doubt() {
        let (mut origins, clock) = in_touch();
        let first = origins.certainty(clock.at(0.5));
        assert!(first.is_some());
        // Somebody new may have written before it was heard.
        origins.meet(&[Beat { origin: 3, count: 1, head: 0 }], clock.at(1.0));
        assert_eq!(origins.certainty(clock.at(1.0)), None);
        origins.fence(0, &Fence { origin: 3, ..fence(0) }, clock.at(1.1));
        let begun = origins.begin(true, clock.at(1.2));
        origins.read(3, 0, begun, clock.at(1.3));
        let second = origins.certainty(clock.at(1.4));
        assert!(second.is_some() && second != first);
        origins.doubt();
        assert_eq!(origins.certainty(clock.at(1.5)), None);
        for origin in [OTHER, 3] {
            let begun = origins.begin(true, clock.at(1.6));
            origins.read(origin, 10, begun, clock.at(1.7));
        }
        let third = origins.certainty(clock.at(1.8));
        assert!(third.is_some() && third != second);
        origins.link_down();
        assert_eq!(origins.certainty(clock.at(2.0)), None);
    }

    #[test]
    fn who_leaves_is_not_missed() {
        let (mut origins, clock) = in_touch();
        origins.fence(0, &Fence { leaving: true, ..fence(11) }, clock.at(1.0));
        assert_eq!(origins.notice_silence(clock.at(60.0)), 0);
        assert!(!origins.suspects_the_link(clock.at(60.0)));
        assert_eq!(origins.due(clock.at(60.0)), []);
    }

    #[test]
    fn a_newcomer_may_have_written_before_it_was_heard() {
        let (mut origins, clock) = in_touch();
        origins.meet(&[Beat { origin: 3, count: 1, head: 2 }], clock.at(1.0));
        assert_eq!(origins.due(clock.at(1.0)), [Due { origin: 3, after: 0, up_to: 2 }]);
        // Without a log it is no news.
        let mut origins = Origins::new(OWN, TIMES, None, clock.at(0.0));
        origins.link_up(1, clock.at(0.0));
        origins.fence(0, &Fence { lost: 7, ..fence(0) }, clock.at(1.0));
        assert!(!origins.is_in_doubt());
        origins.doubt();
        assert!(origins.is_in_doubt());
        origins.forgive(clock.at(2.0));
        assert!(!origins.is_in_doubt());
    }

    #[test]
    fn what_is_not_in_the_log_any_more_is_said() {
        let (mut origins, clock) = in_touch();
        origins.link_down();
        assert!(!origins.is_beyond_help(clock.at(3_600.0)));
        origins.meet(&[beat(2, 500)], clock.at(3_605.0));
        assert!(origins.is_beyond_help(clock.at(3_605.0)));
        assert!(!origins.is_beyond_help(clock.at(3_606.0)));
        assert_eq!(origins.due(clock.at(3_606.0)), due(500, 500));
    }
}
