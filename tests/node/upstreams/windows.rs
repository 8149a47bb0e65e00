//! Relays that do not reconcile: they are read in windows of time.

use std::time::{Duration, Instant};

use common::{Relay, eventually, now};
use rookery::protocol::{ClientMessage, Event, Tags, sign::Keys};

use super::{adds_up, ids, put, reader, reads, stored, upstream};
use crate::{
    cli::relay::{Do, Relay as Mock, say},
    upstream_commands::does,
};

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_reconcile_is_read_in_windows_of_time() {
    let keys = Keys::generate();
    // Far from each other, and many in a second.
    let dates = [1, 2, 900_000_000].into_iter().chain((0..700).map(|n| 1_700_000_000 + n * 37));
    let dates = dates.chain([1_710_000_000; 90]).chain([now() - 30]);
    let note = |(n, at): (usize, u64)| keys.sign(at, 1, Tags::default(), &n.to_string());
    let all: Vec<Event> = dates.enumerate().map(note).collect();
    let there = upstream(&all, &["--set", "sync.max_open=0", "--set", "limits.max_limit=100"]);
    let here = reader(&[&there.url()], &[]);
    eventually("everything", || stored(&here) == ids(&all)).await;
    // Begun again, it reads what came since, and not all of it.
    let url = there.url();
    let cursor = format!(r#"rookery_upstream_cursor_timestamp_seconds{{upstream="{url}"}}"#);
    eventually("it is noted", || here.metric(&cursor) > now() as f64 - 4_000.0).await;
    let flags = reads(&[&url]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let here = here.restart_after_kill(&flags);
    let more = keys.sign(now(), 1, Tags::default(), "more");
    put(&there, std::slice::from_ref(&more));
    eventually("one more", || stored(&here).contains(&more.id().to_hex())).await;
    eventually("nothing waits", || adds_up(&here, &url)).await;
    let again = here.metric(&format!(r#"rookery_upstream_events_received_total{{upstream="{url}"}}"#));
    assert!(again < 20.0, "{again} were read again");
}

/// A second of it holds more than it sends at once: that is a hole, and what is older is none.
#[tokio::test(flavor = "multi_thread")]
async fn a_crowded_second_hides_nothing_that_is_older() {
    let (keys, second) = (Keys::generate(), now() - 40_000);
    let note = |n: u64, at| keys.sign(at, 1, Tags::default(), &n.to_string());
    let older: Vec<Event> = (0..5).map(|n| note(n, second - 1 - 3 * n)).collect();
    let crowd: Vec<Event> = (0..300).map(|n| note(100 + n, second)).collect();
    let all = [older.clone(), crowd].concat();
    let there = upstream(&all, &["--set", "sync.max_open=0", "--set", "limits.max_limit=100"]);
    let here = reader(&[&there.url()], &[]);
    here.log().says("a hole stays").await;
    eventually("what is older", || ids(&older).is_subset(&stored(&here))).await;
    let view = || here.ask("GET", "/v1/upstreams", "").2[0].clone();
    eventually("it is live", || view()["state"] == "live").await;
}

/// Of what was not asked for the past has not been read.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_asked_for_from_now_on_is_read_from_the_beginning() {
    let keys = Keys::generate();
    let events: Vec<Event> =
        (0..40).map(|n| keys.sign(now() - 9_000 * n - 5, 1, Tags::default(), "x")).collect();
    let others: Vec<Event> =
        (0..40).map(|n| keys.sign(now() - 9_000 * n - 5, 7, Tags::default(), "+")).collect();
    let there = upstream(&[events.clone(), others.clone()].concat(), &["--set", "sync.max_open=0"]);
    let here = Relay::start(&["--set", "aggregator.allow_private=true"]);
    does(&here, &["add", &there.url(), "--kind", "1"]);
    let view = || here.ask("GET", "/v1/upstreams", "").2[0].clone();
    let is_read = || view()["state"] == "live" && view()["read_through"].as_u64() > Some(now() - 4_000);
    eventually("it is read", is_read).await;
    assert_eq!(stored(&here), ids(&events));
    does(&here, &["set", &there.url(), "--everything"]);
    eventually("what was not asked for", || ids(&others).is_subset(&stored(&here))).await;
}

/// Some relays pass over messages that they do not know, and say nothing.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "waits half a minute for an answer: cluster/test.sh --long"]
async fn one_that_says_nothing_to_a_reconciliation_is_read_in_windows_of_time() {
    let keys = Keys::generate();
    let events: Vec<Event> =
        (0..9).map(|n| keys.sign(now() - 9_000 * n - 5, 1, Tags::default(), "x")).collect();
    let has = events.clone();
    let there = Mock::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, filters }) => {
            let mut found: Vec<&Event> =
                has.iter().filter(|event| filters.iter().any(|filter| filter.matches(*event))).collect();
            let limit = filters.iter().filter_map(|filter| filter.limit).max();
            found.truncate(limit.unwrap_or(usize::MAX));
            let event = |event: &&Event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json()));
            found.iter().map(event).chain(say(format!(r#"["EOSE","{id}"]"#))).collect()
        }
        _ => Vec::new(),
    });
    let here = reader(&[&there.url], &[]);
    let begun = Instant::now();
    while stored(&here) != ids(&events) {
        assert!(begun.elapsed() < Duration::from_secs(120), "it is not read");
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}
