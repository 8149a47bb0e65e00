//! What a session has of its own to know who is shown what: it goes when it is not needed, and takes no room.

use std::sync::Arc;

use serde_json::json;

use super::Stage;
use crate::{
    config,
    protocol::{Audience, kind, sign::Keys},
};

/// What a session has of its own for this goes with the last subscription that wants it.
#[actix::test]
async fn nothing_stays_of_a_subscription_that_ended() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    let metrics = Arc::clone(&stage.parts.metrics);
    let held = || (metrics.subscriptions.get(), metrics.routing_keys.get());
    client.ask("note", json!({ "kinds": [1] })).await;
    assert_eq!(held(), (1, 1));
    for _ in 0..2 {
        client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
        assert_eq!(held(), (2, 4), "with the lists of the reader and of the author");
    }
    client.say(json!(["CLOSE", "x"])).await;
    client.ask("note", json!({ "kinds": [1] })).await;
    assert_eq!(held(), (1, 1));
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
}

/// They are not the client's: it has as many as it may have, and is told of no more.
#[actix::test]
async fn what_a_session_has_of_its_own_takes_no_room_of_the_client() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    let mut config = config::Config::default();
    (config.limits.max_subscriptions, config.limits.max_routing_keys) = (2, 2);
    stage.parts.live.replace((&config).into());
    for id in ["x", "y"] {
        client.ask(id, json!({ "kinds": [kind::ACTIVITY] })).await;
    }
    assert_eq!(stage.parts.metrics.subscriptions.get(), 2);
    client.say(json!(["REQ", "z", { "kinds": [1] }])).await;
    assert_eq!(client.next().await[0], "CLOSED");
}
