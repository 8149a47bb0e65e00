//! Clients first: those who store what upstreams send go by how long clients wait, at whichever node.

use std::time::{Duration, Instant};

use common::{PATIENCE, fresh};
use rookery::{
    bus::{envelope::Card, redis::names::cards},
    protocol::sign::Keys,
};

use super::{Stage, all_read, is_taken_from, stored};

#[tokio::test(flavor = "multi_thread")]
async fn who_stores_slows_down_while_clients_wait_for_long() {
    let stage = Stage::new(1, &[]);
    let (relay, reader, consumer) = (stage.relay(), stage.start("read"), stage.start("consume"));
    stage.add_all(&relay);
    all_read(&[&reader], 1).await;
    is_taken_from(&consumer).await;
    let mut connection = ::redis::Client::open(stage.redis.url()).unwrap().get_connection().unwrap();
    // A node whose clients wait ten times as long as at best.
    let card = Card { origin: 1, store: None, at: None, waits: Some(1_000) };
    let mut tell = || {
        let mut publish = ::redis::cmd("SPUBLISH");
        let _: u64 = publish.arg(cards("rookery")).arg(card.encode()).query(&mut connection).unwrap();
    };
    let limit = || consumer.metric("rookery_consumer_limit");
    let (keys, mut source, mut events) = (Keys::generate(), stage.sources[0].connect().await, Vec::new());
    // They wait, and after a while they do no more.
    for they_wait in [true, false] {
        let begun = Instant::now();
        while (limit() > 0.0) != they_wait {
            assert!(begun.elapsed() < PATIENCE, "{they_wait}");
            if they_wait {
                tell();
            }
            // It looks when something comes.
            let event = fresh(&keys, "something");
            assert!(source.publish(&event).await.0);
            events.push(event);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
    let mut client = relay.connect().await;
    client.watch("s", serde_json::json!({"kinds": [1], "limit": 0})).await;
    let last = fresh(&keys, "last");
    assert!(source.publish(&last).await.0);
    while client.hear().await[2]["id"] != last.id().to_hex() {}
    stored(&relay, &events).await;
}
