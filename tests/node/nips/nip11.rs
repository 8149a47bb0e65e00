//! The relay information document (NIP-11), and whether what it says of limits is true.

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
};

use rookery::protocol::sign::Keys;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use common::ask::{event, ids, prefix};
use common::{Client, PATIENCE, Relay, note, now};

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.filter(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value).next()
    }
}

fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: body.to_owned() }
}

const ACCEPT: &str = "Accept: application/nostr+json\r\n";

fn document(relay: &Relay) -> Value {
    serde_json::from_str(&ask(relay.clients, "GET", "/", ACCEPT).body).unwrap()
}

fn assert_cors(answer: &Answer) {
    assert_eq!(answer.header("Access-Control-Allow-Origin"), Some("*"), "{}", answer.head);
    assert!(answer.header("Access-Control-Allow-Headers").is_some(), "{}", answer.head);
    assert!(answer.header("Access-Control-Allow-Methods").unwrap().contains("GET"), "{}", answer.head);
}

#[test]
fn the_document_says_what_the_operator_set() {
    let key = Keys::generate().public_key().to_hex();
    let pubkey = format!("info.pubkey={key}");
    let mut arguments = Vec::new();
    for setting in [
        "info.name=Test relay",
        "info.description=First.\n\nSecond \"quoted\".",
        "info.contact=mailto:admin@example.com",
        "info.icon=https://example.com/icon.png",
        "info.banner=https://example.com/banner.png",
        "info.terms_of_service=https://example.com/terms.txt",
        &pubkey,
    ] {
        arguments.extend(["--set", setting]);
    }
    let relay = Relay::start(&arguments);
    let document = document(&relay);
    assert_eq!(document["name"], "Test relay");
    assert_eq!(document["description"], "First.\n\nSecond \"quoted\".");
    assert_eq!(document["contact"], "mailto:admin@example.com");
    assert_eq!(document["icon"], "https://example.com/icon.png");
    assert_eq!(document["banner"], "https://example.com/banner.png");
    assert_eq!(document["terms_of_service"], "https://example.com/terms.txt");
    assert_eq!(document["pubkey"], key);
    assert_eq!(document["version"], env!("CARGO_PKG_VERSION"));
    assert!(document["software"].as_str().unwrap().starts_with("https://"));
    let nips = document["supported_nips"].as_array().unwrap();
    for nip in [1, 2, 9, 11, 13, 17, 40, 42, 45, 59, 62, 65, 67, 70] {
        assert!(nips.contains(&json!(nip)), "NIP-{nip}");
    }
}

#[test]
fn what_is_not_set_is_left_out() {
    let relay = Relay::start(&[]);
    let document = document(&relay);
    for field in ["description", "pubkey", "contact", "icon", "banner", "terms_of_service", "self"] {
        assert_eq!(document.get(field), None, "{field}");
    }
    assert!(document["name"].as_str().unwrap().len() < 30);
}

#[test]
fn browsers_may_ask() {
    let relay = Relay::start(&[]);
    let get = ask(relay.clients, "GET", "/", ACCEPT);
    assert_eq!((get.status, get.header("Content-Type")), (200, Some("application/nostr+json")));
    assert_cors(&get);
    for accept in [
        "application/nostr+json, */*",
        "text/html;q=0.5, application/nostr+json;q=1",
        "Application/Nostr+JSON",
        "text/html\r\nAccept: application/nostr+json",
    ] {
        let answer =
            ask(relay.clients, "GET", "/", &format!("Accept: {accept}\r\nOrigin: https://x.example\r\n"));
        assert_eq!(answer.body, get.body, "{accept}");
    }
    let head = ask(relay.clients, "HEAD", "/", ACCEPT);
    assert_eq!((head.status, head.header("Content-Type")), (200, Some("application/nostr+json")));
    assert_eq!(head.body, "");
    assert_eq!(head.header("Content-Length"), Some(&*get.body.len().to_string()));
    assert_cors(&head);
    let preflight = "Origin: https://x.example\r\nAccess-Control-Request-Method: GET\r\n\
                     Access-Control-Request-Headers: accept\r\n";
    let options = ask(relay.clients, "OPTIONS", "/", preflight);
    assert!(matches!(options.status, 200 | 204), "{}", options.head);
    assert_eq!(options.body, "");
    assert_cors(&options);
    // Those who do not ask for the document get a page, not the document.
    let word = ask(relay.clients, "GET", "/", "Accept: text/html\r\n");
    assert_eq!(word.status, 200);
    assert!(serde_json::from_str::<Value>(&word.body).is_err());
    // A cache between must not give one the other's.
    for answer in [&get, &head, &word] {
        let vary = answer.header("Vary").unwrap_or_default();
        assert!(vary.split(", ").any(|name| name == "Accept"), "{}", answer.head);
    }
    assert_eq!(ask(relay.clients, "POST", "/", &format!("{ACCEPT}Content-Length: 0\r\n")).status, 405);
    assert_eq!(ask(relay.clients, "GET", "/elsewhere", ACCEPT).status, 404);
}

#[tokio::test]
async fn the_path_of_the_public_url_is_served_too() {
    for url in ["wss://example.com/relay", "wss://example.com/relay/"] {
        let relay = Relay::start(&["--url", url]);
        for path in ["/relay", "/relay/", "/"] {
            let document = ask(relay.clients, "GET", path, ACCEPT);
            assert!(document.status == 200 && document.body.contains("supported_nips"), "{url} {path}");
            let at = format!("{}{path}", relay.url());
            let mut client = Client::connect(at.into_client_request().unwrap()).await;
            assert!(client.authenticate(&Keys::generate(), url).await.0);
        }
        for path in ["/relay/x", "/relays", "/relay//"] {
            assert_eq!(ask(relay.clients, "GET", path, ACCEPT).status, 404, "{url} {path}");
        }
    }
}

#[test]
fn the_defaults_are_the_real_ones() {
    let limitation = document(&Relay::start(&[]))["limitation"].clone();
    let expected = json!({
        "max_message_length": 512 * 1024, "max_subscriptions": 300, "max_limit": 5_000,
        "default_limit": 500, "max_subid_length": 64, "max_event_tags": 5_000,
        "min_pow_difficulty": 0, "auth_required": false, "payment_required": false,
        "restricted_writes": false, "created_at_upper_limit": 900,
    });
    assert_eq!(limitation, expected);
}

#[tokio::test]
async fn every_limit_that_is_shown_is_in_force() {
    let mut arguments = Vec::new();
    for setting in [
        "limits.max_message_bytes=2000",
        "limits.max_subscriptions=2",
        "limits.max_limit=4",
        "limits.default_limit=3",
        "limits.max_tags=5",
        "limits.max_ahead_seconds=60",
        "limits.max_boundary_events=0",
    ] {
        arguments.extend(["--set", setting]);
    }
    let relay = Relay::start(&arguments);
    let limitation = &document(&relay)["limitation"];
    let limit = |name: &str| limitation[name].as_u64().unwrap();
    let mut client = relay.connect().await;
    let keys = Keys::generate();

    let tags = |count: u64| vec![&["t", "x"][..]; count as usize];
    let most = event(&keys, now(), 1, &tags(limit("max_event_tags")), "");
    client.put(&most).await;
    let more = event(&keys, now(), 1, &tags(limit("max_event_tags") + 1), "");
    assert_eq!(client.refused(&more).await, "invalid");

    let ahead = limit("created_at_upper_limit");
    client.put(&note(&keys, now() + ahead, "in time")).await;
    assert_eq!(client.refused(&note(&keys, now() + ahead + 60, "too far ahead")).await, "invalid");

    let at = now() - 100;
    let mut events: Vec<_> = (0..10).map(|n| event(&keys, at - n, 7, &[], "")).collect();
    client.put_all(&events).await;
    let reactions = |limit| json!({ "kinds": [7], "limit": limit });
    assert_eq!(client.find(reactions(10)).await, ids(events.drain(..limit("max_limit") as usize).as_slice()));
    assert_eq!(client.find(json!({ "kinds": [7] })).await.len() as u64, limit("default_limit"));

    let longest = "x".repeat(limit("max_subid_length") as usize);
    client.request(&longest, &[json!({ "kinds": [9] })]).await;
    client.say(json!(["CLOSE", longest])).await;
    assert_eq!(prefix(&client.closed("REQ", &format!("{longest}x"), json!({})).await), "invalid");

    for nth in 0..limit("max_subscriptions") {
        client.request(&nth.to_string(), &[json!({ "kinds": [9] })]).await;
    }
    assert_eq!(prefix(&client.closed("REQ", "one more", json!({ "kinds": [9] })).await), "rate-limited");

    // A message of exactly that many bytes is read; one byte more is refused.
    let bytes = limit("max_message_length") as usize;
    let fitting = note(&keys, now(), "");
    let content = "x".repeat(bytes - format!(r#"["EVENT",{}]"#, fitting.json()).len());
    client.put(&note(&keys, now(), &content)).await;
    assert_eq!(client.refused(&note(&keys, now(), &format!("{content}x"))).await, "invalid");
}

#[test]
fn who_may_write_is_said() {
    let document_of = |setting| document(&Relay::start(&["--set", setting]))["limitation"].clone();
    let limitation = document_of("limits.min_pow_difficulty=20");
    assert_eq!(
        (&limitation["min_pow_difficulty"], &limitation["restricted_writes"]),
        (&json!(20), &json!(true))
    );
    let limitation = document_of("limits.auth_required=true");
    assert_eq!(
        (&limitation["auth_required"], &limitation["restricted_writes"]),
        (&json!(true), &json!(true))
    );
}
