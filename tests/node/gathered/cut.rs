//! Connections that are cut or fall silent, and a store that stands still meanwhile.

use std::time::{Duration, Instant};

use common::{
    Relay, eventually, now,
    proxy::{Flow, Proxy},
    standstill::Standstill,
};

use super::{SETTINGS, ask, bring, in_time, is_finished, notes, view};
use crate::upstreams::{ids, stored};

fn of(what: &str, url: &str) -> String {
    format!(r#"rookery_upstream_{what}{{upstream="{url}"}}"#)
}

/// A relay that ends the connection of whoever leaves so much unread, while the store here takes nothing.
async fn slow_readers_are_cut(count: u64, bytes: usize, unsent: usize, pause: Duration) {
    let there = Relay::start(&[]);
    let mut all = notes((0..count).map(|n| now() - n * 3_000), bytes);
    bring(&there.url(), &all);
    let proxy = Proxy::start_impatient(there.clients.to_string(), unsent).await;
    let url = format!("ws://{}", proxy.address);
    let here = Relay::start(&[&SETTINGS[..], &["--set", "aggregator.queue_bytes=65536"]].concat());
    // Until the store stands still; a relay that is added is stored, too.
    proxy.set(Flow::Cut);
    ask(&here, "add", &url);
    let standstill = Standstill::begin(&here);
    proxy.set(Flow::Open);
    eventually("this one is cut", || proxy.evicted() > 0).await;
    tokio::time::sleep(pause).await;
    let more = notes((0..20).map(|n| now() - n * 30_000), bytes);
    bring(&there.url(), &more);
    all.extend(more);
    assert!(stored(&here).is_empty());
    drop(standstill);
    in_time("everything", async || stored(&here) == ids(&all)).await;
    in_time("nothing waits", async || is_finished(&here, &url)).await;
    eprintln!("{} connections were ended, {} events are stored", proxy.evicted(), all.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cuts_slow_readers_loses_nothing_while_the_store_stands_still() {
    slow_readers_are_cut(1_500, 8_000, 1 << 20, Duration::ZERO).await;
}

/// A store that takes no cursor for now keeps nobody from hearing what comes.
#[tokio::test(flavor = "multi_thread")]
async fn who_reads_goes_on_hearing_while_the_store_stands_still() {
    let there = Relay::start(&[]);
    let url = there.url();
    // A cursor is due each second, long before the queue is full.
    let small = ["--set", "aggregator.queue_bytes=65536", "--set", "aggregator.takeover_seconds=5"];
    let here = Relay::start(&[&SETTINGS[..], &["--upstream", &url], &small].concat());
    eventually("it is read", || view(&here, &url)["state"] == "live").await;
    let standstill = Standstill::begin(&here);
    let (mut client, mut all) = (there.connect().await, Vec::new());
    let behind = async {
        while view(&here, &url)["state"] != "behind" {
            all.extend(notes([now()].into_iter(), 20));
            assert!(client.publish(&all[all.len() - 1]).await.0);
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), behind).await.expect("the queue is full");
    drop(standstill);
    in_time("everything", async || stored(&here) == ids(&all)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "the store stands still for two minutes"]
async fn one_that_cuts_slow_readers_loses_nothing_in_two_minutes() {
    slow_readers_are_cut(2_000, 50_000, 32 << 20, Duration::from_secs(120)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute of silence"]
async fn one_that_falls_silent_is_noticed_within_a_minute() {
    let there = Relay::start(&[]);
    let proxy = Proxy::start(there.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let here = Relay::start(&[&SETTINGS[..], &["--upstream", &url]].concat());
    eventually("it is read", || view(&here, &url)["state"] == "live").await;
    proxy.set(Flow::HoldsAll);
    let all = notes([now() - 86_400, now()].into_iter(), 10);
    bring(&there.url(), &all);
    let begun = Instant::now();
    in_time("it is noticed", async || here.metric(&of("up", &url)) == 0.0).await;
    let passed = begun.elapsed();
    eprintln!("noticed after {passed:?}: {}", view(&here, &url)["last_error"]);
    assert!(passed <= Duration::from_secs(60), "{passed:?}");
    proxy.set(Flow::Open);
    in_time("both", async || stored(&here) == ids(&all)).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "times that a machine with other work does not keep"]
async fn one_that_serves_and_closes_twenty_times_is_read_on_without_a_long_pause() {
    let there = Relay::start(&[]);
    let proxy = Proxy::start(there.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let here = Relay::start(&[&SETTINGS[..], &["--upstream", &url]].concat());
    let all = notes((0..20).map(|n| now() - n * 50_000), 10);
    let mut longest = Duration::ZERO;
    for (nth, note) in all.iter().enumerate() {
        bring(&there.url(), std::slice::from_ref(note));
        let begun = Instant::now();
        in_time("one more", async || stored(&here) == ids(&all[..=nth])).await;
        longest = longest.max(begun.elapsed());
        proxy.set(Flow::Cut);
        eventually("it is cut", || here.metric(&of("up", &url)) == 0.0).await;
        proxy.set(Flow::Open);
    }
    eprintln!("the longest pause of twenty: {longest:?}");
    assert!(longest <= Duration::from_secs(30), "{longest:?}");
}
