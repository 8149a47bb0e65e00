//! Checks ids and signatures (NIP-01, BIP-340).

use std::num::NonZeroUsize;

use lru::LruCache;
use secp256k1::{XOnlyPublicKey, schnorr};
use sha2::{Digest, Sha256};

use super::{Event, EventId, ParsedEvent, PublicKey, event::Serialised};

/// Why an event is not what it claims to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    #[error("the id is not the SHA-256 of the event")]
    Id,
    #[error("the public key is no point on the curve")]
    PublicKey,
    #[error("the signature does not fit the event and its author")]
    Signature,
}

/// An event whose id is that of its content. Its signature is not checked yet.
pub struct Identified<'a> {
    parsed: ParsedEvent<'a>,
    serialised: Serialised,
}

impl Identified<'_> {
    pub fn id(&self) -> EventId {
        self.parsed.id
    }
}

impl<'a> ParsedEvent<'a> {
    /// Checks the id.
    pub fn identify(self) -> Result<Identified<'a>, VerifyError> {
        let serialised = self.serialise();
        let id = Sha256::digest(&serialised.hashed);
        match id[..] == self.id.0 || verbatim_controls_match(&serialised.hashed, &self.id.0) {
            true => Ok(Identified { parsed: self, serialised }),
            false => Err(VerifyError::Id),
        }
    }
}

/// Verifies events. Keeps the decoded keys of the authors last seen: decoding one is a tenth of the
/// cost of a verification.
pub struct Verifier {
    keys: LruCache<PublicKey, XOnlyPublicKey, foldhash::fast::RandomState>,
}

impl Verifier {
    /// `hot_authors`: how many decoded keys are kept, about 200 bytes each.
    pub fn new(hot_authors: NonZeroUsize) -> Self {
        Self { keys: LruCache::with_hasher(hot_authors, foldhash::fast::RandomState::default()) }
    }

    /// Checks the id, then the signature.
    pub fn verify(&mut self, parsed: ParsedEvent<'_>) -> Result<Event, VerifyError> {
        self.verify_signature(parsed.identify()?)
    }

    /// Checks the signature.
    pub fn verify_signature(&mut self, identified: Identified<'_>) -> Result<Event, VerifyError> {
        let Identified { parsed, serialised } = identified;
        self.check_signature(&parsed)?;
        Ok(parsed.into_event(&serialised))
    }

    fn check_signature(&mut self, parsed: &ParsedEvent<'_>) -> Result<(), VerifyError> {
        let key = self
            .keys
            .try_get_or_insert(parsed.pubkey, || XOnlyPublicKey::from_byte_array(parsed.pubkey.0))
            .map_err(|_| VerifyError::PublicKey)?;
        schnorr::verify(&schnorr::Signature::from_byte_array(parsed.sig.0), &parsed.id.0, key)
            .map_err(|_| VerifyError::Signature)
    }
}

/// NIP-01 lists seven escapes and wants every other character verbatim; JSON, and with it most
/// clients, writes the remaining control characters as `\u00xx`. Both readings are signed in the
/// wild, so an id that fits either is right.
fn verbatim_controls_match(hashed: &[u8], id: &[u8; 32]) -> bool {
    let mut verbatim = Vec::with_capacity(hashed.len());
    let mut rest = hashed;
    while let Some(at) = rest.iter().position(|&byte| byte == b'\\') {
        let (before, escape) = rest.split_at(at);
        verbatim.extend_from_slice(before);
        rest = match escape {
            [b'\\', b'u', b'0', b'0', high, low, after @ ..] => {
                let digit = |byte: u8| char::from(byte).to_digit(16).unwrap_or_default() as u8;
                verbatim.push(digit(*high) << 4 | digit(*low));
                after
            }
            [b'\\', escaped, after @ ..] => {
                verbatim.extend_from_slice(&[b'\\', *escaped]);
                after
            }
            _ => return false,
        };
    }
    if verbatim.is_empty() {
        return false;
    }
    verbatim.extend_from_slice(rest);
    verbatim.len() != hashed.len() && Sha256::digest(&verbatim)[..] == id[..]
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;
    use crate::protocol::sign::Keys;

    fn verifier() -> Verifier {
        Verifier::new(NonZeroUsize::MIN)
    }

    #[test]
    fn accepts_an_event_of_the_protocol_text() {
        // From NIP-13.
        let json = r#"{"id":"000006d8c378af1779d2feebc7603a125d99eca0ccf1085959b307f64e5dd358","pubkey":"a48380f4cfcc1ad5378294fcac36439770f9c878dd880ffa94bb74ea54a6f243","created_at":1651794653,"kind":1,"tags":[["nonce","776797","20"]],"content":"It's just me mining my own business","sig":"284622fc0a3f4f1303455d5175f7ba962a3300d136085b9566801bc2e0699de0c7e31e44c81fb40ad9049173742e904713c3594a1da0fc5d2382a25c11aba977"}"#;
        let event = verifier().verify(serde_json::from_str(json).unwrap()).unwrap();
        assert_eq!(event.json(), json);
    }

    #[test]
    fn refuses_each_forged_field() {
        let keys = Keys::generate();
        let json = keys.sign(5, 1, Default::default(), "hello").json().to_owned();
        let good: ParsedEvent = serde_json::from_str(&json).unwrap();
        assert!(verifier().verify(good.clone()).is_ok());
        let mut forged = good.clone();
        forged.created_at += 1;
        assert_eq!(verifier().verify(forged), Err(VerifyError::Id));
        let mut forged = good.clone();
        forged.sig.0[10] ^= 1;
        assert_eq!(verifier().verify(forged), Err(VerifyError::Signature));
        let mut forged = good.clone();
        forged.id = EventId([1; 32]);
        assert_eq!(verifier().verify(forged), Err(VerifyError::Id));
        let mut forged = good;
        forged.pubkey = PublicKey([255; 32]);
        forged.id = EventId(Sha256::digest(forged.serialise().hashed).into());
        assert_eq!(verifier().verify(forged), Err(VerifyError::PublicKey));
    }

    #[test]
    fn accepts_both_readings_of_control_characters() {
        let keys = Keys::generate();
        let content = "bell \u{7} and \\u0007 and \u{1f}\n";
        let escaped = keys.sign(5, 1, Default::default(), content);
        let parsed: ParsedEvent = serde_json::from_str(escaped.json()).unwrap();
        assert_eq!(parsed.content, Cow::Borrowed(content));
        assert!(verifier().verify(parsed.clone()).is_ok());

        let mut verbatim = parsed;
        let hashed = String::from_utf8(verbatim.serialise().hashed).unwrap();
        let hashed = hashed.replace(r"bell \u0007", "bell \u{7}").replace(r"\u001f", "\u{1f}");
        verbatim.id = EventId(Sha256::digest(hashed).into());
        verbatim.sig = keys.sign_id(&verbatim.id);
        let event = verifier().verify(verbatim).unwrap();
        assert!(serde_json::from_str::<ParsedEvent>(event.json()).is_ok());
    }
}
