//! Tokens: what somebody shows who is signed in. A JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037).
//!
//! One algorithm is ever read, and the head of a token is never asked which: it has to be the very text that this node
//! writes, its key's id included.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

use super::session::SessionKey;
use crate::{
    protocol::{PublicKey, Timestamp, hex32::decode_lower_hex},
    seal::{MasterKey, MasterKeys},
};

/// Most bytes of a token. Ours have about 450.
const MAX_BYTES: usize = 2_048;

/// What the key of tokens is derived for.
const LABEL: &str = "token";

/// Makes and reads tokens.
pub struct Tokens {
    current: Signer,
    /// Those of master keys that this one takes the place of: what they have signed is good until it expires.
    others: Vec<Signer>,
    issuer: String,
    audience: String,
}

/// What signs tokens.
struct Signer {
    key: Ed25519KeyPair,
    /// As each of its tokens begins.
    head: String,
}

impl Signer {
    fn new(master: &MasterKey) -> anyhow::Result<Self> {
        let key = Ed25519KeyPair::from_seed_unchecked(&*master.derive(LABEL))
            .map_err(|_| anyhow::anyhow!("no key for tokens"))?;
        let head = Head { alg: "EdDSA", typ: "JWT", kid: master.id() };
        Ok(Self { key, head: BASE64.encode(serde_json::to_vec(&head)?) })
    }
}

/// A token as it is handed out, and until when it is good.
#[derive(Clone)]
pub struct Token {
    pub text: String,
    pub expires_at: Timestamp,
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Token").field("expires_at", &self.expires_at).finish_non_exhaustive()
    }
}

/// What a good token says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claimed {
    pub session: SessionKey,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

#[derive(Serialize)]
struct Head<'a> {
    alg: &'a str,
    typ: &'a str,
    kid: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Claims {
    iss: String,
    aud: String,
    sub: PublicKey,
    jti: String,
    iat: Timestamp,
    exp: Timestamp,
}

impl Tokens {
    /// Those of a store, for those who reach it by this URL.
    ///
    /// # Errors
    /// Cryptography fails.
    pub fn new(masters: &MasterKeys, issuer: String, audience: String) -> anyhow::Result<Self> {
        let current = Signer::new(masters.current())?;
        let others = masters.all().skip(1).map(Signer::new).collect::<anyhow::Result<_>>()?;
        Ok(Self { current, others, issuer, audience })
    }

    /// Makes one.
    pub fn make(&self, session: &SessionKey, now: Timestamp, expires_at: Timestamp) -> Token {
        let claims = Claims {
            iss: self.issuer.clone(),
            aud: self.audience.clone(),
            sub: session.account,
            jti: session.id(),
            iat: now,
            exp: expires_at,
        };
        let claims = serde_json::to_vec(&claims).unwrap_or_default();
        let signed = format!("{}.{}", self.current.head, BASE64.encode(claims));
        let signature = BASE64.encode(self.current.key.sign(signed.as_bytes()));
        Token { text: format!("{signed}.{signature}"), expires_at }
    }

    /// What a token says, if it is one of ours, for us, and has not expired. Whether its session has ended is another
    /// question.
    pub fn read(&self, token: &str, now: Timestamp) -> Option<Claimed> {
        if token.len() > MAX_BYTES {
            return None;
        }
        let (signed, signature) = token.rsplit_once('.')?;
        let (head, claims) = signed.split_once('.')?;
        let signer = std::iter::once(&self.current).chain(&self.others).find(|signer| signer.head == head)?;
        let signature = BASE64.decode(signature).ok()?;
        let key = UnparsedPublicKey::new(&ED25519, signer.key.public_key().as_ref());
        key.verify(signed.as_bytes(), &signature).ok()?;
        let claims: Claims = serde_json::from_slice(&BASE64.decode(claims).ok()?).ok()?;
        if claims.iss != self.issuer || claims.aud != self.audience || claims.exp <= now {
            return None;
        }
        let session = SessionKey { account: claims.sub, number: decode_lower_hex(&claims.jti)? };
        Some(Claimed { session, issued_at: claims.iat, expires_at: claims.exp })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(master: u8, issuer: &str, audience: &str) -> Tokens {
        let masters = MasterKeys::from(MasterKey::from([master; 32]));
        Tokens::new(&masters, issuer.to_owned(), audience.to_owned()).unwrap()
    }

    #[test]
    fn a_token_is_good_here_and_now_and_as_it_was_made() {
        let ours = tokens(1, "store", "wss://relay.example.com/");
        let session = SessionKey { account: PublicKey([7; 32]), number: [9; 16] };
        let token = ours.make(&session, 100, 200).text;
        let claimed = Claimed { session: session.clone(), issued_at: 100, expires_at: 200 };
        assert_eq!(ours.read(&token, 199), Some(claimed));
        assert_eq!(ours.read(&token, 200), None);
        for others in [
            tokens(2, "store", "wss://relay.example.com/"),
            tokens(1, "other", "wss://relay.example.com/"),
            tokens(1, "store", "wss://other.example.com/"),
        ] {
            assert_eq!(others.read(&token, 150), None);
            assert_eq!(ours.read(&others.make(&session, 100, 200).text, 150), None);
        }
        // Each character counts.
        for at in 0..token.len() {
            let mut changed = token.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            assert_eq!(ours.read(&String::from_utf8(changed).unwrap(), 150), None, "{at}");
        }
        for text in
            ["", ".", "..", "...", &format!("{token}."), &format!("{token}="), &"x".repeat(MAX_BYTES + 1)]
        {
            assert_eq!(ours.read(text, 150), None, "{text}");
        }
    }

    #[test]
    fn no_other_algorithm_is_read() {
        let ours = tokens(1, "store", "relay");
        let session = SessionKey { account: PublicKey([7; 32]), number: [9; 16] };
        let token = ours.make(&session, 100, 200).text;
        let parts: Vec<&str> = token.split('.').collect();
        for head in [
            r#"{"alg":"none","typ":"JWT"}"#.to_owned(),
            format!(r#"{{"alg":"none","typ":"JWT","kid":"{}"}}"#, MasterKey::from([1; 32]).id()),
            format!(r#"{{"alg":"HS256","typ":"JWT","kid":"{}"}}"#, MasterKey::from([1; 32]).id()),
        ] {
            let head = BASE64.encode(head);
            // As it would be right, were the public key taken for a secret one.
            let signed = format!("{head}.{}", parts[1]);
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, ours.current.key.public_key().as_ref());
            let forged = BASE64.encode(ring::hmac::sign(&key, signed.as_bytes()).as_ref());
            for signature in ["", parts[2], &forged] {
                assert_eq!(ours.read(&format!("{signed}.{signature}"), 150), None);
            }
        }
    }
}
