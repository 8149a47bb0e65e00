//! Secrets that are stored: sealed under one key, which is in a file outside of the store (XChaCha20-Poly1305).
//!
//! What was sealed for one thing does not open for another: what it is for, and whose, is authenticated with it.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, ensure};
use chacha20poly1305::{
    XChaCha20Poly1305, XNonce,
    aead::{Aead, KeyInit, Payload},
};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::private_file::{is_open, make_once};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// The key under which secrets are sealed.
pub struct MasterKey {
    cipher: XChaCha20Poly1305,
    /// Which one it is: it follows from the key, and does not tell it.
    id: String,
}

/// Where the master key is, read when it is needed.
pub struct Keyring {
    file: Option<PathBuf>,
    /// Whether it may be made where there is none.
    may_make: bool,
    key: Mutex<Option<Arc<MasterKey>>>,
}

impl Keyring {
    pub fn new(file: Option<PathBuf>, may_make: bool) -> Self {
        Self { file, may_make, key: Mutex::new(None) }
    }

    /// The key; made if that is asked for, and may be.
    ///
    /// # Errors
    /// There is none, or it can not be read.
    pub fn key(&self, is_made: bool) -> anyhow::Result<Arc<MasterKey>> {
        let mut key = self.key.lock();
        if let Some(key) = &*key {
            return Ok(Arc::clone(key));
        }
        let file = self.file.as_deref().context("no file is named in general.master_key_file")?;
        let opened = Arc::new(MasterKey::open(file, is_made && self.may_make)?);
        Ok(Arc::clone(key.insert(opened)))
    }
}

/// A secret that was sealed, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sealed {
    /// Which master key opens it.
    key: String,
    /// In hexadecimal digits.
    nonce: String,
    text: String,
}

/// Why a secret is not opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotOpened {
    #[error("it is sealed under another master key ({0})")]
    OtherKey(String),
    #[error("it was changed, or was sealed for something else")]
    Forged,
}

impl MasterKey {
    /// The one that a file holds, as 64 hexadecimal digits; made where there is none and it may be.
    ///
    /// # Errors
    /// It can not be read or made, or holds no key.
    pub fn open(file: &Path, is_made: bool) -> anyhow::Result<Self> {
        let shown = file.display();
        if is_made {
            let key = hex::encode(rand::random::<[u8; KEY_BYTES]>());
            make_once(file, &format!("{key}\n")).with_context(|| format!("cannot make {shown}"))?;
        }
        let text =
            fs::read_to_string(file).with_context(|| format!("cannot read the master key in {shown}"))?;
        let mut key = [0; KEY_BYTES];
        hex::decode_to_slice(text.trim(), &mut key)
            .ok()
            .with_context(|| format!("{shown} holds no master key: 64 hexadecimal digits"))?;
        ensure!(!is_open(file)?, "others than its owner may read the master key: chmod 600 {shown}");
        Ok(Self::from(key))
    }

    /// Where it is unless it is named: `$XDG_CONFIG_HOME`, or the home folder. Not with what it protects.
    pub fn default_file(variable: impl Fn(&str) -> Option<String>) -> Option<PathBuf> {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let folder = set("XDG_CONFIG_HOME").or_else(|| Some(set("HOME")?.join(".config")))?;
        Some(folder.join("rookery/master.key"))
    }

    /// Seals a secret, for this purpose and that record.
    pub fn seal(&self, secret: &[u8], purpose: &str, of: &str) -> Sealed {
        let nonce: [u8; NONCE_BYTES] = rand::random();
        let about = self.about(purpose, of);
        let payload = Payload { msg: secret, aad: about.as_bytes() };
        // It fails for more than 256 GiB.
        let text = self.cipher.encrypt(&XNonce::from(nonce), payload).unwrap_or_default();
        Sealed { key: self.id.clone(), nonce: hex::encode(nonce), text: hex::encode(text) }
    }

    /// What was sealed, if it was for that.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open_sealed(&self, sealed: &Sealed, purpose: &str, of: &str) -> Result<Vec<u8>, NotOpened> {
        if sealed.key != self.id {
            return Err(NotOpened::OtherKey(sealed.key.clone()));
        }
        let mut nonce = [0; NONCE_BYTES];
        hex::decode_to_slice(&sealed.nonce, &mut nonce).map_err(|_| NotOpened::Forged)?;
        let text = hex::decode(&sealed.text).map_err(|_| NotOpened::Forged)?;
        let about = self.about(purpose, of);
        let payload = Payload { msg: &text, aad: about.as_bytes() };
        self.cipher.decrypt(&XNonce::from(nonce), payload).map_err(|_| NotOpened::Forged)
    }

    fn about(&self, purpose: &str, of: &str) -> String {
        format!("{purpose}\0{of}\0{}", self.id)
    }
}

impl From<[u8; KEY_BYTES]> for MasterKey {
    fn from(key: [u8; KEY_BYTES]) -> Self {
        let id = hex::encode(&Sha256::digest([&b"rookery master key"[..], &key].concat())[..4]);
        Self { cipher: XChaCha20Poly1305::new(&key.into()), id }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn what_is_sealed_opens_for_the_same_thing_alone() {
        let (key, other) = (MasterKey::from([1; 32]), MasterKey::from([2; 32]));
        let sealed = key.seal(b"secret", "upstream", "a");
        assert_eq!(key.open_sealed(&sealed, "upstream", "a").unwrap(), b"secret");
        assert_ne!(key.seal(b"secret", "upstream", "a"), sealed);
        let stored = serde_json::to_string(&sealed).unwrap();
        assert!(!stored.contains("secret") && !stored.contains(&hex::encode("secret")));
        assert_eq!(serde_json::from_str::<Sealed>(&stored).unwrap(), sealed);
        for (purpose, of) in [("upstream", "b"), ("account", "a"), ("upstream\0a", "")] {
            assert_eq!(key.open_sealed(&sealed, purpose, of), Err(NotOpened::Forged));
        }
        let changed = Sealed { text: sealed.text.replace(&sealed.text[..2], "zz"), ..sealed.clone() };
        assert_eq!(key.open_sealed(&changed, "upstream", "a"), Err(NotOpened::Forged));
        assert_eq!(other.open_sealed(&sealed, "upstream", "a"), Err(NotOpened::OtherKey(sealed.key.clone())));
        let claimed = Sealed { key: other.id.clone(), ..sealed };
        assert_eq!(other.open_sealed(&claimed, "upstream", "a"), Err(NotOpened::Forged));
    }

    #[test]
    fn the_key_is_made_once_where_it_may_be() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("rookery/master.key");
        assert!(MasterKey::open(&file, false).is_err());
        let id = MasterKey::open(&file, true).unwrap().id;
        assert_eq!(
            (MasterKey::open(&file, true).unwrap().id, MasterKey::open(&file, false).unwrap().id),
            (id.clone(), id)
        );
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(MasterKey::open(&file, false).is_err());
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&file, "none").unwrap();
        assert!(MasterKey::open(&file, true).is_err());
    }

    #[test]
    fn it_is_not_with_what_it_protects() {
        let home = |name: &str| (name == "HOME").then(|| "/home/a".to_owned());
        assert_eq!(MasterKey::default_file(home).unwrap(), Path::new("/home/a/.config/rookery/master.key"));
        let both = |name: &str| Some(if name == "HOME" { "/home/a" } else { "/config" }.to_owned());
        assert_eq!(MasterKey::default_file(both).unwrap(), Path::new("/config/rookery/master.key"));
        assert_eq!(MasterKey::default_file(|_| None), None);
    }
}
