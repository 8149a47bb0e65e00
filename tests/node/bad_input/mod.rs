//! Messages that make no sense, or too much of it: each has its answer, and the connection goes on.

mod events;
mod subscriptions;

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use common::{Client, PATIENCE, Relay, note, now};
use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

/// The connection still works: a message with one certain answer, which must be the next.
async fn goes_on(client: &mut Client) {
    client.say(json!(["REQ", "on", { "kinds": [] }])).await;
    assert_eq!(client.hear().await, json!(["EOSE", "on", ["finish"]]));
    client.say(json!(["CLOSE", "on"])).await;
}

/// One NOTICE that says `invalid: …`.
async fn hears_notice(client: &mut Client, about: &str) {
    let notice = client.hear().await;
    assert_eq!(notice[0], "NOTICE", "{about}: {notice}");
    assert!(notice[1].as_str().unwrap().starts_with("invalid: "), "{about}: {notice}");
    assert!(notice.to_string().len() < 500, "{about}: a notice is no echo");
}

fn event() -> Event {
    note(&Keys::generate(), now(), "as it should be")
}

#[tokio::test]
async fn what_names_nothing_gets_a_notice() {
    let relay = Relay::start(&["--workers", "1"]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let depth = 50_000;
    let deep = |open: &str, close: &str| open.repeat(depth) + &close.repeat(depth);
    let id_of_65 = "x".repeat(65);
    let messages = [
        String::new(),
        " ".into(),
        "null".into(),
        "true".into(),
        "1e999".into(),
        "\"EVENT\"".into(),
        "{}".into(),
        "[]".into(),
        "[".into(),
        "[[]]".into(),
        "[null]".into(),
        "[1,2]".into(),
        r#"["event",{}]"#.into(),
        r#"["NOPE",{}]"#.into(),
        format!(r#"["{}",{{}}]"#, "N".repeat(100_000)),
        r#"["EVENT"]"#.into(),
        r#"["EVENT",null]"#.into(),
        r#"["EVENT",[]]"#.into(),
        r#"["EVENT",{}]"#.into(),
        r#"["EVENT",{"id":7}]"#.into(),
        format!(r#"["EVENT",{{"id":"{}"}}]"#, "a".repeat(100_000)),
        r#"["REQ"]"#.into(),
        r#"["REQ",null,{}]"#.into(),
        r#"["REQ",7,{}]"#.into(),
        r#"["REQ",["s"],{}]"#.into(),
        r#"["CLOSE"]"#.into(),
        r#"["CLOSE",7]"#.into(),
        r#"["COUNT"]"#.into(),
        r#"["AUTH"]"#.into(),
        r#"["AUTH",{}]"#.into(),
        "[\"REQ\",\"\\ud800\",{}]".into(),
        "[\"REQ\",\"a\nb\",{}]".into(),
        "\u{feff}[\"REQ\",\"s\",{}]".into(),
        deep("[", "]"),
        deep("{\"a\":", "}"),
        format!(r#"["NOPE",{}]"#, deep("[", "]")),
        format!(r#"["EVENT",{{"id":{}}}]"#, deep("[", "]")),
        format!(r#"["REQ","{id_of_65}",{{"kinds":"x"}}]"#),
    ];
    for message in messages {
        client.say_text(message.clone()).await;
        let about: String = message.chars().take(60).collect();
        hears_notice(&mut client, &about).await;
        goes_on(&mut client).await;
    }
    assert!(other.publish(&event()).await.0);
}

/// What listens on a port of the internet hears all that there is; that may not fill the log, whatever is logged.
#[tokio::test]
async fn what_is_no_http_writes_nothing_to_the_log() {
    for filter in [&[][..], &["--log", "warn,rookery=info"]] {
        hears_what_is_no_http_quietly(filter).await;
    }
}

async fn hears_what_is_no_http_quietly(filter: &[&str]) {
    let relay = Relay::start(&[&["--workers", "1"], filter].concat());
    let header = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "x".repeat(200_000));
    for bytes in [
        &b"GARBAGE\r\n\r\n"[..],
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PROXY TCP4 192.0.2.1 192.0.2.2 1 2\r\nGET / HTTP/1.1\r\n\r\n",
        header.as_bytes(),
        b"GET / HTTP/9.9\r\n\r\n",
        b"",
    ] {
        let mut socket = TcpStream::connect(relay.clients).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        // The relay may hang up before it has heard all.
        let _ = socket.write_all(bytes).and_then(|()| socket.shutdown(Shutdown::Write));
        let _ = socket.read_to_end(&mut Vec::new());
    }
    relay.signal("TERM");
    relay.log().says("\"stopped\"").await;
    for level in ["WARN", "ERROR"] {
        assert_eq!(relay.log().line(&format!("\"level\":\"{level}\"")), None, "{filter:?}");
    }
}
