//! What travels in a channel: an event, a watermark, or what a process says of itself.
//!
//! All numbers are big-endian. Neighbouring versions read each other: what is added goes where older programs
//! look past it, into the notes of an event and the fields of a card. Only what they must not look past gets
//! another version; that is not understood, which is a doubt, so that the log brings what it was.

use std::{borrow::Cow, fmt::Write as _};

use crate::{
    protocol::EventId,
    store::{
        Identity,
        log::{Origin, Sequence},
    },
};

/// Version of everything below.
const VERSION: u8 = 1;

const WITH_BODY: u8 = 1;
const EPHEMERAL: u8 = 2;

/// The note that names the store of the origin.
const STORE: &str = "store";

/// An event on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Envelope<'a> {
    pub origin: Origin,
    /// The batch that it was in; 0 for none.
    pub sequence: Sequence,
    /// Milliseconds since 1970, by the clock of the origin.
    pub published_at: u64,
    pub id: EventId,
    pub ephemeral: bool,
    /// W3C `traceparent` of the message that brought it, or empty.
    pub trace: Cow<'a, str>,
    /// Where the origin stores events. Programs before this one do not say.
    pub store: Option<Identity>,
    /// The event as it was admitted; `None` where it is to be fetched, as it is large or has many keys.
    pub body: Option<&'a str>,
}

/// Says that all of an origin up to a batch was published on this connection. One goes through every
/// primary every second. It has no room for more: see [`Card`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Watermark {
    pub origin: Origin,
    pub sequence: Sequence,
    /// Counts all batches that the origin did not publish. Where it has grown, something was missed.
    pub lost: u64,
    /// The origin shuts down in order, and no watermark follows.
    pub leaving: bool,
}

/// What a process says of itself, before each of its watermarks, through one primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Card {
    pub origin: Origin,
    pub store: Option<Identity>,
    /// What its clock reads, in milliseconds since 1970. Programs before this one do not say.
    pub at: Option<u64>,
    /// How long its clients wait for the store, beside the best, in hundredths. `None`: it has hardly any that write.
    pub waits: Option<u32>,
}

/// Says that a record has changed, and not what it holds now: whoever hears of it reads the record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordChange<'a> {
    pub origin: Origin,
    /// The kind of the record, by the name that stores write.
    pub kind: &'a str,
    pub key: &'a str,
    pub version: u64,
}

/// A field of a card: its number, the length of what it says in two bytes, and that.
type Field = u8;

const CARD_STORE: Field = 1;
const CARD_AT: Field = 2;
const CARD_WAITS: Field = 3;

const CHANGE_KIND: Field = 1;
const CHANGE_KEY: Field = 2;
const CHANGE_VERSION: Field = 3;

/// Why bytes are no envelope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum EnvelopeError {
    #[error("an envelope of version {0} is not understood")]
    Version(u8),
    #[error("an envelope is malformed")]
    Malformed,
}

impl<'a> Envelope<'a> {
    pub fn encode(&self) -> Vec<u8> {
        let notes = self.notes();
        let body = self.body.unwrap_or_default();
        let mut bytes = Vec::with_capacity(59 + notes.len() + body.len());
        bytes.push(VERSION);
        bytes.push(u8::from(self.body.is_some()) * WITH_BODY + u8::from(self.ephemeral) * EPHEMERAL);
        bytes.extend_from_slice(&self.origin.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.published_at.to_be_bytes());
        bytes.extend_from_slice(&self.id.0);
        bytes.push(notes.len() as u8);
        bytes.extend_from_slice(notes.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        bytes
    }

    /// `<traceparent>;<name>=<value>;…`. Programs that know no notes take it all for a trace that they can
    /// not read, and go on without.
    fn notes(&self) -> String {
        /// A traceparent has 55 bytes; what is longer is none.
        const TRACE: usize = 64;
        let mut notes = String::from(if self.trace.len() <= TRACE { &*self.trace } else { "" });
        if let Some(store) = self.store {
            // Writing to a string has no way to fail.
            let _ = write!(notes, ";{STORE}={store}");
        }
        debug_assert!(notes.len() <= usize::from(u8::MAX));
        notes
    }

    /// # Errors
    /// When the bytes are of another version, or cut short.
    pub fn decode(bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (&version, rest) = bytes.split_first().ok_or(EnvelopeError::Malformed)?;
        if version != VERSION {
            return Err(EnvelopeError::Version(version));
        }
        Self::read(rest).ok_or(EnvelopeError::Malformed)
    }

    fn read(bytes: &'a [u8]) -> Option<Self> {
        let (&flags, rest) = bytes.split_first()?;
        let (origin, rest) = number(rest)?;
        let (sequence, rest) = number(rest)?;
        let (published_at, rest) = number(rest)?;
        let (id, rest) = rest.split_first_chunk::<32>()?;
        let (&length, rest) = rest.split_first()?;
        let (notes, body) = rest.split_at_checked(usize::from(length))?;
        let mut notes = std::str::from_utf8(notes).ok()?.split(';');
        let trace = notes.next().unwrap_or_default();
        // Those of other names are for later programs.
        let store = notes.filter_map(|note| note.split_once('=')).find(|(name, _)| *name == STORE);
        Some(Self {
            origin,
            sequence,
            published_at,
            id: EventId(*id),
            ephemeral: flags & EPHEMERAL != 0,
            trace: Cow::Borrowed(trace),
            store: store.and_then(|(_, text)| text.parse().ok()),
            body: match flags & WITH_BODY {
                0 => None,
                _ => Some(std::str::from_utf8(body).ok()?),
            },
        })
    }
}

impl Watermark {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.leaving)];
        for number in [self.origin, self.sequence, self.lost] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// `None` where the bytes are no watermark of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, leaving, rest @ ..] = bytes else { return None };
        let (origin, rest) = number(rest)?;
        let (sequence, rest) = number(rest)?;
        let (lost, rest) = number(rest)?;
        rest.is_empty().then_some(Self { origin, sequence, lost, leaving: *leaving != 0 })
    }
}

impl Card {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.origin.to_be_bytes());
        if let Some(store) = self.store {
            field(&mut bytes, CARD_STORE, store.to_string().as_bytes());
        }
        if let Some(at) = self.at {
            field(&mut bytes, CARD_AT, &at.to_be_bytes());
        }
        if let Some(waits) = self.waits {
            field(&mut bytes, CARD_WAITS, &waits.to_be_bytes());
        }
        bytes
    }

    /// `None` where the bytes are no card of this version. Fields of other numbers are for later programs.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, rest @ ..] = bytes else { return None };
        let (origin, fields) = number(rest)?;
        let mut card = Self { origin, store: None, at: None, waits: None };
        read_fields(fields, |field, says| {
            match field {
                CARD_STORE => card.store = std::str::from_utf8(says).ok()?.parse().ok(),
                CARD_AT => card.at = says.try_into().ok().map(u64::from_be_bytes),
                CARD_WAITS => card.waits = says.try_into().ok().map(u32::from_be_bytes),
                _ => {}
            }
            Some(())
        })?;
        Some(card)
    }
}

impl<'a> RecordChange<'a> {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&self.origin.to_be_bytes());
        field(&mut bytes, CHANGE_KIND, self.kind.as_bytes());
        field(&mut bytes, CHANGE_KEY, self.key.as_bytes());
        field(&mut bytes, CHANGE_VERSION, &self.version.to_be_bytes());
        bytes
    }

    /// `None` where the bytes are none of this version. Fields of other numbers are for later programs.
    pub fn decode(bytes: &'a [u8]) -> Option<Self> {
        let [VERSION, rest @ ..] = bytes else { return None };
        let (origin, fields) = number(rest)?;
        let mut change = Self { origin, kind: "", key: "", version: 0 };
        read_fields(fields, |field, says| {
            match field {
                CHANGE_KIND => change.kind = std::str::from_utf8(says).ok()?,
                CHANGE_KEY => change.key = std::str::from_utf8(says).ok()?,
                CHANGE_VERSION => change.version = says.try_into().ok().map(u64::from_be_bytes)?,
                _ => {}
            }
            Some(())
        })?;
        Some(change)
    }
}

/// Hands each field on, with what it says. `None` where one is cut short, or can not be what it is taken for.
fn read_fields<'a>(mut bytes: &'a [u8], mut take: impl FnMut(Field, &'a [u8]) -> Option<()>) -> Option<()> {
    while let Some((&field, after)) = bytes.split_first() {
        let (length, after) = after.split_first_chunk::<2>()?;
        let (says, after) = after.split_at_checked(usize::from(u16::from_be_bytes(*length)))?;
        take(field, says)?;
        bytes = after;
    }
    Some(())
}

fn field(bytes: &mut Vec<u8>, field: Field, says: &[u8]) {
    bytes.push(field);
    bytes.extend_from_slice(&(says.len() as u16).to_be_bytes());
    bytes.extend_from_slice(says);
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: Envelope<'static> = Envelope {
        origin: 1 << 60,
        sequence: 7,
        published_at: 1_700_000_000_123,
        id: EventId([9; 32]),
        ephemeral: false,
        trace: Cow::Borrowed("00-ab-cd-01"),
        store: Some(Identity::Shared(5)),
        body: Some("{\"é\":1}"),
    };

    #[test]
    fn envelopes_come_back_whole_or_not_at_all() {
        let own = Some(Identity::Own(u64::MAX));
        for envelope in [
            EVENT,
            Envelope { body: None, ephemeral: true, trace: "".into(), store: None, ..EVENT },
            Envelope { trace: "".into(), store: own, ..EVENT },
        ] {
            let bytes = envelope.encode();
            assert_eq!(Envelope::decode(&bytes), Ok(envelope));
            for end in 0..59 {
                assert!(Envelope::decode(&bytes[..end]).is_err(), "{end}");
            }
        }
        let long = "x".repeat(1_000);
        let bytes = Envelope { trace: long.into(), ..EVENT }.encode();
        assert_eq!(Envelope::decode(&bytes), Ok(Envelope { trace: "".into(), ..EVENT }));
        assert_eq!(Envelope::decode(&[2; 100]), Err(EnvelopeError::Version(2)));
    }

    #[test]
    fn watermarks_come_back() {
        let watermark = Watermark { origin: 5, sequence: u64::MAX, lost: 3, leaving: true };
        assert_eq!(Watermark::decode(&watermark.encode()), Some(watermark));
        assert_eq!(Watermark::decode(&watermark.encode()[..25]), None);
    }

    #[test]
    fn cards_come_back_and_may_say_more() {
        for store in [None, Some(Identity::Shared(3)), Some(Identity::Own(0))] {
            let card =
                Card { origin: 5, store, at: store.map(|_| 1_700_000_000_123), waits: store.map(|_| 250) };
            let mut bytes = card.encode();
            assert_eq!(Card::decode(&bytes), Some(card));
            field(&mut bytes, 200, b"of a later version");
            assert_eq!(Card::decode(&bytes), Some(card));
            assert_eq!(Card::decode(&bytes[..bytes.len() - 1]), None);
        }
    }

    #[test]
    fn changes_come_back_and_may_say_more() {
        let change = RecordChange { origin: 5, kind: "setting", key: "live", version: 7 };
        let mut bytes = change.encode();
        assert_eq!(RecordChange::decode(&bytes), Some(change));
        field(&mut bytes, 200, b"of a later version");
        assert_eq!(RecordChange::decode(&bytes), Some(change));
        assert_eq!(RecordChange::decode(&bytes[..bytes.len() - 1]), None);
        assert_eq!(RecordChange::decode(&[2; 9]), None);
    }

    /// The version before notes and cards: what it sent is read, and it reads what is sent now.
    mod before {
        use super::*;

        fn hex(text: &str) -> Vec<u8> {
            hex::decode(text.replace([' ', '\n'], "")).unwrap()
        }

        /// As it read an envelope: flags, origin, sequence, time, id, trace, body.
        fn read(bytes: &[u8]) -> (u8, u64, u64, u64, &[u8], &str, &str) {
            assert_eq!(bytes[0], 1);
            let number = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().unwrap());
            let (trace, body) = bytes[59..].split_at(bytes[58].into());
            let text = |bytes| std::str::from_utf8(bytes).unwrap();
            (bytes[1], number(2), number(10), number(18), &bytes[26..58], text(trace), text(body))
        }

        #[test]
        fn what_it_sent_is_read() {
            let whole = hex("01 01 1000000000000000 0000000000000007 0000018bcfe5687b
                 0909090909090909090909090909090909090909090909090909090909090909
                 0b 30302d61622d63642d3031 7b22c3a9223a317d");
            assert_eq!(Envelope::decode(&whole), Ok(Envelope { store: None, ..EVENT }));
            let watermark = hex("01 00 0000000000000005 0000000000000009 0000000000000001");
            let expected = Watermark { origin: 5, sequence: 9, lost: 1, leaving: false };
            assert_eq!(Watermark::decode(&watermark), Some(expected));
            // It wants it so, to the byte.
            assert_eq!(expected.encode(), watermark);
        }

        #[test]
        fn it_reads_what_is_sent() {
            let bytes = EVENT.encode();
            let (flags, origin, sequence, published_at, id, trace, body) = read(&bytes);
            assert_eq!((flags, origin, sequence, published_at), (1, 1 << 60, 7, 1_700_000_000_123));
            assert_eq!((id, body), (&[9; 32][..], EVENT.body.unwrap()));
            // To it that is no traceparent, as none is.
            assert_eq!(crate::trace::Context::parse(trace), None);
            assert_eq!(read(&Envelope { body: None, ..EVENT }.encode()).0, 0);
        }
    }
}
