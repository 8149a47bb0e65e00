//! What relays say to a client, nodes to each other, and people paste: nothing panics, and what is understood comes
//! back as it was from its own form.

#![no_main]

use libfuzzer_sys::fuzz_target;
use rookery::{
    bus::envelope::{Card, Envelope, Watermark},
    protocol::{
        Reply,
        nip19::{note, npub, nsec, read_event_id, read_public_key, read_secret},
        reply::prefix,
    },
};
use serde_json::{from_str, to_string};

/// Longest trace that an envelope carries on.
const MAX_TRACE: usize = 64;

fuzz_target!(|bytes: &[u8]| {
    read_bus(bytes);
    if let Ok(text) = std::str::from_utf8(bytes) {
        read_reply(text);
        read_names(text);
    }
});

fn read_bus(bytes: &[u8]) {
    if let Ok(envelope) = Envelope::decode(bytes)
        && envelope.trace.len() <= MAX_TRACE
    {
        assert_eq!(Envelope::decode(&envelope.encode()), Ok(envelope));
    }
    if let Some(watermark) = Watermark::decode(bytes) {
        assert_eq!(Watermark::decode(&watermark.encode()), Some(watermark));
    }
    if let Some(card) = Card::decode(bytes) {
        assert_eq!(Card::decode(&card.encode()), Some(card));
    }
}

fn read_reply(text: &str) {
    match Reply::parse(text) {
        Ok(Reply::Event { event: Ok(event), .. }) => {
            let json = to_string(&event).unwrap();
            assert_eq!(event.trust().json(), json);
        }
        Ok(Reply::Ok { reason, .. } | Reply::Closed { reason, .. }) => {
            assert!(reason.starts_with(prefix(&reason)));
        }
        // What is no JSON is no reply.
        Ok(_) => assert!(from_str::<serde_json::Value>(text).is_ok()),
        Err(_) => {}
    }
}

fn read_names(text: &str) {
    if let Ok(key) = read_public_key(text) {
        assert_eq!(read_public_key(&npub(&key)).ok(), Some(key));
    }
    if let Ok(id) = read_event_id(text) {
        assert_eq!(read_event_id(&note(&id)).ok(), Some(id));
    }
    if let Ok(secret) = read_secret(text) {
        assert_eq!(read_secret(&nsec(&secret)).ok(), Some(secret));
    }
}
