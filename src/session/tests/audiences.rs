//! Who is shown what somebody does: those whom they have chosen, by a key that is proved.

use serde_json::json;

use super::Stage;
use crate::protocol::{Audience, EventId, kind, sign::Keys};

/// Readers, whether they share what they do, and what for friends and for followers they are shown.
const TABLE: [(&str, bool, [bool; 2]); 12] = [
    ("author", true, [true, true]),
    ("author", false, [true, true]),
    ("stranger", true, [false, false]),
    ("stranger", false, [false, false]),
    ("follower", true, [false, true]),
    ("follower", false, [false, false]),
    ("friend", true, [true, true]),
    ("friend", false, [false, false]),
    // Who follows the author no more, and whom the author follows no more.
    ("once a friend", true, [false, false]),
    ("once a friend", false, [false, false]),
    ("no friend of theirs", true, [false, true]),
    ("no friend of theirs", false, [false, false]),
];

#[actix::test]
async fn what_somebody_does_is_shown_to_those_whom_they_have_chosen() {
    for (reader, shares, expected) in TABLE {
        let mut stage = Stage::new();
        let [author, other] = [(); 2].map(|()| Keys::generate());
        let who = if reader == "author" { author.clone() } else { other };
        if !shares {
            stage.silent.0.lock().unwrap().insert(who.public_key());
        }
        if matches!(reader, "friend" | "once a friend" | "no friend of theirs") {
            stage.follow(&author, &[&who]).await;
        }
        if matches!(reader, "follower" | "friend" | "once a friend" | "no friend of theirs") {
            stage.follow(&who, &[&author]).await;
        }
        match reader {
            "once a friend" => stage.follow(&who, &[]).await,
            "no friend of theirs" => stage.follow(&author, &[]).await,
            _ => {}
        }
        let note = stage.note(&author).await.id();
        for (audience, expected) in [Audience::Friends, Audience::Followers].into_iter().zip(expected) {
            let told = format!("{reader}, shares: {shares}, {audience:?}");
            let shown = |id: EventId| if expected { vec![id] } else { Vec::new() };
            let event = stage.activity(&author, audience);
            stage.store(&event).await;
            let id = event.id();
            let named = json!({ "kinds": [kind::ACTIVITY], "ids": [id.to_hex()] });
            let mut client = stage.connect_as(&who).await;
            // Stored, by every filter that may find it and those that may not.
            assert_eq!(client.ask("named", named.clone()).await, shown(id), "{told}");
            let by_author =
                json!({ "kinds": [kind::ACTIVITY], "authors": [author.public_key().to_hex()], "limit": 1 });
            assert_eq!(client.ask("by author", by_author).await, shown(id), "{told}");
            assert_eq!(client.ask("by id", json!({ "ids": [id.to_hex()] })).await, [], "{told}");
            let everything = client.ask("all", json!({})).await;
            assert!(everything.contains(&note) && !everything.contains(&id), "{told}");
            // Counted.
            assert_eq!(client.count(named.clone()).await, u64::from(expected), "{told}");
            assert_eq!(client.count(json!({ "ids": [id.to_hex()] })).await, 0, "{told}");
            // Reconciled.
            assert!(client.has(json!({}), &note).await, "{told}");
            for filter in [json!({}), named, json!({ "kinds": [1, kind::ACTIVITY] })] {
                assert!(!client.has(filter, &id).await, "{told}");
            }
            // Live, by this node and by another; subscriptions that do not name it get nothing.
            client.say(json!(["CLOSE", "named"])).await;
            client.say(json!(["CLOSE", "by author"])).await;
            client.ask("live", json!({ "kinds": [kind::ACTIVITY], "limit": 0 })).await;
            for is_here in [true, false] {
                let event = stage.activity(&author, audience);
                stage.publish(&event, is_here).await;
                assert_eq!(client.heard().await, shown(event.id()), "{told}, here: {is_here}");
            }
        }
    }
}

#[actix::test]
async fn without_a_proved_key_nobody_is_shown_anything() {
    let mut stage = Stage::new();
    let author = Keys::generate();
    stage.act(&author, Audience::Followers).await;
    let mut client = stage.connect();
    client.next().await;
    for kinds in [json!([kind::ACTIVITY]), json!([4, kind::ACTIVITY])] {
        for verb in ["REQ", "COUNT"] {
            client.say(json!([verb, "x", { "kinds": kinds }])).await;
            let refused = client.next().await;
            assert_eq!(refused[0], "CLOSED");
            assert!(refused[2].as_str().unwrap().starts_with("auth-required: "), "{refused}");
        }
    }
    assert_eq!(client.ask("both", json!({ "kinds": [1, kind::ACTIVITY] })).await, []);
    assert_eq!(client.count(json!({ "kinds": [1, kind::ACTIVITY] })).await, 0);
    stage.act(&author, Audience::Followers).await;
    let note = stage.note(&author).await.id();
    assert_eq!(client.heard().await, [note]);
}

/// Whoever proves a key while subscribed is shown from then on what the key may see.
#[actix::test]
async fn a_key_that_is_proved_later_counts_for_what_comes_then() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect();
    let challenge = client.next().await;
    assert_eq!(client.ask("x", json!({ "kinds": [1, kind::ACTIVITY] })).await, []);
    client.outbox.text(&challenge.to_string());
    client.authenticate(&reader).await;
    let event = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [event]);
}
