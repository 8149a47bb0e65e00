//! Dead letters: listed, replayed and let go of.

use common::{Relay, eventually, note, now};
use rookery::{
    aggregate::RelayUrl,
    config,
    protocol::{Event, sign::Keys},
    store::{
        Store,
        lmdb::{Access, Lmdb},
        records::{Race, RecordKind},
    },
};
use serde_json::{Value, json};

use super::{does, has, ids, reader, upstream};

/// Stops a relay, and makes dead letters of an upstream, with their texts or without, before it goes on.
async fn with_dead_letters(mut relay: Relay, url: &str, letters: &[(&Event, bool)]) -> Relay {
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    let folder = relay.data.path().join("relay");
    let store = Lmdb::open(&folder, &config::Lmdb::default(), Access::Exclusive).unwrap();
    let upstream = RelayUrl::parse(url).unwrap().id();
    for (event, has_text) in letters {
        let letter = json!({
            "text": has_text.then(|| event.json()), "bytes": event.json().len(), "attempts": 5,
            "first_error": "one", "first_at": 1_700_000_000, "last_error": "the last", "last_at": 1_700_000_050,
        });
        let (key, value) = (format!("{upstream}/{}", event.id().to_hex()), letter.to_string().into_bytes());
        let put = store.records().put(RecordKind::DeadLetters, &key, None, value, None);
        assert!(matches!(put.await.unwrap(), Race::Won(_)));
    }
    drop(store);
    relay.restart_after_kill(&["--set", "aggregator.allow_private=true"])
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_replayed_and_let_go_of() {
    let (keys, source) = (Keys::generate(), Relay::start(&[]));
    let url = source.url();
    let [kept, long, gone, nowhere] =
        ["kept", "long", "gone", "nowhere"].map(|text| note(&keys, now(), text));
    // It is not asked for by the filter, so it is there by a replay alone.
    assert!(source.connect().await.publish(&long).await.0);
    let relay = reader(&[]);
    does(&relay, &["add", &url, "--kind", "7"]);
    let letters = [(&kept, true), (&long, false), (&gone, true), (&nowhere, false)];
    let relay = with_dead_letters(relay, &url, &letters).await;
    let name = |event: &Event| format!("{}/{}", RelayUrl::parse(&url).unwrap().id(), event.id().to_hex());
    let listed = || does(&relay, &["dead-letters", "list", "--upstream", &url]);
    eventually("its name", || listed().matches(&url).count() == 4).await;
    assert!(listed().contains("5 attempts, last") && listed().contains("the last"), "{}", listed());
    let (status, _, first) = relay.ask("GET", "/v1/dead-letters?limit=3", "");
    let next = first["next"].as_str().unwrap().to_owned();
    let (_, _, second) = relay.ask("GET", &format!("/v1/dead-letters?limit=3&after={next}"), "");
    let count = |page: &Value| page["letters"].as_array().unwrap().len();
    assert_eq!((status, count(&first), count(&second), &second["next"]), (200, 3, 1, &Value::Null));
    let shown: Value = serde_json::from_str(&does(&relay, &["dead-letters", "show", &name(&kept)])).unwrap();
    assert_eq!((&shown["text"], &shown["url"]), (&json!(kept.json()), &json!(url)));

    for event in [&kept, &long] {
        does(&relay, &["dead-letters", "replay", &name(event)]);
        has(&relay, &event.id().to_hex()).await;
        eventually("it is no dead letter", || !listed().contains(&name(event))).await;
    }
    let (done, said) = upstream(&relay, &["dead-letters", "replay", &name(&nowhere)]);
    assert!(!done && said.contains("the upstream does not send it"), "{said}");
    does(&relay, &["dead-letters", "drop", &name(&gone)]);
    let (done, said) = upstream(&relay, &["dead-letters", "show", &name(&gone)]);
    assert!(!done && said.contains("no such dead letter"), "{said}");
    assert_eq!(relay.ask("DELETE", "/v1/dead-letters/x/y", "").0, 404);
    assert!(!ids(&relay).contains(&gone.id().to_hex()));
    let view = relay.ask("GET", "/v1/upstreams", "").2[0].clone();
    assert_eq!((&view["received"], &view["stored"], &view["waiting"]), (&json!(2), &json!(2), &json!(0)));
}
