//! Too many: connections, descriptors, connections of an address, messages a second. What is refused
//! is told so, and the relay goes on.

use std::{process::Command, time::Duration};

use common::{
    Client, Relay, eventually, note, now,
    raw::{Raw, upgrade_request},
    relay_command, run_by,
};
use rookery::protocol::sign::Keys;
use serde_json::json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// The status of the answer to an upgrade with these further headers, and the connection.
fn upgrade(relay: &Relay, headers: &str) -> (u16, String, Raw) {
    let mut raw = Raw::open(relay.clients);
    let request = upgrade_request(relay.clients);
    raw.send(request.replacen("\r\n", &format!("\r\n{headers}"), 1).as_bytes());
    let head = raw.read_head();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, head.to_lowercase(), raw)
}

#[tokio::test]
async fn connections_beyond_the_bound_are_refused() {
    const MAX: usize = 5;
    let relay = Relay::start(&["--set", &format!("limits.max_connections={MAX}")]);
    let mut open: Vec<Raw> = Vec::new();
    for nth in 0..50 {
        let (status, head, raw) = upgrade(&relay, "");
        assert_eq!(status, if nth < MAX { 101 } else { 503 }, "{nth}");
        if status == 101 {
            open.push(raw);
        } else {
            assert!(head.contains("retry-after: "), "{head}");
        }
    }
    assert_eq!(relay.metric("rookery_connections_refused_total"), 45.0);
    assert_eq!(relay.metric("rookery_connections"), MAX as f64);
    // HTTP is answered all the same.
    assert_eq!(Relay::get(relay.clients, "/", "").0, 200);
    drop(open.pop());
    eventually("one has left", || relay.metric("rookery_connections") < MAX as f64).await;
    let mut client = relay.connect().await;
    assert!(client.publish(&note(&Keys::generate(), now(), "let in")).await.0);
}

#[tokio::test]
async fn sockets_beyond_the_descriptors_are_refused_and_those_that_are_there_go_on() {
    let data = TempDir::new().unwrap();
    let relay = relay_command(data.path(), &["--set", "session.handshake_seconds=1"]);
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"ulimit -n 100; exec "$0" "$@""#]);
    let relay = Relay::spawn(run_by(shell, &relay), data);
    let mut client = relay.connect().await;
    let mut open = Vec::new();
    let mut refused = 0;
    for _ in 0..150 {
        match upgrade(&relay, "") {
            (101, _, raw) => open.push(raw),
            (503, ..) => refused += 1,
            (status, head, _) => panic!("{status} {head}"),
        }
    }
    // Half of so few are kept back for everything else.
    assert_eq!((open.len(), refused), (49, 101));
    assert!(client.publish(&note(&Keys::generate(), now(), "served")).await.0);
    // More that say nothing than there are descriptors: they wait in front of the door.
    let silent: Vec<Raw> = (0..200).map(|_| Raw::open(relay.clients)).collect();
    let event = note(&Keys::generate(), now(), "served all the same");
    assert!(client.publish(&event).await.0);
    assert_eq!(client.request("s", &[json!({ "ids": [event.id()] })]).await.0, [event.id().to_hex()]);
    // Their time for a handshake ends, and new ones come in again.
    drop(silent);
    drop(open);
    eventually("descriptors are free", || relay.metric("rookery_connections") == 1.0).await;
    relay.connect().await.request("s", &[json!({ "limit": 0 })]).await;
}

#[tokio::test]
async fn connections_of_an_address_are_bounded_behind_a_trusted_proxy() {
    const MAX: &str = "limits.max_connections_per_address=3";
    let relay = Relay::start(&["--set", MAX, "--trusted-proxy", "127.0.0.0/8"]);
    let from = |address: &str| upgrade(&relay, &format!("X-Forwarded-For: {address}\r\n"));
    let open: Vec<_> = (0..3).map(|_| from("203.0.113.7")).collect();
    assert!(open.iter().all(|(status, ..)| *status == 101));
    let (status, head, _) = from("203.0.113.7");
    assert_eq!(status, 429);
    assert!(head.contains("retry-after: "), "{head}");
    // What the client itself put in front does not count, nor is an address the same as its IPv6 form.
    assert_eq!(from("198.51.100.1, 203.0.113.7").0, 429);
    assert_eq!(from("::ffff:203.0.113.7").0, 429);
    let _other = from("203.0.113.8");
    assert_eq!(_other.0, 101);
    let many: Vec<_> = (0..10).map(|_| upgrade(&relay, "")).collect();
    assert!(many.iter().all(|(status, ..)| *status == 101), "loopback has no such bound");
    drop(open);
    eventually("they have left", || relay.metric("rookery_connections") == 11.0).await;
    assert_eq!(from("203.0.113.7").0, 101);
}

#[tokio::test]
async fn who_is_not_trusted_can_not_name_an_address() {
    let relay = Relay::start(&["--set", "limits.max_connections_per_address=1"]);
    for _ in 0..3 {
        let (status, _, raw) = upgrade(&relay, "X-Forwarded-For: 203.0.113.7\r\n");
        assert_eq!(status, 101);
        std::mem::forget(raw);
    }
}

/// Publishes a note: what the OK says, if it is `false`.
async fn refused(client: &mut Client) -> Option<String> {
    let (accepted, text) = client.publish(&note(&Keys::generate(), now(), "quick")).await;
    (!accepted).then_some(text)
}

#[tokio::test]
async fn a_connection_that_is_too_fast_is_slowed_down() {
    let settings = ["rate.include_loopback=true", "rate.messages_per_second=2", "rate.messages_burst=5"];
    let relay = Relay::start(&["--set", settings[0], "--set", settings[1], "--set", settings[2]]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    client.request("kept", &[json!({ "authors": [Keys::generate().public_key()] })]).await;
    let mut answers = Vec::new();
    for _ in 0..20 {
        answers.push(refused(&mut client).await);
    }
    assert!(answers[..4].iter().all(Option::is_none), "{answers:?}");
    let refusals: Vec<_> = answers.into_iter().flatten().collect();
    assert!(
        refusals.len() > 5 && refusals.iter().all(|text| text.starts_with("rate-limited: ")),
        "{refusals:?}"
    );
    // Whatever it sends; but to end a subscription is never refused.
    for verb in ["REQ", "COUNT"] {
        let answer = loop {
            client.say(json!([verb, "s", { "limit": 0 }])).await;
            let answer = client.hear().await;
            if answer[0] == "CLOSED" {
                break answer;
            }
        };
        assert!(answer[2].as_str().unwrap().starts_with("rate-limited: "), "{verb}: {answer}");
    }
    let subscriptions = relay.metric("rookery_subscriptions");
    client.say(json!(["CLOSE", "kept"])).await;
    eventually("it is closed", || relay.metric("rookery_subscriptions") < subscriptions).await;
    // Nobody else is slowed down, and it is not for ever.
    assert_eq!(refused(&mut other).await, None);
    while refused(&mut client).await.is_some() {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

#[tokio::test]
async fn the_connections_of_an_address_share_a_rate() {
    let settings = ["rate.address_messages_per_second=1", "rate.address_messages_burst=10"];
    let relay =
        Relay::start(&["--set", settings[0], "--set", settings[1], "--trusted-proxy", "127.0.0.1/32"]);
    let connect = |address: &'static str| {
        let mut request = relay.url().into_client_request().unwrap();
        request.headers_mut().insert("X-Forwarded-For", address.parse().unwrap());
        Client::connect(request)
    };
    let mut accepted = 0;
    for _ in 0..5 {
        let mut client = connect("203.0.113.7").await;
        for _ in 0..10 {
            match refused(&mut client).await {
                None => accepted += 1,
                Some(text) => assert!(text.starts_with("rate-limited: "), "{text}"),
            }
        }
    }
    // Fifty were sent; ten at once are allowed, and one for each second that this takes.
    assert!((10..40).contains(&accepted), "{accepted}");
    assert_eq!(refused(&mut connect("203.0.113.8").await).await, None);
    assert_eq!(refused(&mut relay.connect().await).await, None);
}
