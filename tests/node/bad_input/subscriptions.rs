//! Filters that are impossible, and subscriptions that are too many or too large.

use common::{Client, Relay, note, now, raw::memory};
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};

use super::{event, goes_on};

/// One CLOSED of that id, with that prefix.
async fn hears_closed(client: &mut Client, id: &str, prefix: &str, about: &str) {
    let closed = client.hear().await;
    assert_eq!((&closed[0], &closed[1]), (&json!("CLOSED"), &json!(id)), "{about}: {closed}");
    assert!(closed[2].as_str().unwrap().starts_with(&format!("{prefix}: ")), "{about}: {closed}");
    assert!(closed.to_string().len() < 500, "{about}: a refusal is no echo");
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
