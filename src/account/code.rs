//! Codes that stand in links: whoever has one may do something once.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest, Sha256};

/// Bytes of a code that nobody guesses.
const CODE_BYTES: usize = 16;

/// A code that nobody guesses.
pub fn secret_code() -> String {
    BASE64.encode(rand::random::<[u8; CODE_BYTES]>())
}

/// What is kept of such a code.
pub fn digest(code: &str) -> String {
    hex::encode(Sha256::digest(code))
}
