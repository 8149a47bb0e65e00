//! Other relays that are read: each event once, nothing missed, whatever dies or lies.

mod addresses;
mod information;
mod refused;
mod windows;

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use common::{
    Client, Relay, eventually, free_port, now,
    proxy::{Flow, Proxy},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rookery::{
    protocol::{Event, Filter, Tags, sign::Keys},
    store::{Content, Cursor, Limit, Query, Store, Viewer, memory::Memory},
};
use serde_json::json;
use tempfile::TempDir;

use crate::cli::program::{dump, succeed};

/// A relay that has these events.
pub fn upstream(events: &[Event], settings: &[&str]) -> Relay {
    let relay = Relay::start(settings);
    put(&relay, events);
    relay
}

pub fn put(relay: &Relay, events: &[Event]) {
    if !events.is_empty() {
        let folder = TempDir::new().unwrap();
        succeed(&["import", &dump(&folder, events), "--relay", &relay.url()]);
    }
}

/// Flags of a relay that reads these.
pub fn reads(urls: &[&str]) -> Vec<String> {
    let flags = ["--upstream", &urls.join(","), "--set", "aggregator.allow_private=true"];
    flags.map(str::to_owned).to_vec()
}

pub fn reader(urls: &[&str], settings: &[&str]) -> Relay {
    let flags = reads(urls);
    let flags: Vec<&str> = flags.iter().map(String::as_str).chain(settings.iter().copied()).collect();
    Relay::start(&flags)
}

pub fn ids<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeSet<String> {
    events.into_iter().map(|event| event.id().to_hex()).collect()
}

/// What a relay has.
pub fn stored(relay: &Relay) -> BTreeSet<String> {
    crate::cli::program::ids(&succeed(&["export", "-", "--relay", &relay.url()])).into_iter().collect()
}

/// What is left of events, whatever their order: as the model of all stores has it.
pub async fn model(events: &[Event]) -> BTreeSet<String> {
    let model = Memory::new();
    let batch: Arc<[Arc<Event>]> = events.iter().cloned().map(Arc::new).collect();
    model.write(batch, now(), Instant::now() + Duration::from_secs(60)).await.unwrap();
    let filters = vec![(Filter::default(), Limit::exactly(usize::MAX))];
    let query = Query { filters, viewer: Viewer::client([]), now: now(), content: Content::Keys };
    let (query, mut found) = (Arc::new(query), BTreeSet::new());
    let mut cursor = Some(Cursor::start(&query));
    while let Some(from) = cursor {
        let page = model.query(Arc::clone(&query), from).await.unwrap();
        found.extend(page.iter().map(|entry| entry.id.to_hex()));
        cursor = page.next;
    }
    found
}

/// Notes, profiles in several versions, deletions, and what has expired, dated up to a year back.
fn some_of_everything(random: &mut StdRng, count: usize) -> Vec<Event> {
    let users: Vec<Keys> = (0..10).map(|_| Keys::generate()).collect();
    let mut events: Vec<Event> = Vec::new();
    for n in 0..count {
        let keys = &users[random.random_range(0..users.len())];
        let age = [0, 60, 3_600, 86_400, 365 * 86_400][random.random_range(0..5)];
        let at = now() - 10 - random.random_range(0..=age);
        let event = match random.random_range(0..10) {
            0 => keys.sign(at, 0, Tags::default(), &format!("{n}")),
            1 => keys.sign(at, 30_000, Tags::from_iter([["d", ["a", "b"][n % 2]]]), &format!("{n}")),
            2 if !events.is_empty() => {
                let mut own = events.iter().filter(|event| event.pubkey() == keys.public_key());
                let target = own.next_back().map_or_else(|| "00".repeat(32), |event| event.id().to_hex());
                keys.sign(now() - 5, 5, Tags::from_iter([["e", &target]]), "")
            }
            _ => keys.sign(at, 1, Tags::from_iter([["t", "x"]]), &format!("{n}")),
        };
        events.push(event);
    }
    events
}

/// What was sent is what became of it, of this upstream.
pub fn adds_up(relay: &Relay, upstream: &str) -> bool {
    let metrics = relay.metrics();
    let sum = |name: &str| -> f64 {
        let mine =
            |line: &&str| line.starts_with(name) && line.contains(&format!(r#"upstream="{upstream}""#));
        metrics
            .lines()
            .filter(mine)
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    let waiting = sum("rookery_upstream_events_waiting{");
    let received = sum("rookery_upstream_events_received_total{");
    assert_eq!(received, sum("rookery_upstream_events_total{") + waiting, "{metrics}");
    waiting == 0.0 && received > 0.0
}

#[tokio::test(flavor = "multi_thread")]
async fn several_come_to_their_union_and_go_on_live() {
    let mut random = StdRng::seed_from_u64(12);
    let all = some_of_everything(&mut random, 1_200);
    // A third is common.
    let shares: Vec<Vec<Event>> = (0..3)
        .map(|nth| {
            let is_its = |(n, _): &(usize, &Event)| n % 3 == 0 || n % 9 / 3 == nth;
            all.iter().enumerate().filter(is_its).map(|(_, event)| event.clone()).collect()
        })
        .collect();
    let upstreams: Vec<Relay> = shares.iter().map(|share| upstream(share, &[])).collect();
    let urls: Vec<String> = upstreams.iter().map(Relay::url).collect();
    let here = reader(&urls.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
    // What they have: of a version that was deleted before it could come, nobody knows any more.
    let held: BTreeSet<String> = upstreams.iter().flat_map(stored).collect();
    let union: Vec<Event> = all.iter().filter(|event| held.contains(&event.id().to_hex())).cloned().collect();
    let expected = model(&union).await;
    eventually("the union", || stored(&here) == expected).await;
    for url in &urls {
        eventually("nothing waits", || adds_up(&here, url)).await;
        assert_eq!(here.metric(&format!(r#"rookery_upstream_up{{upstream="{url}"}}"#)), 1.0);
    }
    // Each is heard once, though three send it; also what is dated long ago.
    let keys = Keys::generate();
    let mut client = here.connect().await;
    client.say(json!(["REQ", "live", { "authors": [keys.public_key()] }])).await;
    assert_eq!(client.hear_stored("live").await.0, [""; 0]);
    let live: Vec<Event> =
        (0..30).map(|n| keys.sign(now() - n * 20_000, 1, Tags::default(), "live")).collect();
    upstreams.iter().for_each(|upstream| put(upstream, &live));
    assert_eq!(hear(&mut client, live.len()).await, ids(&live));
    let last = keys.sign(now(), 1, Tags::default(), "last");
    put(&upstreams[0], std::slice::from_ref(&last));
    assert_eq!(hear(&mut client, 1).await, ids([&last]));
}

/// So many events of a subscription, no two of them the same.
async fn hear(client: &mut Client, count: usize) -> BTreeSet<String> {
    let mut heard = BTreeSet::new();
    for _ in 0..count {
        let message = client.hear().await;
        assert_eq!(message[0], "EVENT", "{message}");
        assert!(heard.insert(message[2]["id"].as_str().unwrap().to_owned()), "twice: {message}");
    }
    heard
}

/// What the other one has not is named in one round after the other, as long as there is more to compare.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_lacks_what_is_here_is_read_all_the_same() {
    let keys = Keys::generate();
    let event = |n: u64| keys.sign(now() - 100_000 + n, 1, Tags::default(), &format!("{n}"));
    let (theirs, own): (Vec<Event>, Vec<Event>) =
        ((0..6_000).map(event).collect(), (6_000..6_500).map(event).collect());
    let there = upstream(&theirs, &[]);
    let here = Relay::start(&["--set", "aggregator.allow_private=true"]);
    put(&here, &own);
    let (status, ..) = here.ask("POST", "/v1/upstreams", &json!({ "url": there.url() }).to_string());
    assert_eq!(status, 201);
    let all = ids(theirs.iter().chain(&own));
    eventually("all of theirs", || stored(&here) == all).await;
    assert_eq!(here.log().line("it finds no end"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_cuts_the_connection_again_and_again_is_read_on() {
    let keys = Keys::generate();
    let there = upstream(&[], &[]);
    let proxy = Proxy::start(there.clients.to_string()).await;
    let url = format!("ws://{}", proxy.address);
    let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
    let here = reader(&[&url], &[]);
    let mut all = Vec::new();
    for n in 0..8 {
        let note = keys.sign(now() - n * 5_000, 1, Tags::default(), &n.to_string());
        put(&there, std::slice::from_ref(&note));
        all.push(note);
        let expected = ids(&all);
        eventually("one more", || stored(&here) == expected).await;
        proxy.set(Flow::Cut);
        eventually("it is cut", || here.metric(&up) == 0.0).await;
        proxy.set(Flow::Open);
    }
    // Each session that began is counted, and its end.
    let count = |name: &str, result: &str| {
        here.metric(&format!(r#"rookery_upstream_{name}_total{{upstream="{url}",result="{result}"}}"#))
    };
    eventually("all are cleaned up", || count("cleanups", "lost") == 8.0).await;
    assert!(count("connects", "subscribed") >= 8.0);
    assert_eq!((count("cleanups", "told"), count("cleanups", "unwritten")), (0.0, 0.0));
}

/// What is in the way of a session, how far it is behind, and what came of it is counted under names that are known.
#[tokio::test(flavor = "multi_thread")]
async fn metrics_tell_what_becomes_of_an_upstream() {
    let keys = Keys::generate();
    let note = |n| keys.sign(now() - n, 1, Tags::default(), "x");
    let notes: Vec<Event> = (0..40).map(note).collect();
    let (there, away) = (upstream(&notes, &[]), format!("ws://127.0.0.1:{}", free_port()));
    let same = upstream(&notes[..10], &[]);
    // The one that is named first has its own series.
    let here = reader(&[&there.url(), &away, &same.url()], &["--set", "aggregator.metrics_upstreams=1"]);
    eventually("everything", || stored(&here) == ids(&notes)).await;
    let read = |name: &str| here.metric(name);
    let of = |upstream: &str, metric: &str, label: &str| {
        read(&format!(r#"rookery_upstream_{metric}{{upstream="{upstream}"{label}}}"#))
    };
    for upstream in [&*there.url(), "other"] {
        eventually("nothing waits", || adds_up(&here, upstream)).await;
        eventually("it is read", || of(upstream, "up", "") == 1.0).await;
        assert_eq!(of(upstream, "connects_total", r#",result="subscribed""#), 1.0);
        assert!(of(upstream, "messages_total", r#",type="eose""#) >= 1.0);
        assert!(of(upstream, "messages_total", r#",type="negentropy""#) >= 1.0);
        let events = of(upstream, "messages_total", r#",type="event""#);
        assert_eq!(events, of(upstream, "events_received_total", ""));
    }
    eventually("nobody is there", || of("other", "connects_total", r#",result="unreachable""#) >= 1.0).await;
    eventually("it is live", || of(&there.url(), "lag_seconds", "") <= 2.0).await;
    // One of the others is not read, for longer and longer.
    eventually("it is behind", || of("other", "lag_seconds", "") >= 2.0).await;
    assert!(!here.metrics().contains(&format!(r#"upstream="{away}""#)));
    // What went into the queue has come out of it.
    let out: f64 = ["stored", "known"]
        .map(|outcome| read(&format!(r#"rookery_consumer_events_total{{outcome="{outcome}"}}"#)))
        .iter()
        .sum();
    assert_eq!((read("rookery_queue_published_total"), read("rookery_consumer_seconds_count")), (out, out));
    // What both have is fetched of both only where the comparison with the second came before the store had it.
    assert!(out >= 40.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_that_is_full_costs_time_and_no_event() {
    let keys = Keys::generate();
    let there = upstream(&[], &[]);
    let here =
        reader(&[&there.url()], &["--set", "aggregator.queue_bytes=65536", "--set", "aggregator.window=16"]);
    let up = format!(r#"rookery_upstream_up{{upstream="{}"}}"#, there.url());
    eventually("it is read", || here.metric(&up) == 1.0).await;
    let note = |n: u64| keys.sign(now() - n * 60, 1, Tags::default(), &"x".repeat(2_000 + n as usize % 7));
    let all: Vec<Event> = (0..1_500).map(note).collect();
    put(&there, &all);
    eventually("everything", || stored(&here) == ids(&all)).await;
    eventually("nothing waits", || adds_up(&here, &there.url())).await;
}
