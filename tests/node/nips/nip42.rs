//! Authentication (NIP-42).

use rookery::protocol::{Tags, sign::Keys};
use serde_json::json;
use tokio_tungstenite::tungstenite::{client::IntoClientRequest, http::HeaderValue};

use common::ask::{event, id, ids, prefix};
use common::{Client, Relay, note, now, refused};

/// Sends an AUTH of any make: whether it was accepted.
async fn auth(client: &mut Client, keys: &Keys, kind: u16, at: u64, tags: &[&[&str]]) -> bool {
    let event = event(keys, at, kind, tags, "");
    client.say_text(format!(r#"["AUTH",{}]"#, event.json())).await;
    let (accepted, text) = client.hear_ok(&id(&event)).await;
    assert_eq!(prefix(&text), if accepted { "" } else { "invalid" }, "{text}");
    accepted
}

/// Whether the relay takes the client for a party of the event, a gift wrap to the keys.
async fn is_known(client: &mut Client, wrap: &rookery::protocol::Event) -> bool {
    !client.find(json!({ "ids": [wrap.id()] })).await.is_empty()
}

fn wrap(to: &Keys) -> rookery::protocol::Event {
    event(&Keys::generate(), now() - 100, 1_059, &[&["p", &to.public_key().to_hex()]], "")
}

#[tokio::test]
async fn every_connection_has_a_challenge_of_its_own() {
    let relay = Relay::start(&[]);
    let (mut one, two) = (relay.connect().await, relay.connect().await);
    assert_ne!(one.challenge, two.challenge);
    assert!(one.challenge.len() >= 16 && two.challenge.len() >= 16);
    let keys = Keys::generate();
    let url = relay.url();
    let others: &[&[&str]] = &[&["relay", &url], &["challenge", &two.challenge]];
    assert!(!auth(&mut one, &keys, 22_242, now(), others).await);
    assert!(one.authenticate(&keys, &url).await.0);
}

#[tokio::test]
async fn each_rule_is_checked() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let wrap = wrap(&keys);
    client.put(&wrap).await;
    let challenge = client.challenge.clone();
    let url = relay.url();
    let wss = url.replace("ws://", "wss://");
    let (slash, port) = (format!("{url}/"), format!("ws://127.0.0.1:{}", relay.clients.port() ^ 1));
    let relay_tag = ["relay", url.as_str()];
    let challenge_tag = ["challenge", challenge.as_str()];
    let both: &[&[&str]] = &[&relay_tag, &challenge_tag];
    for (kind, at, tags) in [
        (1, now(), both),
        (22_243, now(), both),
        (22_242, now() - 660, both),
        (22_242, now() + 660, both),
        (22_242, 0, both),
        (22_242, now(), &[&relay_tag]),
        (22_242, now(), &[&challenge_tag]),
        (22_242, now(), &[]),
        (22_242, now(), &[&relay_tag, &["challenge", ""]]),
        (22_242, now(), &[&relay_tag, &["challenge", &challenge[1..]]]),
        (22_242, now(), &[&relay_tag, &["challenge", &challenge.to_uppercase(), "x"], &["challenge"]]),
        (22_242, now(), &[&["relay", "wss://relay.example.com"], &challenge_tag]),
        (22_242, now(), &[&["relay", "ws://127.0.0.1"], &challenge_tag]),
        (22_242, now(), &[&["relay", &port], &challenge_tag]),
        (22_242, now(), &[&["relay", "127.0.0.1"], &challenge_tag]),
        (22_242, now(), &[&["relay", ""], &challenge_tag]),
    ] {
        // A challenge of digits alone has no upper case.
        if tags.len() == 3 && challenge == challenge.to_uppercase() {
            continue;
        }
        assert!(!auth(&mut client, &keys, kind, at, tags).await, "{kind} {at} {tags:?}");
    }
    // A signature that is not the author's.
    let forged = event(&keys, now(), 22_242, both, "")
        .json()
        .replace(&keys.public_key().to_hex(), &Keys::generate().public_key().to_hex());
    client.say_text(format!(r#"["AUTH",{forged}]"#)).await;
    let answer = client.hear().await;
    assert_eq!((&answer[0], &answer[2]), (&json!("OK"), &json!(false)), "{answer}");
    assert!(!is_known(&mut client, &wrap).await);
    // Ten minutes either way, a slash at the end, TLS that ends before the relay.
    for (at, relay_tag) in [
        (now() - 590, ["relay", &url]),
        (now() + 590, ["relay", &url]),
        (now(), ["relay", &slash]),
        (now(), ["relay", &wss]),
    ] {
        let mut client = relay.connect().await;
        let challenge = client.challenge.clone();
        assert!(!is_known(&mut client, &wrap).await);
        let tags: &[&[&str]] = &[&["challenge", &challenge], &["client", "x"], &relay_tag];
        assert!(auth(&mut client, &keys, 22_242, at, tags).await, "{at} {relay_tag:?}");
        assert!(is_known(&mut client, &wrap).await);
    }
}

#[tokio::test]
async fn several_keys_of_a_connection_count_and_of_no_other() {
    let relay = Relay::start(&["--set", "limits.max_auth_keys=3"]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let people = [(); 4].map(|()| Keys::generate());
    let wraps = people.each_ref().map(wrap);
    client.put_all(&wraps).await;
    for (nth, keys) in people[..3].iter().enumerate() {
        assert!(client.authenticate(keys, &relay.url()).await.0);
        // Again changes nothing.
        assert!(client.authenticate(keys, &relay.url()).await.0);
        for (at, wrap) in wraps.iter().enumerate() {
            assert_eq!(is_known(&mut client, wrap).await, at <= nth);
        }
    }
    let (accepted, text) = client.authenticate(&people[3], &relay.url()).await;
    assert!(!accepted && prefix(&text) == "restricted", "{text}");
    for wrap in &wraps {
        assert!(!is_known(&mut other, wrap).await);
    }
}

#[tokio::test]
async fn the_event_is_never_stored_and_never_sent_on() {
    let relay = Relay::start(&[]);
    let (mut client, mut reader) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    reader.watch("kind", json!({ "kinds": [22_242] })).await;
    reader.watch("author", json!({ "authors": [keys.public_key()] })).await;
    assert!(client.authenticate(&keys, &relay.url()).await.0);
    // Nor when it is published like an event, which is refused.
    let tags = Tags::from_iter([["relay", &relay.url()], ["challenge", &client.challenge]]);
    let event = keys.sign(now(), 22_242, tags, "");
    assert_eq!(client.refused(&event).await, "invalid");
    assert!(reader.heard(&mut client).await.is_empty());
    for filter in [json!({ "kinds": [22_242] }), json!({ "authors": [keys.public_key()] })] {
        assert!(client.find(filter.clone()).await.is_empty());
        assert_eq!(client.count(&[filter]).await["count"], 0);
    }
}

/// Connects with another Host header, and with these headers besides.
async fn connect_to(relay: &Relay, host: &str, headers: &[(&'static str, &str)]) -> Client {
    let mut request = relay.url().into_client_request().unwrap();
    for &(name, value) in [("Host", host)].iter().chain(headers) {
        request.headers_mut().insert(name, HeaderValue::from_str(value).unwrap());
    }
    Client::connect(request).await
}

#[tokio::test]
async fn without_a_url_the_address_that_was_reached_is_ours() {
    let relay = Relay::start(&[]);
    let keys = Keys::generate();
    let port = relay.clients.port();
    for name in ["127.0.0.1", "localhost", "LOCALHOST", "[::1]"] {
        let host = format!("{name}:{port}");
        let mut client = connect_to(&relay, &host, &[]).await;
        for stranger in ["ws://relay.example.com", &format!("ws://{name}:{}", port ^ 1)] {
            refused(client.authenticate(&keys, stranger).await, "invalid: ");
        }
        assert!(client.authenticate(&keys, &format!("ws://{host}/")).await.0, "{host}");
    }
}

#[tokio::test]
async fn a_relay_in_the_middle_does_not_sign_in_as_its_client() {
    let relay = Relay::start(&["--trusted-proxy", "127.0.0.1"]);
    let (victim, friend) = (Keys::generate(), Keys::generate());
    let secret = event(&friend, now(), 4, &[&["p", &victim.public_key().to_hex()]], "for the victim");
    relay.connect().await.put(&secret).await;
    let direct = relay.clients.to_string();
    let (bare, other) = ("127.0.0.1".to_owned(), format!("127.0.0.1:{}", relay.clients.port() ^ 1));
    let forwarded = ("X-Forwarded-For", "203.0.113.7");
    for (host, headers) in [
        // It writes its own name into the Host header, as it passes our challenge on.
        ("evil.example.com", &[][..]),
        ("203.0.113.7:7777", &[]),
        ("", &[]),
        // The victim's client may have reached it at such an address, on a machine of its own.
        (&bare, &[]),
        (&other, &[]),
        (&direct, &[forwarded]),
    ] {
        let mut middle = connect_to(&relay, host, headers).await;
        for signed in [format!("wss://{host}"), format!("ws://{host}/")] {
            let (accepted, text) = middle.authenticate(&victim, &signed).await;
            assert!(!accepted && prefix(&text) == "error" && text.contains("--url"), "{host}: {text}");
        }
        assert_eq!(prefix(&middle.closed("REQ", "s", json!({ "kinds": [4] })).await), "auth-required");
        let protected = event(&victim, now(), 1, &[&["-"]], "in the victim's name");
        assert_eq!(middle.refused(&protected).await, "auth-required");
        assert!(middle.find(json!({ "ids": [secret.id()] })).await.is_empty());
    }
}

#[tokio::test]
async fn with_a_url_that_alone_counts() {
    let relay = Relay::start(&["--url", "wss://relay.example.com"]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    for stranger in
        [relay.url().as_str(), "wss://other.example.com", "wss://relay.example.com:444", "wss://example.com"]
    {
        assert!(!client.authenticate(&keys, stranger).await.0, "{stranger}");
    }
    for ours in ["wss://relay.example.com", "wss://relay.example.com/", "wss://RELAY.example.com:443"] {
        assert!(client.authenticate(&keys, ours).await.0, "{ours}");
    }
}

#[tokio::test]
async fn a_relay_may_serve_the_authenticated_only() {
    let relay = Relay::start(&["--set", "limits.auth_required=true"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let event = note(&keys, now(), "hello");
    assert_eq!(client.refused(&event).await, "auth-required");
    for verb in ["REQ", "COUNT"] {
        assert_eq!(prefix(&client.closed(verb, "s", json!({})).await), "auth-required");
    }
    // Whoever it is; the event need not be theirs.
    assert!(client.authenticate(&Keys::generate(), &relay.url()).await.0);
    client.put(&event).await;
    assert_eq!(client.find(json!({})).await, ids([&event]));
    assert_eq!(client.count(&[json!({})]).await["count"], 1);
}
