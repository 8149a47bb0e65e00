//! Messages that make no sense, or too much of it: each has its answer, and the connection goes on.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpStream},
};

use common::{Client, PATIENCE, Relay, note, now, raw::memory};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};

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

/// One CLOSED of that id, with that prefix.
async fn hears_closed(client: &mut Client, id: &str, prefix: &str, about: &str) {
    let closed = client.hear().await;
    assert_eq!((&closed[0], &closed[1]), (&json!("CLOSED"), &json!(id)), "{about}: {closed}");
    assert!(closed[2].as_str().unwrap().starts_with(&format!("{prefix}: ")), "{about}: {closed}");
    assert!(closed.to_string().len() < 500, "{about}: a refusal is no echo");
}

fn event() -> Event {
    note(&Keys::generate(), now(), "as it should be")
}

/// An EVENT message, one text in it replaced.
fn with(event: &Event, from: &str, to: &str) -> String {
    let message = format!(r#"["EVENT",{}]"#, event.json());
    assert!(message.contains(from), "{from} in {message}");
    message.replacen(from, to, 1)
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

#[tokio::test]
async fn a_malformed_event_gets_ok_false() {
    let relay = Relay::start(&["--workers", "1"]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let event = event();
    let (id, pubkey) = (event.id().to_hex(), event.pubkey().to_hex());
    let sig = event.json().rsplit('"').nth(1).unwrap().to_owned();
    let created_at = format!("\"created_at\":{}", event.created_at());
    let flip = |hex: &str| {
        let last = if hex.ends_with('0') { '1' } else { '0' };
        format!("{}{last}", &hex[..hex.len() - 1])
    };
    let foreign = note(&Keys::generate(), now(), "of somebody else");
    let deep_tags = format!("\"tags\":[{}{}]", "[".repeat(50_000), "]".repeat(50_000));
    let cases = [
        ("a wrong signature", &*sig, flip(&sig)),
        ("a signature of zeros", &sig, "0".repeat(128)),
        ("a signature of ones", &sig, "f".repeat(128)),
        ("an upper-case signature", &sig, sig.to_uppercase().replace('0', "A")),
        ("a short signature", &sig, sig[1..].into()),
        ("somebody else's key", &pubkey, foreign.pubkey().to_hex()),
        ("a key that is on no curve", &pubkey, "f".repeat(64)),
        ("a key of zeros", &pubkey, "0".repeat(64)),
        ("an upper-case key", &pubkey, format!("A{}", &pubkey[1..])),
        ("a short key", &pubkey, pubkey[1..].into()),
        ("a key with a NUL", &pubkey, format!("\\u0000{}", &pubkey[1..])),
        ("other content", "as it", "not as it".into()),
        ("no content", ",\"content\":\"as it should be\"", String::new()),
        ("content that is null", "\"as it should be\"", "null".into()),
        ("content that is a number", "\"as it should be\"", "1".into()),
        ("another kind", "\"kind\":1,", "\"kind\":2,".into()),
        ("a kind of text", "\"kind\":1,", "\"kind\":\"1\",".into()),
        ("a negative kind", "\"kind\":1,", "\"kind\":-1,".into()),
        ("a kind with a fraction", "\"kind\":1,", "\"kind\":1.0,".into()),
        ("a kind of 65536", "\"kind\":1,", "\"kind\":65536,".into()),
        ("a kind of 2^64", "\"kind\":1,", "\"kind\":18446744073709551616,".into()),
        ("kind twice", "\"kind\":1,", "\"kind\":1,\"kind\":1,".into()),
        ("id twice", "{\"id\"", format!("{{\"id\":\"{id}\",\"id\"")),
        ("a time of text", &created_at, "\"created_at\":\"1\"".into()),
        ("a negative time", &created_at, "\"created_at\":-1".into()),
        ("a time with a fraction", &created_at, format!("{created_at}.5")),
        ("a time with an exponent", &created_at, "\"created_at\":1e3".into()),
        ("a time of 2^64", &created_at, "\"created_at\":18446744073709551616".into()),
        ("a time of thirty digits", &created_at, format!("\"created_at\":1{}", "0".repeat(29))),
        ("the end of time", &created_at, format!("\"created_at\":{}", u64::MAX)),
        ("tags that are null", "\"tags\":[]", "\"tags\":null".into()),
        ("tags that are an object", "\"tags\":[]", "\"tags\":{}".into()),
        ("tags of text", "\"tags\":[]", "\"tags\":[\"t\"]".into()),
        ("tags of numbers", "\"tags\":[]", "\"tags\":[[\"t\",1]]".into()),
        ("tags of null", "\"tags\":[]", "\"tags\":[[\"t\",null]]".into()),
        ("too many tags", "\"tags\":[]", format!("\"tags\":[[\"t\"]{}]", ",[\"t\"]".repeat(5_000))),
    ];
    for (what, from, to) in cases {
        client.say_text(with(&event, from, &to)).await;
        let (accepted, text) = client.hear_ok(&id).await;
        assert!(!accepted && text.starts_with("invalid: "), "{what}: {text}");
        goes_on(&mut client).await;
    }
    // No value could hold it, or no text: the id stands in it all the same.
    for (what, from, to) in [
        ("deep tags", "\"tags\":[]", deep_tags),
        ("a time of a thousand digits", &created_at, format!("\"created_at\":1{}", "0".repeat(1_000))),
        ("a time beyond all numbers", &created_at, "\"created_at\":1e999".into()),
        ("half a surrogate pair", "\"as it should be\"", "\"cut off \\ud83d\"".into()),
        ("the other half", "\"as it should be\"", "\"\\udeb6\"".into()),
        ("half a pair in a tag", "\"tags\":[]", "\"tags\":[[\"t\",\"\\ud83d\"]]".into()),
        ("an escape that is none", "\"as it should be\"", "\"\\x41\"".into()),
        ("a line break in a text", "\"as it should be\"", "\"as it\nshould be\"".into()),
        ("a number that is none", "\"kind\":1,", "\"kind\":01,".into()),
        ("a word that is none", "\"kind\":1,", "\"kind\":NaN,".into()),
        ("a comma too many", "\"kind\":1,", "\"kind\":1,,".into()),
        ("no end", "\"}]", "\"".into()),
        ("no closing bracket", "\"}]", "\"}".into()),
        ("more than one message", "\"}]", "\"}] []".into()),
    ] {
        client.say_text(with(&event, from, &to)).await;
        let (accepted, text) = client.hear_ok(&id).await;
        assert!(!accepted && text.starts_with("invalid: ") && text.len() < 300, "{what}: {text}");
        goes_on(&mut client).await;
    }
    for (what, wrong) in [
        ("an id of upper case", format!("A{}", &id[1..])),
        ("a short id", id[1..].to_owned()),
        ("an id that is no hex", format!("g{}", &id[1..])),
        ("an empty id", String::new()),
        ("another event's id", foreign.id().to_hex()),
    ] {
        client.say_text(with(&event, &id, &wrong)).await;
        let (accepted, text) = client.hear_ok(&wrong).await;
        assert!(!accepted && text.starts_with("invalid: "), "{what}: {text}");
    }
    // None of all this is stored, and none of it spoils the event as it should be.
    let (found, _) = client.request("none", &[json!({})]).await;
    assert_eq!(found, [""; 0]);
    assert_eq!(client.publish(&event).await, (true, String::new()));
    assert!(other.publish(&foreign).await.0);
}

#[tokio::test]
async fn what_is_not_of_nip_01_is_neither_stored_nor_sent() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let event = event();
    client.say_text(with(&event, "{\"id\"", "{ \"seen\" : [1] ,\n\"id\"")).await;
    assert_eq!(client.hear_ok(&event.id().to_hex()).await, (true, String::new()));
    client.say(json!(["REQ", "s", { "ids": [event.id()] }])).await;
    let Some(tokio_tungstenite::tungstenite::Message::Text(text)) = client.hear_frame().await else {
        panic!("an EVENT was expected")
    };
    assert_eq!(text.as_str(), format!(r#"["EVENT","s",{}]"#, event.json()));
}

#[tokio::test]
async fn an_impossible_filter_gets_closed() {
    let relay = Relay::start(&["--workers", "1", "--set", "limits.max_message_bytes=1000000"]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let many = |count: u32| -> Vec<String> { (0..count).map(|n| format!("{n:064x}")).collect() };
    let hex = "a".repeat(64);
    let huge = format!("{{\"since\":1{}}}", "0".repeat(400));
    for (filter, prefix) in [
        (json!({ "authors": many(10_000) }).to_string(), "invalid"),
        (json!({ "ids": many(2_501), "authors": many(2_500) }).to_string(), "invalid"),
        (json!({ "kinds": "1" }).to_string(), "invalid"),
        (json!({ "kinds": [65_536] }).to_string(), "invalid"),
        (json!({ "kinds": [-1] }).to_string(), "invalid"),
        (json!({ "kinds": [1.5] }).to_string(), "invalid"),
        (json!({ "kinds": null }).to_string(), "invalid"),
        (json!({ "ids": [hex.to_uppercase()] }).to_string(), "invalid"),
        (json!({ "ids": [&hex[1..]] }).to_string(), "invalid"),
        (json!({ "ids": [[hex]] }).to_string(), "invalid"),
        (json!({ "authors": ["npub1…"] }).to_string(), "invalid"),
        (json!({ "authors": hex }).to_string(), "invalid"),
        (json!({ "#e": ["x"] }).to_string(), "invalid"),
        (json!({ "#t": [1] }).to_string(), "invalid"),
        (json!({ "#t": "x" }).to_string(), "invalid"),
        (json!({ "since": "1" }).to_string(), "invalid"),
        (json!({ "since": -1 }).to_string(), "invalid"),
        (json!({ "until": 1.5 }).to_string(), "invalid"),
        (json!({ "limit": -1 }).to_string(), "invalid"),
        (json!({ "limit": {} }).to_string(), "invalid"),
        (huge, "invalid"),
        (r#"{"since":18446744073709551616}"#.into(), "invalid"),
        (r#"{"since":1e999}"#.into(), "invalid"),
        (r##"{"#t":["\ud83d"]}"##.into(), "invalid"),
        (r##"{"#t":["\x"]}"##.into(), "invalid"),
        ("[".repeat(50_000), "invalid"),
        ("{".into(), "invalid"),
        ("{}]".into(), "invalid"),
        ("{}, x".into(), "invalid"),
        (r#"{"kinds":[1],"kinds":[2]}"#.into(), "invalid"),
        (r##"{"#t":["a"],"#t":["b"]}"##.into(), "invalid"),
        ("[]".into(), "invalid"),
        ("null".into(), "invalid"),
        ("\"all\"".into(), "invalid"),
        (json!({ "search": "x" }).to_string(), "unsupported"),
        (json!({ "#tt": ["x"] }).to_string(), "unsupported"),
        (json!({ "x".repeat(100_000): 1 }).to_string(), "unsupported"),
    ] {
        let about: String = filter.chars().take(60).collect();
        for verb in ["REQ", "COUNT"] {
            client.say_text(format!(r#"["{verb}","s",{filter}]"#)).await;
            hears_closed(&mut client, "s", prefix, &about).await;
        }
        goes_on(&mut client).await;
    }
    // The largest that is allowed, of each.
    client.request("large", &[json!({ "authors": many(5_000) })]).await;
    client.request("times", &[json!({ "since": u64::MAX, "until": 0, "limit": u64::MAX })]).await;
    assert!(other.publish(&event()).await.0);
}

#[tokio::test]
async fn a_subscription_has_its_bounds() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    for (id, filters) in [(String::new(), 1), ("x".repeat(65), 1), ("🪶".repeat(65), 1), ("s".into(), 0)] {
        let filters = vec![json!({}); filters];
        client.say(Value::Array([vec![json!("REQ"), json!(id)], filters].concat())).await;
        hears_closed(&mut client, &id, "invalid", &id).await;
    }
    for id in ["x".repeat(64), "🪶".repeat(64), "\"\\\u{0}\u{2028}".into()] {
        client.request(&id, &[json!({ "limit": 0 })]).await;
        client.say(json!(["CLOSE", id])).await;
    }
    client.request("s", &vec![json!({ "kinds": [1] }); 200]).await;
    // A subscription that can not be replaced as asked is over: its client has been told so.
    client.say(Value::Array([vec![json!("REQ"), json!("s")], vec![json!({}); 201]].concat())).await;
    hears_closed(&mut client, "s", "invalid", "201 filters").await;
    assert!(client.publish(&event()).await.0);
    goes_on(&mut client).await;
}

#[tokio::test]
async fn subscriptions_beyond_the_bound_are_closed_and_the_others_stay() {
    const MAX: usize = 300;
    let relay = Relay::start(&["--workers", "1"]);
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let before = memory(relay.process.id(), "VmHWM");
    for n in 0..3_000 {
        let filter = if n == 7 { json!({ "authors": [keys.public_key()] }) } else { json!({ "kinds": [7] }) };
        client.say(json!(["REQ", format!("s{n}"), filter])).await;
        let answer = client.hear().await;
        let refused = answer[0] == "CLOSED";
        assert_eq!(refused, n >= MAX, "{n}: {answer}");
        if refused {
            assert!(answer[2].as_str().unwrap().starts_with("rate-limited: "), "{answer}");
        }
    }
    assert_eq!(relay.metric("rookery_subscriptions"), MAX as f64);
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 32 << 20, "{grown} bytes for refused subscriptions");
    // To replace one is always possible, and the place of one that is closed is free again.
    client.request("s3", &[json!({ "limit": 0 })]).await;
    client.say(json!(["CLOSE", "s4"])).await;
    client.request("new", &[json!({ "limit": 0, "kinds": [9] })]).await;
    client.say(json!(["CLOSE", "s3"])).await;
    let event = note(&keys, now(), "for one of three hundred");
    assert!(other.publish(&event).await.0);
    assert_eq!(client.hear().await[1], "s7");
}

#[tokio::test]
async fn large_filters_do_not_gather() {
    let relay = Relay::start(&["--workers", "1"]);
    let mut client = relay.connect().await;
    // One routing key, and as many other values as a message holds.
    let values = |from: usize| (from..from + 4_900).map(|n| format!("{n:x}")).collect::<Vec<_>>();
    let author = Keys::generate().public_key();
    let filters = (0..10).map(|n| json!({ "authors": [author], "limit": 0, "#t": values(n * 4_900) }));
    let filters: Vec<Value> = filters.collect();
    let message = |verb: &str, id: &str| {
        Value::Array([vec![json!(verb), json!(id)], filters.clone()].concat()).to_string()
    };
    let fitting = 2 * 1024 * 1024 / message("REQ", "10").len();
    let before = memory(relay.process.id(), "VmHWM");
    let (mut kept, mut refused) = (0, 0);
    for n in 0..20 {
        client.say_text(message("REQ", &n.to_string())).await;
        let answer = client.hear().await;
        if answer[0] == "EOSE" {
            kept += 1;
        } else {
            assert!(answer[2].as_str().unwrap().starts_with("rate-limited: "), "{answer}");
            refused += 1;
        }
    }
    assert_eq!((kept, refused), (fitting, 20 - fitting));
    // The same for questions that wait.
    for n in 0..20 {
        client.say_text(message("COUNT", &n.to_string())).await;
    }
    for _ in 0..20 {
        let answer = client.hear().await;
        assert!(
            answer[0] == "COUNT" || answer[2].as_str().unwrap().starts_with("rate-limited: "),
            "{answer}"
        );
    }
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 96 << 20, "{grown} bytes for the filters of one connection");
    client.say(json!(["CLOSE", "0"])).await;
    client.say_text(message("REQ", "again")).await;
    assert_eq!(client.hear().await[0], "EOSE");
}

#[tokio::test]
async fn the_bound_of_routing_keys_counts_all_subscriptions_together() {
    let relay = Relay::start(&["--set", "limits.max_routing_keys=100"]);
    let mut client = relay.connect().await;
    let authors = |from: u32, to: u32| json!({ "limit": 0, "authors": (from..to).map(|n| format!("{n:064x}")).collect::<Vec<_>>() });
    client.request("a", &[authors(0, 60)]).await;
    client.request("b", &[authors(60, 100)]).await;
    for (id, from, to) in [("c", 0, 1), ("b", 60, 101)] {
        client.say(json!(["REQ", id, authors(from, to)])).await;
        hears_closed(&mut client, id, "rate-limited", id).await;
    }
    // The refused replacement of "b" ended it, so there is room.
    client.request("c", &[authors(0, 40)]).await;
    // A key of a kind of its own counts like one.
    client.say(json!(["REQ", "d", { "#t": ["x"] }])).await;
    hears_closed(&mut client, "d", "rate-limited", "d").await;
    goes_on(&mut client).await;
}

#[tokio::test]
async fn tags_of_any_shape_are_kept() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let shapes: [Vec<&str>; 6] =
        [vec![], vec![""], vec!["", ""], vec!["t"], vec!["t", "\u{0}\u{7f}\u{2028}"], vec!["🪶", "x"]];
    let long = "v".repeat(100_000);
    let tags = Tags::from_iter(shapes.into_iter().chain([vec!["t", &long]]));
    let event = Keys::generate().sign(now(), 1, tags, "\u{0}\u{1f}\"\\/\u{7f}\u{ffff}");
    assert_eq!(client.publish(&event).await, (true, String::new()));
    let (found, _) = client.request("s", &[json!({ "#t": [long] })]).await;
    assert_eq!(found, [event.id().to_hex()]);
    client.say(json!(["CLOSE", "s"])).await;
    client.say(json!(["REQ", "again", { "ids": [event.id()] }])).await;
    let mut sent = client.hear().await;
    assert_eq!(sent[2].take(), serde_json::from_str::<Value>(event.json()).unwrap());
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
