//! Reconciliation (NIP-77): what the two sides come to know, who may ask for what, and its bounds.

use std::{cmp::Reverse, collections::BTreeSet};

use rookery::protocol::{
    Event, EventId, PublicKey,
    negentropy::{Key, KeySet},
    sign::Keys,
};
use serde_json::{Value, json};

use common::ask::{event, prefix};
use common::{Client, Relay, note, now};

const FRAME: usize = 4_096;

/// What a client has that holds these events.
fn set<'e>(events: impl IntoIterator<Item = &'e Event>) -> KeySet {
    let keys = events.into_iter().map(|event| Key { created_at: event.created_at(), id: event.id() });
    let mut keys: Vec<Key> = keys.collect();
    keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
    keys.into_iter().collect()
}

fn ids<'e>(events: impl IntoIterator<Item = &'e Event>) -> BTreeSet<EventId> {
    events.into_iter().map(Event::id).collect()
}

async fn open(client: &mut Client, id: &str, filter: &Value, ours: &KeySet) {
    let message = hex::encode(ours.begin(FRAME).unwrap());
    client.say(json!(["NEG-OPEN", id, filter, message])).await;
}

/// The next message, which is about this reconciliation: its verb and what it says.
async fn hear(client: &mut Client, id: &str) -> (String, String) {
    let message = client.hear().await;
    assert_eq!(message[1], id, "{message}");
    (message[0].as_str().unwrap().to_owned(), message[2].as_str().unwrap().to_owned())
}

/// Why there is no reconciliation.
async fn refusal(client: &mut Client, id: &str) -> String {
    let (verb, reason) = hear(client, id).await;
    assert_eq!(verb, "NEG-ERR");
    reason
}

/// All rounds: what only this side has, and what only the relay has.
async fn reconcile(
    client: &mut Client,
    filter: Value,
    ours: &KeySet,
) -> Result<(BTreeSet<EventId>, BTreeSet<EventId>), String> {
    let (mut have, mut need) = (BTreeSet::new(), BTreeSet::new());
    open(client, "n", &filter, ours).await;
    loop {
        let (verb, text) = hear(client, "n").await;
        if verb == "NEG-ERR" {
            return Err(text);
        }
        let round = ours.go_on(&hex::decode(text).unwrap(), FRAME).unwrap();
        have.extend(round.have);
        need.extend(round.need);
        match round.next {
            Some(next) => client.say(json!(["NEG-MSG", "n", hex::encode(next)])).await,
            None => break,
        }
    }
    client.say(json!(["NEG-CLOSE", "n"])).await;
    Ok((have, need))
}

/// So many notes, a few in each second.
fn notes(keys: &Keys, count: u64) -> Vec<Event> {
    let begun = now() - 10_000;
    (0..count).map(|n| note(keys, begun + n / 3, &n.to_string())).collect()
}

#[tokio::test]
async fn both_sides_come_to_know_what_differs() {
    let relay = Relay::start(&["--set", "sync.frame_bytes=4096"]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    let notes = notes(&keys, 900);
    client.put_all(&notes[..800]).await;
    let everything = json!({});
    let none = KeySet::default();
    let (have, need) = reconcile(&mut client, everything.clone(), &none).await.unwrap();
    assert_eq!((have, need), (ids([]), ids(&notes[..800])));
    // One in nine is missing here, and the last hundred there.
    let ours: Vec<&Event> =
        notes.iter().enumerate().filter(|(n, _)| n % 9 > 0 || *n >= 800).map(|(_, note)| note).collect();
    let missing = notes[..800].iter().step_by(9);
    let (have, need) = reconcile(&mut client, everything.clone(), &set(ours)).await.unwrap();
    assert_eq!((have, need), (ids(&notes[800..]), ids(missing)));
    let (have, need) = reconcile(&mut client, everything, &set(&notes[..800])).await.unwrap();
    assert_eq!((have, need), (ids([]), ids([])));
    // Of a window, of an author, and of the newest.
    let since = notes[750].created_at();
    let newer: Vec<&Event> = notes[..800].iter().filter(|note| note.created_at() >= since).collect();
    let need = reconcile(&mut client, json!({ "since": since }), &none).await.unwrap().1;
    assert_eq!(need, ids(newer));
    let nobody = PublicKey([7; 32]);
    assert_eq!(reconcile(&mut client, json!({ "authors": [nobody] }), &none).await.unwrap().1, ids([]));
    assert_eq!(reconcile(&mut client, json!({ "limit": 0 }), &none).await.unwrap().1, ids([]));
    let need = reconcile(&mut client, json!({ "limit": 30 }), &none).await.unwrap().1;
    let mut newest: Vec<&Event> = notes[..800].iter().collect();
    newest.sort_by_key(|note| (Reverse(note.created_at()), note.id()));
    assert_eq!(need, ids(newest[..30].iter().copied()));
}

#[tokio::test]
async fn what_is_not_served_is_in_no_set() {
    let relay = Relay::start(&[]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    let at = now() - 100;
    let [gone, stays] = [note(&keys, at, "gone"), note(&keys, at, "stays")];
    let [old, new] = [0, 1].map(|n| event(&keys, at + n, 0, &[], "{}"));
    let soon = (now() + 2).to_string();
    let expiring = event(&keys, at, 1, &[&["expiration", &soon]], "");
    client.put_all(&[gone.clone(), stays.clone(), old, new.clone(), expiring]).await;
    let deletion = event(&keys, at + 2, 5, &[&["e", &gone.id().to_hex()]], "");
    client.put(&deletion).await;
    let expired = async { while client.request("q", &[json!({ "until": at })]).await.0.len() > 1 {} };
    tokio::time::timeout(common::PATIENCE, expired).await.unwrap();
    let need = reconcile(&mut client, json!({}), &KeySet::default()).await.unwrap().1;
    assert_eq!(need, ids([&stays, &new, &deletion]));
}

/// The gates are those of a REQ: whoever may not read an event learns nothing of it, not even its id.
#[tokio::test]
async fn private_kinds_are_for_their_parties() {
    let relay = Relay::start(&[]);
    let [from, to, other] = [(); 3].map(|()| Keys::generate());
    let mut client = relay.connect().await;
    let party = to.public_key().to_hex();
    let message = event(&from, now() - 3, 4, &[&["p", &party]], "");
    let wrap = event(&other, now() - 2, 1059, &[&["p", &party]], "");
    let public = note(&from, now() - 1, "");
    client.put_all(&[message.clone(), wrap.clone(), public.clone()]).await;
    let filters = [
        json!({}),
        json!({ "kinds": [4] }),
        json!({ "kinds": [1, 1059] }),
        json!({ "#p": [party] }),
        json!({ "kinds": [4, 1059], "#p": [party] }),
    ];
    let sees = |events: &[&Event]| Ok(ids(events.iter().copied()));
    let refused = |prefix: &str| Err(prefix.to_owned());
    let as_nobody =
        [sees(&[&public]), refused("auth-required"), sees(&[&public]), sees(&[]), refused("auth-required")];
    let as_sender = [
        sees(&[&public, &message]),
        sees(&[&message]),
        sees(&[&public]),
        sees(&[&message]),
        sees(&[&message]),
    ];
    let as_party = [
        sees(&[&public, &message, &wrap]),
        sees(&[&message]),
        sees(&[&public, &wrap]),
        sees(&[&message, &wrap]),
        sees(&[&message, &wrap]),
    ];
    let as_other =
        [sees(&[&public, &wrap]), sees(&[]), sees(&[&public, &wrap]), sees(&[&wrap]), sees(&[&wrap])];
    for (who, keys, expected) in [
        ("nobody", None, as_nobody),
        ("the sender", Some(&from), as_sender),
        ("the party", Some(&to), as_party),
        ("another", Some(&other), as_other),
    ] {
        let mut client = relay.connect().await;
        if let Some(keys) = keys {
            assert!(client.authenticate(keys, &relay.url()).await.0);
        }
        for (filter, expected) in filters.iter().zip(expected) {
            // As many events as a REQ of the same filter shows, or as few.
            let got = reconcile(&mut client, filter.clone(), &KeySet::default()).await;
            let got = got.map(|(_, need)| need).map_err(|reason| prefix(&reason).to_owned());
            assert_eq!(got, expected, "{filter} for {who}");
        }
    }
}

#[tokio::test]
async fn a_set_that_is_too_large_is_refused_in_the_words_that_clients_know() {
    let relay = Relay::start(&["--set", "sync.max_events=50", "--set", "sync.max_events_of_all=60"]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    let notes = notes(&keys, 51);
    client.put_all(&notes[..50]).await;
    let none = KeySet::default();
    assert_eq!(reconcile(&mut client, json!({}), &none).await.unwrap().1.len(), 50);
    // A second one beside it has no room; when the first is closed there is some again.
    open(&mut client, "a", &json!({}), &none).await;
    assert_eq!(hear(&mut client, "a").await.0, "NEG-MSG");
    open(&mut client, "b", &json!({}), &none).await;
    assert!(refusal(&mut client, "b").await.starts_with("error: overloaded"));
    assert_eq!(relay.metric("rookery_reconciliations"), 1.0);
    assert!(relay.metric(r#"rookery_queue_fill_ratio{queue="sync"}"#) > 0.8);
    client.say(json!(["NEG-CLOSE", "a"])).await;
    open(&mut client, "b", &json!({}), &none).await;
    assert_eq!(hear(&mut client, "b").await.0, "NEG-MSG");
    // Who is gone needs none.
    drop(client);
    let mut client = relay.connect().await;
    common::eventually("its room is free", || relay.metric("rookery_reconciliations") == 0.0).await;
    client.put(&notes[50]).await;
    open(&mut client, "a", &json!({}), &none).await;
    let message = client.hear().await;
    assert_eq!(message, json!(["NEG-ERR", "a", "blocked: too many query results", 50]));
    // A part of it is not.
    let part = json!({ "since": notes[25].created_at() });
    assert!(reconcile(&mut client, part, &none).await.is_ok());
    assert_eq!(reconcile(&mut client, json!({ "limit": 50 }), &none).await.unwrap().1.len(), 50);
    assert_eq!(relay.metric(r#"rookery_reconciliations_refused_total{reason="too_many"}"#), 1.0);
}

#[tokio::test]
async fn bad_messages_end_the_reconciliation_alone() {
    let relay = Relay::start(&["--set", "sync.max_open=2"]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    client.put(&note(&keys, now(), "")).await;
    let (everything, none) = (json!({}), KeySet::default());
    // There is none of that id, or none any more.
    let unknown = "closed: unknown subscription handle";
    client.say(json!(["NEG-MSG", "x", "61"])).await;
    assert_eq!(refusal(&mut client, "x").await, unknown);
    for message in ["", "10", "61000003", "6100000101", "610000028580808080", "61002100"] {
        client.say(json!(["NEG-OPEN", "x", everything, message])).await;
        assert_eq!(prefix(&refusal(&mut client, "x").await), "invalid", "{message}");
        client.say(json!(["NEG-MSG", "x", "61"])).await;
        assert_eq!(refusal(&mut client, "x").await, unknown);
    }
    for message in [
        json!(["NEG-OPEN", "x", everything, "6"]),
        json!(["NEG-OPEN", "x", everything, "zz"]),
        json!(["NEG-OPEN", "x", everything, 61]),
        json!(["NEG-OPEN", "x", everything]),
        json!(["NEG-OPEN", "x", { "kinds": "1" }, "61"]),
        json!(["NEG-MSG", "x"]),
    ] {
        client.say(message.clone()).await;
        assert_eq!(prefix(&refusal(&mut client, "x").await), "invalid", "{message}");
    }
    client.say(json!(["NEG-OPEN", "x", { "search": "1" }, "61"])).await;
    assert_eq!(prefix(&refusal(&mut client, "x").await), "unsupported");
    // Another version is told ours.
    client.say(json!(["NEG-OPEN", "x", everything, "62"])).await;
    assert_eq!(hear(&mut client, "x").await, ("NEG-MSG".into(), "61".into()));
    // The same id again is a new one, and the second of two.
    for id in ["x", "y"] {
        open(&mut client, id, &everything, &none).await;
        assert_eq!(hear(&mut client, id).await.0, "NEG-MSG");
    }
    open(&mut client, "z", &everything, &none).await;
    assert_eq!(prefix(&refusal(&mut client, "z").await), "rate-limited");
    // A subscription of that id is another thing.
    client.say(json!(["REQ", "x", {}])).await;
    assert_eq!(client.hear_stored("x").await.0.len(), 1);
    client.say(json!(["CLOSE", "x"])).await;
    client.say(json!(["NEG-MSG", "x", "61"])).await;
    assert_eq!(hear(&mut client, "x").await.0, "NEG-MSG");
    // A message before the answer to the last one, both in one write.
    let [first, second] = [json!(["NEG-OPEN", "x", everything, "61"]), json!(["NEG-MSG", "x", "61"])];
    client.say(first).await;
    client.say(second).await;
    match hear(&mut client, "x").await {
        (verb, reason) if verb == "NEG-ERR" => assert!(reason.starts_with("invalid: "), "{reason}"),
        // The answer was quicker.
        (_, answer) => assert_eq!((answer, hear(&mut client, "x").await.0), ("61".into(), "NEG-MSG".into())),
    }
    // Everything else goes on.
    client.put(&note(&keys, now(), "more")).await;
}

#[tokio::test]
async fn who_says_nothing_for_long_is_told_that_it_ended() {
    let relay = Relay::start(&["--set", "session.ping_seconds=1", "--set", "sync.idle_seconds=1"]);
    let mut client = relay.connect().await;
    open(&mut client, "x", &json!({}), &KeySet::default()).await;
    assert_eq!(hear(&mut client, "x").await.0, "NEG-MSG");
    assert_eq!(refusal(&mut client, "x").await, "closed: you took too long to respond!");
    assert_eq!(relay.metric("rookery_reconciliations"), 0.0);
}

#[tokio::test]
async fn it_can_be_switched_off() {
    for (most, served) in [("0", false), ("1", true)] {
        let relay = Relay::start(&["--set", &format!("sync.max_open={most}")]);
        let (_, document) = Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n");
        let document: Value = serde_json::from_str(&document).unwrap();
        assert_eq!(document["supported_nips"].as_array().unwrap().contains(&json!(77)), served);
        let mut client = relay.connect().await;
        let got = reconcile(&mut client, json!({}), &KeySet::default()).await;
        assert_eq!(
            got.map(|_| ()),
            if served { Ok(()) } else { Err("error: negentropy is not supported".into()) }
        );
    }
    let relay = Relay::start(&["--set", "limits.auth_required=true"]);
    let mut client = relay.connect().await;
    let got = reconcile(&mut client, json!({}), &KeySet::default()).await;
    assert_eq!(prefix(&got.unwrap_err()), "auth-required");
}
