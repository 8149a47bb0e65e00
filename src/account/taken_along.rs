//! The key of an account as its holder takes it along: encrypted under another password (NIP-49).

use chacha20poly1305::{
    KeyInit, XChaCha20Poly1305, XNonce,
    aead::{Aead, Payload},
};
use unicode_normalization::UnicodeNormalization;
use zeroize::Zeroizing;

use crate::protocol::nip19;

const VERSION: u8 = 2;
/// scrypt works on 2^16 blocks of 1 KiB: 64 MiB, and about a fifth of a second.
const LOG_N: u8 = 16;
const BLOCK: u32 = 8;
const LANES: u32 = 1;
/// Whether the key was ever somewhere without a password: this relay does not say.
const NOT_TRACKED: u8 = 2;

const SALT_BYTES: usize = 16;
const NONCE_BYTES: usize = 24;
const KEY_BYTES: usize = 32;

/// `ncryptsec1…` of a secret key. It takes as long as hashing a password does, and more memory.
pub fn encrypt(secret: &[u8; KEY_BYTES], password: &str) -> Option<String> {
    let (salt, nonce): ([u8; SALT_BYTES], [u8; NONCE_BYTES]) = (rand::random(), rand::random());
    let key = derived(password, &salt, LOG_N)?;
    let cipher = XChaCha20Poly1305::new(&(*key).into());
    let about = [NOT_TRACKED];
    let text = cipher.encrypt(&XNonce::from(nonce), Payload { msg: secret, aad: &about }).ok()?;
    let bytes = [&[VERSION, LOG_N], &salt[..], &nonce, &about, &text].concat();
    Some(nip19::ncryptsec(&bytes))
}

/// The same characters, however they were typed, are the same password.
fn derived(password: &str, salt: &[u8], log_n: u8) -> Option<Zeroizing<[u8; KEY_BYTES]>> {
    let password = Zeroizing::new(password.nfkc().collect::<String>());
    let params = scrypt::Params::new(log_n, BLOCK, LANES).ok()?;
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    scrypt::scrypt(password.as_bytes(), salt, &params, &mut *key).ok()?;
    Some(key)
}

#[cfg(test)]
mod tests {
    use bech32::{Bech32, primitives::decode::CheckedHrpstring};

    use super::*;

    fn decrypt(text: &str, password: &str) -> Option<Vec<u8>> {
        let bytes: Vec<u8> = CheckedHrpstring::new::<Bech32>(text).unwrap().byte_iter().collect();
        let (head, rest) = bytes.split_at(2);
        let (salt, rest) = rest.split_at(SALT_BYTES);
        let (nonce, rest) = rest.split_at(NONCE_BYTES);
        let (about, text) = rest.split_at(1);
        assert_eq!(head[0], VERSION);
        let cipher = XChaCha20Poly1305::new(&(*derived(password, salt, head[1])?).into());
        let nonce = XNonce::from(<[u8; NONCE_BYTES]>::try_from(nonce).unwrap());
        cipher.decrypt(&nonce, Payload { msg: text, aad: about }).ok()
    }

    /// The example of NIP-49.
    #[test]
    fn the_example_is_understood() {
        const TEXT: &str = "ncryptsec1qgg9947rlpvqu76pj5ecreduf9jxhselq2nae2kghhvd5g7dgjtcxfqtd67p9m0w57lspw8gsq6yphnm8623\
                            nsl8xn9j4jdzz84zm3frztj3z7s35vpzmqf6ksu8r89qk5z2zxfmu5gv8th8wclt0h4p";
        let secret = decrypt(TEXT, "nostr").unwrap();
        assert_eq!(hex::encode(secret), "3501454135014541350145413501453fefb02227e449e57cf4d3a3ce05378683");
        assert_eq!(decrypt(TEXT, "Nostr"), None);
    }

    #[test]
    fn what_is_encrypted_opens_by_its_password_alone() {
        let text = encrypt(&[7; KEY_BYTES], "Ångström and a half").unwrap();
        assert!(text.starts_with("ncryptsec1"));
        // Typed by a letter and a mark.
        assert_eq!(decrypt(&text, "A\u{30a}ngstro\u{308}m and a half").unwrap(), [7; KEY_BYTES]);
        assert_eq!(decrypt(&text, "angstrom and a half"), None);
        assert_ne!(encrypt(&[7; KEY_BYTES], "Ångström and a half").unwrap(), text);
    }
}
