//! `kill -9` at any moment: what was answered `OK true` is there afterwards, and nothing that was
//! replaced or deleted comes back.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use common::{Client, Relay, now};
use futures_util::{SinkExt, StreamExt};
use rookery::protocol::{Event, EventId, Tags, sign::Keys};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

const ROUNDS: usize = 20;
const PUBLISHERS: usize = 4;
/// Events that a publisher has in flight.
const WINDOW: usize = 32;

/// One author, and what the relay has promised about their events.
struct Author {
    keys: Keys,
    clock: u64,
    /// Notes with OK true that nobody has asked to delete.
    stored: HashSet<EventId>,
    /// Deletion requests with OK true, which nothing deletes.
    requests: HashSet<EventId>,
    /// The targets of deletion requests with OK true.
    deleted: HashSet<EventId>,
    /// The newest version with OK true, by `d` tag; and every version sent that is newer than that.
    versions: HashMap<String, (u64, EventId)>,
    sent_versions: HashMap<String, HashSet<EventId>>,
    /// Sent, not yet answered (in this round), and what is to be believed when it is.
    in_flight: HashMap<EventId, Promise>,
    /// Targets of deletion requests that were sent: they may or may not be there.
    doubtful: HashSet<EventId>,
}

enum Promise {
    Stored,
    Version(String, u64),
    Deletion(EventId),
}

impl Author {
    fn new() -> Self {
        Self {
            keys: Keys::generate(),
            clock: now() - 100_000,
            stored: HashSet::new(),
            requests: HashSet::new(),
            deleted: HashSet::new(),
            versions: HashMap::new(),
            sent_versions: HashMap::new(),
            in_flight: HashMap::new(),
            doubtful: HashSet::new(),
        }
    }

    /// The next event: mostly notes, every fourth an addressable one, every eighth a deletion.
    fn next(&mut self, nth: usize) -> Event {
        self.clock += 1;
        let target = self.stored.iter().find(|id| !self.doubtful.contains(id)).copied();
        let (event, promise) = match (nth % 8, target) {
            (3 | 5, _) => {
                let name = format!("d{}", nth % 3);
                let event = self.keys.sign(self.clock, 30_000, Tags::from_iter([["d", &name]]), "");
                self.sent_versions.entry(name.clone()).or_default().insert(event.id());
                (event, Promise::Version(name, self.clock))
            }
            (7, Some(target)) => {
                self.doubtful.insert(target);
                let tags = Tags::from_iter([["e", &target.to_hex()]]);
                (self.keys.sign(self.clock, 5, tags, ""), Promise::Deletion(target))
            }
            _ => (self.keys.sign(self.clock, 1, Tags::default(), "note"), Promise::Stored),
        };
        self.in_flight.insert(event.id(), promise);
        event
    }

    fn answered(&mut self, ok: &Value) {
        assert_eq!((&ok[0], &ok[2]), (&json!("OK"), &json!(true)), "{ok}");
        let id = EventId::from_hex(ok[1].as_str().unwrap()).unwrap();
        match self.in_flight.remove(&id).expect("one answer an event") {
            Promise::Stored => {
                self.stored.insert(id);
            }
            Promise::Version(name, at) => {
                self.versions.insert(name, (at, id));
            }
            Promise::Deletion(target) => {
                self.stored.remove(&target);
                self.deleted.insert(target);
                self.requests.insert(id);
            }
        }
    }

    /// Publishes until the connection breaks.
    async fn publish(&mut self, url: &str) {
        let Client { socket, .. } = Client::connect(url.into_client_request().unwrap()).await;
        let (mut sink, mut stream) = socket.split();
        for nth in 0.. {
            let event = self.next(nth);
            let text = format!(r#"["EVENT",{}]"#, event.json());
            if sink.send(Message::text(text)).await.is_err() {
                break;
            }
            while self.in_flight.len() >= WINDOW {
                match stream.next().await {
                    Some(Ok(Message::Text(text))) => self.answered(&serde_json::from_str(&text).unwrap()),
                    Some(Ok(_)) => {}
                    _ => return,
                }
            }
        }
        // What was said before the end counts.
        while let Some(Ok(message)) = stream.next().await {
            if let Message::Text(text) = message {
                self.answered(&serde_json::from_str(&text).unwrap());
            }
        }
    }

    /// Everything promised holds; what was in flight may have become either.
    async fn check(&mut self, client: &mut Client) {
        let author = self.keys.public_key();
        let (found, hint) = client.request("all", &[json!({ "authors": [author], "limit": 100_000 })]).await;
        assert_eq!(hint.as_deref(), Some("finish"));
        let all: HashSet<EventId> = found.iter().map(|id| EventId::from_hex(id).unwrap()).collect();
        assert_eq!(all.len(), found.len(), "nothing is doubled");
        let certain = self.stored.iter().filter(|id| !self.doubtful.contains(id));
        for id in certain.chain(&self.requests) {
            assert!(all.contains(id), "{id} was answered OK true and is lost");
        }
        for id in &self.deleted {
            assert!(!all.contains(id), "{id} was deleted, with OK true, and is back");
        }
        for (name, (at, id)) in &mut self.versions {
            let filter = json!({ "authors": [author], "kinds": [30_000], "#d": [name] });
            let (versions, _) = client.request("one", &[filter]).await;
            let [found] = &versions[..] else { panic!("{name}: one version, not {versions:?}") };
            let found = EventId::from_hex(found).unwrap();
            // A newer one, whose OK was lost, may have been stored too; an older one never wins.
            if found != *id {
                assert!(self.sent_versions[name].contains(&found));
                assert!(matches!(self.in_flight.get(&found), Some(Promise::Version(_, newer)) if newer > at));
                *id = found;
            }
        }
        // What is found now stays, whatever its publisher has heard.
        for (id, promise) in self.in_flight.drain().filter(|(id, _)| all.contains(id)) {
            match promise {
                Promise::Stored => {
                    self.stored.insert(id);
                }
                Promise::Version(name, at) => {
                    let best = self.versions.entry(name).or_insert((at, id));
                    *best = (*best).max((at, id));
                }
                Promise::Deletion(target) => {
                    assert!(!all.contains(&target), "a deletion is stored, and its target with it");
                    self.stored.remove(&target);
                    self.deleted.insert(target);
                    self.requests.insert(id);
                }
            }
        }
        // Deletions that were lost have done nothing.
        for id in self.doubtful.drain() {
            if !self.deleted.contains(&id) {
                assert!(all.contains(&id), "{id} is gone without a deletion");
            }
        }
    }
}

#[tokio::test]
async fn what_was_acknowledged_survives_kill_9_twenty_times() {
    const ARGUMENTS: &[&str] = &["--set", "limits.max_limit=1000000"];
    let mut relay = Relay::start(ARGUMENTS);
    let mut authors: Vec<Author> = (0..PUBLISHERS).map(|_| Author::new()).collect();
    let mut acknowledged = 0;
    for round in 0..ROUNDS {
        let url = relay.url();
        let process = relay.process.id();
        // Any moment: during the first connections, the first commit, or long after.
        let after = Duration::from_millis(rand::random_range(20..400));
        let publishing =
            futures_util::future::join_all(authors.iter_mut().map(|author| author.publish(&url)));
        let killing = async {
            // Counted from the first commit.
            common::eventually("something is stored", || relay.metric(STORED) > 0.0).await;
            tokio::time::sleep(after).await;
            let killed = std::process::Command::new("kill").args(["-9", &process.to_string()]).status();
            assert!(killed.unwrap().success());
        };
        tokio::join!(publishing, killing);
        relay = relay.restart_after_kill(ARGUMENTS);
        let mut client = relay.connect().await;
        for author in &mut authors {
            author.check(&mut client).await;
        }
        let now = authors.iter().map(|author| author.stored.len() + author.deleted.len()).sum();
        assert!(now > acknowledged, "round {round}: nothing was acknowledged");
        acknowledged = now;
    }
    let sum = |count: fn(&Author) -> usize| authors.iter().map(count).sum::<usize>();
    println!(
        "{ROUNDS} times killed: {} events there, {} deleted ones gone, {} addresses at their newest",
        sum(|author| author.stored.len()),
        sum(|author| author.deleted.len()),
        sum(|author| author.versions.len()),
    );
}

const STORED: &str = "rookery_events_total{result=\"stored\"}";
