//! Settings that are changed while a node runs, by a command. They are in its store, and outlast it.

use std::fs;

use common::{Relay, note, now, refused, rookery};
use rookery::protocol::sign::Keys;
use serde_json::Value;
use tempfile::{NamedTempFile, TempDir};

/// Asks a node by `rookery config`: whether it did so, and what it said.
fn config(relay: &Relay, arguments: &[&str]) -> (bool, String) {
    let mut command = rookery(&["config"]);
    command.args(arguments).args(["--ops-listen", &relay.operators.to_string()]);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

fn limit(relay: &Relay, name: &str) -> Value {
    let (_, body) = Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n");
    serde_json::from_str::<Value>(&body).unwrap()["limitation"][name].clone()
}

#[tokio::test]
async fn a_change_is_in_force_at_once_and_after_a_restart_until_it_is_taken_back() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    assert!(client.publish(&note(&keys, now(), "before")).await.0);
    let (done, said) = config(&relay, &["set", "limits.min_pow_difficulty=20"]);
    assert!(done && said.contains("limits.min_pow_difficulty 0 → 20"), "{said}");
    refused(client.publish(&note(&keys, now(), "after")).await, "pow: ");
    assert_eq!(limit(&relay, "min_pow_difficulty"), 20);
    let relay = relay.restart_after_kill(&[]);
    assert_eq!(limit(&relay, "min_pow_difficulty"), 20);
    let (_, said) = config(&relay, &["running"]);
    assert!(said.lines().any(|line| line == "min_pow_difficulty = 20 # a record of the store"), "{said}");
    let (done, said) = config(&relay, &["unset", "limits.min_pow_difficulty"]);
    assert!(done && said.contains("limits.min_pow_difficulty 20 → 0"), "{said}");
    assert_eq!(limit(&relay, "min_pow_difficulty"), 0);
    let relay = relay.restart_after_kill(&[]);
    assert_eq!(limit(&relay, "min_pow_difficulty"), 0);
}

#[tokio::test]
async fn what_can_not_be_is_refused_and_changes_nothing() {
    let relay = Relay::start(&[]);
    for (change, expected) in [
        ("limits.max_tags=many", "limits.max_tags: a whole number is expected"),
        ("limits.max_filters=0", "limits.max_filters must be from 1 to 65536, not 0"),
        ("info.pubkey=npub", "info.pubkey must be 64 lowercase hexadecimal digits"),
        ("limits.max_tag=1", "unknown setting"),
        ("limits.max_tags", "is not SETTING=VALUE"),
        // What would let whoever sets it do more than run a relay.
        ("url=wss://evil.example.com", "takes effect at the start of a node"),
        ("trusted_proxy=0.0.0.0/0", "takes effect at the start of a node"),
        ("redis=redis://evil.example.com", "takes effect at the start of a node"),
        ("scylla.password=x", "takes effect at the start of a node"),
        ("listen=0.0.0.0:7777", "takes effect at the start of a node"),
        ("data=/etc", "takes effect at the start of a node"),
    ] {
        let (done, said) = config(&relay, &["set", change]);
        assert!(!done && said.contains(expected), "{change}: {said}");
    }
    let (_, said) = config(&relay, &["running"]);
    assert!(!said.contains("a record of the store"), "{said}");
    // There an account puts what it chooses for itself.
    assert_eq!(Relay::get(relay.clients, "/v1/settings", "").0, 405);
}

#[tokio::test]
async fn a_record_wins_over_the_file_and_a_flag_over_the_record() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "[limits]\nmax_tags = 3\nmax_filters = 3\n").unwrap();
    let path = file.path().to_str().unwrap();
    let relay =
        Relay::start_on(TempDir::new().unwrap(), &["--config", path, "--set", "limits.max_subscriptions=4"]);
    let (_, said) = config(&relay, &["set", "limits.max_tags=5"]);
    assert!(said.contains("limits.max_tags 3 → 5"), "{said}");
    let (done, said) = config(&relay, &["set", "limits.max_subscriptions=5"]);
    assert!(
        done && said.contains("without effect: limits.max_subscriptions (set by the command line)"),
        "{said}"
    );
    assert_eq!(limit(&relay, "max_subscriptions"), 4);
    fs::write(file.path(), "[limits]\nmax_tags = 6\nmax_limit = 6\n").unwrap();
    relay.signal("HUP");
    let said = relay.log().says("SIGHUP").await;
    for part in
        ["limits.max_limit 5000 → 6", "without effect: limits.max_tags (set by a record of the store)"]
    {
        assert!(said.contains(part), "{said}");
    }
    assert_eq!((limit(&relay, "max_event_tags"), limit(&relay, "max_limit")), (5.into(), 6.into()));
    let (_, said) = config(&relay, &["unset", "limits.max_tags"]);
    assert!(said.contains("limits.max_tags 5 → 6"), "{said}");
}
