//! Counts and their HyperLogLog registers (NIP-45), checked against a second writing of its text.

use std::slice::from_ref;

use rookery::protocol::{PublicKey, sign::Keys};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use common::ask::{event, ids, prefix};
use common::{Relay, now};

/// The offset for a filter's first tag value.
fn offset(value: &str) -> usize {
    let is_hex = |text: &str| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit());
    let hex = match value.split(':').nth(1) {
        _ if is_hex(value) => value.to_owned(),
        Some(pubkey) if is_hex(pubkey) => pubkey.to_owned(),
        _ => hex::encode(Sha256::digest(value)),
    };
    hex.chars().nth(32).unwrap().to_digit(16).unwrap() as usize + 8
}

/// 256 registers, in hexadecimal.
fn registers<'a>(value: &str, authors: impl IntoIterator<Item = &'a PublicKey>) -> String {
    let offset = offset(value);
    let mut registers = [0_u8; 256];
    for author in authors {
        let bytes = hex::decode(author.to_hex()).unwrap();
        let bits: String = bytes[offset + 1..].iter().map(|byte| format!("{byte:08b}")).collect();
        let rank = bits.chars().take_while(|&bit| bit == '0').count() as u8 + 1;
        let register = &mut registers[usize::from(bytes[offset])];
        *register = rank.max(*register);
    }
    hex::encode(registers)
}

#[tokio::test]
async fn counts_what_matches_any_filter_once() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now() - 100;
    let events: Vec<_> =
        (0..25).map(|n| event(&keys, at + n, [1, 7][n as usize % 2], &[&["t", "x"]], "")).collect();
    client.put_all(&events).await;
    for (filters, expected) in [
        (vec![json!({})], 25),
        (vec![json!({ "kinds": [1] })], 13),
        (vec![json!({ "kinds": [1] }), json!({ "#t": ["x"] }), json!({ "ids": ids(&events) })], 25),
        (vec![json!({ "kinds": [7], "since": at + 20 })], 2),
        (vec![json!({ "authors": [keys.public_key()], "limit": 1 })], 25),
        (vec![json!({ "limit": 0 })], 25),
        (vec![json!({ "kinds": [] })], 0),
        (vec![json!({ "authors": [Keys::generate().public_key()] })], 0),
    ] {
        let answer = client.count(&filters).await;
        assert_eq!(answer["count"], expected, "{filters:?}");
        assert!(answer.get("approximate").is_none_or(|approximate| approximate == false), "{answer}");
    }
}

#[tokio::test]
async fn one_tag_attribute_brings_registers() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let authors: Vec<Keys> = (0..150).map(|_| Keys::generate()).collect();
    let target = Keys::generate().public_key().to_hex();
    let address = format!("30023:{target}:article:1");
    let tags: &[&[&str]] =
        &[&["e", &target], &["p", &target], &["a", &address], &["t", "nostr"], &["q", &target]];
    let mut events: Vec<_> = authors.iter().map(|keys| event(keys, now(), 7, tags, "+")).collect();
    // A second one of the same author counts once in the registers.
    events.push(event(&authors[0], now() - 1, 7, tags, "-"));
    events.push(event(&authors[1], now() - 1, 1, tags, "another kind"));
    client.put_all(&events).await;
    let pubkeys: Vec<PublicKey> = authors.iter().map(Keys::public_key).collect();
    let values = [("e", &*target), ("p", &target), ("a", &address), ("t", "nostr"), ("q", &target)];
    for (letter, value) in values {
        let filter = json!({ "kinds": [7], format!("#{letter}"): [value] });
        let answer = client.count(from_ref(&filter)).await;
        assert_eq!(answer["count"], 151, "{filter}");
        assert_eq!(answer["hll"], registers(value, &pubkeys), "{filter}");
    }
    // The first of several values, as the client wrote them.
    for first in ["zzz", "aaa"] {
        let answer = client.count(&[json!({ "#t": [first, "nostr"] })]).await;
        assert_eq!(answer["count"], 152);
        assert_eq!(answer["hll"], registers(first, &pubkeys), "{first}");
    }
    // Nothing found: empty registers, which merge with others.
    let answer = client.count(&[json!({ "#t": ["nothing"] })]).await;
    assert_eq!((&answer["count"], &answer["hll"]), (&json!(0), &json!("00".repeat(256))));
    // Not defined for filters without a tag, nor for several.
    for filters in [vec![json!({ "kinds": [7] })], vec![json!({ "#t": ["nostr"] }), json!({ "kinds": [7] })]]
    {
        assert_eq!(client.count(&filters).await.get("hll"), None, "{filters:?}");
    }
}

#[tokio::test]
async fn registers_of_two_relays_merge_into_an_estimate() {
    let relays = [Relay::start(&[]), Relay::start(&[])];
    let authors: Vec<Keys> = (0..300).map(|_| Keys::generate()).collect();
    let target = Keys::generate().public_key().to_hex();
    let follows: Vec<_> = authors.iter().map(|keys| event(keys, now(), 3, &[&["p", &target]], "")).collect();
    let mut merged = [0_u8; 256];
    for (relay, part) in relays.iter().zip([&follows[..200], &follows[100..]]) {
        let mut client = relay.connect().await;
        client.put_all(part).await;
        let answer = client.count(&[json!({ "kinds": [3], "#p": [target] })]).await;
        assert_eq!(answer["count"], 200);
        let hll = hex::decode(answer["hll"].as_str().unwrap()).unwrap();
        merged = std::array::from_fn(|at| merged[at].max(hll[at]));
    }
    let pubkeys: Vec<PublicKey> = authors.iter().map(Keys::public_key).collect();
    assert_eq!(hex::encode(merged), registers(&target, &pubkeys));
}

#[tokio::test]
async fn a_count_past_its_budget_is_approximate() {
    let relay = Relay::start(&["--set", "lmdb.count_entries=20"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let at = now();
    let events: Vec<_> = (0..50).map(|n| event(&keys, at - n, 1, &[], "")).collect();
    client.put_all(&events).await;
    let answer = client.count(&[json!({ "authors": [keys.public_key()] })]).await;
    assert_eq!(answer["approximate"], true, "{answer}");
    let count = answer["count"].as_u64().unwrap();
    assert!((1..=50).contains(&count), "{answer}");
}

#[tokio::test]
async fn a_refused_count_is_closed() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let to = Keys::generate().public_key();
    let filter: Value = json!({ "kinds": [1_059], "#p": [to] });
    assert_eq!(prefix(&client.closed("COUNT", "q", filter).await), "auth-required");
    assert_eq!(prefix(&client.closed("COUNT", "q", json!({ "search": "x" })).await), "unsupported");
}
