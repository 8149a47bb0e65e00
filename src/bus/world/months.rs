//! Processes come and go for months beside a node.

use std::{cmp::Reverse, collections::BinaryHeap, time::Duration};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{OWN, PROCESS_LIVES, TIMES, at};
use crate::{
    bus::{
        envelope::Watermark,
        origins::{Origins, Times},
    },
    store::log::{Heartbeat, Origin},
};

/// With a log some of them die, and the link is lost now and then.
#[test]
fn a_node_lives_for_months_beside_others_that_come_and_go() {
    [true, false].into_iter().for_each(live_for_months);
}

fn live_for_months(has_log: bool) {
    // A watermark a minute, so that months take a second.
    const STEP: u64 = 60;
    const DAY: u64 = 86_400;
    let times = Times { patience: Duration::from_secs(3 * STEP), ..TIMES };
    let mut origins = Origins::new(OWN, times, has_log.then_some(&[]), at(0));
    let mut random = StdRng::seed_from_u64(7);
    let mut living: Vec<(Origin, u64, bool)> = Vec::new();
    let mut gone: BinaryHeap<Reverse<(u64, Origin)>> = BinaryHeap::new();
    let (mut next, mut most, mut second) = (OWN + 1, 0, 0);
    origins.link_up(1, at(0));
    while second < 90 * DAY {
        second += STEP;
        let now = at(second * 1_000);
        if second % 1_800 == 0 {
            let leaves = !has_log || random.random_bool(0.5);
            living.push((next, second + random.random_range(60..4 * 3_600), leaves));
            next += 1;
        }
        if has_log && random.random_ratio(1, 200) {
            origins.link_down();
            origins.link_up(1, now);
        }
        let listed = |origin, count| Heartbeat { origin, count, head: 0 };
        let mut heartbeats: Vec<Heartbeat> =
            gone.iter().map(|Reverse((_, origin))| listed(*origin, 1)).collect();
        living.retain(|&(origin, until, leaves)| {
            let ends = second >= until;
            if !ends || leaves {
                let watermark = Watermark { origin, sequence: 0, lost: 0, leaving: ends };
                origins.hear(0, &watermark, now, now);
            }
            heartbeats.push(listed(origin, if ends { 1 } else { second }));
            if ends {
                gone.push(Reverse((second + PROCESS_LIVES / 1_000, origin)));
            }
            !ends
        });
        while gone.peek().is_some_and(|Reverse((until, _))| *until <= second) {
            gone.pop();
        }
        if has_log {
            let begun = origins.begin(true, now);
            origins.list(&heartbeats, now, now);
            for due in origins.due() {
                origins.read(due.origin, due.after, begun, now);
            }
        }
        origins.forget(now);
        let silent = origins.notice_silence(now);
        assert!(has_log || (silent == 0 && !origins.is_in_doubt()), "in doubt on day {}", second / DAY);
        assert!(!origins.is_beyond_help(now), "told on day {}", second / DAY);
        most = most.max(origins.count());
    }
    // Those of the last hours, not those of months.
    assert!(next > 4_000 && most < 40, "{most} of {next}");
}
