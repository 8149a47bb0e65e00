//! Entries at which process after process ends.

use common::{Relay, eventually, fresh};
use rookery::protocol::{Event, sign::Keys};
use serde_json::Value;

use super::{Stage, all_read, is_taken_from, states};

/// The only entry that waits is taken by somebody who is gone, and so are three others by now who looked at it.
async fn taken_by_those_who_end(stage: &Stage) {
    eventually("it waits", || stage.waiting() == 1).await;
    for key in Stage::streams() {
        stage.redis.ask(&["XREADGROUP", "GROUP", "consumers", "ghost", "STREAMS", &key, ">"]);
        let pending = stage.redis.ask(&["XPENDING", &key, "consumers", "-", "+", "10"]);
        if let Some(id) = pending.lines().next().filter(|id| !id.is_empty()) {
            assert_eq!(stage.redis.ask(&["HSET", &format!("{key}-deaths"), id, "3"]).trim(), "1");
        }
    }
}

/// Dead letters: of which event, and why.
fn letters(node: &Relay) -> Vec<(String, String)> {
    let letters = node.ask("GET", "/v1/dead-letters", "").2["letters"].take();
    let told = |letter: &Value, member: &str| letter[member].as_str().unwrap().to_owned();
    let letter = |letter: &Value| {
        assert_eq!(letter["attempts"], 0, "it was looked at");
        (told(letter, "event"), told(letter, "last_error"))
    };
    letters.as_array().unwrap().iter().map(letter).collect()
}

/// ```text
/// ghost        takes 1 ‖       takes 2 ‖
/// consumer                1 †            no place for 2 ──────── 1 is let go of ── 2 †
/// reader       live ──────────────────── reads no more ──────────────────────────── live
/// ```
#[tokio::test(flavor = "multi_thread")]
async fn what_no_process_survives_is_a_dead_letter_and_without_room_for_it_the_reader_waits() {
    let stage = Stage::new(1, &["dead_letters=1"]);
    let (relay, reader, consumer) = (stage.relay(), stage.start("read"), stage.start("consume"));
    stage.add_all(&relay);
    all_read(&[&reader], 1).await;
    is_taken_from(&consumer).await;
    let (keys, mut source) = (Keys::generate(), stage.sources[0].connect().await);
    let is_letter = |event: &Event| {
        let letters = letters(&relay);
        let [(id, why)] = &letters[..] else { return false };
        *id == event.id().to_hex() && why.contains("process after process has ended")
    };

    drop(consumer);
    let first = fresh(&keys, "first");
    assert!(source.publish(&first).await.0);
    taken_by_those_who_end(&stage).await;
    let consumer = stage.start("consume");
    eventually("it is a dead letter", || is_letter(&first)).await;
    assert_eq!(states(&reader), ["live"]);

    drop(consumer);
    let second = fresh(&keys, "second");
    assert!(source.publish(&second).await.0);
    taken_by_those_who_end(&stage).await;
    let consumer = stage.start("consume");
    eventually("its reader knows", || states(&reader) == ["dead_letters_full"]).await;
    assert!(is_letter(&first));
    // Whoever had no place for it: what another node lets go of is known there within a minute.
    let upstream = relay.ask("GET", "/v1/upstreams", "").2[0]["id"].take();
    let path = format!("/v1/dead-letters/{}/{}", upstream.as_str().unwrap(), first.id().to_hex());
    assert_eq!(consumer.ask("DELETE", &path, "").0, 204);
    eventually("it has its place", || is_letter(&second)).await;
    eventually("its reader knows that, too", || states(&reader) == ["live"]).await;

    let mut client = relay.connect().await;
    client.watch("s", serde_json::json!({"kinds": [1]})).await;
    let third = fresh(&keys, "third");
    assert!(source.publish(&third).await.0);
    assert_eq!(client.hear().await[2]["id"], third.id().to_hex());
    let view = || reader.ask("GET", "/v1/upstreams", "").2[0].take();
    eventually("all of them are finished", || view()["waiting"] == 0).await;
    let view = view();
    assert_eq!((&view["dead"], &view["stored"]), (&2.into(), &1.into()));
}
