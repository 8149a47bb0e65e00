//! Signs events: for the command line, the load generator and the tests. The relay itself never
//! signs.

use secp256k1::{Keypair, SecretKey};
use sha2::{Digest, Sha256};

use super::{Event, EventId, ParsedEvent, PublicKey, Tags, Timestamp, event::Signature};

/// A user's key pair.
#[derive(Clone)]
pub struct Keys {
    pair: Keypair,
}

impl Keys {
    /// A new pair from the operating system's randomness.
    pub fn generate() -> Self {
        loop {
            if let Some(keys) = Self::from_secret(rand::random()) {
                return keys;
            }
        }
    }

    /// The pair of a 32-byte secret; `None` for the few numbers that are no secret key.
    pub fn from_secret(secret: [u8; 32]) -> Option<Self> {
        let secret = SecretKey::from_secret_bytes(secret).ok()?;
        Some(Self { pair: Keypair::from_secret_key(&secret) })
    }

    pub fn secret(&self) -> [u8; 32] {
        self.pair.to_secret_bytes()
    }

    pub fn public_key(&self) -> PublicKey {
        PublicKey(self.pair.x_only_public_key().0.to_byte_array())
    }

    /// Builds and signs an event. Deterministic: the same input gives the same bytes.
    pub fn sign(&self, created_at: Timestamp, kind: u16, tags: Tags, content: &str) -> Event {
        let mut event = ParsedEvent {
            id: EventId([0; 32]),
            pubkey: self.public_key(),
            created_at,
            kind,
            tags,
            content: content.into(),
            sig: Signature([0; 64]),
        };
        let serialised = event.serialise();
        event.id = EventId(Sha256::digest(&serialised.hashed).into());
        event.sig = self.sign_id(&event.id);
        event.into_event(&serialised)
    }

    pub(super) fn sign_id(&self, id: &EventId) -> Signature {
        Signature(secp256k1::schnorr::sign_no_aux_rand(&id.0, &self.pair).to_byte_array())
    }
}
