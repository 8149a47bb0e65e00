//! Stored events beside live ones: whoever subscribes while another publishes gets every event, and
//! none twice, whether it came as stored, was held back, or came live.

use std::sync::Arc;

use rookery::protocol::{Event, PublicKey, sign::Keys};
use serde_json::{Value, json};
use tokio::sync::Semaphore;

use common::ask::id;
use common::{Client, Relay, note, now};

/// Events of a round: some before anybody subscribes, the others beside, and one at the end.
const EVENTS: usize = 700;
const BEFORE: usize = 100;
/// Events that are sent at once.
const WAVE: usize = 12;
const SUBSCRIBERS: usize = 12;

fn events(keys: &Keys, second: impl Fn(u64) -> u64) -> Vec<Event> {
    let start = now() - 10_000;
    (0..=EVENTS).map(|n| note(keys, start + second(n as u64), &n.to_string())).collect()
}

/// What came to a subscriber: the places of the events in the order of publication.
struct Came {
    places: Vec<usize>,
    /// How many of them before EOSE.
    stored: usize,
}

/// Subscribes, tells of EOSE, and goes on until the last event, which is published after that.
async fn follow(mut client: Client, filter: Value, eosed: Arc<Semaphore>) -> Came {
    client.say(json!(["REQ", "s", filter])).await;
    let (mut places, mut stored) = (Vec::new(), None);
    while places.last() != Some(&EVENTS) {
        let message = client.hear().await;
        match message[0].as_str() {
            Some("EVENT") => places.push(message[2]["content"].as_str().unwrap().parse().unwrap()),
            Some("EOSE") if stored.is_none() => {
                stored = Some(places.len());
                eosed.add_permits(1);
            }
            _ => panic!("{message}"),
        }
    }
    // A copy of the last would come in the same delivery, before the answer to this.
    assert_eq!(client.count(&[json!({ "ids": [] })]).await["count"], 0);
    Came { places, stored: stored.unwrap() }
}

/// One round: subscribers come in one after the other while the events are published.
async fn round(relay: &Relay, events: &[Event], filter: impl Fn(PublicKey) -> Value) -> Vec<Came> {
    let filter = filter(events[0].pubkey());
    let mut publisher = relay.connect().await;
    publisher.put_all(&events[..BEFORE]).await;
    let mut clients = Vec::new();
    for _ in 0..SUBSCRIBERS {
        clients.push(relay.connect().await);
    }
    let eosed = Arc::new(Semaphore::new(0));
    let mut followers = Vec::new();
    let (beside, last) = (&events[BEFORE..EVENTS], &events[EVENTS]);
    let waves = beside.len().div_ceil(WAVE);
    let mut unanswered: &[Event] = &[];
    for (nth, wave) in beside.chunks(WAVE).enumerate() {
        for event in wave {
            publisher.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        }
        // In the middle of what is on its way, and of what is written meanwhile.
        if nth * SUBSCRIBERS / waves >= followers.len() {
            let client = clients.pop().unwrap();
            followers.push(tokio::spawn(follow(client, filter.clone(), Arc::clone(&eosed))));
        }
        hear_oks(&mut publisher, unanswered).await;
        unanswered = wave;
    }
    hear_oks(&mut publisher, unanswered).await;
    eosed.acquire_many(SUBSCRIBERS as u32).await.unwrap().forget();
    publisher.put(last).await;
    let mut came = Vec::new();
    for follower in followers {
        came.push(follower.await.unwrap());
    }
    assert_eq!(came.len(), SUBSCRIBERS);
    came
}

/// Events of a connection are answered in turn.
async fn hear_oks(publisher: &mut Client, events: &[Event]) {
    for event in events {
        assert_eq!(publisher.hear_ok(&id(event)).await, (true, String::new()));
    }
}

/// Each event from some place on, once; gives that place.
fn assert_without_hole(came: &Came) -> usize {
    let mut sorted = came.places.clone();
    sorted.sort_unstable();
    let first = sorted[0];
    assert_eq!(sorted, (first..=EVENTS).collect::<Vec<_>>(), "came as {:?}", came.places);
    first
}

/// Small pages, so that reading what is stored takes many steps.
const SMALL_PAGES: &[&str] = &["--set", "lmdb.page_bytes=4000", "--set", "limits.default_limit=5000"];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_limit_every_event_comes_once() {
    let relay = Relay::start(SMALL_PAGES);
    for filter in [
        |author: PublicKey| json!({ "authors": [author] }),
        |author: PublicKey| json!({ "authors": [author], "kinds": [1], "limit": 4_000 }),
    ] {
        // Seconds of their own, and all in one second, where order is by id.
        for second in [|n| n, |_| 0] {
            let events = events(&Keys::generate(), second);
            let came = round(&relay, &events, filter).await;
            assert!(came.iter().all(|came| assert_without_hole(came) == 0));
            assert!(came.iter().any(|came| came.stored < EVENTS - 100), "nobody subscribed beside");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_a_limit_nothing_is_missing_after_the_first_that_came() {
    let relay = Relay::start(SMALL_PAGES);
    for limit in [0, 1, 30, 250] {
        let events = events(&Keys::generate(), |n| n);
        let came = round(&relay, &events, |author| json!({ "authors": [author], "limit": limit })).await;
        for came in &came {
            assert_without_hole(came);
            assert!(came.stored <= limit, "{} stored events for a limit of {limit}", came.stored);
        }
        assert!(came.iter().any(|came| came.places.len() > limit + 100), "nobody subscribed beside");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_conditions_every_event_comes_once_too() {
    let relay = Relay::start(SMALL_PAGES);
    let events = events(&Keys::generate(), |n| n / 50);
    let came = round(&relay, &events, |_| json!({})).await;
    assert!(came.iter().all(|came| assert_without_hole(came) == 0));
}
