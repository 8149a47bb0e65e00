//! Proof of work (NIP-13): a least difficulty, where the operator sets one.

use rookery::protocol::{Event, sign::Keys};
use serde_json::json;

use common::ask::{event, id, ids, prefix};
use common::{Relay, now};

/// Leading zero bits, as the protocol's text counts them in hexadecimal.
fn difficulty(event: &Event) -> u32 {
    let id = id(event);
    let zeros = id.chars().take_while(|&digit| digit == '0').count();
    let next = id.chars().nth(zeros).unwrap().to_digit(16).unwrap();
    zeros as u32 * 4 + next.leading_zeros() - 28
}

/// Looks for an event whose difficulty is as wanted and that commits to `target`.
fn mine(keys: &Keys, target: Option<&str>, wanted: impl Fn(u32) -> bool) -> Event {
    let at = now();
    let tries = (0_u64..).map(|nonce| {
        let nonce = nonce.to_string();
        let tag: Vec<&str> = ["nonce", &nonce].into_iter().chain(target).collect();
        event(keys, at, 1, &[&tag], "mined")
    });
    tries.into_iter().find(|event| wanted(difficulty(event))).unwrap()
}

#[tokio::test]
async fn an_event_with_too_little_work_is_refused() {
    let relay = Relay::start(&["--set", "limits.min_pow_difficulty=6"]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    let lucky = mine(&keys, None, |bits| bits >= 6);
    let honest = mine(&keys, Some("6"), |bits| bits == 6);
    let more = mine(&keys, Some("8"), |bits| bits >= 8);
    for event in [&lucky, &honest, &more] {
        client.put(event).await;
    }
    let almost = mine(&keys, Some("6"), |bits| bits == 5);
    let (accepted, text) = client.publish(&almost).await;
    assert!(!accepted);
    assert_eq!(text, "pow: difficulty 5 is less than 6");
    // Who commits to less and is lucky has not done the work.
    let committed_to_less = mine(&keys, Some("5"), |bits| bits >= 6);
    assert_eq!(client.refused(&committed_to_less).await, "pow");
    assert_eq!(client.find(json!({ "kinds": [1] })).await.len(), 3);
    // Ephemeral ones too.
    let ephemeral = (0..).map(|n: u32| event(&keys, now(), 20_000, &[], &n.to_string()));
    let ephemeral = ephemeral.into_iter().find(|event| difficulty(event) == 0).unwrap();
    assert_eq!(client.refused(&ephemeral).await, "pow");
}

#[tokio::test]
async fn without_a_least_difficulty_none_is_asked() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let event = mine(&Keys::generate(), Some("20"), |bits| bits == 0);
    client.put(&event).await;
    assert_eq!(client.find(json!({ "kinds": [1] })).await, ids([&event]));
    // The example of the protocol's text.
    let json = r#"{"id":"000006d8c378af1779d2feebc7603a125d99eca0ccf1085959b307f64e5dd358","pubkey":"a48380f4cfcc1ad5378294fcac36439770f9c878dd880ffa94bb74ea54a6f243","created_at":1651794653,"kind":1,"tags":[["nonce","776797","20"]],"content":"It's just me mining my own business","sig":"284622fc0a3f4f1303455d5175f7ba962a3300d136085b9566801bc2e0699de0c7e31e44c81fb40ad9049173742e904713c3594a1da0fc5d2382a25c11aba977"}"#;
    let relay = Relay::start(&["--set", "limits.min_pow_difficulty=20"]);
    let mut client = relay.connect().await;
    let id = "000006d8c378af1779d2feebc7603a125d99eca0ccf1085959b307f64e5dd358";
    client.say_text(format!(r#"["EVENT",{json}]"#)).await;
    assert_eq!(client.hear_ok(id).await, (true, String::new()));
    let relay = Relay::start(&["--set", "limits.min_pow_difficulty=22"]);
    let mut client = relay.connect().await;
    client.say_text(format!(r#"["EVENT",{json}]"#)).await;
    assert_eq!(prefix(&client.hear_ok(id).await.1), "pow");
}
