//! Events that are malformed, or only unusual.

use common::{Relay, note, now};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::{Value, json};

use super::{event, goes_on};

/// An EVENT message, one text in it replaced.
fn with(event: &Event, from: &str, to: &str) -> String {
    let message = format!(r#"["EVENT",{}]"#, event.json());
    assert!(message.contains(from), "{from} in {message}");
    message.replacen(from, to, 1)
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
