//! What other relays have is gathered here, whoever made them: what the model makes of their union, whatever dies, is
//! cut, falls silent or stands still meanwhile. Some of it in the suite, more by `cluster/test.sh --long`.

mod bytes;
mod cut;

use std::{
    collections::BTreeSet,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use common::{
    Relay, eventually, free_port, now,
    proxy::{Flow, Proxy},
};
use futures_util::StreamExt;
use nostr_relay_builder::prelude::{LocalRelay, RateLimit, RelayBuilder};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::{JoinHandle, spawn_blocking};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    cli::program::{dump, run, succeed},
    upstreams::{adds_up, model, stored},
};

/// Longest that everything may take to be there.
const LONG: Duration = Duration::from_secs(1_200);
const SETTINGS: [&str; 4] = ["--set", "aggregator.allow_private=true", "--set", "aggregator.verify_cores=2"];

/// Waits until it is so; it may take long, and costs something to find out.
async fn in_time(what: &str, is_so: impl AsyncFn() -> bool) {
    let begun = Instant::now();
    while !is_so().await {
        assert!(begun.elapsed() < LONG, "not yet: {what}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

/// What some users say: notes, profiles and lists in several versions, deletions of notes and of lists, and what expires.
/// A tenth is dated from a minute to a year back. What does away with an event outlasts it in every relay.
fn sayings(random: &mut StdRng, count: usize, expires: u64) -> Vec<Event> {
    let secret = |random: &mut StdRng| Keys::from_secret(random.random());
    let users: Vec<Keys> = std::iter::from_fn(|| secret(random)).take(10).collect();
    let mut notes: Vec<(usize, Event)> = Vec::new();
    let mut events = Vec::new();
    for n in 0..count {
        let user = random.random_range(0..users.len());
        let (keys, text) = (&users[user], n.to_string());
        let at = match random.random_range(0..10) {
            0 => now() - random.random_range(60..365 * 86_400),
            _ => now() - random.random_range(0..60),
        };
        // No two versions of a date, of which relays keep either.
        let version = now() - 10 - n as u64;
        let event = match random.random_range(0..20) {
            0 => keys.sign(version, 0, Tags::default(), &text),
            1 => keys.sign(version, 30_000, Tags::from_iter([["d", ["a", "b"][n % 2]]]), &text),
            2 if n % 7 == 0 => {
                let list = format!("30000:{}:{}", keys.public_key().to_hex(), ["a", "b"][n % 2]);
                keys.sign(version, 5, Tags::from_iter([["a", &list]]), "")
            }
            2 => {
                let own = notes.iter().rfind(|(of, _)| *of == user);
                let target = own.map_or_else(|| "00".repeat(32), |(_, note)| note.id().to_hex());
                keys.sign(now(), 5, Tags::from_iter([["e", &target]]), &text)
            }
            3 => keys.sign(at, 1, Tags::from_iter([["expiration", &expires.to_string()]]), &text),
            _ => {
                let note = keys.sign(at, 1, Tags::from_iter([["t", "x"]]), &text);
                notes.push((user, note.clone()));
                note
            }
        };
        events.push(event);
    }
    events
}

/// Notes of these dates, with a text of so many bytes.
fn notes(dates: impl Iterator<Item = u64>, bytes: usize) -> Vec<Event> {
    let (keys, text) = (Keys::generate(), "x".repeat(bytes));
    dates.enumerate().map(|(n, at)| keys.sign(at, 1, Tags::default(), &format!("{n} {text}"))).collect()
}

/// Brings them to a relay, which may refuse some.
fn bring(url: &str, events: &[Event]) {
    let folder = TempDir::new().unwrap();
    run(&["import", &dump(&folder, events), "--relay", url]);
}

fn held(url: &str) -> BTreeSet<String> {
    crate::cli::program::ids(&succeed(&["export", "-", "--relay", url])).into_iter().collect()
}

/// The relay of crate `nostr-relay-builder`.
async fn mock() -> (LocalRelay, String) {
    let limit = RateLimit { max_reqs: 500, notes_per_minute: u32::MAX };
    let relay = LocalRelay::new(RelayBuilder::default().port(free_port()).rate_limit(limit));
    relay.run().await.unwrap();
    let url = relay.url().await.to_string();
    (relay, url.trim_end_matches('/').to_owned())
}

/// A strfry, where the environment names one, or else one more of ours.
enum Third {
    Strfry(Child, #[expect(dead_code, reason = "goes with it")] TempDir, String),
    Ours(Relay),
}

impl Third {
    fn start() -> Self {
        let Some(program) = std::env::var_os("ROOKERY_TEST_STRFRY") else {
            return Self::Ours(Relay::start(&[]));
        };
        let (folder, port) = (TempDir::new().unwrap(), free_port());
        let database = folder.path().join("db");
        std::fs::create_dir(&database).unwrap();
        let file = folder.path().join("conf");
        let text = format!(
            "db = \"{}/\"\nevents {{\n rejectEventsOlderThanSeconds = 315360000\n}}\n\
             relay {{\n bind = \"127.0.0.1\"\n port = {port}\n nofiles = 0\n \
             negentropy {{\n  enabled = true\n }}\n}}\n",
            database.display()
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(program);
        command.arg("--config").arg(file).arg("relay").stdout(Stdio::null()).stderr(Stdio::null());
        Self::Strfry(command.spawn().unwrap(), folder, format!("ws://127.0.0.1:{port}"))
    }

    fn url(&self) -> String {
        match self {
            Self::Strfry(_, _, url) => url.clone(),
            Self::Ours(relay) => relay.url(),
        }
    }

    async fn is_there(&self) {
        let address = self.url().strip_prefix("ws://").unwrap().to_owned();
        eventually("the third", || std::net::TcpStream::connect(&address).is_ok()).await;
    }
}

impl Drop for Third {
    fn drop(&mut self) {
        if let Self::Strfry(process, ..) = self {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Hears what comes live until the relay dies, and no event twice.
async fn listen(relay: &Relay) -> JoinHandle<BTreeSet<String>> {
    let mut client = relay.connect().await;
    client.say(json!(["REQ", "live", { "limit": 0 }])).await;
    assert_eq!(client.hear_stored("live").await.0, [""; 0]);
    tokio::spawn(async move {
        let mut heard = BTreeSet::new();
        while let Some(Ok(message)) = client.socket.next().await {
            let Message::Text(text) = message else { continue };
            let message: Value = serde_json::from_str(&text).unwrap();
            assert_eq!(message[0], "EVENT", "{message}");
            assert!(heard.insert(message[2]["id"].as_str().unwrap().to_owned()), "twice: {message}");
        }
        heard
    })
}

fn view(relay: &Relay, url: &str) -> Value {
    let all = relay.ask("GET", "/v1/upstreams", "").2;
    all.as_array().unwrap().iter().find(|view| view["url"] == url).unwrap_or(&Value::Null).clone()
}

/// Adds, pauses, resumes or removes one.
fn ask(relay: &Relay, what: &str, url: &str) {
    let path = || format!("/v1/upstreams/{}", view(relay, url)["id"].as_str().unwrap());
    let (status, _, answer) = match what {
        "add" => relay.ask("POST", "/v1/upstreams", &json!({ "url": url }).to_string()),
        "remove" => relay.ask("DELETE", &path(), ""),
        _ => relay.ask("POST", &format!("{}/{what}", path()), ""),
    };
    assert!((200..300).contains(&status), "{what} {url}: {answer}");
}

/// What is counted of one adds up, and nothing of it waits.
fn is_finished(relay: &Relay, url: &str) -> bool {
    let view = view(relay, url);
    let number = |name: &str| view[name].as_u64().unwrap();
    let refused: u64 = view["refused"].as_object().unwrap().values().map(|n| n.as_u64().unwrap()).sum();
    let sum = number("stored") + number("known") + refused + number("dead") + number("waiting");
    assert_eq!(number("received"), sum, "{view}");
    view["state"] == "live" && adds_up(relay, url)
}

/// Waits until the relay has what the model makes of what these have, and of nothing else.
async fn comes_to_the_union(here: &Relay, upstreams: &[String], all: &[Event]) -> BTreeSet<String> {
    let there: BTreeSet<String> = upstreams.iter().flat_map(|url| held(url)).collect();
    let union: Vec<Event> =
        all.iter().filter(|event| there.contains(&event.id().to_hex())).cloned().collect();
    let expected = model(&union).await;
    in_time("the union", async || stored(here) == expected).await;
    expected
}

/// ```text
/// ours, behind a way that is cut   added ── paused ─────────── resumed ──
/// the mock relay                   added ─────────────── removed, added ──
/// strfry, or another of ours              added ─────────────────────────
/// ```
async fn three_are_gathered(count: usize, cuts: usize) {
    let mut random = StdRng::seed_from_u64(12);
    let expires = now() + 5 + count as u64 / 500;
    let all = sayings(&mut random, count, expires);
    // A third is common.
    let shares: Vec<Vec<Event>> = (0..3)
        .map(|nth| {
            let is_its = |(n, _): &(usize, &Event)| n % 3 == 0 || n % 9 / 3 == nth;
            all.iter().enumerate().filter(is_its).map(|(_, event)| event.clone()).collect()
        })
        .collect();
    let (ours, (_mock, mock), third) = (Relay::start(&[]), mock().await, Third::start());
    third.is_there().await;
    let there = [ours.url(), mock, third.url()];
    let proxy = Proxy::start(ours.clients.to_string()).await;
    let urls = [format!("ws://{}", proxy.address), there[1].clone(), there[2].clone()];

    let bring_all = |part: fn(&[Event]) -> &[Event]| {
        let (there, shares) = (there.clone(), shares.clone());
        spawn_blocking(move || there.iter().zip(&shares).for_each(|(url, share)| bring(url, part(share))))
    };
    bring_all(|share| &share[..share.len() / 2]).await.unwrap();
    let here = Relay::start(&SETTINGS);
    let heard = listen(&here).await;
    ask(&here, "add", &urls[0]);
    ask(&here, "add", &urls[1]);
    eventually("some are read", || view(&here, &urls[0])["stored"].as_u64() > Some(20)).await;
    ask(&here, "pause", &urls[0]);
    let more = bring_all(|share| &share[share.len() / 2..]);
    ask(&here, "add", &urls[2]);
    eventually("some are read", || view(&here, &urls[2])["received"].as_u64() > Some(20)).await;
    ask(&here, "resume", &urls[0]);
    ask(&here, "remove", &urls[1]);
    for _ in 0..cuts {
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_500))).await;
        proxy.set(Flow::Cut);
        tokio::time::sleep(Duration::from_millis(random.random_range(0..200))).await;
        proxy.set(Flow::Open);
    }
    ask(&here, "add", &urls[1]);
    more.await.unwrap();
    in_time("what expires has expired", async || now() > expires).await;
    let expected = comes_to_the_union(&here, &there, &all).await;
    for url in &urls {
        in_time("nothing waits", async || is_finished(&here, url)).await;
        let view = view(&here, url);
        eprintln!(
            "{url}: {} received, {} stored, {} known, {} refused",
            view["received"], view["stored"], view["known"], view["refused"]
        );
    }
    drop(here);
    let heard = heard.await.unwrap();
    assert!(expected.is_subset(&heard), "what is stored was heard");
    eprintln!("{} of {count} events are stored, {} were heard", expected.len(), heard.len());
}

#[tokio::test(flavor = "multi_thread")]
async fn several_of_other_makes_come_to_their_union() {
    three_are_gathered(900, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "30,000 events take minutes"]
async fn several_of_other_makes_come_to_their_union_at_length() {
    three_are_gathered(30_000, 10).await;
}

/// A program of kills: each in the middle of what is being published, at a moment that the seed says, and some more is
/// published before the next life.
async fn dies_again_and_again(seed: u64, kills: usize, each: usize) {
    let mut random = StdRng::seed_from_u64(seed);
    let expires = now() + 5;
    let all = sayings(&mut random, kills * each, expires);
    let (ours, (_mock, mock)) = (Relay::start(&[]), mock().await);
    let there = [ours.url(), mock];
    let upstreams = there.join(",");
    let flags = [&SETTINGS[..], &["--upstream", &upstreams]].concat();
    let mut here = Relay::start(&flags);
    for (nth, part) in all.chunks(each).enumerate() {
        let heard = listen(&here).await;
        let (alive, dead) = part.split_at(each * 3 / 4);
        let (url, alive) = (there[nth % 2].clone(), alive.to_vec());
        let publishing = spawn_blocking(move || bring(&url, &alive));
        tokio::time::sleep(Duration::from_millis(random.random_range(0..1_000))).await;
        here.process.kill().unwrap();
        publishing.await.unwrap();
        bring(&there[random.random_range(0..2)], dead);
        heard.await.unwrap();
        here = here.restart_after_kill(&flags);
    }
    in_time("what expires has expired", async || now() > expires).await;
    let expected = comes_to_the_union(&here, &there, &all).await;
    for url in &there {
        in_time("nothing waits", async || is_finished(&here, url)).await;
    }
    eprintln!("seed {seed}: {kills} kills, {} of {} events are stored", expected.len(), all.len());
}

/// What is published while nobody reads, or while the reader dies, is there in the end, and nobody hears it twice of one
/// life.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_missed_whenever_the_reader_dies() {
    dies_again_and_again(7, 5, 60).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "thirty lives take minutes"]
async fn nothing_is_missed_whenever_the_reader_dies_ten_times() {
    for seed in 1..=3 {
        dies_again_and_again(seed, 10, 600).await;
    }
}
