//! REQ, EOSE, CLOSE and CLOSED (NIP-01): the life of a subscription.

use rookery::protocol::sign::Keys;
use serde_json::json;

use common::ask::{delivered, event, id, ids, prefix};
use common::{Relay, note, now};

#[tokio::test]
async fn an_id_has_1_to_64_characters() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let (short, long) = ("x", "é".repeat(64));
    let odd = "\"quoted\\ \n\u{1} 🤙 \u{2028}";
    for subscription in [short, &long, odd, " "] {
        client.watch(subscription, json!({ "kinds": [1] })).await;
    }
    let event = note(&Keys::generate(), now(), "hello");
    writer.put(&event).await;
    let mut live = delivered(&client.heard(&mut writer).await);
    live.sort();
    let mut expected = [short, &long, odd, " "].map(|to| (to.to_owned(), id(&event)));
    expected.sort();
    assert_eq!(live, expected);
    let too_long = "x".repeat(65);
    for subscription in ["", &too_long] {
        for verb in ["REQ", "COUNT"] {
            assert_eq!(prefix(&client.closed(verb, subscription, json!({})).await), "invalid");
        }
    }
}

#[tokio::test]
async fn ids_are_each_connections_own() {
    let relay = Relay::start(&[]);
    let (mut one, mut two) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    one.watch("s", json!({ "kinds": [1] })).await;
    two.watch("s", json!({ "kinds": [7] })).await;
    let (note, reaction) = (event(&keys, now(), 1, &[], ""), event(&keys, now(), 7, &[], ""));
    let mut writer = relay.connect().await;
    writer.put_all(&[note.clone(), reaction.clone()]).await;
    assert_eq!(delivered(&one.heard(&mut writer).await), [("s".into(), id(&note))]);
    assert_eq!(delivered(&two.heard(&mut writer).await), [("s".into(), id(&reaction))]);
    one.say(json!(["CLOSE", "s"])).await;
    assert!(one.heard(&mut writer).await.is_empty());
    let another = event(&keys, now(), 7, &[], "another");
    writer.put(&another).await;
    assert!(one.heard(&mut writer).await.is_empty());
    assert_eq!(delivered(&two.heard(&mut writer).await), [("s".into(), id(&another))]);
}

#[tokio::test]
async fn a_new_request_replaces_the_old_one_of_its_id() {
    let relay = Relay::start(&["--set", "lmdb.page_bytes=1"]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let at = now();
    let stored: Vec<_> = (0..50).map(|n| note(&keys, at - n, "stored")).collect();
    writer.put_all(&stored).await;
    client.watch("s", json!({ "kinds": [7] })).await;
    client.watch("s", json!({ "kinds": [6] })).await;
    let events = [7, 6].map(|kind| event(&keys, now(), kind, &[], ""));
    writer.put_all(&events).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("s".into(), id(&events[1]))]);
    // Also while the old one is still being answered: whatever came of that, the new one is answered
    // whole, and its EOSE is the last.
    client.say(json!(["REQ", "s", { "kinds": [1] }])).await;
    client.say(json!(["REQ", "s", { "kinds": [7] }])).await;
    client.hear_until(&mut Vec::new(), |message| message[2]["id"] == id(&events[0])).await;
    let end = client.hear().await;
    assert_eq!((&end[0], &end[1]), (&json!("EOSE"), &json!("s")));
    assert!(client.heard(&mut writer).await.is_empty());
    let events = [7, 6, 1].map(|kind| event(&keys, now(), kind, &[], "later"));
    writer.put_all(&events).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("s".into(), id(&events[0]))]);
}

#[tokio::test]
async fn a_refused_request_ends_the_old_one_of_its_id() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    for filter in [json!({ "search": "x" }), json!({ "kinds": [1059] })] {
        client.request("s", &[json!({ "kinds": [1], "limit": 0 })]).await;
        client.closed("REQ", "s", filter).await;
        writer.put(&note(&Keys::generate(), now(), "too late")).await;
        assert!(client.heard(&mut writer).await.is_empty());
    }
}

/// A COUNT has ids of its own.
#[tokio::test]
async fn a_count_leaves_the_subscription_of_its_id_alone() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    client.watch("count", json!({ "kinds": [1] })).await;
    assert_eq!(client.count(&[json!({ "kinds": [1] })]).await["count"], 0);
    for filter in [json!({ "kinds": [1059] }), json!({ "search": "x" }), json!({ "kinds": "x" })] {
        client.closed("COUNT", "count", filter.clone()).await;
        let event = note(&Keys::generate(), now(), "live");
        writer.put(&event).await;
        assert_eq!(delivered(&client.heard(&mut writer).await), [("count".into(), id(&event))], "{filter}");
    }
}

#[tokio::test]
async fn close_ends_it_and_is_not_answered() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    client.watch("s", json!({ "kinds": [1] })).await;
    client.watch("t", json!({ "kinds": [1] })).await;
    for subscription in ["s", "s", "never opened", ""] {
        client.say(json!(["CLOSE", subscription])).await;
    }
    assert!(client.heard(&mut writer).await.is_empty());
    let event = note(&Keys::generate(), now(), "late");
    writer.put(&event).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("t".into(), id(&event))]);
    // The id may be used again.
    assert_eq!(client.request("s", &[json!({ "kinds": [1] })]).await.0, ids([&event]));
}

#[tokio::test]
async fn limit_zero_is_for_live_events_only() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    writer.put(&note(&keys, now() - 10, "stored")).await;
    // EOSE at once, and no hint: nobody looked.
    assert_eq!(client.request("s", &[json!({ "kinds": [1], "limit": 0 })]).await, (vec![], None));
    let live = note(&keys, now() - 20, "live, however old");
    writer.put(&live).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("s".into(), id(&live))]);
    // A limit ends nothing.
    let stored = client.request("s", &[json!({ "kinds": [1], "limit": 1 })]).await.0;
    assert_eq!(stored.len(), 1);
    let more: Vec<_> = (0..5).map(|n| note(&keys, now(), &n.to_string())).collect();
    writer.put_all(&more).await;
    assert_eq!(client.heard(&mut writer).await.len(), 5);
}

/// A publisher is answered before its event is routed, so what was answered may still be on its way
/// when a REQ comes: the store knows it, and a limit leaves it out.
#[tokio::test]
async fn what_was_answered_before_the_request_is_stored_and_not_live() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let newest = note(&keys, now(), "newest");
    writer.put(&newest).await;
    for n in 1..30 {
        writer.put(&note(&keys, now() - 1_000 + n, "stored")).await;
        assert_eq!(client.request("none", &[json!({ "kinds": [1], "limit": 0 })]).await.0.len(), 0);
        let one = client.request("one", &[json!({ "kinds": [1], "limit": 1 })]).await.0;
        assert_eq!(one, ids([&newest]), "a live event in round {n}");
        assert!(client.heard(&mut writer).await.is_empty(), "a live event in round {n}");
        client.say(json!(["CLOSE", "none"])).await;
        client.say(json!(["CLOSE", "one"])).await;
        // Both have been read before the next event comes.
        client.count(&[json!({ "ids": [] })]).await;
    }
}

#[tokio::test]
async fn subscriptions_of_a_connection_are_each_served() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let filters = [
        ("author", json!({ "authors": [keys.public_key()] })),
        ("kind", json!({ "kinds": [1] })),
        ("all", json!({})),
        ("other", json!({ "kinds": [7] })),
    ];
    for (name, filter) in &filters {
        client.watch(name, filter.clone()).await;
    }
    let event = note(&keys, now(), "to three");
    writer.put(&event).await;
    let mut live = delivered(&client.heard(&mut writer).await);
    live.sort();
    assert_eq!(live, ["all", "author", "kind"].map(|name| (name.to_owned(), id(&event))));
    // A client hears its own events too.
    let own = note(&keys, now(), "own");
    client.watch("own", json!({ "ids": [own.id()] })).await;
    client.say_text(format!(r#"["EVENT",{}]"#, own.json())).await;
    let mut heard = Vec::new();
    for _ in 0..5 {
        heard.push(client.hear().await);
    }
    assert!(client.heard(&mut writer).await.is_empty());
    let ok = heard.iter().position(|message| message[0] == "OK").unwrap();
    assert_eq!(heard.remove(ok)[1], id(&own));
    assert_eq!(delivered(&heard).len(), 4);
}

#[tokio::test]
async fn one_that_can_match_nothing_any_more_stays_open() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    for (name, filter) in [
        ("past", json!({ "until": 1_000_000 })),
        ("never", json!({ "since": 5, "until": 4 })),
        ("empty", json!({ "kinds": [] })),
    ] {
        let filter = json!([filter]);
        let answer = client.request(name, filter.as_array().unwrap()).await;
        assert_eq!(answer, (vec![], Some("finish".into())), "{name}");
    }
    writer.put(&note(&keys, now(), "of the present")).await;
    // Nothing came, not even CLOSED; and what is written with an old date is live like any.
    assert!(client.heard(&mut writer).await.is_empty());
    let old = note(&keys, 1_000_000, "of the past");
    writer.put(&old).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("past".into(), id(&old))]);
}

#[tokio::test]
async fn one_of_ids_alone_gets_what_is_missing() {
    let relay = Relay::start(&[]);
    let (mut client, mut writer) = (relay.connect().await, relay.connect().await);
    let keys = Keys::generate();
    let [one, two, three] = ["one", "two", "three"].map(|content| note(&keys, now(), content));
    writer.put(&one).await;
    // Answered whole, it holds no interest; the client need not care.
    let answer = client.request("whole", &[json!({ "ids": [one.id()] })]).await;
    assert_eq!(answer, (ids([&one]), Some("finish".into())));
    let answer = client.request("part", &[json!({ "ids": ids([&one, &two]) })]).await;
    assert_eq!(answer.0, ids([&one]));
    client.watch("none", json!({ "ids": ids([&two, &three]) })).await;
    let answer = client.request("limit", &[json!({ "ids": ids([&one, &two]), "limit": 1 })]).await;
    assert_eq!(answer.0, ids([&one]));
    writer.put(&two).await;
    let mut live = delivered(&client.heard(&mut writer).await);
    live.sort();
    assert_eq!(live, ["limit", "none", "part"].map(|name| (name.to_owned(), id(&two))));
    writer.put(&three).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("none".into(), id(&three))]);
    // An ephemeral event is found by its id too, if one waits for it.
    let ephemeral = event(&keys, now(), 20_000, &[], "soon gone");
    client.watch("ephemeral", json!({ "ids": [ephemeral.id()] })).await;
    writer.put(&ephemeral).await;
    assert_eq!(delivered(&client.heard(&mut writer).await), [("ephemeral".into(), id(&ephemeral))]);
}

#[tokio::test]
async fn there_are_at_most_so_many_on_a_connection() {
    let relay = Relay::start(&["--set", "limits.max_subscriptions=3", "--set", "limits.max_routing_keys=10"]);
    let mut client = relay.connect().await;
    for name in ["1", "2", "3"] {
        client.watch(name, json!({ "kinds": [1] })).await;
    }
    assert_eq!(prefix(&client.closed("REQ", "4", json!({ "kinds": [1] })).await), "rate-limited");
    // Replacing needs no room, and CLOSE makes some.
    client.watch("3", json!({ "kinds": [7] })).await;
    client.say(json!(["CLOSE", "1"])).await;
    client.watch("4", json!({ "kinds": [1] })).await;
    assert_eq!(prefix(&client.closed("REQ", "1", json!({ "kinds": [1] })).await), "rate-limited");
    // So many values together.
    client.say(json!(["CLOSE", "4"])).await;
    let kinds: Vec<u16> = (1..=9).collect();
    assert_eq!(prefix(&client.closed("REQ", "4", json!({ "kinds": kinds })).await), "rate-limited");
    client.watch("4", json!({ "kinds": kinds[1..] })).await;
    // Another connection has its own.
    relay.connect().await.watch("1", json!({ "kinds": [1] })).await;
}
