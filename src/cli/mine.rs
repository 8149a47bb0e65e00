//! Proof of work (NIP-13): finds the nonce that gives an event's id its leading zero bits.

use std::{
    num::NonZeroUsize,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};

use crate::protocol::{EventId, ParsedEvent, PublicKey, Tags, Timestamp, event::Signature};

/// What is to be mined: all that the id covers.
pub struct Draft<'a> {
    pub author: PublicKey,
    pub created_at: Timestamp,
    pub kind: u16,
    pub tags: Tags,
    pub content: &'a str,
}

impl Draft<'_> {
    /// The tags with a nonce, such that the id has `bits` leading zero bits. Takes all cores, and
    /// about 2^`bits` hashes.
    pub fn mine(&self, bits: u32) -> Tags {
        // The bytes before and after the nonce, found by where two serialisations differ.
        let (zero, one) = (self.serialise("0", bits), self.serialise("1", bits));
        let at = zero.iter().zip(&one).position(|(a, b)| a != b).unwrap_or_default();
        let (before, after) = (&zero[..at], &zero[at + 1..]);
        let start = Sha256::new_with_prefix(before);

        let threads = thread::available_parallelism().map_or(1, NonZeroUsize::get) as u64;
        let (done, found) = (AtomicBool::new(false), Mutex::new(0));
        thread::scope(|scope| {
            for first in 0..threads {
                let (start, done, found) = (&start, &done, &found);
                scope.spawn(move || {
                    for nonce in (first..).step_by(threads as usize) {
                        if done.load(Ordering::Relaxed) {
                            return;
                        }
                        let hash = start.clone().chain_update(nonce.to_string()).chain_update(after);
                        if leading_zeros(&hash.finalize()) >= bits {
                            done.store(true, Ordering::Relaxed);
                            *found.lock() = nonce;
                            return;
                        }
                    }
                });
            }
        });
        let nonce = found.into_inner();
        self.tags_with(&nonce.to_string(), bits)
    }

    fn tags_with(&self, nonce: &str, bits: u32) -> Tags {
        let mut tags = self.tags.clone();
        tags.push(["nonce", nonce, &bits.to_string()]);
        tags
    }

    fn serialise(&self, nonce: &str, bits: u32) -> Vec<u8> {
        let event = ParsedEvent {
            id: EventId([0; 32]),
            pubkey: self.author,
            created_at: self.created_at,
            kind: self.kind,
            tags: self.tags_with(nonce, bits),
            content: self.content.into(),
            sig: Signature([0; 64]),
        };
        event.serialise().hashed
    }
}

/// The difficulty of an id.
fn leading_zeros(hash: &[u8]) -> u32 {
    let zeros = hash.iter().take_while(|byte| **byte == 0).count();
    zeros as u32 * 8 + hash.get(zeros).map_or(0, |byte| byte.leading_zeros())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::sign::Keys;

    #[test]
    fn the_id_of_the_signed_event_has_the_bits() {
        let keys = Keys::generate();
        // A text that could be mistaken for the nonce.
        let content = r#"["nonce","0","10"]"#;
        let tags = Tags::from_iter([["t", content]]);
        let draft = Draft { author: keys.public_key(), created_at: 7, kind: 1, tags, content };
        let event = keys.sign(7, 1, draft.mine(10), content);
        assert!(leading_zeros(event.id().as_bytes()) >= 10, "{event:?}");
        assert_eq!(event.tags().len(), 2);
    }

    #[test]
    fn counts_bits() {
        assert_eq!(leading_zeros(&[0x00, 0x2f]), 10);
        assert_eq!(leading_zeros(&[0x80]), 0);
        assert_eq!(leading_zeros(&[0, 0]), 16);
    }
}
