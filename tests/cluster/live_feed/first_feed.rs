//! What the first feed of somebody takes, and the next ones.

use std::time::{Duration, Instant};

use nostr_sdk::nips::{nip19::FromBech32, nip49::EncryptedSecretKey};
use rookery::protocol::{
    Event, Tags,
    kind::{ACTIVITY, DELETION, FOLLOW_LIST, NOTE, REPOST},
    sign::Keys,
};
use serde_json::{Value, json};
use tokio::task::block_in_place;

use super::settings;
use crate::stored::{Keyspace, publish_all};
use common::{Client, Relay, eventually, note, now, people::PASSWORD, redis::Redis, watch};

/// The sum over all labels of a metric.
fn total(node: &Relay, name: &str) -> f64 {
    let text = node.metrics();
    let values =
        text.lines().filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])));
    values.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// How long a question takes, in milliseconds, and what it costs the node: statements, and pages told from memory.
struct Asked {
    milliseconds: f64,
    statements: f64,
    hits: f64,
}

const HITS: &str = "rookery_feed_hits_total";

async fn asked(node: &Relay, question: impl AsyncFnOnce()) -> Asked {
    let costs = || [total(node, "rookery_store_statements_total"), node.metric(HITS)];
    let (before, begun) = (costs(), Instant::now());
    question().await;
    let milliseconds = 1e3 * begun.elapsed().as_secs_f64();
    let [statements, hits] = std::array::from_fn(|nth| costs()[nth] - before[nth]);
    Asked { milliseconds, statements, hits }
}

fn print(what: &str, mut asked: Vec<Asked>) {
    asked.sort_unstable_by(|one, other| one.milliseconds.total_cmp(&other.milliseconds));
    let Asked { milliseconds, statements, hits } = &asked[asked.len() / 2];
    let (least, most) = (asked[0].milliseconds, asked[asked.len() - 1].milliseconds);
    println!(
        "{what:<44} {milliseconds:>7.1} ms ({least:.1} to {most:.1}), {statements:.0} statements, {hits:.0} pages from memory"
    );
}

/// Somebody who follows five hundred, at nodes that know nothing of that yet: what the first feed takes, by REST and by
/// the filter of the page, and the next ones.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "figures for people"]
async fn the_first_feed_of_somebody_who_follows_five_hundred() {
    const AUTHORS: usize = 500;
    const NOTES: usize = 20;
    const ROUNDS: usize = 5;
    const REPEATED: usize = 20;
    const KEY_PASSWORD: &str = "a longer one for the key";
    watch::allow(Duration::from_secs(3_600));
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    // As nodes with accounts have it.
    let settings = settings(&["feeds.max_bytes=67108864"]);
    let start = async || {
        let node = keyspace.node_with(&redis.url(), &settings);
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        node
    };
    let front = start().await;
    let reader = front.sign_up("reader");
    let taken = json!({ "password": PASSWORD, "keyPassword": KEY_PASSWORD });
    let taken = reader.ask(&front, "POST", "/v1/me/key", taken).json();
    let key = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
    let own = Keys::from_secret(key.decrypt(KEY_PASSWORD).unwrap().to_secret_bytes()).unwrap();
    let newest = now();
    let authors: Vec<Keys> = (0..AUTHORS).map(|_| Keys::generate()).collect();
    let notes: Vec<Event> = (0..AUTHORS * NOTES)
        .map(|nth| {
            note(&authors[nth * 7 % AUTHORS], newest - nth as u64, &format!("{nth} {}", "x".repeat(200)))
        })
        .collect();
    let mut publisher = front.connect().await;
    for some in notes.chunks(500) {
        publish_all(&mut publisher, some).await;
    }
    let hex: Vec<String> = authors.iter().map(|keys| keys.public_key().to_hex()).collect();
    // As another app writes it.
    let list = own.sign(now(), FOLLOW_LIST, Tags::from_iter(hex.iter().map(|key| ["p", key.as_str()])), "");
    publish_all(&mut publisher, &[list]).await;
    let page = common::ask::ids(&notes[..100]);
    let of_kinds = |kinds: &[u16]| json!({ "authors": hex, "kinds": kinds, "limit": 100 });
    let notes = [of_kinds(&[NOTE, REPOST])];
    // All that the page asks for in one subscription.
    let whole = [&[NOTE, REPOST][..], &[ACTIVITY], &[DELETION]].map(of_kinds);

    let rest = async |node: &Relay| {
        let answer = block_in_place(|| reader.ask(node, "GET", "/v1/feed?limit=100", Value::Null)).json();
        let events = answer["events"].as_array().unwrap().iter();
        assert_eq!(events.map(|event| event["id"].as_str().unwrap()).collect::<Vec<_>>(), page);
    };
    let req = async |client: &mut Client, filters: &[Value]| {
        assert_eq!(client.find_any(filters).await.0, page);
    };
    let (mut cold, mut signed_in, mut warm) = ([(); 3].map(|()| vec![]), vec![], [(); 3].map(|()| vec![]));
    for _ in 0..ROUNDS {
        let node = start().await;
        cold[0].push(asked(&node, async || rest(&node).await).await);
        for (filters, cold) in [&notes[..], &whole].into_iter().zip(&mut cold[1..]) {
            let node = start().await;
            let mut client = reader.connect(&node).await;
            cold.push(asked(&node, async || req(&mut client, filters).await).await);
        }
        let node = start().await;
        node.sign_in("reader");
        // Where signing in has the feed read, it has been read by then; where it has not, nothing tells.
        let (half, begun) = ((AUTHORS * NOTES * 200 / 2) as f64, Instant::now());
        while node.metric("rookery_feed_memory_bytes") < half && begun.elapsed() < Duration::from_secs(15) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        signed_in.push(asked(&node, async || rest(&node).await).await);
        // The page is open, so its authors are listened to.
        let mut client = reader.connect(&node).await;
        client.request("open", &notes).await;
        let (before, begun) = (node.metric(HITS), Instant::now());
        while node.metric(HITS) == before {
            assert!(begun.elapsed() < Duration::from_secs(60), "it is never told from memory");
            req(&mut client, &notes).await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        for _ in 0..REPEATED {
            warm[0].push(asked(&node, async || rest(&node).await).await);
            warm[1].push(asked(&node, async || req(&mut client, &notes).await).await);
            warm[2].push(asked(&node, async || req(&mut client, &whole).await).await);
        }
    }
    for (what, cold, warm) in ["GET /v1/feed", "REQ of notes", "REQ of the page"]
        .into_iter()
        .zip(cold)
        .zip(warm)
        .map(|((what, cold), warm)| (what, cold, warm))
    {
        print(&format!("{what}, a node that knows nothing"), cold);
        print(&format!("{what}, notes in memory"), warm);
    }
    print("GET /v1/feed, the first after sign-in", signed_in);
}
