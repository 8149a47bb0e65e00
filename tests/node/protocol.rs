//! Texts of any shape through the protocol: what is read is what is written, byte for byte.

use std::borrow::Cow;

use proptest::{collection::vec, option, prelude::*, sample::select};
use rookery::protocol::{
    ClientMessage, EventId, Filter, Malformed, ParsedEvent, PublicKey, Reason, RelayMessage, TagFilter, Tags,
    event::Signature, filter::sorted, hll::HyperLogLog, message::ok, sign::Keys, verify::Verifier,
};

/// Strings with what JSON escapes, what NIP-01 escapes otherwise, and what needs surrogates.
fn text() -> impl Strategy<Value = String> {
    let odd = prop_oneof![
        (0_u8..0x20).prop_map(char::from),
        select(&['"', '\\', '/', '\u{7f}', '\u{2028}', '\u{fffd}', '\u{ffff}', '😀', '\u{10ffff}', 'é'][..]),
        any::<char>(),
        prop::char::range('a', 'f'),
    ];
    prop_oneof![
        12 => vec(odd, 0..12).prop_map(String::from_iter),
        2 => "[0-9a-f]{64}",
        1 => select(&["\\u0007", "\\", "\\\\", "\",\"tags\":[", "[[\"e\",\"\"]]", "\u{feff}"][..]).prop_map(str::to_owned),
        1 => (100_usize..400).prop_map(|len| "é\"".repeat(len)),
    ]
}

fn tags() -> impl Strategy<Value = Tags> {
    let name = prop_oneof![
        select(&["e", "p", "t", "d", "Z", "", "-", "expiration"][..]).prop_map(str::to_owned),
        text()
    ];
    let tag = (option::weighted(0.9, name), vec(text(), 0..4));
    prop_oneof![
        9 => vec(tag, 0..6).prop_map(|tags| tags
            .into_iter()
            .map(|(name, rest)| name.into_iter().chain(rest).collect::<Vec<_>>())
            .collect()),
        1 => (100_usize..2_000).prop_map(|len| (0..len).map(|nth| ["p".to_owned(), nth.to_string()]).collect()),
    ]
}

fn number() -> impl Strategy<Value = u64> {
    prop_oneof![any::<u64>(), 0_u64..10, Just(u64::MAX), Just(1 << 53)]
}

fn event() -> impl Strategy<Value = ParsedEvent<'static>> {
    (any::<[u8; 32]>(), any::<[u8; 32]>(), number(), any::<u16>(), tags(), text(), any::<u8>()).prop_map(
        |(id, pubkey, created_at, kind, tags, content, sig)| ParsedEvent {
            id: EventId(id),
            pubkey: PublicKey(pubkey),
            created_at,
            kind,
            tags,
            content: Cow::Owned(content),
            sig: Signature([sig; 64]),
        },
    )
}

fn filter() -> impl Strategy<Value = Filter> {
    fn list<T: std::fmt::Debug + Ord>(
        element: impl Strategy<Value = T>,
    ) -> impl Strategy<Value = Option<Box<[T]>>> {
        option::of(vec(element, 0..5).prop_map(sorted))
    }
    let hex = any::<[u8; 32]>().prop_map(hex::encode);
    let tag = |letter: u8| move |values: Vec<String>| TagFilter::new(letter, values);
    let tags = (
        option::of(vec(text(), 0..5).prop_map(tag(b'Z'))),
        option::of(vec(hex, 0..5).prop_map(tag(b'e'))),
        option::of(vec(text(), 0..5).prop_map(tag(b't'))),
    );
    let ids = any::<[u8; 32]>();
    (
        list(ids.prop_map(EventId)),
        list(ids.prop_map(PublicKey)),
        list(any::<u16>()),
        tags,
        option::of(number()),
        option::of(number()),
        option::of(0_usize..9),
    )
        .prop_map(|(ids, authors, kinds, (upper, e, t), since, until, limit)| Filter {
            ids,
            authors,
            kinds,
            tags: [upper, e, t].into_iter().flatten().collect(),
            since,
            until,
            limit,
        })
}

/// Writes every character outside ASCII, and some inside, as `\uXXXX`: as some clients do.
fn escape_all(json: &str) -> String {
    let mut out = String::new();
    for c in json.chars() {
        match c {
            ' '..='~' => out.push(c),
            _ => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out += &format!("\\u{unit:04X}")),
        }
    }
    out
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn events_come_back_as_they_were(event in event()) {
        let json = serde_json::to_string(&event).unwrap();
        let canonical = event.clone().trust();
        prop_assert_eq!(canonical.json(), &json);
        prop_assert_eq!(&serde_json::from_str::<ParsedEvent>(&json).unwrap(), &event);

        let message = format!(" [ \"EVENT\",\n{} , 7]", escape_all(&json));
        let Ok(ClientMessage::Event(again)) = ClientMessage::parse(&message) else {
            panic!("{message}")
        };
        prop_assert_eq!(&again, &event);
        prop_assert_eq!(again.serialise().hashed, event.serialise().hashed);
    }

    #[test]
    fn what_is_hashed_is_the_json_of_nip_01(event in event()) {
        let hashed = String::from_utf8(event.serialise().hashed).unwrap();
        let fields = (0, event.pubkey, event.created_at, event.kind, &event.tags, &event.content);
        prop_assert_eq!(hashed, serde_json::to_string(&fields).unwrap());
    }

    #[test]
    fn what_is_signed_is_verified(tags in tags(), content in text(), created_at in number(), kind: u16) {
        let keys = Keys::from_secret([7; 32]).unwrap();
        let event = keys.sign(created_at, kind, tags, &content);
        let parsed = serde_json::from_str(event.json()).unwrap();
        prop_assert_eq!(Verifier::new(std::num::NonZeroUsize::MIN).verify(parsed), Ok(event));
    }

    #[test]
    fn filters_come_back_as_they_were(filter in filter(), id in "[^\u{0}]{1,64}") {
        let json = serde_json::to_string(&filter).unwrap();
        prop_assert_eq!(&serde_json::from_str::<Filter>(&json).unwrap(), &filter);

        let message = format!("[\"REQ\",{},{json},{}]", serde_json::json!(id), escape_all(&json));
        let Ok(ClientMessage::Req { id: again, filters }) = ClientMessage::parse(&message) else {
            panic!("{message}")
        };
        prop_assert_eq!(&*again, &id);
        prop_assert_eq!(&filters, &[filter.clone(), filter]);
    }

    #[test]
    fn any_text_has_an_answer(text in text()) {
        for text in [format!("[\"REQ\",{text}"), format!("[\"EVENT\",{{\"id\":\"{text}\"}}]"), text] {
            let Err(malformed) = ClientMessage::parse(&text) else { continue };
            let (Malformed::Event(_, reason)
            | Malformed::Subscription(_, reason)
            | Malformed::Count(_, reason)
            | Malformed::Negentropy(_, reason)
            | Malformed::Unknown(reason)) =
                malformed;
            let answer = RelayMessage::Notice(&reason.to_string()).to_string();
            prop_assert!(serde_json::from_str::<(String, String)>(&answer).is_ok());
        }
    }

    #[test]
    fn answers_are_json(id in text(), words in text()) {
        let reason = Reason::invalid(words.clone());
        let id_bytes = EventId([7; 32]);
        for (message, expected) in [
            (
                RelayMessage::Ok { id: &id, result: Err(reason.clone()) }.to_string(),
                serde_json::json!(["OK", id, false, format!("invalid: {words}")]),
            ),
            (ok(&id_bytes, Ok(None)), serde_json::json!(["OK", id_bytes, true, ""])),
            (
                RelayMessage::Closed { subscription: &id, reason: &reason }.to_string(),
                serde_json::json!(["CLOSED", id, format!("invalid: {words}")]),
            ),
            (RelayMessage::Notice(&words).to_string(), serde_json::json!(["NOTICE", words])),
        ] {
            prop_assert_eq!(serde_json::from_str::<serde_json::Value>(&message).unwrap(), expected);
        }
    }

    /// Registers do not depend on the order of authors, nor on how often one is counted, and each is
    /// the larger of what two halves say: so answers of several relays can be merged (NIP-45).
    #[test]
    fn registers_merge(authors in vec(any::<[u8; 32]>(), 0..200), zeros in 0_usize..8, cut: prop::sample::Index) {
        let filter: Filter = serde_json::from_str(r##"{"#t":["nostr"]}"##).unwrap();
        let count = |authors: &[PublicKey]| {
            let mut hll = HyperLogLog::for_filter(&filter).unwrap();
            authors.iter().for_each(|author| hll.add(author));
            hex::decode(hll.to_hex()).unwrap()
        };
        let mut authors: Vec<PublicKey> = authors.into_iter().map(PublicKey).collect();
        for author in authors.iter_mut().step_by(3) {
            author.0[20..20 + zeros].fill(0);
        }
        let whole = count(&authors);
        prop_assert_eq!(whole.len(), 256);
        let (one, other) = authors.split_at(cut.index(authors.len() + 1));
        let merged: Vec<u8> = count(one).iter().zip(count(other)).map(|(a, b)| *a.max(&b)).collect();
        prop_assert_eq!(&merged, &whole);
        authors.extend_from_within(..);
        authors.reverse();
        prop_assert_eq!(count(&authors), whole);
    }
}
