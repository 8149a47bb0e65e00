//! What travels in a channel: an event, or a fence.
//!
//! All numbers are big-endian. An envelope of another version is not understood, and counted.

use std::borrow::Cow;

use crate::{
    protocol::EventId,
    store::log::{Origin, Sequence},
};

/// Version of everything below.
const VERSION: u8 = 1;

const WITH_BODY: u8 = 1;
const EPHEMERAL: u8 = 2;

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
    /// The event as it was admitted; `None` where it is to be fetched, as it is large or has many keys.
    pub body: Option<&'a str>,
}

/// Says that all of an origin up to a batch was published on this connection. One goes through every
/// primary every second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fence {
    pub origin: Origin,
    pub sequence: Sequence,
    /// Batches that the origin did not publish, ever. More of them than before: something was missed.
    pub lost: u64,
    /// The origin shuts down in order, and no fence follows.
    pub leaving: bool,
}

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
        let body = self.body.unwrap_or_default();
        let mut bytes = Vec::with_capacity(59 + self.trace.len() + body.len());
        bytes.push(VERSION);
        bytes.push(u8::from(self.body.is_some()) * WITH_BODY + u8::from(self.ephemeral) * EPHEMERAL);
        bytes.extend_from_slice(&self.origin.to_be_bytes());
        bytes.extend_from_slice(&self.sequence.to_be_bytes());
        bytes.extend_from_slice(&self.published_at.to_be_bytes());
        bytes.extend_from_slice(&self.id.0);
        // A traceparent has 55 bytes; what is longer is none.
        let trace = if self.trace.len() <= usize::from(u8::MAX) { &*self.trace } else { "" };
        bytes.push(trace.len() as u8);
        bytes.extend_from_slice(trace.as_bytes());
        bytes.extend_from_slice(body.as_bytes());
        bytes
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
        let (trace, body) = rest.split_at_checked(usize::from(length))?;
        Some(Self {
            origin,
            sequence,
            published_at,
            id: EventId(*id),
            ephemeral: flags & EPHEMERAL != 0,
            trace: Cow::Borrowed(std::str::from_utf8(trace).ok()?),
            body: match flags & WITH_BODY {
                0 => None,
                _ => Some(std::str::from_utf8(body).ok()?),
            },
        })
    }
}

impl Fence {
    pub fn encode(self) -> Vec<u8> {
        let mut bytes = vec![VERSION, u8::from(self.leaving)];
        for number in [self.origin, self.sequence, self.lost] {
            bytes.extend_from_slice(&number.to_be_bytes());
        }
        bytes
    }

    /// `None` where the bytes are no fence of this version.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let [VERSION, leaving, rest @ ..] = bytes else { return None };
        let (origin, rest) = number(rest)?;
        let (sequence, rest) = number(rest)?;
        let (lost, rest) = number(rest)?;
        rest.is_empty().then_some(Self { origin, sequence, lost, leaving: *leaving != 0 })
    }
}

fn number(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (number, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_be_bytes(*number), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn envelopes_come_back_whole_or_not_at_all() {
        for (body, ephemeral, trace) in [(Some("{\"é\":1}"), false, "00-ab-cd-01"), (None, true, "")] {
            let envelope = Envelope {
                origin: 1 << 60,
                sequence: 7,
                published_at: 1_700_000_000_123,
                id: EventId([9; 32]),
                ephemeral,
                trace: trace.into(),
                body,
            };
            let bytes = envelope.encode();
            assert_eq!(Envelope::decode(&bytes), Ok(envelope));
            for end in 0..59 {
                assert!(Envelope::decode(&bytes[..end]).is_err(), "{end}");
            }
        }
        assert_eq!(Envelope::decode(&[2; 100]), Err(EnvelopeError::Version(2)));
    }

    #[test]
    fn fences_come_back() {
        let fence = Fence { origin: 5, sequence: u64::MAX, lost: 3, leaving: true };
        assert_eq!(Fence::decode(&fence.encode()), Some(fence));
        assert_eq!(Fence::decode(&fence.encode()[..25]), None);
    }
}
