//! Follow lists that two nodes change at once, over a common store.

use common::{Relay, eventually, people::Person, redis::Redis};
use rookery::protocol::sign::Keys;
use serde_json::Value;

use crate::stored::Keyspace;

fn get(node: &Relay, person: &Person, path: &str) -> Value {
    let answer = person.ask(node, "GET", path, Value::Null);
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()
}

fn people(node: &Relay, person: &Person) -> Vec<String> {
    let list = get(node, person, "/v1/friends");
    let friends = list["friends"].as_array().unwrap().iter();
    let mut people: Vec<String> =
        friends.map(|friend| friend["userId"].as_str().unwrap().to_owned()).collect();
    people.sort_unstable();
    people
}

#[tokio::test(flavor = "multi_thread")]
async fn what_two_nodes_change_of_a_follow_list_at_once_is_all_there() {
    let (redis, keyspace) = (Redis::start(), Keyspace::make());
    let start = || keyspace.patient_node(&redis.url(), &["--set", "accounts.open=everybody"]);
    let (one, other) = (start(), start());
    for node in [&one, &other] {
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    }
    let quill = one.sign_up("quill");
    let mut wanted: Vec<String> = (0..16).map(|_| Keys::generate().public_key().to_hex()).collect();
    std::thread::scope(|scope| {
        for (nth, person) in wanted.iter().enumerate() {
            let (node, quill) = (if nth % 2 == 0 { &one } else { &other }, &quill);
            scope.spawn(move || {
                let followed = quill.ask(node, "POST", &format!("/v1/friends/{person}"), Value::Null);
                assert_eq!(followed.status, 200, "{followed:?}");
            });
        }
    });
    wanted.sort_unstable();
    assert_eq!([&one, &other].map(|node| people(node, &quill)), [wanted.clone(), wanted]);
    // Any of them knows which lists there were, and takes one back. A list may have been made twice, by one who found
    // a newer one that was not to be read yet.
    let history = get(&other, &quill, "/v1/friends/history");
    let versions = history["versions"].as_array().unwrap();
    let before = versions.iter().find(|version| version["people"] == 15).expect("the list of fifteen");
    let path = format!("/v1/friends/history/{}", before["version"].as_str().unwrap());
    let back = quill.ask(&other, "POST", &path, Value::Null);
    assert_eq!(back.status, 200, "{back:?}");
    assert_eq!(people(&one, &quill).len(), 15, "{history:#}");
}
