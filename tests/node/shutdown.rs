//! How a relay ends: told to, it finishes what it has begun, says goodbye, and goes.

use std::{
    net::TcpStream,
    time::{Duration, Instant},
};

use common::{
    Client, PATIENCE, Relay, eventually, note, now,
    raw::{Raw, upgrade_request},
};
use futures_util::{SinkExt, StreamExt, future::join_all};
use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, protocol::frame::coding::CloseCode};

/// Waits for the end of the process: its exit code.
async fn exit_code(relay: &mut Relay) -> Option<i32> {
    let begun = Instant::now();
    loop {
        if let Some(status) = relay.process.try_wait().unwrap() {
            return status.code();
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Reads until the connection ends: the texts, and the close code.
async fn until_closed(client: &mut Client) -> (Vec<Value>, Option<CloseCode>) {
    let mut texts = Vec::new();
    loop {
        match client.hear_frame().await {
            Some(Message::Text(text)) => texts.push(serde_json::from_str(&text).unwrap()),
            Some(Message::Close(frame)) => return (texts, frame.map(|frame| frame.code)),
            Some(other) => panic!("{other:?}"),
            None => return (texts, None),
        }
    }
}

fn ids_accepted(texts: &[Value]) -> Vec<String> {
    let accepted = texts.iter().filter(|text| text[0] == "OK" && text[2] == true);
    accepted.map(|text| text[1].as_str().unwrap().to_owned()).collect()
}

/// Starts again on the same folder: everything accepted is there.
async fn all_there(relay: Relay, ids: &[String]) {
    let relay = relay.restart_after_kill(&[]);
    let mut client = relay.connect().await;
    for some in ids.chunks(500) {
        let (found, _) = client.request("ids", &[json!({ "ids": some, "limit": 1_000 })]).await;
        assert_eq!(found.len(), some.len());
    }
}

#[tokio::test]
async fn each_signal_ends_it_in_order() {
    const CLIENTS: usize = 20;
    for signal in ["TERM", "INT"] {
        let mut relay = Relay::start(&["--workers", "1", "--drain-seconds", "4"]);
        let mut clients = join_all((0..CLIENTS).map(|_| relay.connect())).await;
        clients[0].request("s", &[json!({})]).await;
        // Accepted before, but asks for its upgrade after.
        let mut late = Raw::open(relay.clients);
        late.send(b"GET / HTTP/1.1\r\nHost: x\r\nAccept: application/nostr+json\r\n\r\n");
        assert!(late.read_head().starts_with("HTTP/1.1 200 "));
        assert_eq!(Relay::get(relay.operators, "/health/ready", "").0, 200);
        assert_eq!(relay.metric("rookery_draining"), 0.0);
        relay.signal(signal);
        eventually("not ready", || Relay::get(relay.operators, "/health/ready", "").0 == 503).await;
        assert_eq!(relay.metric("rookery_draining"), 1.0);
        assert_eq!(Relay::get(relay.operators, "/health/live", "").0, 200);
        eventually("new sockets are refused", || TcpStream::connect(relay.clients).is_err()).await;
        // Everybody is told, each at a moment of its own.
        let closed = join_all(clients.iter_mut().map(|client| async {
            let (texts, code) = until_closed(client).await;
            assert_eq!((texts, code), (vec![], Some(CloseCode::Away)));
            Instant::now()
        }));
        let closed = closed.await;
        let (first, last) = (closed.iter().min().unwrap(), closed.iter().max().unwrap());
        assert!(last.duration_since(*first) > Duration::from_millis(500), "all at once");
        drop(clients);
        assert_eq!(exit_code(&mut relay).await, Some(0), "{signal}");
    }
}

#[tokio::test]
async fn who_was_accepted_before_and_upgrades_after_is_refused() {
    let mut relay = Relay::start(&["--workers", "1", "--drain-seconds", "4"]);
    // Two, so that the second one's turn comes when half of the time for the sockets is over.
    let _idle = [relay.connect().await, relay.connect().await];
    let mut late = Raw::open(relay.clients);
    // It waits in the same worker's hands.
    late.send(b"GET / HTTP/1.1\r\n");
    Relay::get(relay.clients, "/", "");
    relay.signal("TERM");
    eventually("not ready", || Relay::get(relay.operators, "/health/ready", "").0 == 503).await;
    eventually("new sockets are refused", || TcpStream::connect(relay.clients).is_err()).await;
    late.try_send(upgrade_request(relay.clients).split_once("\r\n").unwrap().1.as_bytes());
    // Closed, with or without a word.
    let answer = String::from_utf8(late.read_to_end()).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert_eq!(exit_code(&mut relay).await, Some(0));
}

#[tokio::test]
async fn what_is_in_flight_is_stored_and_answered() {
    const EVENTS: usize = 200;
    let mut relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let first = now() - EVENTS as u64;
    let events: Vec<Event> = (0..EVENTS).map(|n| note(&keys, first + n as u64, "in flight")).collect();
    for event in &events {
        client.socket.feed(Message::text(format!(r#"["EVENT",{}]"#, event.json()))).await.unwrap();
    }
    client.socket.flush().await.unwrap();
    let read = "rookery_messages_total{verb=\"event\"}";
    eventually("the relay has read them", || relay.metric(read) >= EVENTS as f64).await;
    relay.signal("TERM");
    let (texts, code) = until_closed(&mut client).await;
    assert_eq!(code, Some(CloseCode::Away));
    let accepted = ids_accepted(&texts);
    assert_eq!(accepted, events.iter().map(|event| event.id().to_hex()).collect::<Vec<_>>());
    drop(client);
    assert_eq!(exit_code(&mut relay).await, Some(0));
    all_there(relay, &accepted).await;
}

#[tokio::test]
async fn who_does_not_stop_publishing_is_told_to_go_too() {
    let mut relay = Relay::start(&["--workers", "1", "--drain-seconds", "2"]);
    let client = relay.connect().await;
    let (mut sink, mut stream) = client.socket.split();
    let keys = Keys::generate();
    let first = now() - 1_000_000;
    let flood = async move {
        for at in first.. {
            let event = note(&keys, at, "and another one");
            if sink.send(Message::text(format!(r#"["EVENT",{}]"#, event.json()))).await.is_err() {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    let flood = tokio::spawn(flood);
    let mut texts: Vec<Value> = Vec::new();
    let mut code = None;
    let mut signalled = false;
    while let Some(Ok(message)) = tokio::time::timeout(PATIENCE, stream.next()).await.unwrap() {
        match message {
            Message::Text(text) => texts.push(serde_json::from_str(&text).unwrap()),
            Message::Close(frame) => code = frame.map(|frame| frame.code),
            _ => {}
        }
        if texts.len() > 100 && !signalled {
            signalled = true;
            relay.signal("TERM");
        }
    }
    assert_eq!(code, Some(CloseCode::Away));
    flood.await.unwrap();
    for text in &texts {
        assert_eq!(text[0], "OK");
        let refusal = text[3].as_str().unwrap();
        assert!(text[2] == true || refusal.starts_with("error: "), "{text}");
    }
    assert_eq!(exit_code(&mut relay).await, Some(0));
    all_there(relay, &ids_accepted(&texts)).await;
}

#[tokio::test]
async fn who_does_not_read_is_not_waited_for() {
    let mut relay = Relay::start(&["--drain-seconds", "2"]);
    let mut client = relay.connect().await;
    let content = "x".repeat(100_000);
    for n in 0..100 {
        assert!(client.publish(&note(&Keys::generate(), now() - n, &content)).await.0);
    }
    let mut deaf = Raw::connect(relay.clients);
    deaf.say(r#"["REQ","s",{}]"#);
    // Something has come, so the rest is on its way; it is not read.
    assert_eq!(deaf.hear()[0], "EVENT");
    relay.signal("TERM");
    assert_eq!(until_closed(&mut client).await, (vec![], Some(CloseCode::Away)));
    drop(client);
    assert_eq!(exit_code(&mut relay).await, Some(0));
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    for (first, second) in [("TERM", "TERM"), ("INT", "TERM"), ("TERM", "INT")] {
        let mut relay = Relay::start(&["--workers", "1", "--drain-seconds", "600"]);
        let mut clients = [relay.connect().await, relay.connect().await];
        let event = note(&Keys::generate(), now(), "acknowledged");
        assert!(clients[0].publish(&event).await.0);
        relay.signal(first);
        eventually("not ready", || Relay::get(relay.operators, "/health/ready", "").0 == 503).await;
        assert_eq!(relay.process.try_wait().unwrap(), None);
        relay.signal(second);
        assert_eq!(exit_code(&mut relay).await, Some(1), "{first} {second}");
        all_there(relay, &[event.id().to_hex()]).await;
    }
}
