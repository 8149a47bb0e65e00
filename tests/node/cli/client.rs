//! `rookery::client`, as a program uses it that has Rookery as a library.

use std::{
    io::{Read, Write},
    net::TcpListener,
    thread,
    time::Duration,
};

use rookery::{
    client::{Arrival, Bounds, ClientError, Endpoint},
    protocol::{Event, Filter, sign::Keys},
};
use tokio::time::timeout;

use crate::cli::{
    program::events,
    relay::{Do, Relay, event_id, ok, say, subscription},
};

/// A server that reads a request and answers every connection with this: its URL without a scheme, and the request of
/// the first one.
fn server(answer: &'static [u8]) -> (String, thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let heard = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let mut request = [0; 4_096];
        let len = stream.read(&mut request).unwrap();
        stream.write_all(answer).unwrap();
        // The other side ends it.
        let _ = stream.read(&mut [0]);
        String::from_utf8_lossy(&request[..len]).into_owned()
    });
    (address, heard)
}

#[tokio::test]
async fn tls_asks_nothing_of_the_program() {
    let (address, _heard) = server(b"this is no TLS");
    let error = Endpoint::new(format!("wss://{address}")).connect().await.unwrap_err();
    assert!(matches!(error, ClientError::NoRelay { .. } | ClientError::Unreachable { .. }), "{error}");
}

#[tokio::test]
async fn a_handshake_says_who_asks_and_is_not_waited_for_long() {
    let (address, heard) = server(b"");
    let bounds = Bounds { connect: Duration::from_millis(300), ..Bounds::default() };
    let endpoint = Endpoint { bounds, ..Endpoint::new(format!("ws://{address}")) };
    let error = endpoint.connect().await.unwrap_err();
    assert_eq!(error.to_string(), format!("cannot reach ws://{address}: no answer within 0.3 s"));
    let request = heard.join().unwrap().to_lowercase();
    assert!(request.contains(concat!("user-agent: rookery/", env!("CARGO_PKG_VERSION"))), "{request}");

    let unsayable = Endpoint { user_agent: "a\nb".into(), ..endpoint };
    assert!(matches!(unsayable.connect().await, Err(ClientError::NoRequest { .. })));
    let error = Endpoint::new("http://127.0.0.1").connect().await.unwrap_err();
    assert!(error.to_string().contains("ws://"), "{error}");
}

#[tokio::test]
async fn a_message_over_the_bound_is_not_taken() {
    let relay = Relay::start(|_, message| match message {
        "" => say(format!(r#"["NOTICE","{}"]"#, "x".repeat(100))),
        _ => say(format!(r#"["NOTICE","{}"]"#, "x".repeat(1_000))),
    });
    let bounds = Bounds { message_bytes: 1_000, ..Bounds::default() };
    let mut connection = Endpoint { bounds, ..Endpoint::new(&relay.url) }.connect().await.unwrap();
    connection.receive().await.unwrap();
    connection.send("[]").await.unwrap();
    assert!(matches!(connection.receive().await, Err(ClientError::Lost(_))));
}

/// A relay that shows these events to who has authenticated.
fn members_only(shown: Vec<Event>) -> Relay {
    let mut is_member = false;
    Relay::start(move |_, message| match message {
        "" => say(r#"["AUTH","challenge"]"#),
        message if message.starts_with(r#"["AUTH""#) => {
            is_member = true;
            ok(&event_id(message).unwrap(), true, "")
        }
        message if message.starts_with(r#"["REQ""#) => {
            let id = subscription(message);
            if !is_member {
                return say(format!(r#"["CLOSED","{id}","auth-required: members only"]"#));
            }
            let events = shown.iter().map(|event| format!(r#"["EVENT","{id}",{}]"#, event.json()));
            events.chain([format!(r#"["EOSE","{id}"]"#)]).map(Do::Say).collect()
        }
        _ => Vec::new(),
    })
}

#[tokio::test]
async fn a_subscription_authenticates_and_loses_nothing_where_it_is_not_waited_for() {
    let all = events([3, 2, 1]);
    let relay = members_only(all.clone());
    let anyone = Endpoint::new(&relay.url);
    let error = anyone.connect().await.unwrap().subscribe(&Filter::default()).next().await.unwrap_err();
    assert!(matches!(error, ClientError::NoKey), "{error}");

    let endpoint = Endpoint { keys: Some(Keys::generate()), ..anyone };
    let mut connection = endpoint.connect().await.unwrap();
    let mut subscription = connection.subscribe(&Filter::default());
    let mut arrived = Vec::new();
    while !matches!(arrived.last(), Some(Arrival::EndOfStored(_))) {
        // Given up and begun again, as often as it takes.
        if let Ok(next) = timeout(Duration::from_micros(200), subscription.next()).await {
            arrived.push(next.unwrap());
        }
    }
    let mut expected = vec![Arrival::Again];
    expected.extend(all.into_iter().map(|event| Arrival::Event(Box::new(event))));
    expected.push(Arrival::EndOfStored(None));
    assert_eq!(arrived, expected);
    subscription.close().await.unwrap();
}
