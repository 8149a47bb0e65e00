//! What is concluded of another process, step by step.

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

    /// A watermark that came at once.
    fn hear_at_once(&mut self, primary: usize, watermark: Watermark, now: Moment) -> bool {
        self.hear(primary, &watermark, now, now)
    }

    /// The log of an origin is read to its end within a tenth of a second.
    fn pass(&mut self, origin: Origin, end: Sequence, seconds: f64) {
        let begun = self.begin(true, at(seconds));
        self.read(origin, end, begun, at(seconds + 0.1));
    }
}

fn heartbeat(count: u64, head: Sequence) -> Heartbeat {
    Heartbeat { origin: OTHER, count, head }
}

fn watermark(sequence: Sequence) -> Watermark {
    Watermark { origin: OTHER, sequence, lost: 0, leaving: false }
}

fn due(after: Sequence, up_to: Sequence) -> Vec<Due> {
    vec![Due { origin: OTHER, after, up_to }]
}

/// A node on one primary that has heard of another up to its batch 10, and is in no doubt.
fn in_touch() -> Origins {
    let mut origins = Origins::new(OWN, TIMES, Some(&[heartbeat(1, 10)]), at(0.0));
    origins.link_up(1, at(0.0));
    origins.hear_at_once(0, watermark(10), at(0.1));
    origins.pass(OTHER, 10, 0.2);
    assert_eq!(origins.due(), []);
    origins
}

#[test]
fn watermarks_prove_what_came_before_them() {
    let mut origins = in_touch();
    assert_eq!(origins.safe(OTHER), 10);
    origins.hear_at_once(0, watermark(12), at(1.0));
    assert_eq!((origins.safe(OTHER), origins.safe(3)), (12, 0));
    // Its own watermarks tell nothing of others.
    origins.hear_at_once(0, Watermark { origin: OWN, ..watermark(99) }, at(1.0));
    assert_eq!(origins.safe(OWN), 0);
}

#[test]
fn a_watermark_proves_what_went_through_its_primary_alone() {
    let mut origins = in_touch();
    origins.link_up(2, at(1.0));
    origins.hear_at_once(0, watermark(20), at(1.1));
    assert_eq!(origins.safe(OTHER), 10);
    origins.hear_at_once(1, watermark(15), at(1.2));
    assert_eq!(origins.safe(OTHER), 15);
}

#[test]
fn a_lost_link_is_read_for_until_a_whole_one_has_brought_watermarks() {
    let mut origins = in_touch();
    origins.link_down();
    assert_eq!(origins.due(), due(10, 10));
    origins.pass(OTHER, 14, 1.0);
    // Up again: a watermark proves nothing of what went before the link.
    origins.link_up(1, at(2.0));
    origins.hear_at_once(0, watermark(17), at(2.1));
    assert_eq!(origins.due(), due(10, 17));
    // A subscription went on without an acknowledgement: not yet.
    let begun = origins.begin(false, at(2.2));
    origins.read(OTHER, 17, begun, at(2.3));
    assert_eq!(origins.due(), due(10, 17));
    // The link was lost and found while the log was read.
    let begun = origins.begin(true, at(2.5));
    origins.link_down();
    origins.link_up(1, at(2.6));
    origins.hear_at_once(0, watermark(18), at(2.7));
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
        origins.list(&[heartbeat(second as u64, 20)], at(second), at(second));
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
    origins.list(&[heartbeat(99, 21)], at(second), at(second));
    assert_eq!(origins.due(), due(20, 21));
}

#[test]
fn who_says_that_something_is_not_published_is_read_for() {
    let mut origins = in_touch();
    assert!(origins.hear_at_once(0, Watermark { lost: 1, ..watermark(12) }, at(1.0)));
    assert_eq!(origins.safe(OTHER), 10);
    assert_eq!(origins.due(), due(10, 12));
    origins.pass(OTHER, 12, 1.2);
    assert_eq!(origins.due(), []);
    assert!(!origins.hear_at_once(0, Watermark { lost: 1, ..watermark(13) }, at(2.0)));
}

#[test]
fn certainty_is_another_after_every_doubt() {
    let mut origins = in_touch();
    let first = origins.certainty();
    assert!(first.is_some());
    // Somebody new may have written before it was heard.
    origins.list(&[Heartbeat { origin: 3, count: 1, head: 0 }], at(1.0), at(1.0));
    assert_eq!(origins.certainty(), None);
    origins.hear_at_once(0, Watermark { origin: 3, ..watermark(0) }, at(1.1));
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
    origins.hear_at_once(0, Watermark { leaving: true, ..watermark(11) }, at(1.0));
    assert_eq!(origins.notice_silence(at(60.0)), 0);
    assert!(!origins.suspects_the_link(at(60.0)));
    assert_eq!(origins.due(), []);
}

#[test]
fn a_newcomer_may_have_written_before_it_was_heard() {
    let mut origins = in_touch();
    origins.list(&[Heartbeat { origin: 3, count: 1, head: 2 }], at(1.0), at(1.0));
    assert_eq!(origins.due(), [Due { origin: 3, after: 0, up_to: 2 }]);
    // Without a log it is no news.
    let mut origins = Origins::new(OWN, TIMES, None, at(0.0));
    origins.link_up(1, at(0.0));
    origins.hear_at_once(0, Watermark { lost: 7, ..watermark(0) }, at(1.0));
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
    origins.list(&[heartbeat(2, 500)], at(3_605.0), at(3_605.0));
    assert!(origins.is_beyond_help(at(3_605.0)));
    assert!(!origins.is_beyond_help(at(3_606.0)));
    assert_eq!(origins.due(), due(500, 500));
    // The same when the log is read before anybody asks.
    let mut origins = in_touch();
    origins.link_down();
    origins.list(&[heartbeat(2, 500)], at(3_605.0), at(3_605.0));
    origins.pass(OTHER, 500, 3_605.0);
    assert!(origins.is_beyond_help(at(3_606.0)) && !origins.is_beyond_help(at(3_607.0)));
    // Somebody new is known to have written nothing when the log was last asked who there is.
    let newcomer = [Heartbeat { origin: 3, count: 1, head: 2 }];
    for (asked, said) in [(4_000.0, false), (8_000.0, true)] {
        origins.list(&newcomer, at(asked), at(asked));
        origins.known.retain(|origin, _| *origin == 3);
        assert_eq!(origins.is_beyond_help(at(asked)), said, "{asked}");
        origins.known.clear();
    }
}

/// A process that was held up finds what had waited for it first, and only then that the link is lost.
#[test]
fn an_old_watermark_proves_nothing_of_what_came_later() {
    let mut origins = in_touch();
    let woken = 2.0 * 3_600.0;
    origins.hear(0, &watermark(12), at(1.0), at(woken));
    origins.link_down();
    origins.list(&[heartbeat(2, 500)], at(woken), at(woken));
    origins.pass(OTHER, 500, woken);
    assert!(origins.is_beyond_help(at(woken + 1.0)));
}

/// An hour, a day and a month after a process has gone nobody is told of anything, whatever becomes of links.
#[test]
fn who_is_gone_is_in_no_doubt_and_forgotten() {
    for leaves in [true, false] {
        let mut origins = in_touch();
        origins.hear_at_once(0, Watermark { leaving: leaves, ..watermark(11) }, at(1.0));
        let listed_until = 7_200.0;
        let mut second = 2.0;
        while second < 30.0 * 86_400.0 {
            if (second as u64).is_multiple_of(1_000) {
                origins.link_down();
                origins.link_up(1, at(second));
            }
            origins.notice_silence(at(second));
            let listed = [heartbeat(1, 11)];
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
    let leaving = Watermark { leaving: true, ..watermark(11) };
    origins.link_up(2, at(1.0));
    for primary in 0..2 {
        origins.hear_at_once(primary, watermark(10), at(1.1));
    }
    origins.hear_at_once(0, leaving, at(2.0));
    assert_eq!((origins.notice_silence(at(6.0)), origins.safe(OTHER)), (1, 10));
    origins.hear_at_once(1, leaving, at(6.1));
    origins.pass(OTHER, 11, 14.0);
    assert_eq!((origins.due(), origins.safe(OTHER)), (vec![], 11));
}

/// A process that listed itself before this one began may be gone since, or may just be writing.
#[test]
fn what_is_being_written_at_the_start_is_read() {
    let mut origins = Origins::new(OWN, TIMES, Some(&[heartbeat(1, 10)]), at(0.0));
    assert_eq!(origins.due(), due(8, 10));
    for second in 0..3_600 {
        let second = f64::from(second);
        origins.list(&[heartbeat(1, 10)], at(second), at(second));
        origins.due().iter().for_each(|due| origins.pass(due.origin, 10, second));
    }
    assert_eq!((origins.due(), origins.is_beyond_help(at(4_000.0))), (vec![], false));
}

#[test]
fn those_of_another_store_count_for_nothing() {
    let mut origins = Origins::new(OWN, TIMES, Some(&[]), at(0.0));
    origins.link_up(1, at(0.0));
    origins.hear_at_once(0, watermark(1), at(1.0));
    assert!(origins.is_in_doubt());
    origins.estrange(OTHER, at(1.1));
    for second in [1.2, 100.0, 3_000.0] {
        origins.hear_at_once(0, Watermark { lost: 5, ..watermark(2) }, at(second));
        assert_eq!((origins.due(), origins.notice_silence(at(second))), (vec![], 0));
        assert!(origins.certainty().is_some());
    }
    assert_eq!(origins.strangers.len(), 1);
    origins.forget(at(9_000.0));
    assert_eq!(origins.strangers.len(), 0);
}
