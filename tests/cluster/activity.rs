//! What accounts do, told to those who are at another node than the one where it is done.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use common::{Client, Relay, eventually, people::Person, redis::Redis};
use serde_json::{Value, json};

use crate::stored::Keyspace;

const ACTIVITY: u16 = 4227;

/// Numbers what is said last, so that no two events are the same.
static MARKS: AtomicU64 = AtomicU64::new(0);

/// Nodes that take a while to doubt each other.
const SETTINGS: [&str; 10] = [
    "--set",
    "accounts.open=everybody",
    "--set",
    "accounts.address_sign_ups=1000",
    "--set",
    "bus.ready=always",
    "--set",
    "bus.missing_watermarks=300",
    "--set",
    "bus.timeout_ms=30000",
];

/// Two nodes of one relay.
struct Pair {
    one: Relay,
    other: Relay,
    _redis: Redis,
}

impl Pair {
    async fn start() -> Self {
        let (redis, keyspace) = (Redis::start(), Keyspace::make());
        let [one, other] = [(); 2].map(|()| keyspace.patient_node(&redis.url(), &SETTINGS));
        for node in [&one, &other] {
            eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        }
        Self { one, other, _redis: redis }
    }

    fn sign_up(&self, name: &str, activity: &str) -> Person {
        self.one.sign_up_with(name, json!({ "activity": activity }))
    }

    /// Changes whom somebody follows, at the first node.
    fn follow(&self, who: &Person, method: &str, whom: &Person) {
        let answer = who.ask(&self.one, method, &format!("/v1/friends/{}", whom.key), Value::Null);
        assert_eq!(answer.status, 200, "{answer:?}");
    }

    /// What a socket at the other node is told of an author until it has heard what the author says last, and nothing
    /// waits for follow lists any more.
    async fn told(&self, client: &mut Client, author: &Person) -> Vec<String> {
        let mark = format!("mark {}", MARKS.fetch_add(1, Relaxed));
        let posted = author.ask(&self.one, "POST", "/v1/posts", json!({ "content": mark }));
        assert_eq!(posted.status, 201, "{posted:?}");
        let mut told = Vec::new();
        until(client, &mut told, |message| message[2]["content"] == *mark).await;
        // It is answered once the lists were read, if they are being read.
        client.say(json!(["COUNT", mark, by(author, &[ACTIVITY])])).await;
        until(client, &mut told, |message| message[0] == "COUNT").await;
        told.iter().map(|message| message[2]["content"].as_str().unwrap().to_owned()).collect()
    }
}

fn by(author: &Person, kinds: &[u16]) -> Value {
    json!({ "authors": [author.key], "kinds": kinds })
}

async fn until(client: &mut Client, heard: &mut Vec<Value>, last: impl Fn(&Value) -> bool) -> Value {
    loop {
        let message = client.hear().await;
        if last(&message) {
            return message;
        }
        assert_eq!(message[0], "EVENT", "{message}");
        heard.push(message);
    }
}

/// The follow list comes to a client as it comes to the session itself: whoever has heard it is told by it from then on.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_shown_live_follows_lists_that_change_at_another_node() {
    let pair = Pair::start().await;
    for audience in ["followers", "friends"] {
        let [author, reader] =
            ["author", "reader"].map(|role| pair.sign_up(&format!("{role}-of-{audience}"), audience));
        let mut client = reader.connect(&pair.other).await;
        client.watch("live", by(&author, &[1, ACTIVITY])).await;
        client.watch("lists", json!({ "authors": [author.key, reader.key], "kinds": [3] })).await;
        let followed = format!("followed {}", reader.name);
        let is_for_friends = audience == "friends";
        for (who, method, whom, is_shown) in [
            (&reader, "POST", &author, !is_for_friends),
            // The follow itself is told to the new friend.
            (&author, "POST", &reader, true),
            // Such a list does not name the reader.
            (&author, "DELETE", &reader, !is_for_friends),
            (&author, "POST", &reader, true),
            (&reader, "DELETE", &author, false),
            (&reader, "POST", &author, true),
        ] {
            pair.follow(who, method, whom);
            let mut told = Vec::new();
            let list = until(&mut client, &mut told, |message| message[1] == "lists").await;
            assert_eq!((&list[2]["pubkey"], told), (&json!(who.key), vec![]), "{list}");
            pair.one.sign_in(&author.name);
            let mut expected = vec!["signed in"];
            if who.key == author.key && method == "POST" {
                expected.insert(0, &followed);
            }
            expected.retain(|_| is_shown);
            let told = pair.told(&mut client, &author).await;
            assert_eq!(told, expected, "{audience}: {} {method} {}", who.name, whom.name);
        }
    }
}

/// The walk of docs/feed.md, by two people who are at two nodes.
#[tokio::test(flavor = "multi_thread")]
async fn what_somebody_does_at_one_node_is_told_at_the_other_and_stays() {
    let pair = Pair::start().await;
    pair.sign_up("janitor", "nobody");
    let [tester, tester2] = ["tester", "tester2"].map(|name| pair.sign_up(name, "followers"));
    let followed = tester.ask(&pair.other, "POST", "/v1/friends/tester2", Value::Null);
    assert_eq!(followed.status, 200, "{followed:?}");
    let mut client = tester.connect(&pair.other).await;
    client.watch("live", by(&tester2, &[ACTIVITY])).await;
    let again = pair.one.sign_in("tester2");
    let followed = again.ask(&pair.one, "POST", "/v1/friends/janitor", Value::Null);
    assert_eq!(followed.status, 200, "{followed:?}");
    assert_eq!(again.ask(&pair.one, "POST", "/v1/auth/sign-out", Value::Null).status, 204);
    let mut live = Vec::new();
    for said in ["signed in", "followed janitor", "signed out"] {
        let mut message = client.hear().await;
        assert_eq!((&message[1], &message[2]["content"]), (&json!("live"), &json!(said)), "{message}");
        live.push(message[2].take());
    }
    // Newest first.
    live.reverse();
    let ids: Vec<&str> = live.iter().map(|event| event["id"].as_str().unwrap()).collect();
    for node in [&pair.one, &pair.other] {
        let page = tester.ask(node, "GET", "/v1/feed", Value::Null).json();
        assert_eq!(page["events"], json!(live));
        let mut client = tester.connect(node).await;
        assert_eq!(client.find(by(&tester2, &[ACTIVITY])).await, ids);
    }
    // It is all taken back, at the node where nothing of it was done.
    let again = pair.other.sign_in("tester2");
    let answer = again.ask(&pair.other, "PUT", "/v1/settings", json!({ "activity": "nobody" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    for node in [&pair.one, &pair.other] {
        assert_eq!(tester.ask(node, "GET", "/v1/feed", Value::Null).json()["events"], json!([]));
        assert_eq!(tester.connect(node).await.find(by(&tester2, &[ACTIVITY])).await, [""; 0]);
    }
}
