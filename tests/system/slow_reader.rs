//! Clients that send and never read: they cost little, they are let go, and nobody else notices.

use std::{io::Write, time::Duration};

use common::{
    Client, Relay, eventually, note, now,
    raw::{FIN, PING, Raw, TEXT, frame, memory},
};
use rookery::protocol::{Event, sign::Keys};
use serde_json::json;
use socket2::SockRef;

const MIB: u64 = 1024 * 1024;

/// A client that takes as little as a kernel can be told to.
fn deaf(relay: &Relay) -> Raw {
    let raw = Raw::connect(relay.clients);
    SockRef::from(raw.stream()).set_recv_buffer_size(4096).unwrap();
    raw
}

/// Sends until the relay takes no more, or the bound is reached; whether it was reached.
fn send_until_stuck(raw: &mut Raw, bytes: &[u8], most: usize) -> bool {
    raw.stream().set_write_timeout(Some(Duration::from_millis(300))).unwrap();
    (0..most.div_ceil(bytes.len())).all(|_| raw.stream().write_all(bytes).is_ok())
}

fn events(keys: &Keys, count: usize, len: usize) -> Vec<Event> {
    let content = "x".repeat(len);
    let latest = now();
    (0..count).map(|n| note(keys, latest - n as u64, &content)).collect()
}

async fn publish_all(client: &mut Client, events: &[Event]) {
    for event in events {
        assert_eq!(client.publish(event).await, (true, String::new()));
    }
}

/// One of many subscribers does not read; events of that size are published until it is evicted.
async fn live(settings: &[&str], len: usize, most: usize) {
    let arguments: Vec<&str> =
        ["--workers", "1"].into_iter().chain(settings.iter().flat_map(|set| ["--set", set])).collect();
    let relay = Relay::start(&arguments);
    let (mut writer, mut healthy) = (relay.connect().await, relay.connect().await);
    let mut slow = deaf(&relay);
    slow.say(r#"["REQ","s",{"limit":0}]"#);
    assert_eq!(slow.hear(), json!(["EOSE", "s"]));
    healthy.request("h", &[json!({ "limit": 0 })]).await;
    let before = memory(relay.process.id(), "VmHWM");
    let keys = Keys::generate();
    let mut evicted = false;
    for event in events(&keys, most, len) {
        assert_eq!(writer.publish(&event).await, (true, String::new()));
        let live = healthy.hear().await;
        assert_eq!(live[2]["id"], event.id().to_hex());
        evicted = relay.metric("rookery_evictions_total") > 0.0;
        if evicted {
            break;
        }
    }
    assert!(evicted, "after {most} events of {len} bytes");
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 48 * MIB, "{grown} bytes for one that does not read");
    // It is cut off; the others are not, and its subscription is gone.
    eventually("its subscription is gone", || relay.metric("rookery_subscriptions") == 1.0).await;
    eventually("its socket is gone", || relay.metric("rookery_connections") == 2.0).await;
    drop(slow);
    let event = note(&keys, now(), "and on it goes");
    assert!(writer.publish(&event).await.0);
    assert_eq!(healthy.hear().await[2]["id"], event.id().to_hex());
    assert_eq!(relay.metric("rookery_evictions_total"), 1.0);
}

#[tokio::test]
async fn who_lags_by_too_many_bytes_is_evicted() {
    live(&["session.max_lag_bytes=2000000"], 100_000, 300).await;
}

#[tokio::test]
async fn who_lags_by_too_many_events_is_evicted() {
    live(&["session.mailbox=40", "session.window=20"], 20_000, 1_000).await;
}

#[tokio::test]
async fn huge_stored_answers_wait_in_the_store_for_those_who_do_not_read() {
    const DEAF: usize = 20;
    let relay = Relay::start(&["--workers", "1", "--set", "session.unacknowledged_seconds=2"]);
    let mut client = relay.connect().await;
    let events = events(&Keys::generate(), 100, 100_000);
    publish_all(&mut client, &events).await;
    let (all, _) = client.request("warm", &[json!({})]).await;
    assert_eq!(all.len(), events.len());
    client.say(json!(["CLOSE", "warm"])).await;
    let before = memory(relay.process.id(), "VmHWM");
    let asked: Vec<Raw> = (0..DEAF)
        .map(|_| {
            let mut raw = deaf(&relay);
            // Ten times ten megabytes each.
            let requests =
                (0..10).flat_map(|n| frame(FIN | TEXT, format!(r#"["REQ","{n}",{{}}]"#).as_bytes()));
            raw.send(&requests.collect::<Vec<u8>>());
            raw
        })
        .collect();
    // Meanwhile, and after them, the others are served.
    for n in 0..5 {
        let (all, _) = client.request(&n.to_string(), &[json!({ "limit": 50 })]).await;
        assert_eq!(all.len(), 50);
        client.say(json!(["CLOSE", n.to_string()])).await;
    }
    // Two gigabytes were asked for.
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 100 * MIB, "{grown} bytes for {DEAF} that do not read");
    // The kernel ends those who take nothing.
    eventually("they are let go", || relay.metric("rookery_connections") == 1.0).await;
    drop(asked);
    publish_all(&mut client, &[note(&Keys::generate(), now(), "still here")]).await;
}

#[tokio::test]
async fn who_only_asks_or_publishes_is_not_read_from_for_ever() {
    let relay = Relay::start(&["--workers", "1"]);
    let mut client = relay.connect().await;
    let event = note(&Keys::generate(), now(), &"y".repeat(200));
    publish_all(&mut client, std::slice::from_ref(&event)).await;
    let before = memory(relay.process.id(), "VmHWM");
    let message = |text: String| frame(FIN | TEXT, text.as_bytes());
    let floods = [
        ("REQ", message(r#"["REQ","s",{}]"#.into())),
        ("COUNT", message(r#"["COUNT","s",{}]"#.into())),
        ("EVENT", message(format!(r#"["EVENT",{}]"#, event.json()))),
        ("nonsense", message("[".into())),
        ("ping", frame(FIN | PING, &[b'p'; 125])),
    ];
    for (what, piece) in floods {
        let mut raw = deaf(&relay);
        let many = piece.repeat(100_000usize.div_ceil(piece.len()));
        let all = send_until_stuck(&mut raw, &many, 100_000_000);
        assert!(!all, "{what}: 100 MB were read of one who never reads");
        let again = client.publish(&event).await;
        assert!(again.0, "{what}: {again:?}");
    }
    let grown = memory(relay.process.id(), "VmHWM") - before;
    assert!(grown < 64 * MIB, "{grown} bytes for those who never read");
}
