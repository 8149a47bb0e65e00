//! Who is shown what accounts do, at every door, by the follow lists and the settings of both.

use common::{Client, PATIENCE, Relay, people::Person};
use rookery::protocol::{
    negentropy::{KeySet, MIN_FRAME_BYTES},
    sign::Keys,
};
use serde_json::{Value, json};
use tokio::time::timeout;

const ACTIVITY: u16 = 4227;

/// What the author has chosen.
const CHOICES: [&str; 3] = ["nobody", "friends", "followers"];

/// Readers, whether they let others see what they do, and whether they are shown what each of the authors does.
const TABLE: [(&str, bool, [bool; 3]); 8] = [
    ("stranger", true, [false, false, false]),
    ("stranger", false, [false, false, false]),
    ("follower", true, [false, false, true]),
    ("follower", false, [false, false, false]),
    ("friend", true, [false, true, true]),
    ("friend", false, [false, false, false]),
    // Who follows the authors no more, though these still follow them.
    ("ex-friend", true, [false, false, false]),
    ("ex-friend", false, [false, false, false]),
];

fn relay() -> Relay {
    Relay::start(&["--set", "accounts.address_sign_ups=1000", "--set", "accounts.open=everybody"])
}

fn sign_up(relay: &Relay, name: &str, activity: &str) -> Person {
    relay.sign_up_with(name, json!({ "activity": activity }))
}

fn follow(relay: &Relay, who: &Person, whom: &Person, method: &str) {
    let answer = who.ask(relay, method, &format!("/v1/friends/{}", whom.key), Value::Null);
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn by(author: &Person, kinds: &[u16]) -> Value {
    json!({ "authors": [author.key], "kinds": kinds })
}

/// The ids of the events of a page of the feed that this author has made of that kind. As many are counted as are shown.
fn fed(relay: &Relay, reader: &Person, author: &Person) -> Vec<String> {
    let page = reader.ask(relay, "GET", "/v1/feed?limit=100&count=1", Value::Null).json();
    let events = page["events"].as_array().unwrap();
    assert_eq!(page["count"]["number"], events.len(), "{page}");
    let events = events.iter().filter(|event| event["kind"] == ACTIVITY && event["pubkey"] == *author.key);
    events.map(|event| event["id"].as_str().unwrap().to_owned()).collect()
}

/// The keys that a reconciliation of that filter finds here, in digits, one after the other.
async fn set(client: &mut Client, filter: &Value) -> String {
    let nothing = hex::encode(KeySet::default().begin(MIN_FRAME_BYTES).unwrap());
    client.say(json!(["NEG-OPEN", "set", filter, nothing])).await;
    let answer = client.hear().await;
    assert_eq!(answer[0], "NEG-MSG", "{answer}");
    client.say(json!(["NEG-CLOSE", "set"])).await;
    answer[2].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn what_accounts_do_is_shown_to_those_whom_they_have_chosen() {
    let relay = relay();
    let authors = CHOICES.map(|choice| sign_up(&relay, &format!("to-{choice}"), choice));
    let readers: Vec<Person> = TABLE
        .iter()
        .map(|(reader, shares, _)| {
            let (with, choice) = if *shares { ("loud", "followers") } else { ("quiet", "nobody") };
            sign_up(&relay, &format!("{reader}-{with}"), choice)
        })
        .collect();
    for (person, (reader, ..)) in readers.iter().zip(TABLE) {
        for author in &authors {
            if matches!(reader, "friend" | "ex-friend") {
                follow(&relay, author, person, "POST");
            }
            if reader != "stranger" {
                follow(&relay, person, author, "POST");
            }
            if reader == "ex-friend" {
                follow(&relay, person, author, "DELETE");
            }
        }
    }
    let mut publisher = relay.connect().await;
    for (at, author) in authors.iter().enumerate() {
        relay.sign_in(&author.name);
        // Its author sees all of it.
        let mut own = author.connect(&relay).await;
        let done = own.find(by(author, &[ACTIVITY])).await;
        assert_eq!(done.is_empty(), author.name == "to-nobody", "{done:?}");
        own.say(json!(["REQ", "own", by(author, &[ACTIVITY])])).await;
        own.hear_stored("own").await;
        let mut sockets = Vec::new();
        for (person, (reader, shares, expected)) in readers.iter().zip(TABLE) {
            let told = format!("{} to {reader}, shares: {shares}", author.name);
            let expected = if expected[at] { done.clone() } else { Vec::new() };
            let mut client = person.connect(&relay).await;
            assert_eq!(client.find(by(author, &[ACTIVITY])).await, expected, "stored: {told}");
            assert_eq!(
                client.find(json!({ "ids": done, "kinds": [ACTIVITY] })).await,
                expected,
                "by id: {told}"
            );
            let unnamed = json!({ "ids": done });
            assert_eq!(client.find(unnamed.clone()).await, [""; 0], "not named: {told}");
            let count = client.count(&[by(author, &[ACTIVITY])]).await;
            assert_eq!(count["count"], expected.len(), "count: {told}");
            assert_eq!(client.count(&[unnamed]).await["count"], 0, "count of what is not named: {told}");
            for filter in [json!({}), by(author, &[ACTIVITY]), by(author, &[1, ACTIVITY])] {
                let set = set(&mut client, &filter).await;
                assert!(!done.iter().any(|id| set.contains(&**id)), "reconciled: {told}, {filter}");
            }
            assert_eq!(fed(&relay, person, author), expected, "feed: {told}");
            client.watch("live", json!({ "kinds": [ACTIVITY], "limit": 0 })).await;
            client.watch("everything", json!({ "limit": 0 })).await;
            sockets.push(client);
        }
        relay.sign_in(&author.name);
        let done: Vec<Value> = own.heard(&mut publisher).await;
        for (client, (reader, shares, expected)) in sockets.iter_mut().zip(TABLE) {
            let heard: Vec<Value> = client.heard(&mut publisher).await;
            let heard: Vec<&Value> = heard.iter().map(|message| &message[2]).collect();
            let expected = done.iter().map(|message| &message[2]).filter(|_| expected[at]);
            assert_eq!(heard, expected.collect::<Vec<_>>(), "live: {} to {reader}, {shares}", author.name);
        }
    }
}

/// Nobody but the relay makes it, and nobody who has proved no key is shown any.
#[tokio::test]
async fn clients_may_neither_make_it_nor_carry_it_on() {
    let relay = relay();
    let author = sign_up(&relay, "author", "followers");
    relay.sign_in("author");
    let mut own = author.connect(&relay).await;
    own.say(json!(["REQ", "own", by(&author, &[ACTIVITY])])).await;
    let event = own.hear().await[2].take();
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    let id = event["id"].as_str().unwrap();
    let kind = ACTIVITY.to_string();
    for (of_kind, tags, content) in [
        (ACTIVITY, vec![], "signed in"),
        (6, vec![vec!["e", id]], &*event.to_string()),
        (16, vec![vec!["e", id], vec!["k", &kind]], ""),
        (7, vec![vec!["e", id], vec!["k", &kind]], "+"),
    ] {
        let tags: Vec<&[&str]> = tags.iter().map(|tag| &**tag).collect();
        let refused =
            client.refused(&common::ask::event(&keys, common::now(), of_kind, &tags, content)).await;
        assert_eq!(refused, "blocked", "{of_kind}");
    }
    // Also the very event, of which a copy may be stored.
    client.say(json!(["EVENT", event])).await;
    let answer = client.hear().await;
    assert!(answer[3].as_str().unwrap().starts_with("blocked: "), "{answer}");
    for verb in ["REQ", "COUNT"] {
        let closed = client.closed(verb, "x", by(&author, &[ACTIVITY])).await;
        assert!(closed.starts_with("auth-required: "), "{closed}");
    }
    assert_eq!(client.find(by(&author, &[1, ACTIVITY])).await, [""; 0]);
}

/// What is taken back is gone, and the request for that, which everybody may read, does not say what it was.
#[tokio::test]
async fn nobody_is_told_what_was_taken_back() {
    let relay = relay();
    let author = sign_up(&relay, "author", "followers");
    relay.sign_in("author");
    let done = author.connect(&relay).await.find(by(&author, &[ACTIVITY])).await;
    assert_eq!(done.len(), 1);
    let mut stranger = relay.connect().await;
    stranger.watch("live", json!({ "kinds": [5], "limit": 0 })).await;
    let answer = author.ask(&relay, "PUT", "/v1/settings", json!({ "activity": "nobody" }));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(author.connect(&relay).await.find(by(&author, &[ACTIVITY])).await, [""; 0]);
    let request = stranger.hear().await;
    assert_eq!(request[2]["tags"], json!([["e", done[0]]]), "{request}");
    let told = stranger.find(json!({ "kinds": [5], "#k": [ACTIVITY.to_string()] })).await;
    assert_eq!(told, [""; 0]);
}

/// Whom somebody follows counts at once, also for sockets that are open.
#[tokio::test]
async fn what_is_shown_live_follows_the_lists() {
    let relay = relay();
    let [author, reader] = ["author", "reader"].map(|name| sign_up(&relay, name, "friends"));
    let mut publisher = relay.connect().await;
    let mut client = reader.connect(&relay).await;
    client.watch("live", by(&author, &[ACTIVITY])).await;
    for (who, whom, method, expected) in [
        (&reader, &author, "POST", &[][..]),
        // The follow itself is told to the new friend.
        (&author, &reader, "POST", &["followed reader", "signed in"]),
        (&author, &reader, "DELETE", &[]),
        (&author, &reader, "POST", &["followed reader", "signed in"]),
        (&reader, &author, "DELETE", &[]),
    ] {
        follow(&relay, who, whom, method);
        relay.sign_in("author");
        let heard = timeout(PATIENCE, client.heard(&mut publisher)).await.unwrap();
        let heard: Vec<&str> = heard.iter().map(|message| message[2]["content"].as_str().unwrap()).collect();
        assert_eq!(heard, expected, "{} {method} {}", who.name, whom.name);
    }
}

/// Who hides is shown nothing of others from then on, and who does so no more is, also by sockets that are open.
#[tokio::test]
async fn what_is_shown_live_follows_what_the_reader_chooses() {
    let relay = relay();
    let [author, reader] = ["author", "reader"].map(|name| sign_up(&relay, name, "followers"));
    follow(&relay, &reader, &author, "POST");
    let mut publisher = relay.connect().await;
    let mut client = reader.connect(&relay).await;
    client.watch("live", by(&author, &[ACTIVITY])).await;
    for (choice, expected) in [("followers", 1), ("nobody", 0), ("friends", 1), ("nobody", 0)] {
        let answer = reader.ask(&relay, "PUT", "/v1/settings", json!({ "activity": choice }));
        assert_eq!(answer.status, 200, "{answer:?}");
        relay.sign_in("author");
        let heard = timeout(PATIENCE, client.heard(&mut publisher)).await.unwrap();
        assert_eq!(heard.len(), expected, "{choice}: {heard:?}");
    }
}
