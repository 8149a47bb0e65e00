//! Other relays that are read: each event once, nothing missed, whatever dies or lies.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    io::Read,
    sync::{Arc, Mutex, mpsc},
    time::{Duration, Instant},
};

use common::{
    Client, PATIENCE, Relay, eventually, free_port, now,
    proxy::{Flow, Proxy},
    relay_command,
    tls::Authority,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rookery::{
    protocol::{
        ClientMessage, Event, EventId, Filter, ParsedEvent, Tags,
        negentropy::{Key, KeySet},
        sign::Keys,
    },
    store::{Content, Cursor, Limit, Query, Store, Viewer, memory::Memory},
};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    cli::{
        program::{dump, succeed},
        relay::{Do, Relay as Mock, say},
    },
    upstream_commands::does,
};

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

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_sends_is_refused_by_reason_and_the_rest_is_taken() {
    let keys = Keys::generate();
    let good: Vec<Event> = (0..5).map(|n| keys.sign(now() - n, 1, Tags::default(), "good")).collect();
    let texts: Vec<String> = good.iter().map(|event| event.json().to_owned()).collect();
    let forged = good[0].json().replace("good", "evil");
    let late = keys.sign(now() + 100_000, 1, Tags::default(), "ahead").json().to_owned();
    let relay = Mock::start(move |_, message| {
        let Ok(ClientMessage::Req { id, filters }) = ClientMessage::parse(message) else {
            return match ClientMessage::parse(message) {
                Ok(ClientMessage::NegOpen { .. }) => say(r#"["NOTICE","unknown"]"#),
                _ => Vec::new(),
            };
        };
        if filters[0].since.is_some() {
            return say(format!(r#"["EOSE","{id}"]"#));
        }
        let events = texts.iter().chain([&forged, &late]).map(|text| format!(r#"["EVENT","{id}",{text}]"#));
        let others = [
            r#"["EVENT","another",{}]"#.to_owned(),
            format!(r#"["EVENT","{id}",{{"id":1}}]"#),
            format!(r#"["EVENT","{id}",7]"#),
            "nothing of the kind".to_owned(),
            r#"["OK"]"#.to_owned(),
            format!(r#"["EOSE","{id}"]"#),
            // Once more, when it is live.
            format!(r#"["EVENT","{id}",{}]"#, texts[0]),
        ];
        events.chain(others).map(Do::Say).collect()
    });
    let here = reader(&[&relay.url], &[]);
    eventually("the good ones", || stored(&here) == ids(&good)).await;
    eventually("nothing waits", || adds_up(&here, &relay.url)).await;
    let count = |outcome: &str| {
        here.metric(&format!(
            r#"rookery_upstream_events_total{{upstream="{}",outcome="{outcome}"}}"#,
            relay.url
        ))
    };
    assert_eq!((count("stored"), count("shape"), count("known")), (5.0, 2.0, 1.0));
    assert_eq!((count("forged"), count("ahead")), (1.0, 1.0));
}

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_not_public_are_not_connected_to() {
    let port = free_port();
    let mock = Mock::start(|_, _| Vec::new());
    let itself = format!("ws://127.0.0.1:{port}");
    let relay = Relay::start(&["--upstream", &format!("{},{itself}", mock.url)]);
    let log = relay.log();
    log.says("is not on the public Internet").await;
    assert_eq!(mock.heard(), [""; 0]);
    for (url, says) in [
        ("wss://user:secret@relay.example.com", "it holds a user or a password"),
        ("https://relay.example.com", "begins with ws:// or wss://"),
        ("file:///etc/passwd", "begins with ws:// or wss://"),
        ("relay.example.com", "it is no URL"),
        ("wss://a.example,wss://A.example:443/", "twice"),
    ] {
        let folder = TempDir::new().unwrap();
        let data = folder.path().to_str().unwrap();
        let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        let error =
            crate::cli::program::fail(&[&["relay", "--data", data, "--upstream", url], &ports[..]].concat());
        assert!(error.contains(says) && !error.contains("secret"), "{url}: {error}");
    }
}

/// A relay that reconciles. It has these events, whatever they are, and has others by their names alone.
fn reconciles(events: &Arc<Mutex<Vec<Event>>>, names: Vec<Key>) -> Mock {
    let events = Arc::clone(events);
    let mut open: HashMap<(usize, String), KeySet> = HashMap::new();
    let answer = |set: &KeySet, id: &str, message: &[u8]| {
        say(format!(r#"["NEG-MSG","{id}","{}"]"#, hex::encode(set.answer(message, 60_000).unwrap())))
    };
    Mock::start(move |number, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, filters }) => {
            let (events, filter) = (events.lock().unwrap(), &filters[0]);
            let found = events.iter().filter(|event| filter.ids.is_some() && filter.matches(*event));
            let found = found.map(|event| format!(r#"["EVENT","{id}",{}]"#, event.json()));
            found.chain([format!(r#"["EOSE","{id}"]"#)]).map(Do::Say).collect()
        }
        Ok(ClientMessage::NegOpen { id, filter, message }) => {
            let events = events.lock().unwrap();
            let matching = events.iter().filter(|event| filter.matches(*event));
            let of_events = matching.map(|event| Key { created_at: event.created_at(), id: event.id() });
            let mut keys: Vec<Key> = of_events.chain(names.iter().copied()).collect();
            keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
            let set = open.entry((number, id.to_string())).or_insert(keys.into_iter().collect());
            answer(set, &id, &message)
        }
        Ok(ClientMessage::NegMsg { id, message }) => answer(&open[&(number, id.to_string())], &id, &message),
        _ => Vec::new(),
    })
}

/// The ids that it was asked for.
fn asked_for(relay: &Mock) -> Vec<EventId> {
    let ids = |message: &String| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { filters, .. }) => filters[0].ids.clone().unwrap_or_default().into_vec(),
        _ => Vec::new(),
    };
    relay.heard().iter().flat_map(ids).collect()
}

/// An event as its text says, whether that is right or not.
fn as_told(text: &str) -> Event {
    serde_json::from_str::<ParsedEvent<'_>>(text).unwrap().trust()
}

fn tagged(keys: &Keys, kind: u16, tags: &[[&str; 2]]) -> Event {
    keys.sign(now() - 100, kind, Tags::from_iter(tags.iter()), &rand::random::<u64>().to_string())
}

/// Events that a relay does not take, each for a reason of its own, where these others are stored.
fn not_taken(keys: &Keys) -> (Vec<Event>, Vec<Event>) {
    let superseded = tagged(keys, 0, &[]);
    let newer = keys.sign(now() - 10, 0, Tags::default(), "newer");
    let deleted = tagged(keys, 1, &[]);
    let deletion = keys.sign(now() - 10, 5, Tags::from_iter([["e", &deleted.id().to_hex()]]), "");
    let wrong_id = as_told(&tagged(keys, 1, &[]).json().replace(r#""kind":1"#, r#""kind":7"#));
    let (one, other) = (tagged(keys, 1, &[]), tagged(keys, 1, &[]));
    let signature = |event: &Event| event.json().split_once(r#""sig":""#).unwrap().1[..128].to_owned();
    let wrong_signature = as_told(&one.json().replace(&signature(&one), &signature(&other)));
    let there = vec![
        superseded,
        deleted,
        tagged(keys, 1, &[["expiration", "1700000000"]]),
        tagged(keys, 1, &[["-", ""]]),
        tagged(keys, 20_001, &[]),
        wrong_id,
        wrong_signature,
    ];
    (there, vec![newer, deletion])
}

/// Also after a restart: it is written down.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_fetched_once_and_not_whenever_everything_is_compared() {
    let keys = Keys::generate();
    let (there, here_already) = not_taken(&keys);
    let there = Arc::new(Mutex::new(there));
    let mock = reconciles(&there, Vec::new());
    let proxy = Proxy::start(mock.url.strip_prefix("ws://").unwrap().to_owned()).await;
    let url = format!("ws://{}", proxy.address);
    let flags = reads(&[&url]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let begun = now() as f64;
    let mut here = upstream(&here_already, &[]).restart_after_kill(&flags);
    let mut expected: BTreeSet<EventId> = there.lock().unwrap().iter().map(Event::id).collect();
    let is_noted = |here: &Relay| {
        let cursor = format!(r#"rookery_upstream_cursor_timestamp_seconds{{upstream="{url}"}}"#);
        here.metric(&cursor) >= begun - 3_600.0
    };
    eventually("nothing waits", || adds_up(&here, &url)).await;
    eventually("it is noted", || is_noted(&here)).await;
    for is_restart in [false, true] {
        // By this one it is seen that everything was compared.
        let good = tagged(&keys, 1, &[]);
        there.lock().unwrap().push(good.clone());
        expected.insert(good.id());
        if is_restart {
            here = here.restart_after_kill(&flags);
        } else {
            proxy.set(Flow::Cut);
            let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
            eventually("it is cut", || here.metric(&up) == 0.0).await;
            proxy.set(Flow::Open);
        }
        eventually("the new one", || stored(&here).contains(&good.id().to_hex())).await;
        let asked = asked_for(&mock);
        assert_eq!(asked.len(), expected.len(), "restart: {is_restart}");
        assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_nothing_are_not_asked_for_again() {
    let keys = Keys::generate();
    let there = Arc::new(Mutex::new(vec![tagged(&keys, 1, &[])]));
    let made_up = |n: u64| Key { created_at: now() - n, id: EventId(rand::random()) };
    let mock = reconciles(&there, (0..1_700).map(made_up).collect());
    let proxy = Proxy::start(mock.url.strip_prefix("ws://").unwrap().to_owned()).await;
    let url = format!("ws://{}", proxy.address);
    let here = reader(&[&url], &[]);
    here.log().says("it names events and does not send them").await;
    // The rest is asked for by the next session, and then everything is compared.
    let cursor = format!(r#"rookery_upstream_cursor_timestamp_seconds{{upstream="{url}"}}"#);
    eventually("all is compared", || here.metric(&cursor) > 0.0).await;
    let asked = asked_for(&mock).len();
    there.lock().unwrap().push(tagged(&keys, 1, &[]));
    proxy.set(Flow::Cut);
    let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
    eventually("it is cut", || here.metric(&up) == 0.0).await;
    proxy.set(Flow::Open);
    eventually("both", || stored(&here) == ids(&*there.lock().unwrap())).await;
    assert_eq!(asked_for(&mock).len(), asked + 1);
    assert_eq!(here.metric(&format!(r#"rookery_upstream_phantoms_total{{upstream="{url}"}}"#)), 1_700.0);
}

/// The limits are those of a real relay, which refuses what is more.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_says_of_itself_is_heeded() {
    let keys = Keys::generate();
    let note = |n: u64| keys.sign(1_700_000_000 + n * 1_000, 1, Tags::default(), "");
    let notes: Vec<Event> = (0..600).map(note).collect();
    let limits = ["limits.max_subscriptions=1", "limits.max_limit=30", "limits.max_message_bytes=16384"];
    let limits = limits.map(|limit| ["--set", limit]).concat();
    for more in [&[][..], &["--set", "sync.max_open=0"]] {
        let there = Relay::start(&[]);
        put(&there, &notes);
        let there = there.restart_after_kill(&[&limits[..], more].concat());
        let here = reader(&[&there.url()], &[]);
        eventually("everything", || stored(&here) == ids(&notes)).await;
        eventually("nothing waits", || adds_up(&here, &there.url())).await;
        let refused =
            format!(r#"rookery_upstream_messages_total{{upstream="{}",type="closed"}}"#, there.url());
        assert_eq!(here.metric(&refused), 0.0);
        assert_eq!(there.metric(r#"rookery_messages_total{verb="malformed"}"#), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_nonsense_of_itself_is_read_all_the_same() {
    let note = Keys::generate().sign(now(), 1, Tags::default(), "");
    // Longer than anybody takes; no JSON; of another shape.
    let long = json!({ "limitation": { "auth_required": true }, "name": "x".repeat(100_000) }).to_string();
    let shapes = json!({ "limitation": { "max_limit": "7", "auth_required": 1, "max_subscriptions": -1 } });
    for information in [long, "<html>".to_owned(), shapes.to_string()] {
        let holds = crate::cli::relay::holds(vec![note.clone()], 100, false);
        let there =
            Mock::start_informing(information, move |_, message| match message.contains("NEG-OPEN") {
                true => say(r#"["NOTICE","unknown"]"#),
                false => holds(message),
            });
        let here = reader(&[&there.url], &[]);
        eventually("it", || stored(&here) == ids([&note])).await;
    }
}

/// There is no key to say it with, so nothing is asked.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_to_know_who_reads_is_not_asked_by_nobody() {
    let information = json!({ "limitation": { "auth_required": true } }).to_string();
    let there = Mock::start_informing(information, |_, _| Vec::new());
    let here = reader(&[&there.url], &[]);
    let refused = format!(r#"rookery_upstream_connects_total{{upstream="{}",result="refused"}}"#, there.url);
    eventually("it gives up", || here.metric(&refused) >= 1.0).await;
    here.log().says("the relay wants to know who you are").await;
    assert_eq!(there.heard(), [""; 0]);
}

/// By TLS where the relay is: the first that a relay hears.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_by_tls_is_asked_by_tls() {
    let (authority, (say, heard)) = (Authority::new("ours"), mpsc::channel());
    let port = authority.listen(&[], move |mut stream| {
        let mut head = [0; 4_096];
        if let Ok(length) = stream.read(&mut head) {
            let _ = say.send(String::from_utf8_lossy(&head[..length]).to_ascii_lowercase());
        }
    });
    let data = TempDir::new().unwrap();
    let flags = reads(&[&format!("wss://localhost:{port}/path?token=secret")]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut command = relay_command(data.path(), &flags);
    command.env("SSL_CERT_FILE", &authority.file);
    let _here = Relay::spawn(command, data);
    let asked = tokio::task::spawn_blocking(move || heard.recv_timeout(PATIENCE)).await.unwrap().unwrap();
    assert!(asked.starts_with("get /path?token=secret http/1.1"), "{asked}");
    for header in
        [&format!("host: localhost:{port}"), "accept: application/nostr+json", "user-agent: rookery"]
    {
        assert!(asked.contains(header), "{header} is not in {asked}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_read_itself() {
    // A way that leads to it, though it is none of its addresses.
    let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", way.local_addr().unwrap());
    let here = reader(&[&url], &[]);
    let itself = here.clients;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = way.accept().await {
            let mut to = tokio::net::TcpStream::connect(itself).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let forbidden = format!(r#"rookery_upstream_connects_total{{upstream="{url}",result="forbidden"}}"#);
    eventually("it is recognised", || here.metric(&forbidden) == 1.0).await;
    here.log().says("it is this relay itself, or a node of its cluster").await;
    assert_eq!(here.metric(r#"rookery_messages_total{verb="req"}"#), 0.0);
    assert_eq!(here.metric(&format!(r#"rookery_upstream_up{{upstream="{url}"}}"#)), 0.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_what_is_forged_is_not_read_for_an_hour() {
    let keys = Keys::generate();
    let good = tagged(&keys, 1, &[]);
    let forged: Vec<String> =
        (0..50).map(|n| good.json().replace(r#""kind":1"#, &format!(r#""kind":{}"#, 100 + n))).collect();
    let text = good.json().to_owned();
    let mock = Mock::start(move |_, message| {
        let Ok(ClientMessage::Req { id, .. }) = ClientMessage::parse(message) else { return Vec::new() };
        let events = forged.iter().chain([&text]).map(|text| format!(r#"["EVENT","{id}",{text}]"#));
        [format!(r#"["EOSE","{id}"]"#)].into_iter().chain(events).map(Do::Say).collect()
    });
    let here = reader(&[&mock.url], &[]);
    here.log().says("over 1 % of its last 1,000 events are forged, or over half are nothing").await;
    let of = |name: &str| here.metric(&format!(r#"rookery_upstream_{name}{{upstream="{}"}}"#, mock.url));
    assert_eq!((of("up"), of("distrusted_total")), (0.0, 1.0));
    // What it has sent besides is what anybody may send.
    eventually("nothing waits", || adds_up(&here, &mock.url)).await;
    assert_eq!(stored(&here), ids([&good]));
}
