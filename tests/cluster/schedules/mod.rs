//! Races by construction: what two nodes do at once is brought into one order after the other, by holding back
//! single statements of a node, or the answers to them. Store, bus and nodes are real; nothing waits for a time to
//! pass but what a node does on its own.
//!
//! In the drawings time goes to the right, and `‖` is where a node is held back.

mod deletions;
mod half_written;
mod reads;
mod vanishing;
mod versions;
mod writes;

use std::{sync::Mutex, time::Duration};

use futures_util::future::try_join_all;
use rookery::{
    protocol::{Event, EventId, Tags, sign::Keys},
    store::scylla::SCHEMA,
};
use scylla::client::session_builder::SessionBuilder;
use serde_json::{Value, json};
use tokio::time::timeout;

use crate::{follow, hears, stored::Keyspace};
use common::redis::Redis;
use common::{
    Client, PATIENCE, Relay, cassandra, eventually, fresh,
    gate::{Gate, Hold, Way},
    now,
    proxy::Proxy,
    refused,
};

/// The commit mark of an event.
const COMMIT: &str = "UPDATE event USING TIMESTAMP ? SET event";
/// What is asked of an event by its id.
const EVENT: &str = "SELECT event, accepted_at, swept, written_by FROM event";
/// The first row of a batch that readers may find.
const ROW: &str = "INSERT INTO by_author";

/// What is read of the rows of an author.
const PAGE: &str = "SELECT created_at, id, event, accepted_at, written_by FROM by_author";

/// Settings of a node that gives up soon. It alone, and only of what the test holds back: whether a store that tests
/// share answers in time is not for a test to say.
const HASTY: [&str; 3] =
    ["persister.deadline_ms=1000", "scylla.deadline_ms=1000", "scylla.request_timeout_ms=500"];

/// A node whose ways to the store and to the bus are in the test's hand.
struct Node {
    relay: Relay,
    store: Gate,
    bus: Proxy,
}

/// What nodes stand on; goes after them.
struct Ground {
    redis: Redis,
    keyspace: Option<Keyspace>,
}

/// Keyspaces that nobody uses: they take seconds to make.
static POOL: Mutex<Vec<Keyspace>> = Mutex::new(Vec::new());

impl Ground {
    async fn prepare() -> Self {
        let free = POOL.lock().unwrap().pop();
        let keyspace = match free {
            Some(keyspace) => {
                empty(&keyspace).await;
                keyspace
            }
            None => Keyspace::make(),
        };
        Self { redis: Redis::start(), keyspace: Some(keyspace) }
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        // A test that failed may have broken the pool; then there are enough new keyspaces.
        if let (Ok(mut pool), Some(keyspace)) = (POOL.lock(), self.keyspace.take()) {
            pool.push(keyspace);
        }
    }
}

async fn empty(Keyspace { name }: &Keyspace) {
    let session = SessionBuilder::new().known_node(cassandra::server()).build().await.unwrap();
    let tables = SCHEMA.lines().filter_map(|line| line.strip_prefix("CREATE TABLE IF NOT EXISTS "));
    let tables = tables.map(|rest| rest.trim_end_matches(" (")).filter(|table| *table != "meta");
    let truncate = tables.map(|table| session.query_unpaged(format!("TRUNCATE {name}.{table}"), ()));
    try_join_all(truncate).await.unwrap();
}

/// Nodes on one Redis and one keyspace.
async fn nodes<const N: usize>(settings: &[&str]) -> (Ground, [Node; N]) {
    nodes_of([settings; N]).await
}

/// Such nodes, of which the first is hasty.
async fn nodes_and_a_hasty_one<const N: usize>() -> (Ground, [Node; N]) {
    nodes_of(std::array::from_fn(|place| if place == 0 { &HASTY[..] } else { &[] })).await
}

/// Such nodes, by the settings of each.
async fn nodes_of<const N: usize>(settings: [&[&str]; N]) -> (Ground, [Node; N]) {
    let ground = Ground::prepare().await;
    let Ground { redis, keyspace: Some(keyspace) } = &ground else { unreachable!() };
    let mut nodes = Vec::new();
    for settings in settings {
        let store = Gate::start(cassandra::server()).await;
        let bus = Proxy::start(format!("127.0.0.1:{}", redis.port)).await;
        let relay = start(keyspace, &store, &bus, settings);
        nodes.push(Node { relay, store, bus });
    }
    for node in &nodes {
        eventually("the bus", || node.relay.metric("rookery_bus_connected") == 1.0).await;
    }
    (ground, nodes.try_into().ok().unwrap())
}

/// A node that does not give up before the test does, unless the settings say otherwise.
fn start(keyspace: &Keyspace, store: &Gate, bus: &Proxy, settings: &[&str]) -> Relay {
    let (store, bus) = (store.address.to_string(), format!("redis://{}", bus.address));
    let ways = ["--scylla", &store, "--redis", &bus, "--keyspace", &keyspace.name, "--workers", "1"];
    let patient =
        ["persister.deadline_ms=60000", "scylla.deadline_ms=60000", "scylla.request_timeout_ms=30000"];
    let quick =
        ["bus.watermark_ms=100", "bus.missing_watermarks=10", "bus.timeout_ms=500", "store.sweep_seconds=1"];
    let settings = [&patient[..], &quick[..], settings].concat();
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    Relay::start(&ways.into_iter().chain(settings).collect::<Vec<_>>())
}

impl Node {
    /// Holds back from the store what begins so.
    fn hold(&self, beginning: &str) -> Hold {
        self.store.hold(Way::Request, beginning)
    }

    /// Holds back what the store answers to what begins so.
    fn hold_answers(&self, beginning: &str) -> Hold {
        self.store.hold(Way::Answer, beginning)
    }

    /// A client that publishes and has no answer yet.
    async fn send(&self, event: &Event) -> Client {
        let mut client = self.relay.connect().await;
        client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
        client
    }

    /// Such a client, once what begins so is held back.
    async fn send_up_to(&self, beginning: &str, event: &Event) -> (Client, Hold) {
        let hold = self.hold(beginning);
        let client = self.send(event).await;
        hold.caught().await;
        (client, hold)
    }

    async fn publish(&self, event: &Event) -> (bool, String) {
        self.relay.connect().await.publish(event).await
    }

    /// Publishes what must be stored.
    async fn store(&self, event: &Event) {
        assert_eq!(self.publish(event).await, (true, String::new()));
    }

    /// Publishes what must be stored by a node that is hasty.
    async fn store_at_last(&self, event: &Event) {
        let stored = async { while !self.publish(event).await.0 {} };
        timeout(PATIENCE, stored).await.expect("it is stored");
    }

    async fn find(&self, filter: Value) -> Vec<String> {
        self.relay.connect().await.request("find", &[filter]).await.0
    }

    /// Finds nothing in the end, which nobody tells.
    async fn loses(&self, filter: Value) {
        let lost = async {
            while !self.find(filter.clone()).await.is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        timeout(PATIENCE, lost).await.expect("it stays");
    }

    /// What filters of every shape find of this author, each of which must be the same, and COUNT as much.
    async fn find_all_ways(&self, keys: &Keys, kind: u16, among: &[&Event]) -> Vec<String> {
        let ids: Vec<EventId> = among.iter().map(|event| event.id()).collect();
        let author = keys.public_key();
        // Of kinds and of everything also what other tests publish would be found; their keyspaces are others.
        let shapes = [
            json!({ "authors": [author], "kinds": [kind] }),
            json!({ "ids": ids }),
            json!({ "authors": [author], "ids": ids }),
            json!({ "kinds": [kind] }),
            json!({ "#t": ["race"], "kinds": [kind] }),
            json!({ "since": 1, "ids": ids }),
        ];
        let found = self.find(shapes[0].clone()).await;
        for shape in &shapes {
            assert_eq!(self.find(shape.clone()).await, found, "{shape}");
            let mut client = self.relay.connect().await;
            client.say(json!(["COUNT", "c", shape])).await;
            assert_eq!(client.hear().await[2]["count"], found.len(), "{shape}");
        }
        found
    }

    async fn follow(&self, keys: &Keys) -> Client {
        follow(&self.relay, keys).await
    }
}

/// Live subscriptions at each node.
async fn follow_at<const N: usize>(nodes: &[Node; N], keys: &Keys) -> Vec<Client> {
    let mut clients = Vec::new();
    for node in nodes {
        clients.push(node.follow(keys).await);
    }
    clients
}

/// Each hears this event.
async fn all_hear(clients: &mut [Client], event: &Event) {
    for client in clients {
        // As a whole: a ping is no answer.
        timeout(PATIENCE, hears(client, event)).await.expect("it is not heard");
    }
}

/// Nothing else comes than what was heard: what is published last comes next, and then nothing.
async fn all_have_heard_it_all(clients: &mut [Client], keys: &Keys, node: &Node) {
    let last = fresh(keys, "the last word");
    node.store(&last).await;
    all_hear(clients, &last).await;
    for client in clients {
        assert_eq!(client.request("nothing", &[json!({ "ids": ["00".repeat(32)] })]).await.0, [""; 0]);
    }
}

fn ids(events: &[&Event]) -> Vec<String> {
    events.iter().map(|event| event.id().to_hex()).collect()
}

/// An event that every shape of filter finds.
fn race(keys: &Keys, kind: u16, content: &str) -> Event {
    race_at(keys, now(), kind, content)
}

fn race_at(keys: &Keys, created_at: u64, kind: u16, content: &str) -> Event {
    keys.sign(created_at, kind, Tags::from_iter([["t", "race"]]), content)
}
