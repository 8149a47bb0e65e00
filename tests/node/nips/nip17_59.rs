//! Private kinds (NIP-04, NIP-17, NIP-59): for those whom they concern, in stored answers, live and
//! in counts.

use std::slice::from_ref;

use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};

use common::ask::{delivered, event, id, ids, prefix};
use common::{Client, Relay, note, now};

struct People {
    sender: Keys,
    recipient: Keys,
    stranger: Keys,
}

impl People {
    fn new() -> Self {
        Self { sender: Keys::generate(), recipient: Keys::generate(), stranger: Keys::generate() }
    }

    fn to_recipient(&self, kind: u16) -> Event {
        let to = self.recipient.public_key().to_hex();
        let tags: &[&[&str]] = &[&["t", "mail"], &["p", &to, "wss://inbox.example.com"]];
        event(&self.sender, now() - 100, kind, tags, "secret")
    }
}

/// Clients: nobody, the sender, the recipient, a stranger.
async fn clients(relay: &Relay, people: &People) -> [Client; 4] {
    let mut clients =
        [relay.connect().await, relay.connect().await, relay.connect().await, relay.connect().await];
    for (client, keys) in clients[1..].iter_mut().zip([&people.sender, &people.recipient, &people.stranger]) {
        assert!(client.authenticate(keys, &relay.url()).await.0);
    }
    clients
}

/// Filters that match the event among others, with what a client may ask without being refused.
fn filters(event: &Event, people: &People) -> [Value; 7] {
    let to = people.recipient.public_key();
    [
        json!({}),
        json!({ "ids": [event.id()] }),
        json!({ "authors": [event.pubkey()] }),
        json!({ "#p": [to] }),
        json!({ "#t": ["mail"] }),
        json!({ "kinds": [event.kind(), 1] }),
        json!({ "kinds": [event.kind(), 1], "authors": [event.pubkey()], "#p": [to] }),
    ]
}

#[tokio::test]
async fn stored_answers_and_counts_leave_them_out_silently() {
    for kind in [4, 1_059] {
        let relay = Relay::start(&[]);
        let people = People::new();
        let mut clients = clients(&relay, &people).await;
        let secret = people.to_recipient(kind);
        // Anybody may send one.
        clients[0].put(&secret).await;
        for filter in filters(&secret, &people) {
            for (client, expected) in clients.iter_mut().zip([0, 1, 1, 0]) {
                let (found, hint) = client.find_any(from_ref(&filter)).await;
                assert_eq!((found.len(), hint.as_deref()), (expected, Some("finish")), "{kind} {filter}");
                assert_eq!(client.count(from_ref(&filter)).await["count"], expected, "{kind} {filter}");
            }
        }
        // Hidden ones use up no limit.
        let visible = event(&people.sender, now() - 200, 1, &[&["t", "mail"]], "");
        clients[0].put(&visible).await;
        assert_eq!(clients[0].find(json!({ "#t": ["mail"], "limit": 1 })).await, ids([&visible]));
        assert_eq!(clients[2].find(json!({ "#t": ["mail"], "limit": 1 })).await, ids([&secret]));
    }
}

#[tokio::test]
async fn live_delivery_leaves_them_out_silently() {
    for kind in [4, 1_059, 21_059] {
        let relay = Relay::start(&[]);
        let people = People::new();
        let mut clients = clients(&relay, &people).await;
        let mut writer = relay.connect().await;
        let secret = people.to_recipient(kind);
        for client in &mut clients {
            for (nth, filter) in filters(&secret, &people).into_iter().enumerate() {
                client.watch(&nth.to_string(), filter).await;
            }
        }
        writer.put(&secret).await;
        for (client, expected) in clients.iter_mut().zip([0, 7, 7, 0]) {
            let live = delivered(&client.heard(&mut writer).await);
            assert_eq!(live.len(), expected, "kind {kind}");
            assert!(live.iter().all(|(_, delivered)| *delivered == id(&secret)));
        }
    }
}

#[tokio::test]
async fn ephemeral_gift_wraps_are_never_stored() {
    let relay = Relay::start(&[]);
    let people = People::new();
    let [_, _, mut recipient, mut stranger] = clients(&relay, &people).await;
    let filter = json!({ "kinds": [21_059], "#p": [people.recipient.public_key()] });
    recipient.watch("s", filter.clone()).await;
    let wrap = people.to_recipient(21_059);
    stranger.put(&wrap).await;
    assert_eq!(delivered(&recipient.heard(&mut stranger).await), [("s".into(), id(&wrap))]);
    assert!(recipient.find(filter.clone()).await.is_empty());
    assert!(recipient.find(json!({ "ids": [wrap.id()] })).await.is_empty());
    assert_eq!(recipient.count(&[filter]).await["count"], 0);
}

#[tokio::test]
async fn a_filter_of_private_kinds_alone_is_closed() {
    let relay = Relay::start(&[]);
    let people = People::new();
    let [mut nobody, mut sender, mut recipient, mut stranger] = clients(&relay, &people).await;
    let secret = people.to_recipient(1_059);
    nobody.put(&secret).await;
    let (from, to) = (people.sender.public_key(), people.recipient.public_key());
    for verb in ["REQ", "COUNT"] {
        for filter in [
            json!({ "kinds": [4] }),
            json!({ "kinds": [1_059] }),
            json!({ "kinds": [21_059] }),
            json!({ "kinds": [4, 1_059] }),
            json!({ "kinds": [1_059], "#p": [to] }),
            json!({ "kinds": [1_059], "ids": [secret.id()] }),
        ] {
            let text = nobody.closed(verb, "s", filter.clone()).await;
            assert_eq!(prefix(&text), "auth-required", "{verb} {filter}");
        }
        for filter in [
            json!({ "kinds": [1_059], "#p": [to], "authors": [from] }),
            json!({ "kinds": [4], "#p": [to], "authors": [from] }),
        ] {
            assert_eq!(prefix(&stranger.closed(verb, "s", filter).await), "restricted", "{verb}");
        }
    }
    // One such filter among others is enough.
    nobody.say(json!(["REQ", "s", { "kinds": [1] }, { "kinds": [4] }])).await;
    assert_eq!(nobody.hear().await[0], "CLOSED");
    // Whom they may concern is answered, with what concerns them.
    assert_eq!(recipient.find(json!({ "kinds": [1_059] })).await, ids([&secret]));
    assert_eq!(recipient.find(json!({ "kinds": [1_059], "#p": [to] })).await, ids([&secret]));
    assert_eq!(sender.find(json!({ "kinds": [1_059], "authors": [from] })).await, ids([&secret]));
    assert!(stranger.find(json!({ "kinds": [1_059] })).await.is_empty());
    assert_eq!(stranger.count(&[json!({ "kinds": [1_059] })]).await["count"], 0);
    // An empty list asks for no kind at all.
    assert!(nobody.find(json!({ "kinds": [] })).await.is_empty());
}

#[tokio::test]
async fn several_keys_see_what_concerns_any_of_them() {
    let relay = Relay::start(&[]);
    let (one, two) = (People::new(), People::new());
    let mut client = relay.connect().await;
    let mut writer = relay.connect().await;
    client.request("s", &[json!({ "#t": ["mail"] })]).await;
    let [first, second] = [one.to_recipient(1_059), two.to_recipient(1_059)];
    writer.put_all(&[first.clone(), second.clone()]).await;
    assert!(client.heard(&mut writer).await.is_empty());
    client.authenticate(&one.recipient, &relay.url()).await;
    assert_eq!(client.find(json!({ "kinds": [1_059] })).await, ids([&first]));
    client.authenticate(&two.recipient, &relay.url()).await;
    let mut found = client.find(json!({ "kinds": [1_059] })).await;
    found.sort();
    let mut expected = ids([&first, &second]);
    expected.sort();
    assert_eq!(found, expected);
    // A subscription that began before sees them live from now on.
    let third =
        event(&one.sender, now(), 4, &[&["t", "mail"], &["p", &one.recipient.public_key().to_hex()]], "");
    writer.put(&third).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("s".into(), id(&third))]);
}

/// The kinds inside a gift wrap are no business of the relay, nor are those that look alike.
#[tokio::test]
async fn other_kinds_are_for_everybody() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let people = People::new();
    let events = [13, 14, 44, 1_060, 10_050].map(|kind| people.to_recipient(kind));
    client.put_all(&events).await;
    assert_eq!(client.find(json!({ "kinds": [13, 14, 44, 1_060, 10_050] })).await.len(), events.len());
    client.put(&note(&people.sender, now(), "public")).await;
}
