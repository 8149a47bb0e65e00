//! The way into a connection: requests that never end, that are no handshake, or that are too long.

use std::{
    io::{ErrorKind, Read},
    time::{Duration, Instant},
};

use common::{
    PATIENCE, Relay,
    raw::{Raw, upgrade_request},
};

/// Longer than the second that the tests allow a handshake, and shorter than what would be patience.
const SOON: Duration = Duration::from_secs(6);

fn relay() -> Relay {
    Relay::start(&["--workers", "1", "--set", "session.handshake_seconds=1"])
}

/// Whether the other side has closed; what it said before does not matter.
fn is_closed(raw: &Raw) -> bool {
    let mut stream = raw.stream();
    match stream.read(&mut [0; 1024]) {
        Ok(0) => true,
        Ok(_) => false,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    }
}

#[tokio::test]
async fn a_handshake_that_never_ends_is_closed() {
    let relay = relay();
    let begun = Instant::now();
    let request = upgrade_request(relay.clients);
    let unfinished = [0, 1, 20, request.len() - 2];
    let silent: Vec<Raw> = unfinished
        .iter()
        .cycle()
        .take(200)
        .map(|&len| {
            let mut raw = Raw::open(relay.clients);
            raw.send(&request.as_bytes()[..len]);
            raw
        })
        .collect();
    // Meanwhile others come in.
    let mut client = relay.connect().await;
    for mut raw in silent {
        raw.read_to_end();
    }
    assert!(begun.elapsed() > Duration::from_millis(500), "closed before the time was over");
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    client.request("s", &[serde_json::json!({ "limit": 0 })]).await;
    // Those who have finished it are not meant.
    assert!(relay.metric("rookery_connections") >= 1.0);
}

#[test]
fn a_header_that_comes_byte_by_byte_is_closed() {
    let relay = relay();
    let begun = Instant::now();
    let mut raw = Raw::open(relay.clients);
    raw.send(b"GET / HTTP/1.1\r\n");
    raw.stream().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    // A byte, and then a while in which the relay may close.
    while raw.try_send(b"X") && !is_closed(&raw) {
        assert!(begun.elapsed() < SOON, "still open after {:?}", begun.elapsed());
    }
}

#[test]
fn a_body_that_never_comes_is_not_waited_for() {
    let relay = relay();
    let begun = Instant::now();
    for method in ["POST", "GET", "OPTIONS", "PUT"] {
        let mut raw = Raw::open(relay.clients);
        let head = format!("{method} / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n");
        raw.send(head.as_bytes());
        let answer = raw.read_to_end();
        assert!(answer.starts_with(b"HTTP/1.1 "), "{method}");
    }
    assert!(begun.elapsed() < PATIENCE);
}

#[test]
fn a_head_without_end_is_refused() {
    let relay = relay();
    let mut raw = Raw::open(relay.clients);
    raw.send(b"GET / HTTP/1.1\r\nX: ");
    let junk = vec![b'a'; 64 * 1024];
    // 16 MB at most; the relay stops far earlier.
    let taken = (0..256).take_while(|_| raw.try_send(&junk)).count();
    assert!(taken < 256, "the whole of a huge head was read");
}

#[test]
fn the_answer_to_a_handshake_names_the_store() {
    let relay = relay();
    let name = Raw::store_of(relay.clients);
    assert!(name.starts_with("own-"), "{name}");
    assert_eq!(Raw::store_of(relay.restart_after_kill(&[]).clients), name);
    assert_ne!(Raw::store_of(self::relay().clients), name);
}

#[tokio::test]
async fn what_is_no_handshake_gets_an_http_error() {
    let relay = relay();
    let host = relay.clients.to_string();
    let good = upgrade_request(relay.clients);
    let with_key = |key| good.replace("dGhlIHNhbXBsZSBub25jZQ==", key);
    for (what, request, status) in [
        ("no key", good.replace("Sec-WebSocket-Key", "X-Key"), 400),
        ("no version", good.replace("Sec-WebSocket-Version", "X-Version"), 400),
        ("another version", good.replace("Version: 13", "Version: 12"), 426),
        ("no Connection: Upgrade", good.replace("Connection: Upgrade", "Connection: close"), 400),
        ("HTTP/1.0", good.replace("HTTP/1.1", "HTTP/1.0"), 400),
        ("no host", good.replace("Host", "X-Host"), 400),
        ("an empty key", with_key(""), 400),
        ("a key of 15 bytes", with_key("AAAAAAAAAAAAAAAAAAAA"), 400),
        ("a key of 17 bytes", with_key("AAAAAAAAAAAAAAAAAAAAAAA="), 400),
        ("a key of 20 bytes", with_key("AAAAAAAAAAAAAAAAAAAAAAAAAAA="), 400),
        ("a key that is no base64", with_key("AAAAAAAAAAAAAAAAAAAA*A=="), 400),
        ("a key with bits left over", with_key("AAAAAAAAAAAAAAAAAAAAAB=="), 400),
        ("POST", good.replace("GET", "POST"), 405),
        ("another path", good.replace("GET / ", "GET /other "), 404),
        ("no HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\r\n\r\n".to_owned(), 400),
        ("not yet HTTP", format!("GET / HTTP/9.9\r\nHost: {host}\r\n\r\n"), 400),
    ] {
        let mut raw = Raw::open(relay.clients);
        raw.send(request.as_bytes());
        let head = raw.read_head();
        assert_eq!(head.split(' ').nth(1), Some(&*status.to_string()), "{what}: {head}");
    }
    relay.connect().await;
}
