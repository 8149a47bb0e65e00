//! More is offered than the store takes, for a while.

use std::{
    collections::{HashMap, HashSet},
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rookery::{
    config,
    protocol::{Event, sign::Keys},
    store::lmdb::{Access, Lmdb},
};
use serde_json::Value;
use tempfile::TempDir;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::{
    OVERLOADED,
    common::{Client, PATIENCE, fresh},
    hex,
    stage::{Node, Staged},
};

pub struct Flood {
    /// Events that the store takes.
    pub per_second: u32,
    /// How many times as many are offered.
    pub times: u32,
    pub duration: Duration,
    pub connections: usize,
    /// After which the relay gives up on an event.
    pub deadline: Duration,
}

/// What became of what was sent on a connection.
#[derive(Default)]
struct Heard {
    accepted: HashSet<String>,
    refused: Vec<String>,
    slowest: Duration,
}

/// Sends all of them evenly over the time, whatever is answered, and hears every answer.
async fn offer(client: Client, events: Vec<Event>, over: Duration) -> Heard {
    const TICK: Duration = Duration::from_millis(10);
    let (mut sink, mut stream) = client.socket.split();
    let count = events.len();
    let per_tick = (count as f64 * TICK.as_secs_f64() / over.as_secs_f64()).ceil() as usize;
    let sending = async {
        let mut ticks = interval(TICK);
        let mut sent = Vec::new();
        for some in events.chunks(per_tick.max(1)) {
            ticks.tick().await;
            for event in some {
                sink.feed(Message::text(format!(r#"["EVENT",{}]"#, event.json()))).await.unwrap();
                sent.push((event.id().to_hex(), Instant::now()));
            }
            sink.flush().await.unwrap();
        }
        sent
    };
    let hearing = async {
        let mut heard = Vec::new();
        while heard.len() < count {
            let next = timeout(PATIENCE, stream.next()).await.expect("no answer comes").unwrap().unwrap();
            if let Message::Text(text) = next {
                let ok: Value = serde_json::from_str(&text).unwrap();
                let text = ok[3].as_str().unwrap().to_owned();
                heard.push((ok[1].as_str().unwrap().to_owned(), ok[2] == true, text, Instant::now()));
            }
        }
        heard
    };
    let (sent, answered) = tokio::join!(sending, hearing);
    let sent: HashMap<_, _> = sent.into_iter().collect();
    let mut heard = Heard::default();
    for (id, accepted, text, at) in answered {
        if accepted {
            heard.slowest = heard.slowest.max(at - sent[&id]);
            assert!(heard.accepted.insert(id), "answered twice");
        } else {
            heard.refused.push(text);
        }
    }
    heard
}

/// A note every half second.
async fn bystand(mut client: Client, duration: Duration) -> Vec<(bool, String)> {
    let (keys, mut answers) = (Keys::generate(), Vec::new());
    let mut ticks = interval(Duration::from_millis(500));
    let begun = Instant::now();
    while begun.elapsed() < duration {
        ticks.tick().await;
        answers.push(client.publish(&fresh(&keys, "bystander")).await);
    }
    answers
}

pub async fn run(flood: Flood) {
    let folder = TempDir::new().unwrap();
    let inner = Lmdb::open(folder.path(), &config::Store::default(), Access::Exclusive).unwrap();
    let store = Staged::paced(inner, Duration::from_secs(1) / flood.per_second);
    let node = Node::start(&store, |config| config.persister.deadline_ms = flood.deadline.as_millis() as u64);
    let total = (flood.per_second * flood.times) as usize * flood.duration.as_secs() as usize;
    let events: Vec<Event> = {
        let keys = Keys::generate();
        (0..total).map(|_| fresh(&keys, "flood")).collect()
    };
    let mut offers = Vec::new();
    for some in events.chunks(total.div_ceil(flood.connections)) {
        offers.push(tokio::spawn(offer(node.connect().await, some.to_vec(), flood.duration)));
    }
    let bystander = tokio::spawn(bystand(node.connect().await, flood.duration));
    let begun = Instant::now();
    let (mut accepted, mut refused, mut slowest) = (HashSet::new(), Vec::new(), Duration::ZERO);
    for offer in offers {
        let heard = offer.await.unwrap();
        accepted.extend(heard.accepted);
        refused.extend(heard.refused);
        slowest = slowest.max(heard.slowest);
    }
    let took = begun.elapsed();
    let bystander = bystander.await.unwrap();
    let batches: Vec<usize> = store.batches.lock().unwrap().iter().map(Vec::len).collect();
    println!(
        "offered {total} in {:.1} s: accepted {} ({:.0} % of what the store takes in that time), refused {}, slowest OK {:.2} s, {} notes of a bystander; batches {batches:?}",
        took.as_secs_f64(),
        accepted.len(),
        100.0 * accepted.len() as f64 / took.as_secs_f64() / f64::from(flood.per_second),
        refused.len(),
        slowest.as_secs_f64(),
        bystander.len(),
    );
    assert_eq!(refused.iter().filter(|text| *text != OVERLOADED).count(), 0, "accepted, and answered late");
    assert!(!refused.is_empty(), "it was no flood");
    for answer in &bystander {
        assert_eq!(answer, &(true, String::new()));
    }
    let stored = hex(&store.written());
    assert!(accepted.is_subset(&stored), "acknowledged and not stored");
    assert_eq!(stored.len(), accepted.len() + bystander.len(), "refused, and stored all the same");
    // As long as it lasted, the store had something to do: but for the first and the last ones, batches are as
    // large as the pace allows.
    let full = batches.iter().filter(|size| 4 * **size as u32 >= flood.per_second / 4).count();
    assert!(4 * full >= 3 * batches.len().saturating_sub(10), "{batches:?}");
    // All is as before: what it takes in a second is accepted at once.
    let mut client = node.connect().await;
    let burst: Vec<Event> =
        (0..flood.per_second / 2).map(|_| fresh(&Keys::generate(), "afterwards")).collect();
    for event in &burst {
        client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
    }
    for _ in &burst {
        assert_eq!(client.hear().await[2], true);
    }
}
