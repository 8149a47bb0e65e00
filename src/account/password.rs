//! Passwords: which are taken, and what is kept of one.

use std::fmt;

use argon2::{Algorithm, Argon2, Params, Version};
use serde::{Deserialize, Deserializer, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::Name;

/// Fewest characters of a password.
const MIN_CHARS: usize = 10;

/// Fewest characters of one that a key is taken along with.
const MIN_KEY_CHARS: usize = 16;

/// Most bytes. Hashing must not cost more for what somebody sends.
pub const MAX_BYTES: usize = 1_024;

/// Those that are used most, of those that are long enough: from the list of Django (BSD), which is that of Royce
/// Williams.
const COMMON: &str = include_str!("common_passwords.txt");

const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// A password as somebody has typed it. It is never shown, and wiped when it is dropped.
#[derive(Clone)]
pub struct Password(Zeroizing<String>);

impl Password {
    /// Whether it may be hashed at all.
    pub fn is_short_enough(&self) -> bool {
        self.0.len() <= MAX_BYTES
    }

    /// Says what does not fit of a new one.
    ///
    /// # Errors
    /// In words for whoever has typed it.
    pub fn check(&self, of: &Name, may_be_weak: bool) -> Result<(), &'static str> {
        let text = self.0.as_str();
        if !self.is_short_enough() {
            return Err("a password has at most 1,024 bytes");
        }
        if text.chars().count() < MIN_CHARS {
            return Err("a password has at least 10 characters");
        }
        let lower = Zeroizing::new(text.to_lowercase());
        if !may_be_weak
            && (lower.as_str() == of.as_str() || COMMON.lines().any(|common| common == lower.as_str()))
        {
            return Err("this password is one of the first that others would try");
        }
        Ok(())
    }

    /// What does not fit of one that stands for a key wherever that is kept.
    ///
    /// # Errors
    /// In words for whoever has typed it.
    pub fn check_for_key(&self) -> Result<(), &'static str> {
        match self.0.chars().count() {
            _ if !self.is_short_enough() => Err("a password has at most 1,024 bytes"),
            ..MIN_KEY_CHARS => Err(
                "a password for a key has at least 16 characters: whoever has the text may guess for ever",
            ),
            _ => Ok(()),
        }
    }

    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    pub fn is(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

impl From<String> for Password {
    fn from(text: String) -> Self {
        Self(Zeroizing::new(text))
    }
}

impl<'de> Deserialize<'de> for Password {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::from)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password")
    }
}

/// What is kept of a password: an Argon2id hash, and what it was made with.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordHash {
    /// KiB of memory.
    memory: u32,
    passes: u32,
    lanes: u32,
    salt: String,
    hash: String,
}

impl fmt::Debug for PasswordHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PasswordHash")
    }
}

impl PasswordHash {
    /// What passwords are hashed with today.
    const MEMORY: u32 = 19 * 1024;
    const PASSES: u32 = 2;
    const LANES: u32 = 1;

    /// Hashes a password, which takes a core for tens of milliseconds. `None`: there is no memory for it.
    pub fn of(password: &Password) -> Option<Self> {
        let salt: [u8; SALT_BYTES] = rand::random();
        let mut made = Self { salt: hex::encode(salt), ..Self::nobody() };
        made.hash = hex::encode(made.digest(password)?);
        Some(made)
    }

    /// A hash that no password has: comparing with it takes as long as with another one.
    pub fn nobody() -> Self {
        let (memory, passes, lanes) = (Self::MEMORY, Self::PASSES, Self::LANES);
        Self { memory, passes, lanes, salt: "00".repeat(SALT_BYTES), hash: String::new() }
    }

    /// Whether it is that of the password. It takes as long as hashing, whatever the password. `None`: there is no memory
    /// for it, or the record holds no hash.
    pub fn is_of(&self, password: &Password) -> Option<bool> {
        let digest = self.digest(password)?;
        // Comparing digests of digests takes as long whatever they are.
        Some(Sha256::digest(hex::encode(digest)) == Sha256::digest(&self.hash))
    }

    fn digest(&self, password: &Password) -> Option<[u8; HASH_BYTES]> {
        let params = Params::new(self.memory, self.passes, self.lanes, Some(HASH_BYTES)).ok()?;
        let salt = hex::decode(&self.salt).ok()?;
        let mut hash = [0; HASH_BYTES];
        let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
        argon2.hash_password_into(password.0.as_bytes(), &salt, &mut hash).ok()?;
        Some(hash)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(text: &str) -> Password {
        Password::from(text.to_owned())
    }

    #[test]
    fn what_others_would_try_first_is_no_password() {
        let quill = Name::parse("quill-the-writer").unwrap();
        for text in ["short", "1234567890", "QwertyUiop", "quill-the-writer", &"x".repeat(MAX_BYTES + 1)] {
            assert!(password(text).check(&quill, false).is_err(), "{text}");
        }
        for text in ["three rooks on a wire", "пароль из слов", &"xy".repeat(MAX_BYTES / 2)] {
            assert_eq!(password(text).check(&quill, false), Ok(()), "{text}");
        }
        assert_eq!(password("1234567890").check(&quill, true), Ok(()));
        assert!(password("123456789").check(&quill, true).is_err());
        assert_eq!(format!("{:?}", password("secret")), "Password");
    }

    #[test]
    fn a_hash_is_of_one_password() {
        let hash = PasswordHash::of(&password("three rooks")).unwrap();
        assert_eq!(hash.is_of(&password("three rooks")), Some(true));
        assert_eq!(hash.is_of(&password("three rookz")), Some(false));
        assert_ne!(PasswordHash::of(&password("three rooks")).unwrap(), hash);
        assert_eq!(PasswordHash::nobody().is_of(&password("")), Some(false));
        let stored = serde_json::to_string(&hash).unwrap();
        assert!(!stored.contains("three"));
        assert_eq!(serde_json::from_str::<PasswordHash>(&stored).unwrap(), hash);
    }
}
