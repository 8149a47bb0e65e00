//! How an event lies in the store: a fixed head that filters look at, where its indexed tag values
//! stand in the text, and the text that is sent. Read in place, never parsed again.

use crate::protocol::{Audience, Event, EventId, Fields, PublicKey, TagFilter, Tags, Timestamp};

/// Head: created_at, expiration (8 bytes each, 0 for none), length of the JSON, number of tags (4
/// each), kind (2), id and public key (32 each).
const HEAD: usize = 8 + 8 + 4 + 4 + 2 + 32 + 32;
/// A tag: its letter, start and length of its value in the text.
const TAG: usize = 1 + 4 + 4;

/// A record in the store's own memory.
#[derive(Clone, Copy)]
pub struct StoredEvent<'a> {
    id: EventId,
    pubkey: PublicKey,
    created_at: Timestamp,
    expiration: Timestamp,
    kind: u16,
    tags: &'a [u8],
    /// The JSON, then the values that are escaped in it.
    text: &'a [u8],
    json_len: usize,
}

/// Lays an event out.
pub fn encode(event: &Event) -> Vec<u8> {
    let json = event.json();
    let mut locator = Locator::new(json);
    let mut tags = Vec::new();
    let mut extra = String::new();
    let mut count = 0u32;
    for tag in event.tags().iter() {
        locator.begin_tag();
        let indexed = crate::protocol::tags::single_letter(tag.name());
        for (index, string) in tag.iter().enumerate() {
            let found = locator.string(string);
            let (Some(letter), 1) = (indexed, index) else { continue };
            let start = found.unwrap_or_else(|| {
                extra.push_str(string);
                json.len() + extra.len() - string.len()
            });
            tags.push(letter);
            tags.extend_from_slice(&(start as u32).to_le_bytes());
            tags.extend_from_slice(&(string.len() as u32).to_le_bytes());
            count += 1;
        }
        locator.end_tag();
    }
    let mut record = Vec::with_capacity(HEAD + tags.len() + json.len() + extra.len());
    record.extend_from_slice(&event.created_at().to_le_bytes());
    record.extend_from_slice(&event.expiration().unwrap_or_default().to_le_bytes());
    record.extend_from_slice(&(json.len() as u32).to_le_bytes());
    record.extend_from_slice(&count.to_le_bytes());
    record.extend_from_slice(&event.kind().to_le_bytes());
    record.extend_from_slice(&event.id().0);
    record.extend_from_slice(&event.pubkey().0);
    record.extend_from_slice(&tags);
    record.extend_from_slice(json.as_bytes());
    record.extend_from_slice(extra.as_bytes());
    record
}

/// Follows the tags through canonical JSON, to find where each string stands in it.
struct Locator<'a> {
    json: &'a str,
    at: usize,
}

impl<'a> Locator<'a> {
    fn new(json: &'a str) -> Self {
        const BEFORE: &str = ",\"tags\":[";
        // The fields before the tags are hexadecimal digits and numbers, so the first match is where they begin.
        Self { json, at: json.find(BEFORE).map_or(json.len(), |at| at + BEFORE.len()) }
    }

    fn begin_tag(&mut self) {
        self.at += 1;
    }

    /// Steps over the next string and its comma or bracket; `Some` where it stands unescaped.
    fn string(&mut self, string: &str) -> Option<usize> {
        let start = self.at + 1;
        let rest = self.json.get(start..).unwrap_or_default();
        let plain = rest.starts_with(string) && rest.as_bytes().get(string.len()) == Some(&b'"');
        let written = match plain {
            true => string.len() + 2,
            false => serde_json::to_string(string).map_or(0, |json| json.len()),
        };
        self.at += written + 1;
        plain.then_some(start)
    }

    fn end_tag(&mut self) {
        // The last string's step went over the bracket already, unless there was none.
        let ended = self.json.as_bytes().get(self.at - 1) == Some(&b']');
        self.at += if ended { 1 } else { 2 };
    }
}

impl<'a> StoredEvent<'a> {
    /// Reads a record; `None` for bytes that are none.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(HEAD)?;
        let json_len = u32::from_le_bytes(head[16..20].try_into().ok()?) as usize;
        let count = u32::from_le_bytes(head[20..24].try_into().ok()?) as usize;
        let (tags, text) = rest.split_at_checked(count.checked_mul(TAG)?)?;
        if text.len() < json_len {
            return None;
        }
        Some(Self {
            created_at: u64::from_le_bytes(head[..8].try_into().ok()?),
            expiration: u64::from_le_bytes(head[8..16].try_into().ok()?),
            kind: u16::from_le_bytes(head[24..26].try_into().ok()?),
            id: EventId(head[26..58].try_into().ok()?),
            pubkey: PublicKey(head[58..].try_into().ok()?),
            tags,
            text,
            json_len,
        })
    }

    pub fn json(&self) -> Option<&'a str> {
        std::str::from_utf8(&self.text[..self.json_len]).ok()
    }

    /// The indexed tags: letter and value.
    pub fn tags(&self) -> impl Iterator<Item = (u8, &'a str)> + use<'a> {
        let text = self.text;
        self.tags.chunks_exact(TAG).filter_map(move |tag| {
            let start = u32::from_le_bytes(tag[1..5].try_into().ok()?) as usize;
            let len = u32::from_le_bytes(tag[5..].try_into().ok()?) as usize;
            let value = text.get(start..start.checked_add(len)?)?;
            Some((tag[0], std::str::from_utf8(value).ok()?))
        })
    }
}

impl Fields for StoredEvent<'_> {
    fn id(&self) -> &EventId {
        &self.id
    }

    fn pubkey(&self) -> &PublicKey {
        &self.pubkey
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn has_tag(&self, tag: &TagFilter) -> bool {
        self.tags().any(|(letter, value)| letter == tag.letter() && tag.contains(value))
    }

    fn mentions(&self, keys: &[PublicKey]) -> bool {
        let names = |(letter, value)| {
            letter == b'p' && PublicKey::from_hex(value).is_some_and(|key| keys.contains(&key))
        };
        !keys.is_empty() && self.tags().any(names)
    }

    fn expiration(&self) -> Option<Timestamp> {
        (self.expiration != 0).then_some(self.expiration)
    }

    /// The tag has no letter, so it stands in the text alone. Asked of one kind, and only where it matters.
    fn audience(&self) -> Option<Audience> {
        #[derive(serde::Deserialize)]
        struct Tagged {
            tags: Tags,
        }
        Audience::of(&serde_json::from_str::<Tagged>(self.json()?).ok()?.tags)
    }
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;
    use crate::protocol::{ParsedEvent, Viewer, event::Signature, sign::Keys};

    /// A key in digits.
    const SEVENS: &str = "0707070707070707070707070707070707070707070707070707070707070707";

    #[test]
    fn holds_what_the_event_holds() {
        let long = "x".repeat(70_000);
        let tags = Tags::from_iter([
            vec!["e", "plain", "third"],
            vec![],
            vec!["t", "with \"quotes\" and \\ and \n"],
            vec!["t"],
            vec!["-"],
            vec!["d", ""],
            vec!["expiration", "77"],
            vec!["long", "no", "letter"],
            vec!["\"", "odd name"],
            vec!["é", "odd name"],
            vec!["Z", "\\"],
            vec!["q", "\\\""],
            vec!["r", &long],
            vec!["s", "ünïcödé \u{1}", "\u{2}"],
            vec!["x", ",\"tags\":["],
        ]);
        let event = Keys::generate().sign(123, 30_023, tags, "content \",\"tags\":[");
        let bytes = encode(&event);
        let record = StoredEvent::decode(&bytes).unwrap();
        assert_eq!(record.json(), Some(event.json()));
        assert_eq!(*record.id(), event.id());
        assert_eq!(*record.pubkey(), event.pubkey());
        assert_eq!((record.created_at(), record.kind()), (123, 30_023));
        assert_eq!(record.expiration(), Some(77));
        assert_eq!(record.tags().collect::<Vec<_>>(), event.tags().indexed().collect::<Vec<_>>());
        // A value that stands plainly in the JSON is not stored again.
        let extra = bytes.len() - HEAD - event.json().len() - event.tags().indexed().count() * TAG;
        let escaped = ["with \"quotes\" and \\ and \n", "\\", "\\\"", "ünïcödé \u{1}", ",\"tags\":["];
        assert_eq!(extra, escaped.iter().map(|value| value.len()).sum::<usize>());
    }

    #[test]
    fn refuses_bytes_that_are_none() {
        let bytes = encode(&Keys::generate().sign(1, 1, Tags::from_iter([["e", "x"]]), "x"));
        for len in 0..bytes.len() {
            assert!(StoredEvent::decode(&bytes[..len]).is_none(), "{len}");
        }
    }

    fn event() -> impl Strategy<Value = Event> {
        let texts = [
            "",
            "e",
            "t",
            "p",
            SEVENS,
            "Z",
            "expiration",
            "12",
            "audience",
            "friends",
            "\"",
            "\\",
            "\\\"",
            "\u{1}",
            ",\"tags\":[",
            "]]",
            "é",
            "😀",
        ];
        let text = prop_oneof![
            3 => select(texts.map(str::to_owned).to_vec()),
            1 => vec(select(texts.to_vec()), 2..5).prop_map(|texts| texts.concat()),
            1 => any::<String>(),
        ];
        let ids = (any::<[u8; 32]>(), any::<[u8; 32]>());
        (ids, any::<u64>(), any::<u16>(), vec(vec(text.clone(), 0..4), 0..6), text).prop_map(
            |((id, pubkey), created_at, kind, tags, content)| {
                let tags = Tags::from_iter(tags);
                let (id, pubkey, sig) = (EventId(id), PublicKey(pubkey), Signature([7; 64]));
                ParsedEvent { id, pubkey, created_at, kind, tags, content: content.into(), sig }.trust()
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn holds_any_event(event in event()) {
            let bytes = encode(&event);
            let record = StoredEvent::decode(&bytes).unwrap();
            prop_assert_eq!(record.json(), Some(event.json()));
            prop_assert_eq!((*record.id(), *record.pubkey()), (event.id(), event.pubkey()));
            prop_assert_eq!((record.created_at(), record.kind()), (event.created_at(), event.kind()));
            prop_assert_eq!(record.tags().collect::<Vec<_>>(), event.tags().indexed().collect::<Vec<_>>());
            prop_assert_eq!(record.expiration(), event.expiration());
            prop_assert_eq!(record.audience(), event.audience());
            let named = event.tags().indexed().filter_map(|(_, value)| PublicKey::from_hex(value));
            for key in named.chain([event.pubkey(), PublicKey([7; 32])]) {
                prop_assert_eq!(record.mentions(&[key]), event.mentions(&[key]));
            }
        }

        /// A disk that lies must not bring the relay down.
        #[test]
        fn damaged_bytes_do_not_panic(event in event(), at: prop::sample::Index, byte: u8) {
            let mut bytes = encode(&event);
            let at = at.index(bytes.len());
            bytes[at] = byte;
            if let Some(record) = StoredEvent::decode(&bytes) {
                record.json();
                record.tags().count();
                record.audience();
                record.is_visible_to(&Viewer::client([event.pubkey()]));
            }
        }
    }
}
