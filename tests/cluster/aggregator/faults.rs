//! Readers, consumers and Redis that die, stop and come back while other relays go on.

use std::{
    collections::BTreeSet,
    env,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use common::{Client, PATIENCE, Relay, cassandra, fresh, note, now, redis::Redis, watch};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rookery::protocol::sign::Keys;
use serde_json::json;
use tokio::time::sleep;

use super::{Stage, all_read};

/// What happens to one of them.
#[derive(Debug, Clone, Copy)]
enum Fault {
    KillReader,
    KillConsumer,
    PauseReader,
    PauseConsumer,
    /// It comes back with what it has written down, which may be a second old.
    KillRedis,
    /// It comes back with nothing.
    LoseRedis,
    KillStore,
}

const FAULTS: [Fault; 6] = [
    Fault::KillReader,
    Fault::KillConsumer,
    Fault::PauseReader,
    Fault::PauseConsumer,
    Fault::KillRedis,
    Fault::LoseRedis,
];

/// Publishes to a source until it is told to stop: the ids of what was acknowledged.
async fn publish(mut client: Client, seed: u64, is_over: Arc<AtomicBool>) -> BTreeSet<String> {
    let (mut random, keys, mut ids) = (StdRng::seed_from_u64(seed), Keys::generate(), BTreeSet::new());
    let mut nth = 0;
    while !is_over.load(Relaxed) {
        nth += 1;
        let content = format!("{seed} {nth}");
        let event = match random.random_range(0..10) {
            // Such as others rebroadcast.
            0 => note(&keys, now() - random.random_range(60..365 * 86_400), &content),
            _ => fresh(&keys, &content),
        };
        assert!(client.publish(&event).await.0);
        ids.insert(event.id().to_hex());
        sleep(Duration::from_millis(random.random_range(5..60))).await;
    }
    ids
}

/// Subscribes anew whenever it is told that something may have been missed; nothing comes twice to a subscription.
async fn listen(mut client: Client, is_over: Arc<AtomicBool>) -> usize {
    let (mut lives, mut heard) = (0, BTreeSet::new());
    client.say(json!(["REQ", "0", { "kinds": [1], "limit": 0 }])).await;
    while !is_over.load(Relaxed) {
        let Ok(message) = tokio::time::timeout(Duration::from_millis(500), client.hear()).await else {
            continue;
        };
        match message[0].as_str().unwrap() {
            "CLOSED" => {
                lives += 1;
                heard.clear();
                client.say(json!(["REQ", lives.to_string(), { "kinds": [1], "limit": 0 }])).await;
            }
            "EVENT" if message[1] == lives.to_string().as_str() => {
                let id = message[2]["id"].as_str().unwrap().to_owned();
                assert!(heard.insert(id), "twice: {message}");
            }
            _ => {}
        }
    }
    lives
}

/// Those of these that are stored; none while the store does not answer.
async fn find(relay: &Relay, ids: &[String]) -> BTreeSet<String> {
    let (mut client, mut found) = (relay.connect().await, BTreeSet::new());
    client.say(json!(["REQ", "found", { "ids": ids, "limit": ids.len() }])).await;
    loop {
        let message = client.hear().await;
        match message[0].as_str() {
            Some("EVENT") => found.insert(message[2]["id"].as_str().unwrap().to_owned()),
            _ => return found,
        };
    }
}

struct Play {
    stage: Stage,
    readers: Vec<Relay>,
    consumers: Vec<Relay>,
    store: Option<cassandra::Servers>,
}

impl Play {
    async fn happen(&mut self, fault: Fault, random: &mut StdRng) {
        let which = random.random_range(0..2);
        let pause = Duration::from_millis(random.random_range(100..4_000));
        match fault {
            Fault::KillReader => {
                drop(self.readers.remove(which));
                sleep(pause).await;
                self.readers.push(self.stage.start("read"));
            }
            Fault::KillConsumer => {
                drop(self.consumers.remove(which));
                sleep(pause).await;
                self.consumers.push(self.stage.start("consume"));
            }
            Fault::PauseReader | Fault::PauseConsumer => {
                let of_kind =
                    if matches!(fault, Fault::PauseReader) { &self.readers } else { &self.consumers };
                of_kind[which].signal("STOP");
                sleep(pause).await;
                of_kind[which].signal("CONT");
            }
            Fault::KillRedis | Fault::LoseRedis => {
                self.stage.redis.stop();
                if matches!(fault, Fault::LoseRedis) {
                    self.stage.redis.lose();
                }
                sleep(pause / 4).await;
                self.stage.redis.start_again();
            }
            Fault::KillStore => {
                if let Some(store) = &self.store {
                    store.kill(1);
                    sleep(pause).await;
                    store.up(1);
                }
            }
        }
    }
}

/// At the end the store has what the sources have, and nothing has come twice to a subscription.
async fn play(seed: u64, faults: usize, store: Option<cassandra::Servers>) {
    eprintln!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let servers =
        store.as_ref().map_or_else(|| cassandra::server().to_owned(), cassandra::Servers::addresses);
    let stage = Stage::set(Redis::start_kept(), 3, &[], &servers);
    let relay = stage.relay();
    let readers = vec![stage.start("read"), stage.start("read")];
    let consumers = vec![stage.start("consume"), stage.start("consume")];
    stage.add_all(&relay);
    all_read(&readers.iter().collect::<Vec<_>>(), 3).await;
    let mut play = Play { stage, readers, consumers, store };
    let is_over = Arc::new(AtomicBool::new(false));
    let listening = tokio::spawn(listen(relay.connect().await, Arc::clone(&is_over)));
    let mut publishing = Vec::new();
    for (source, seed) in play.stage.sources.iter().zip(seed..) {
        publishing.push(tokio::spawn(publish(source.connect().await, seed, Arc::clone(&is_over))));
    }
    // Each kind at least so often, and the rest as it comes.
    let kinds = FAULTS.len() + usize::from(play.store.is_some());
    for nth in 0..faults {
        let fault = match nth % kinds {
            nth if nth < FAULTS.len() => FAULTS[nth],
            _ => Fault::KillStore,
        };
        eprintln!("fault {nth}: {fault:?}");
        play.happen(fault, &mut random).await;
        sleep(Duration::from_millis(random.random_range(200..3_000))).await;
    }
    is_over.store(true, Relaxed);
    let mut expected = BTreeSet::new();
    for published in publishing {
        expected.extend(published.await.unwrap());
    }
    let lives = listening.await.unwrap();
    let begun = Instant::now();
    let mut missing = expected.clone();
    while !missing.is_empty() {
        assert!(begun.elapsed() < 4 * PATIENCE, "{} of {} are missing", missing.len(), expected.len());
        let ids: Vec<String> = missing.iter().take(200).cloned().collect();
        let found = find(&relay, &ids).await;
        if found.is_empty() {
            sleep(Duration::from_millis(200)).await;
        }
        missing.retain(|id| !found.contains(id));
    }
    eprintln!("seed {seed}: {} events through {faults} faults, {lives} subscriptions closed", expected.len());
    let letters = relay.ask("GET", "/v1/dead-letters", "").2;
    assert_eq!(letters["letters"], json!([]), "no outage makes a dead letter");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_few_faults_lose_nothing() {
    play(7, 6, None).await;
}

/// `ROOKERY_FAULTS_SEED` is another seed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "several minutes, and a CQL server of its own"]
async fn twenty_four_faults_lose_nothing() {
    watch::allow(Duration::from_secs(1_800));
    let seed = env::var("ROOKERY_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(1);
    play(seed, 28, Some(cassandra::Servers::start(1))).await;
}
