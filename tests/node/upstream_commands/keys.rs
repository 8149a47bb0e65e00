//! Keys by which other relays are read, and which nobody is shown.

use common::{Relay, eventually, now};
use rookery::protocol::{Tags, nip19, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{does, state};

/// What a relay shows to a key alone, it shows to nobody else who reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_reads_what_is_for_it_and_nobody_sees_it() {
    let (keys, other, source) = (Keys::generate(), Keys::generate(), Relay::start(&[]));
    let mut client = source.connect().await;
    let mail =
        other.sign(now() - 100, 1_059, Tags::from_iter([["p", &keys.public_key().to_hex()]]), "sealed");
    assert!(client.publish(&mail).await.0);
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let secret = nip19::nsec(&keys.secret());
    let named = file("mine.key");
    std::fs::write(&named, &secret).unwrap();
    let master = format!("master_key_file={}", file("of/master.key"));
    let settings = ["--set", "aggregator.allow_private=true", "--set", &master];
    let relay = Relay::start(&settings);
    does(&relay, &["add", &source.url()]);
    state(&relay, &source.url(), "live").await;
    // It is not known to be there, so it is not asked for.
    assert_eq!(relay.ask("GET", "/v1/upstreams", "").2[0]["received"], 0);

    does(&relay, &["set", &source.url(), "--auth-key-file", &named]);
    let view = || relay.ask("GET", "/v1/upstreams", "").2[0].clone();
    eventually("what is for the key", || view()["stored"] == 1).await;
    assert_eq!(view()["auth"], nip19::npub(&keys.public_key()));
    // Neither what is told nor what is stored has it.
    let hex = hex::encode(keys.secret());
    let is_secret = |text: &[u8]| [&*secret, &*hex].iter().any(|word| contains(text, word));
    assert!(!is_secret(view().to_string().as_bytes()));
    assert!(!is_secret(does(&relay, &["show", &source.url()]).as_bytes()));
    for found in std::fs::read_dir(relay.data.path().join("relay")).unwrap() {
        assert!(!is_secret(&std::fs::read(found.unwrap().path()).unwrap()));
    }

    // Under another master key it can not be used, and the relay says so.
    let relay = relay.restart_after_kill(&[
        "--set",
        "aggregator.allow_private=true",
        "--set",
        &format!("master_key_file={}", file("other/master.key")),
    ]);
    let refused = || does(&relay, &["show", &source.url()]);
    eventually("a reason", || refused().contains("its key can not be used")).await;
    // Nobody is there in its place: then nothing is for it.
    does(&relay, &["set", &source.url(), "--nobody"]);
    state(&relay, &source.url(), "live").await;
    assert_eq!(relay.ask("GET", "/v1/upstreams", "").2[0]["auth"], Value::Null);
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_shown_to_who_listens_on_the_way() {
    let relay = Relay::start(&[]);
    let secret = nip19::nsec(&Keys::generate().secret());
    let add = |url: &str, auth: &str| {
        relay.ask("POST", "/v1/upstreams", &json!({"url": url, "auth": auth}).to_string())
    };
    let (status, _, problem) = add("ws://relay.example.com", &secret);
    assert_eq!((status, &problem["type"]), (400, &json!("urn:rookery:problem:unfit")));
    assert!(problem["detail"].as_str().unwrap().contains("wss://") && !problem.to_string().contains(&secret));
    let (status, _, problem) = add("wss://relay.example.com", "nsec1nonsense");
    assert!(status == 400 && !problem.to_string().contains("nonsense"), "{problem}");
}
