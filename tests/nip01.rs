//! NIP-01 from outside.

mod common;

use common::{Relay, note, now};
use rookery::protocol::sign::Keys;
use serde_json::json;

#[tokio::test]
async fn an_event_is_stored_found_and_seen_live() {
    let relay = Relay::start(&[]);
    let keys = Keys::generate();
    let (mut writer, mut reader) = (relay.connect().await, relay.connect().await);
    let filter = json!({ "authors": [keys.public_key()] });
    assert_eq!(reader.request("s", &[filter]).await, (vec![], Some("finish".into())));
    let event = note(&keys, now(), "hello");
    assert_eq!(writer.publish(&event).await, (true, String::new()));
    let live = reader.hear().await;
    assert_eq!(live[1], "s");
    assert_eq!(live[2].to_string().len(), event.json().len());
    assert_eq!(live[2]["id"], event.id().to_hex());
    let stored = writer.request("q", &[json!({ "ids": [event.id()] })]).await;
    assert_eq!(stored.0, [event.id().to_hex()]);
    let again = writer.publish(&event).await;
    assert!(again.0 && again.1.starts_with("duplicate: "), "{again:?}");
}
