//! What is known of the other processes: how much of what each wrote has been routed here, and whether
//! something may have been missed. A plain struct; time is the caller's.
//!
//! Of each origin there is a number up to which everything has been routed, `safe`. Fences raise it while
//! nothing is in doubt. After a doubt the log raises it, until a read of the log that began on a whole link
//! has come to the end: what was published before that is in the log, what is published after it arrives.
//!
//! An origin that is gone is over once all that it wrote has settled and was read, or once it has left and its
//! last word was heard. It is in no doubt any more, whatever becomes of the link, and it is forgotten when
//! nothing of it can be in the log. If it was not gone, it is in doubt from when it is heard of again.

use std::{
    collections::{HashMap, VecDeque},
    time::Duration,
};

use super::envelope::Fence;
use crate::{
    clock::Moment,
    store::log::{Beat, Origin, Sequence},
};

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

/// Batches that a process may have in the log and not have committed yet: it writes one after the other, and puts
/// one that was held up into the log twice.
const IN_FLIGHT: Sequence = 2;

/// The other processes.
pub struct Origins {
    own: Origin,
    times: Times,
    known: HashMap<Origin, Known>,
    /// Those that have another store, and when they last said so. Nothing of them counts.
    strangers: HashMap<Origin, Moment>,
    /// Primaries of the link; 0 while there is none.
    primaries: usize,
    /// Counts doubts, so that one that arises during a read outlives it.
    doubts: u64,
    /// Counts origins that were new, or have come back. Each is in doubt, and no other for it.
    newcomers: u64,
    /// Who is not known by then has written nothing by then: the log was asked who there is.
    listed_at: Moment,
    /// Whether there is a log. Without one, a doubt is something to be told, so a newcomer is none.
    has_log: bool,
    /// Without a log: something of anybody may have been missed, also of who is not known.
    unsure: bool,
}

struct Known {
    /// Everything up to there has been routed.
    safe: Sequence,
    in_doubt: bool,
    /// Nothing more will come of it.
    over: bool,
    /// The last fence through each primary of this link.
    fences: Vec<Option<Heard>>,
    /// When it was first heard of, on this link.
    since: Moment,
    /// As in [`Fence`]; `None` until one has come.
    lost: Option<u64>,
    /// What it last told in the log, and when that changed.
    beat: Beat,
    beat_at: Moment,
    /// Whether the log told of it the last time.
    listed: bool,
    /// The ends of the reads since the doubt arose, and when they were over.
    reads: VecDeque<(Moment, Sequence)>,
    /// Nothing from before that was missed, but for what the log has not settled.
    good_at: Moment,
    /// Something may have been missed that is not in the log any more, and nobody has been told.
    beyond_help: bool,
    /// Whether a link was made anew because it is silent on this one though it is alive.
    suspected: bool,
}

/// A fence that has come.
#[derive(Clone, Copy)]
struct Heard {
    at: Moment,
    sequence: Sequence,
    leaving: bool,
    /// Everything that was published before that has come, too.
    proves: Moment,
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
    at: Moment,
    /// Whether all that is wanted was subscribed to and acknowledged.
    settled: bool,
    doubts: u64,
}

impl Origins {
    /// `beats`: the processes that the log tells of already, if there is one, as it was asked at `now`. What they
    /// have written is stored for whoever asks, but for what is being written.
    pub fn new(own: Origin, times: Times, beats: Option<&[Beat]>, now: Moment) -> Self {
        let mut origins = Self {
            own,
            times,
            known: HashMap::new(),
            strangers: HashMap::new(),
            primaries: 0,
            doubts: 0,
            newcomers: 0,
            listed_at: now,
            has_log: beats.is_some(),
            unsure: false,
        };
        origins.list(beats.unwrap_or_default(), now, now);
        for known in origins.known.values_mut() {
            known.safe = known.beat.head.saturating_sub(IN_FLIGHT);
        }
        origins
    }

    /// The log was asked at `asked`, and tells of these. One that is new may have published before it was
    /// heard of.
    pub fn list(&mut self, beats: &[Beat], asked: Moment, now: Moment) {
        for known in self.known.values_mut() {
            known.listed = false;
        }
        for beat in beats {
            let Some(known) = self.known(beat.origin, now) else { continue };
            known.listed = true;
            if known.beat.count != beat.count {
                known.beat = *beat;
                known.beat_at = now;
                self.is_back(beat.origin);
            }
        }
        self.listed_at = asked;
    }

    fn known(&mut self, origin: Origin, now: Moment) -> Option<&mut Known> {
        let counts = origin != self.own && !self.strangers.contains_key(&origin);
        let (primaries, in_doubt, good_at) = (self.primaries, self.has_log, self.listed_at);
        let newcomers = &mut self.newcomers;
        let newcomer = || {
            *newcomers += 1;
            Known::new(origin, in_doubt, primaries, now, good_at)
        };
        counts.then(|| self.known.entry(origin).or_insert_with(newcomer))
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
        for known in self.known.values_mut().filter(|known| !known.over) {
            known.in_doubt = true;
        }
    }

    /// A fence has come at `now`, after everything that it proves has been routed; and everything that was
    /// published through its primary before `proves` has come. `true`: its origin says that it could not
    /// publish something.
    pub fn fence(&mut self, primary: usize, fence: &Fence, proves: Moment, now: Moment) -> bool {
        let Fence { origin, sequence, lost, leaving } = *fence;
        let Some(known) = self.known(origin, now) else { return false };
        if let Some(heard) = known.fences.get_mut(primary) {
            *heard = Some(Heard { at: now, sequence, leaving, proves });
        }
        known.suspected = false;
        let lost = known.lost.replace(lost).is_some_and(|before| lost > before);
        self.is_back(origin);
        let Some(known) = self.known.get_mut(&origin) else { return false };
        if lost {
            known.in_doubt = true;
            self.doubts += 1;
        } else {
            known.rest_on_fences();
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
        // Longer than fences of one that has left may take through different primaries.
        let gone = patience + kept_for;
        self.known.retain(|_, known| !known.over || known.listed || now.since(known.heard_at()) <= gone);
        self.strangers.retain(|_, said| now.since(*said) <= gone);
    }

    /// Whether an origin that tells of itself in the log is silent on a link that has been up for a
    /// while. Said once of each, until it is heard again.
    pub fn suspects_the_link(&mut self, now: Moment) -> bool {
        let patience = self.times.patience;
        let linked = self.primaries > 0;
        let suspects = |known: &mut Known| {
            let suspect = linked
                && !known.over
                && !known.suspected
                && now.since(known.beat_at) < patience
                && now.since(known.since) > 2 * patience
                && !known.is_heard(now, patience);
            known.suspected |= suspect;
            suspect
        };
        self.known.values_mut().map(suspects).fold(false, |any, suspect| any | suspect)
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
        let Times { patience, settles_in, kept_for } = self.times;
        let undisturbed = begun.settled && begun.doubts == self.doubts;
        let Some(known) = self.known.get_mut(&origin) else { return };
        // What was read had been there for so long already, or some of it had gone.
        known.beyond_help |= now.since(known.good_at) > kept_for;
        known.good_at = known.good_at.max(begun.at);
        while let Some(&(at, end)) = known.reads.front()
            && begun.at.since(at) >= settles_in
        {
            // This read found all of it committed that ever will be.
            known.safe = known.safe.max(end);
            known.reads.pop_front();
        }
        known.reads.push_back((now, end));
        if undisturbed && known.is_heard(now, patience) {
            known.in_doubt = false;
            known.rest_on_fences();
        } else if begun.at.since(known.heard_at()) > patience + settles_in {
            // It is dead, or gone, and all of it had settled before the read began.
            known.safe = known.safe.max(end);
            known.end();
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

impl Known {
    fn new(origin: Origin, in_doubt: bool, primaries: usize, now: Moment, good_at: Moment) -> Self {
        Self {
            safe: 0,
            in_doubt,
            over: false,
            fences: vec![None; primaries],
            since: now,
            lost: None,
            beat: Beat { origin, count: 0, head: 0 },
            beat_at: now,
            listed: false,
            reads: VecDeque::new(),
            good_at,
            beyond_help: false,
            suspected: false,
        }
    }

    /// Whether fences have come lately through all primaries.
    fn is_heard(&self, now: Moment, patience: Duration) -> bool {
        let fresh = |heard: &Option<Heard>| heard.is_some_and(|heard| now.since(heard.at) <= patience);
        !self.fences.is_empty() && self.fences.iter().all(fresh)
    }

    fn heard_at(&self) -> Moment {
        self.fences.iter().flatten().map(|heard| heard.at).fold(self.beat_at, Moment::max)
    }

    /// What the fences of all primaries prove is routed, unless something is in doubt.
    fn rest_on_fences(&mut self) {
        if self.in_doubt {
            return;
        }
        self.reads.clear();
        let Some(fences) = self.fences.iter().copied().collect::<Option<Vec<Heard>>>() else { return };
        let Some(proved) = fences.iter().map(|heard| heard.sequence).min() else { return };
        self.safe = self.safe.max(proved);
        // A process that was held up finds old fences first: they prove nothing of what came later.
        let good_at = fences.iter().map(|heard| heard.proves).min();
        self.good_at = self.good_at.max(good_at.unwrap_or(self.good_at));
        if fences.iter().all(|heard| heard.leaving) {
            self.end();
        }
    }

    /// Nothing more will come of it, and nothing was missed.
    fn end(&mut self) {
        self.in_doubt = false;
        self.over = true;
        self.reads.clear();
    }

    /// How far the log goes, as far as it is known.
    fn head(&self) -> Sequence {
        let fences = self.fences.iter().flatten().map(|heard| heard.sequence).max();
        self.beat.head.max(fences.unwrap_or_default())
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
    fn at(seconds: f64) -> Moment {
        Moment::new(Duration::from_secs_f64(1e6 + seconds))
    }

    impl Origins {
        /// How many are known.
        pub fn count(&self) -> usize {
            self.known.len()
        }

        fn safe(&self, origin: Origin) -> Sequence {
            self.known.get(&origin).map_or(0, |known| known.safe)
        }

        /// A fence that came at once.
        fn hear(&mut self, primary: usize, fence: Fence, now: Moment) -> bool {
            self.fence(primary, &fence, now, now)
        }

        /// The log of an origin is read to its end within a tenth of a second.
        fn pass(&mut self, origin: Origin, end: Sequence, seconds: f64) {
            let begun = self.begin(true, at(seconds));
            self.read(origin, end, begun, at(seconds + 0.1));
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
    fn in_touch() -> Origins {
        let mut origins = Origins::new(OWN, TIMES, Some(&[beat(1, 10)]), at(0.0));
        origins.link_up(1, at(0.0));
        origins.hear(0, fence(10), at(0.1));
        origins.pass(OTHER, 10, 0.2);
        assert_eq!(origins.due(), []);
        origins
    }

    #[test]
    fn fences_prove_what_came_before_them() {
        let mut origins = in_touch();
        assert_eq!(origins.safe(OTHER), 10);
        origins.hear(0, fence(12), at(1.0));
        assert_eq!((origins.safe(OTHER), origins.safe(3)), (12, 0));
        // Its own fences tell nothing of others.
        origins.hear(0, Fence { origin: OWN, ..fence(99) }, at(1.0));
        assert_eq!(origins.safe(OWN), 0);
    }

    #[test]
    fn a_fence_proves_what_went_through_its_primary_alone() {
        let mut origins = in_touch();
        origins.link_up(2, at(1.0));
        origins.hear(0, fence(20), at(1.1));
        assert_eq!(origins.safe(OTHER), 10);
        origins.hear(1, fence(15), at(1.2));
        assert_eq!(origins.safe(OTHER), 15);
    }

    #[test]
    fn a_lost_link_is_read_for_until_a_whole_one_has_brought_fences() {
        let mut origins = in_touch();
        origins.link_down();
        assert_eq!(origins.due(), due(10, 10));
        origins.pass(OTHER, 14, 1.0);
        // Up again: a fence proves nothing of what went before the link.
        origins.link_up(1, at(2.0));
        origins.hear(0, fence(17), at(2.1));
        assert_eq!(origins.due(), due(10, 17));
        // A subscription went on without an acknowledgement: not yet.
        let begun = origins.begin(false, at(2.2));
        origins.read(OTHER, 17, begun, at(2.3));
        assert_eq!(origins.due(), due(10, 17));
        // The link was lost and found while the log was read.
        let begun = origins.begin(true, at(2.5));
        origins.link_down();
        origins.link_up(1, at(2.6));
        origins.hear(0, fence(18), at(2.7));
        origins.read(OTHER, 18, begun, at(2.8));
        assert_eq!(origins.due(), due(10, 18));
        origins.pass(OTHER, 18, 3.0);
        assert_eq!(origins.due(), []);
        assert_eq!(origins.safe(OTHER), 18);
    }

    /// A batch is in the log before it is committed: who reads it in between must look again.
    #[test]
    fn what_was_read_is_read_again_until_it_has_settled() {
        let mut origins = in_touch();
        origins.link_down();
        for second in [1.0, 2.0, 3.0, 4.0] {
            origins.pass(OTHER, 12, second);
            assert_eq!(origins.due(), due(10, 10));
        }
        assert_eq!(origins.safe(OTHER), 10);
        origins.pass(OTHER, 13, 5.2);
        assert_eq!(origins.safe(OTHER), 12);
        assert_eq!(origins.due(), due(12, 10));
    }

    #[test]
    fn a_silent_origin_is_read_for_as_long_as_it_lives() {
        let mut origins = in_touch();
        assert_eq!(origins.notice_silence(at(3.0)), 0);
        assert_eq!(origins.notice_silence(at(3.2)), 1);
        assert_eq!(origins.notice_silence(at(3.3)), 0);
        // It tells of itself in the log: the link may be the wrong one, which is said once.
        let mut second = 4.0;
        while second < 60.0 {
            origins.list(&[beat(second as u64, 20)], at(second), at(second));
            assert_eq!(origins.due().len(), 1, "{second}");
            origins.pass(OTHER, 20, second);
            assert_eq!(origins.suspects_the_link(at(second)), second == 7.0, "{second}");
            second += 1.0;
        }
        // It tells no more: once all of it has settled, nobody asks again, until it comes back.
        while !origins.due().is_empty() {
            origins.pass(OTHER, 20, second);
            second += 1.0;
        }
        assert_eq!((second, origins.safe(OTHER)), (68.0, 20));
        origins.list(&[beat(99, 21)], at(second), at(second));
        assert_eq!(origins.due(), due(20, 21));
    }

    #[test]
    fn who_says_that_something_is_not_published_is_read_for() {
        let mut origins = in_touch();
        assert!(origins.hear(0, Fence { lost: 1, ..fence(12) }, at(1.0)));
        assert_eq!(origins.safe(OTHER), 10);
        assert_eq!(origins.due(), due(10, 12));
        origins.pass(OTHER, 12, 1.2);
        assert_eq!(origins.due(), []);
        assert!(!origins.hear(0, Fence { lost: 1, ..fence(13) }, at(2.0)));
    }

    #[test]
    fn certainty_is_another_after_every_doubt() {
        let mut origins = in_touch();
        let first = origins.certainty();
        assert!(first.is_some());
        // Somebody new may have written before it was heard.
        origins.list(&[Beat { origin: 3, count: 1, head: 0 }], at(1.0), at(1.0));
        assert_eq!(origins.certainty(), None);
        origins.hear(0, Fence { origin: 3, ..fence(0) }, at(1.1));
        origins.pass(3, 0, 1.2);
        let second = origins.certainty();
        assert!(second.is_some() && second != first);
        origins.doubt();
        assert_eq!(origins.certainty(), None);
        for origin in [OTHER, 3] {
            origins.pass(origin, 10, 1.6);
        }
        let third = origins.certainty();
        assert!(third.is_some() && third != second);
        origins.link_down();
        assert_eq!(origins.certainty(), None);
    }

    #[test]
    fn who_leaves_is_not_missed() {
        let mut origins = in_touch();
        origins.hear(0, Fence { leaving: true, ..fence(11) }, at(1.0));
        assert_eq!(origins.notice_silence(at(60.0)), 0);
        assert!(!origins.suspects_the_link(at(60.0)));
        assert_eq!(origins.due(), []);
    }

    #[test]
    fn a_newcomer_may_have_written_before_it_was_heard() {
        let mut origins = in_touch();
        origins.list(&[Beat { origin: 3, count: 1, head: 2 }], at(1.0), at(1.0));
        assert_eq!(origins.due(), [Due { origin: 3, after: 0, up_to: 2 }]);
        // Without a log it is no news.
        let mut origins = Origins::new(OWN, TIMES, None, at(0.0));
        origins.link_up(1, at(0.0));
        origins.hear(0, Fence { lost: 7, ..fence(0) }, at(1.0));
        assert!(!origins.is_in_doubt());
        origins.doubt();
        assert!(origins.is_in_doubt());
        origins.forgive(at(2.0));
        assert!(!origins.is_in_doubt());
    }

    #[test]
    fn what_is_not_in_the_log_any_more_is_said() {
        let mut origins = in_touch();
        origins.link_down();
        assert!(!origins.is_beyond_help(at(3_600.0)));
        origins.list(&[beat(2, 500)], at(3_605.0), at(3_605.0));
        assert!(origins.is_beyond_help(at(3_605.0)));
        assert!(!origins.is_beyond_help(at(3_606.0)));
        assert_eq!(origins.due(), due(500, 500));
        // The same when the log is read before anybody asks.
        let mut origins = in_touch();
        origins.link_down();
        origins.list(&[beat(2, 500)], at(3_605.0), at(3_605.0));
        origins.pass(OTHER, 500, 3_605.0);
        assert!(origins.is_beyond_help(at(3_606.0)) && !origins.is_beyond_help(at(3_607.0)));
        // Somebody new is known to have written nothing when the log was last asked who there is.
        let newcomer = [Beat { origin: 3, count: 1, head: 2 }];
        for (asked, said) in [(4_000.0, false), (8_000.0, true)] {
            origins.list(&newcomer, at(asked), at(asked));
            origins.known.retain(|origin, _| *origin == 3);
            assert_eq!(origins.is_beyond_help(at(asked)), said, "{asked}");
            origins.known.clear();
        }
    }

    /// A process that was held up finds what had waited for it first, and only then that the link is lost.
    #[test]
    fn an_old_fence_proves_nothing_of_what_came_later() {
        let mut origins = in_touch();
        let woken = 2.0 * 3_600.0;
        origins.fence(0, &fence(12), at(1.0), at(woken));
        origins.link_down();
        origins.list(&[beat(2, 500)], at(woken), at(woken));
        origins.pass(OTHER, 500, woken);
        assert!(origins.is_beyond_help(at(woken + 1.0)));
    }

    /// An hour, a day and a month after a process has gone nobody is told of anything, whatever becomes of links.
    #[test]
    fn who_is_gone_is_in_no_doubt_and_forgotten() {
        for leaves in [true, false] {
            let mut origins = in_touch();
            origins.hear(0, Fence { leaving: leaves, ..fence(11) }, at(1.0));
            let listed_until = 7_200.0;
            let mut second = 2.0;
            while second < 30.0 * 86_400.0 {
                if (second as u64).is_multiple_of(1_000) {
                    origins.link_down();
                    origins.link_up(1, at(second));
                }
                origins.notice_silence(at(second));
                let listed = [beat(1, 11)];
                origins.list(if second < listed_until { &listed } else { &[] }, at(second), at(second));
                for Due { origin, .. } in origins.due() {
                    assert!(second < 12.0, "{second}");
                    origins.pass(origin, 11, second);
                }
                origins.forget(at(second));
                assert!(!origins.is_beyond_help(at(second)) && !origins.suspects_the_link(at(second)));
                assert!(second < 12.0 || origins.certainty().is_some());
                assert_eq!(origins.known.contains_key(&OTHER), second < listed_until);
                second += 1.0 + second.floor() / 50.0;
            }
        }
    }

    /// Who left through one primary and died before it did through the other is missed.
    #[test]
    fn who_leaves_does_so_through_every_primary() {
        let mut origins = in_touch();
        let leaving = Fence { leaving: true, ..fence(11) };
        origins.link_up(2, at(1.0));
        for primary in 0..2 {
            origins.hear(primary, fence(10), at(1.1));
        }
        origins.hear(0, leaving, at(2.0));
        assert_eq!((origins.notice_silence(at(6.0)), origins.safe(OTHER)), (1, 10));
        origins.hear(1, leaving, at(6.1));
        origins.pass(OTHER, 11, 14.0);
        assert_eq!((origins.due(), origins.safe(OTHER)), (vec![], 11));
    }

    /// A process that listed itself before this one began may be gone since, or may just be writing.
    #[test]
    fn what_is_being_written_at_the_start_is_read() {
        let mut origins = Origins::new(OWN, TIMES, Some(&[beat(1, 10)]), at(0.0));
        assert_eq!(origins.due(), due(8, 10));
        for second in 0..3_600 {
            let second = f64::from(second);
            origins.list(&[beat(1, 10)], at(second), at(second));
            origins.due().iter().for_each(|due| origins.pass(due.origin, 10, second));
        }
        assert_eq!((origins.due(), origins.is_beyond_help(at(4_000.0))), (vec![], false));
    }

    #[test]
    fn those_of_another_store_count_for_nothing() {
        let mut origins = Origins::new(OWN, TIMES, Some(&[]), at(0.0));
        origins.link_up(1, at(0.0));
        origins.hear(0, fence(1), at(1.0));
        assert!(origins.is_in_doubt());
        origins.estrange(OTHER, at(1.1));
        for second in [1.2, 100.0, 3_000.0] {
            origins.hear(0, Fence { lost: 5, ..fence(2) }, at(second));
            assert_eq!((origins.due(), origins.notice_silence(at(second))), (vec![], 0));
            assert!(origins.certainty().is_some());
        }
        assert_eq!(origins.strangers.len(), 1);
        origins.forget(at(9_000.0));
        assert_eq!(origins.strangers.len(), 0);
    }
}
