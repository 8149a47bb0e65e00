//! Any text as a message of a client: nothing panics, what is understood comes back as it was from
//! its own JSON, and what is not gets an answer that is JSON.

#![no_main]

use std::{cell::RefCell, num::NonZeroUsize};

use libfuzzer_sys::fuzz_target;
use rookery::{
    config::Limits,
    ingest::Policy,
    protocol::{
        ClientMessage, EventId, Fields, Filter, Malformed, ParsedEvent, Reason, RelayMessage, Viewer,
        addressee::Addressee,
        event::Address,
        hll::HyperLogLog,
        negentropy::{Filling, Key, MIN_FRAME_BYTES},
        verify::Verifier,
    },
    route::key::{cover, keys},
};
use serde_json::{from_str, to_string};

fuzz_target!(|bytes: &[u8]| {
    read_addressee(bytes);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match ClientMessage::parse(text) {
        Ok(ClientMessage::Event(event) | ClientMessage::Auth(event)) => read_event(event),
        Ok(ClientMessage::Req { id, filters } | ClientMessage::Count { id, filters }) => {
            assert!((1..=64).contains(&id.chars().count()));
            filters.iter().for_each(read_filter);
        }
        Ok(ClientMessage::NegOpen { filter, message, .. }) => {
            read_filter(&filter);
            read_negentropy(&message);
        }
        Ok(ClientMessage::NegMsg { message, .. }) => read_negentropy(&message),
        Ok(ClientMessage::Close { .. } | ClientMessage::NegClose { .. }) => {}
        Err(malformed) => {
            let answer = match malformed {
                Malformed::Event(id, reason) => RelayMessage::Ok { id: &id, result: Err(reason) }.to_string(),
                Malformed::Negentropy(id, reason) => {
                    RelayMessage::NegErr { subscription: &id, reason: &reason, most: None }.to_string()
                }
                Malformed::Subscription(id, reason) | Malformed::Count(id, reason) => {
                    RelayMessage::Closed { subscription: &id, reason: &reason }.to_string()
                }
                Malformed::Unknown(reason) => RelayMessage::Notice(&reason.to_string()).to_string(),
            };
            assert!(from_str::<serde_json::Value>(&answer).is_ok_and(|answer| answer.is_array()), "{answer}");
        }
    }
});

/// Whom a message is about that is not read: the same, however it comes in pieces.
fn read_addressee(bytes: &[u8]) {
    let addressee = |cut: usize| {
        let mut addressee = Addressee::default();
        let (begin, end) = bytes.split_at(cut);
        addressee.see(begin);
        addressee.see(end);
        format!("{:?}", addressee.answer(Reason::invalid("")))
    };
    let whole = addressee(0);
    for cut in [bytes.len() / 3, bytes.len() / 2] {
        assert_eq!(addressee(cut), whole);
    }
}

fn read_event(parsed: ParsedEvent<'_>) {
    thread_local! {
        static VERIFIER: RefCell<Verifier> = RefCell::new(Verifier::new(NonZeroUsize::MIN));
    }
    let json = to_string(&parsed).unwrap();
    let again: ParsedEvent = from_str(&json).unwrap();
    assert_eq!(again, parsed);
    let hashed = parsed.serialise().hashed;
    assert_eq!(again.serialise().hashed, hashed);
    let fields = (0, parsed.pubkey, parsed.created_at, parsed.kind, &parsed.tags, &parsed.content);
    assert_eq!(hashed, to_string(&fields).unwrap().into_bytes());

    let limits = Limits { min_pow_difficulty: 1, ..Limits::default() };
    let policy = Policy::new(&limits, None);
    let _ = policy.check(&parsed, &[parsed.pubkey], 1_700_000_000);
    let _ = VERIFIER.with_borrow_mut(|verifier| verifier.verify(parsed.clone()));

    let event = parsed.trust();
    assert_eq!(event.json(), json);
    let own = event.pubkey();
    assert!(event.is_visible_to(&Viewer::client([own])));
    assert_eq!(event.address_identifier().is_some(), {
        let value = format!("{}:{own}:", event.kind());
        Address::parse(&value).is_some()
    });
    let carried: Vec<_> = keys(&event).collect();
    let everything = Filter::default();
    assert!(everything.matches(&event) && cover(&everything).iter().any(|key| carried.contains(key)));
}

fn read_filter(filter: &Filter) {
    let json = to_string(filter).unwrap();
    assert_eq!(&from_str::<Filter>(&json).unwrap(), filter);
    assert_eq!(cover(filter).is_empty(), filter.is_never());
    assert!(cover(filter).len() <= filter.values().max(1));
    if let Some(hll) = HyperLogLog::for_filter(filter) {
        assert_eq!(hll.to_hex(), "00".repeat(256));
    }
}

/// What one side says to the other about a set, as the relay reads it and as a client does.
fn read_negentropy(message: &[u8]) {
    let mut filling = Filling::default();
    for n in (0..50).rev() {
        filling.push(Key { created_at: n, id: EventId([n as u8; 32]) });
    }
    let set = filling.finish();
    let _ = set.answer(message, MIN_FRAME_BYTES);
    let _ = set.go_on(message, MIN_FRAME_BYTES);
}
