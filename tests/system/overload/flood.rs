//! More is offered than the store takes, for a while.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{Event, sign::Keys};
use serde_json::Value;
use tokio::time::{interval, timeout};
use tokio_tungstenite::tungstenite::Message;

use crate::overload::{
    OVERLOADED, hex,
    stage::{Node, Staged},
};
use common::{Client, PATIENCE, fresh};

/// Nodes on one store, each with the place where one sees what it gives to the store.
pub type Nodes = [(Node, Arc<Staged>)];

pub struct Flood {
    /// Events that the store takes.
    pub per_second: u32,
    /// How many times as many are offered.
    pub times: f64,
    pub duration: Duration,
    /// To each node.
    pub connections: usize,
}

/// What became of a flood.
pub struct Outcome {
    /// Events that were accepted, of those that the store takes in that time.
    pub goodput: f64,
    pub accepted: usize,
    /// Events that were given a place and then not known to be stored in time.
    pub late: usize,
    /// Events of each batch.
    pub batches: Vec<usize>,
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
    let sending = async {
        let mut ticks = interval(TICK);
        let mut sent = Vec::with_capacity(count);
        let begun = Instant::now();
        while sent.len() < count {
            ticks.tick().await;
            let due = (begun.elapsed().as_secs_f64() / over.as_secs_f64() * count as f64).ceil() as usize;
            for event in &events[sent.len()..due.min(count)] {
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

/// How many events a second these nodes store for clients who have so many unanswered on each connection.
pub async fn full_speed(nodes: &Nodes, duration: Duration, connections: usize, unanswered: usize) -> u32 {
    let clients = nodes.iter().flat_map(|(node, _)| (0..connections).map(move |_| node.connect()));
    let clients = futures_util::future::join_all(clients).await;
    let end = Instant::now() + duration;
    let tasks = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let (keys, mut waiting, mut accepted) = (Keys::generate(), 0, 0);
            while Instant::now() < end || waiting > 0 {
                if Instant::now() < end && waiting < unanswered {
                    client.say_text(format!(r#"["EVENT",{}]"#, fresh(&keys, "full speed").json())).await;
                    waiting += 1;
                    continue;
                }
                match client.hear().await[2].as_bool() {
                    Some(true) => accepted += 1,
                    // One that is only warming up; asking at once would not make it faster.
                    _ => tokio::time::sleep(Duration::from_millis(10)).await,
                }
                waiting -= 1;
            }
            accepted
        })
    });
    let accepted: usize = futures_util::future::join_all(tasks).await.into_iter().map(Result::unwrap).sum();
    (accepted as f64 / duration.as_secs_f64()) as u32
}

/// # Panics
/// If a bystander is refused, an event is acknowledged and not stored or refused and stored, or if what the store
/// takes in a second is not accepted afterwards.
pub async fn run(flood: &Flood, nodes: &Nodes) -> Outcome {
    let offered =
        f64::from(flood.per_second) * flood.times * flood.duration.as_secs_f64() / nodes.len() as f64;
    let (mut offers, mut bystanders) = (Vec::new(), Vec::new());
    nodes.iter().for_each(|(_, store)| store.batches.lock().unwrap().clear());
    for (node, _) in nodes {
        let keys = Keys::generate();
        let events: Vec<Event> = (0..offered as usize).map(|_| fresh(&keys, "flood")).collect();
        for some in events.chunks(events.len().div_ceil(flood.connections)) {
            offers.push((node.connect().await, some.to_vec()));
        }
        bystanders.push(node.connect().await);
    }
    let begun = Instant::now();
    let bystanders: Vec<_> =
        bystanders.into_iter().map(|client| tokio::spawn(bystand(client, flood.duration))).collect();
    let offers: Vec<_> =
        offers.into_iter().map(|(client, some)| tokio::spawn(offer(client, some, flood.duration))).collect();
    let (mut accepted, mut refused, mut slowest) = (HashSet::new(), Vec::new(), Duration::ZERO);
    for offer in offers {
        let heard = offer.await.unwrap();
        accepted.extend(heard.accepted);
        refused.extend(heard.refused);
        slowest = slowest.max(heard.slowest);
    }
    let took = begun.elapsed();
    let mut seen_beside = 0;
    for bystander in bystanders {
        for answer in bystander.await.unwrap() {
            assert_eq!(answer, (true, String::new()), "a bystander");
            seen_beside += 1;
        }
    }
    let batches: Vec<Vec<Vec<_>>> =
        nodes.iter().map(|(_, store)| store.batches.lock().unwrap().clone()).collect();
    let given = hex(&batches.concat().concat());
    let late = refused.iter().filter(|text| *text != OVERLOADED).count();
    let outcome = Outcome {
        goodput: accepted.len() as f64 / took.as_secs_f64() / f64::from(flood.per_second),
        accepted: accepted.len(),
        late,
        batches: batches.concat().iter().map(Vec::len).collect(),
    };
    println!(
        "{:.1} × {} events/s for {:.1} s: accepted {} ({:.0} %), refused {} of which {late} late, slowest OK {:.2} s, {seen_beside} notes of bystanders; {} batches",
        flood.times,
        flood.per_second,
        took.as_secs_f64(),
        accepted.len(),
        100.0 * outcome.goodput,
        refused.len(),
        slowest.as_secs_f64(),
        outcome.batches.len(),
    );
    assert!(!refused.is_empty(), "it was no flood");
    assert!(accepted.is_subset(&given), "acknowledged and not stored");
    assert_eq!(given.len(), accepted.len() + late + seen_beside, "refused, and stored all the same");
    // All is as before: what it takes in a second is accepted at once.
    for (node, _) in nodes {
        let mut client = node.connect().await;
        let count = flood.per_second as usize / 2 / nodes.len();
        let burst: Vec<Event> = (0..count).map(|_| fresh(&Keys::generate(), "afterwards")).collect();
        for event in &burst {
            client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        }
        for _ in &burst {
            assert_eq!(client.hear().await[2], true, "afterwards");
        }
    }
    outcome
}
