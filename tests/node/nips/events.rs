//! EVENT and OK (NIP-01): what an event must be, and what its publisher is told.

use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use common::ask::{delivered, event, id, prefix};
use common::{Client, Relay, note, now};

#[tokio::test]
async fn an_event_is_stored_found_and_seen_live() {
    let relay = Relay::start(&[]);
    let keys = Keys::generate();
    let (mut writer, mut reader) = (relay.connect().await, relay.connect().await);
    let filter = json!({ "authors": [keys.public_key()] });
    assert_eq!(reader.request("s", &[filter]).await, (vec![], Some("finish".into())));
    let event = note(&keys, now(), "hello");
    assert_eq!(writer.publish(&event).await, (true, String::new()));
    let live = reader.hear().await;
    assert_eq!(live[1], "s");
    assert_eq!(live[2].to_string().len(), event.json().len());
    assert_eq!(live[2]["id"], event.id().to_hex());
    let stored = writer.request("q", &[json!({ "ids": [event.id()] })]).await;
    assert_eq!(stored.0, [event.id().to_hex()]);
    let again = writer.publish(&event).await;
    assert!(again.0 && again.1.starts_with("duplicate: "), "{again:?}");
}

/// The event as it is stored: the text of the message, without its frame.
async fn stored_text(client: &mut Client, id: &str) -> String {
    client.say(json!(["REQ", "text", { "ids": [id] }])).await;
    let message = client.hear_frame().await.unwrap().into_text().unwrap();
    assert_eq!(client.hear().await[0], "EOSE");
    client.say(json!(["CLOSE", "text"])).await;
    message.strip_prefix(r#"["EVENT","text","#).unwrap().strip_suffix(']').unwrap().to_owned()
}

fn with(event: &Event, field: &str, value: Value) -> String {
    let mut changed: Value = serde_json::from_str(event.json()).unwrap();
    changed[field] = value;
    changed.to_string()
}

#[tokio::test]
async fn a_forged_or_malformed_event_is_refused_as_invalid() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let good = event(&keys, now(), 1, &[&["t", "x"]], "good");
    let other = note(&Keys::generate(), now(), "other");
    let field = |event: &Event, name: &str| {
        serde_json::from_str::<Value>(event.json()).unwrap()[name].as_str().unwrap().to_owned()
    };
    let json = good.json();
    let without = |name: &str| {
        let mut fields: serde_json::Map<String, Value> = serde_json::from_str(json).unwrap();
        fields.remove(name);
        Value::Object(fields).to_string()
    };
    for bad in [
        with(&good, "id", json!(id(&other))),
        with(&good, "sig", json!(field(&other, "sig"))),
        with(&good, "sig", json!("0".repeat(128))),
        with(&good, "pubkey", json!(other.pubkey())),
        with(&good, "pubkey", json!("f".repeat(64))),
        with(&good, "content", json!("bad")),
        with(&good, "created_at", json!(now() - 1)),
        with(&good, "kind", json!(2)),
        with(&good, "tags", json!([["t", "y"]])),
        with(&good, "tags", json!([])),
        // Shapes.
        with(&good, "kind", json!(65_536)),
        with(&good, "kind", json!(-1)),
        with(&good, "kind", json!(1.5)),
        with(&good, "kind", json!("1")),
        with(&good, "created_at", json!(-1)),
        with(&good, "created_at", json!(1.5)),
        with(&good, "created_at", json!("now")),
        with(&good, "content", Value::Null),
        with(&good, "tags", Value::Null),
        with(&good, "tags", json!(["t"])),
        with(&good, "tags", json!([["t", null]])),
        with(&good, "tags", json!([["t", 1]])),
        with(&good, "id", json!(id(&good).to_uppercase())),
        with(&good, "id", json!(&id(&good)[1..])),
        with(&good, "pubkey", json!(good.pubkey().to_hex().to_uppercase())),
        with(&good, "sig", json!(field(&good, "sig").to_uppercase())),
        without("sig"),
        without("tags"),
        without("content"),
        without("kind"),
        without("pubkey"),
        without("created_at"),
        json.replacen(r#""kind":1"#, r#""kind":1,"kind":1"#, 1),
        json.replacen(r#""good""#, r#""\ud800""#, 1),
    ] {
        client.say_text(format!(r#"["EVENT",{bad}]"#)).await;
        let answer = client.hear().await;
        // Also of what no JSON parser takes.
        let named = serde_json::from_str(&bad).unwrap_or(json!({ "id": id(&good) }));
        let expected = (&json!("OK"), &named["id"], &json!(false));
        assert_eq!((&answer[0], &answer[1], &answer[2]), expected, "{bad}: {answer}");
        assert_eq!(prefix(answer[3].as_str().unwrap()), "invalid", "{bad}: {answer}");
    }
    assert_eq!(client.count(&[json!({})]).await["count"], 0);
    client.put(&good).await;
}

/// The answer to a copy speaks for what was sent, not for what its id says.
#[tokio::test]
async fn a_known_id_does_not_vouch_for_other_content() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    for kind in [1, 20_001] {
        let good = event(&keys, now(), kind, &[&["t", "x"]], "good");
        client.put(&good).await;
        for (field, value) in [
            ("content", json!("bad")),
            ("tags", json!([])),
            ("kind", json!(kind + 1)),
            ("created_at", json!(good.created_at() - 1)),
            ("pubkey", json!(Keys::generate().public_key())),
        ] {
            client.say_text(format!(r#"["EVENT",{}]"#, with(&good, field, value))).await;
            let (accepted, text) = client.hear_ok(&id(&good)).await;
            assert!(!accepted && prefix(&text) == "invalid", "{kind}, other {field}: {text}");
        }
        // The id covers all but the signature. The event is known, and that of the copy is dropped.
        let forged = with(&good, "sig", json!("0".repeat(128)));
        for copy in [good.json(), &forged] {
            client.say_text(format!(r#"["EVENT",{copy}]"#)).await;
            let (accepted, text) = client.hear_ok(&id(&good)).await;
            assert!(accepted && prefix(&text) == "duplicate", "{kind}: {text}");
        }
        if kind == 1 {
            assert_eq!(stored_text(&mut client, &id(&good)).await, good.json());
        }
    }
}

#[tokio::test]
async fn what_is_no_message_is_noticed_and_the_connection_lives_on() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    for text in [
        "",
        "hello",
        "{}",
        "[]",
        "[1]",
        "[null,{}]",
        r#"["NOPE"]"#,
        r#"["EVENT"]"#,
        r#"["EVENT",1]"#,
        r#"["EVENT",{}]"#,
        r#"["REQ"]"#,
        r#"["REQ",1,{}]"#,
        r#"["CLOSE"]"#,
        r#"["CLOSE",7]"#,
        r#"["COUNT"]"#,
        r#"["AUTH"]"#,
        r#"["AUTH","challenge"]"#,
        r#"["REQ",{}"#,
    ] {
        client.say_text(text).await;
        let notice = client.hear().await;
        assert_eq!(notice[0], "NOTICE", "{text}: {notice}");
    }
    client.put(&note(&Keys::generate(), now(), "still here")).await;
}

#[tokio::test]
async fn only_the_seven_fields_are_kept_and_sent() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let event = event(&Keys::generate(), now(), 1, &[&["t", "a/b"], &[], &["-x"]], "a/b é");
    let mut fields: serde_json::Map<String, Value> = serde_json::from_str(event.json()).unwrap();
    fields.insert("seen_on".into(), json!(["wss://elsewhere.example.com"]));
    fields.insert("meta".into(), json!({ "deep": [1, 2, { "id": "x" }] }));
    let padded = serde_json::to_string_pretty(&fields).unwrap().replace('/', r"\/").replace('é', r"\u00e9");
    client.say_text(format!("\n [ \"EVENT\" ,\t{padded} , \"extra\" ] ")).await;
    assert_eq!(client.hear_ok(&id(&event)).await, (true, String::new()));
    assert_eq!(stored_text(&mut client, &id(&event)).await, event.json());
}

#[tokio::test]
async fn every_character_survives() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let all: String = (0..0x250_u32).filter_map(char::from_u32).collect();
    for content in [all.as_str(), "\\ \" \n \r \t \u{8} \u{c} / \u{7f} \u{2028}", "🤙🏽 ﷽ e\u{301}", ""]
    {
        let event = event(&keys, now(), 1, &[&["t", content], &["", content]], content);
        client.put(&event).await;
        assert_eq!(stored_text(&mut client, &id(&event)).await, event.json());
        if !content.is_empty() {
            assert_eq!(client.find(json!({ "#t": [content] })).await, [id(&event)]);
        }
    }
}

/// NIP-01 wants control characters that it lists no escape for verbatim in what is hashed; JSON
/// wants them escaped. Clients do either.
#[tokio::test]
async fn an_id_of_verbatim_control_characters_is_right() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    // Made with a secret of ones, from the serialisation with U+0007 as it is.
    let keys = Keys::from_secret([1; 32]).unwrap();
    let pubkey = keys.public_key().to_hex();
    let hashed = format!("[0,\"{pubkey}\",1700000000,1,[],\"bell \u{7}\"]");
    let digest: [u8; 32] = Sha256::digest(&hashed).into();
    let pair =
        secp256k1::Keypair::from_secret_key(&secp256k1::SecretKey::from_secret_bytes([1; 32]).unwrap());
    let sig = secp256k1::schnorr::sign_no_aux_rand(&digest, &pair).to_byte_array();
    let event = json!({
        "id": hex::encode(digest), "pubkey": pubkey, "created_at": 1_700_000_000, "kind": 1,
        "tags": [], "content": "bell \u{7}", "sig": hex::encode(sig),
    });
    client.say(json!(["EVENT", event])).await;
    assert_eq!(client.hear_ok(&hex::encode(digest)).await, (true, String::new()));
    assert_eq!(client.find(json!({ "authors": [pubkey] })).await, [hex::encode(digest)]);
}

#[tokio::test]
async fn created_at_may_be_any_age_and_a_quarter_of_an_hour_ahead() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    // The clock may step on by some seconds meanwhile, which only makes the second of these younger.
    for at in [0, 1, 1_231_006_505, now(), now() + 15 * 60] {
        client.put(&note(&keys, at, "in time")).await;
    }
    for at in [now() + 16 * 60, now() + 86_400, u64::from(u32::MAX) * 2, u64::MAX] {
        assert_eq!(client.refused(&note(&keys, at, "too far ahead")).await, "invalid", "{at}");
    }
    assert_eq!(client.count(&[json!({ "authors": [keys.public_key()] })]).await["count"], 5);
}

#[tokio::test]
async fn every_event_is_answered_once_whatever_the_number_under_way() {
    let relay = Relay::start(&["--set", "session.window=8"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now();
    let events: Vec<Event> = (0..300).map(|n| note(&keys, at - n, "one of many")).collect();
    client.put_all(&events).await;
    // Nothing is left over: the next answer is that of the next question.
    assert_eq!(client.count(&[json!({ "authors": [keys.public_key()] })]).await["count"], 300);
}

#[tokio::test]
async fn a_copy_is_a_duplicate_and_is_not_delivered_again() {
    let relay = Relay::start(&[]);
    let (mut one, mut two, mut reader) =
        (relay.connect().await, relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    reader.watch("s", json!({ "authors": [keys.public_key()] })).await;
    let event = note(&keys, now(), "once");
    let text = format!(r#"["EVENT",{}]"#, event.json());
    // All under way at once; every one is answered as stored.
    for _ in 0..5 {
        one.say_text(&*text).await;
        two.say_text(&*text).await;
    }
    let mut stored = 0;
    for client in [&mut one, &mut two] {
        for _ in 0..5 {
            let (accepted, text) = client.hear_ok(&id(&event)).await;
            assert!(accepted && (text.is_empty() || prefix(&text) == "duplicate"), "{text}");
            stored += u32::from(text.is_empty());
        }
    }
    assert_eq!(stored, 1);
    assert_eq!(delivered(&reader.heard(&mut one).await), [("s".to_owned(), id(&event))]);
    assert_eq!(reader.find(json!({ "authors": [keys.public_key()] })).await, [id(&event)]);
}

#[tokio::test]
async fn only_the_root_is_an_endpoint() {
    use tokio_tungstenite::{connect_async, tungstenite};
    let relay = Relay::start(&[]);
    let refused = connect_async(format!("{}/elsewhere", relay.url())).await.unwrap_err();
    assert!(matches!(refused, tungstenite::Error::Http(response) if response.status() == 404));
}
