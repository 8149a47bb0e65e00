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
use ring::hkdf;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::private_file::{is_open, make_once};

/// Bytes of a key.
const KEY_BYTES: usize = 32;
const NONCE_BYTES: usize = 24;

/// What secrets are sealed for.
pub const FOR_ACCOUNT: &str = "account";
pub const FOR_UPSTREAM: &str = "upstream";
/// What tells whether a node has the right master key.
pub const FOR_CHECK: &str = "check";

/// The key under which secrets are sealed.
pub struct MasterKey {
    cipher: XChaCha20Poly1305,
    /// What keys for other uses are derived from.
    root: hkdf::Prk,
    /// Which one it is: it follows from the key, and does not tell it.
    id: String,
}

/// The master keys at hand: one that seals, and others that only open what they have sealed.
pub struct MasterKeys {
    current: MasterKey,
    others: Vec<MasterKey>,
}

/// Where the master keys are, read when they are needed.
pub struct Keyring {
    file: Option<PathBuf>,
    /// Those that only open.
    others: Vec<PathBuf>,
    /// Whether the one that seals may be made where there is none.
    may_make: bool,
    keys: Mutex<Option<Arc<MasterKeys>>>,
}

impl Keyring {
    pub fn new(file: Option<PathBuf>, others: Vec<PathBuf>, may_make: bool) -> Self {
        Self { file, others, may_make, keys: Mutex::new(None) }
    }

    /// Where the one is that seals.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// The keys; that which seals is made if that is asked for, and may be.
    ///
    /// # Errors
    /// There is none, or one of them can not be read.
    pub fn keys(&self, is_made: bool) -> anyhow::Result<Arc<MasterKeys>> {
        let mut keys = self.keys.lock();
        if let Some(keys) = &*keys {
            return Ok(Arc::clone(keys));
        }
        let file = self.file.as_deref().context("no file is named in master_key_file")?;
        let others = self.others.iter().map(|file| MasterKey::open(file, false));
        let others = others.collect::<anyhow::Result<_>>().context("old_master_key_files")?;
        let current = MasterKey::open(file, is_made && self.may_make)?;
        Ok(Arc::clone(keys.insert(Arc::new(MasterKeys { current, others }))))
    }
}

impl MasterKeys {
    /// The one that seals.
    pub fn current(&self) -> &MasterKey {
        &self.current
    }

    /// All of them, that which seals first.
    pub fn all(&self) -> impl Iterator<Item = &MasterKey> {
        std::iter::once(&self.current).chain(&self.others)
    }

    /// What was sealed, under whichever of them, if it was for that.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn open_sealed(&self, sealed: &Sealed, purpose: &str, of: &str) -> Result<Vec<u8>, NotOpened> {
        let key = self.all().find(|key| key.id == sealed.key).unwrap_or(&self.current);
        key.open_sealed(sealed, purpose, of)
    }

    /// The same secret, sealed under the one that seals now; `None`: it is.
    ///
    /// # Errors
    /// [`NotOpened`].
    pub fn seal_anew(&self, sealed: &Sealed, purpose: &str, of: &str) -> Result<Option<Sealed>, NotOpened> {
        let secret = Zeroizing::new(self.open_sealed(sealed, purpose, of)?);
        let is_current = sealed.key == self.current.id;
        Ok((!is_current).then(|| self.current.seal(&secret, purpose, of)))
    }
}

impl From<MasterKey> for MasterKeys {
    fn from(current: MasterKey) -> Self {
        Self { current, others: Vec::new() }
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

    /// Which one it is, for all to see.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// A key for another use than sealing, by its name (HKDF, RFC 5869).
    pub fn derive(&self, label: &str) -> Zeroizing<[u8; KEY_BYTES]> {
        let (mut key, label) = (Zeroizing::new([0; KEY_BYTES]), [label.as_bytes()]);
        // It fails for more than 8,160 bytes.
        let _ = self.root.expand(&label, hkdf::HKDF_SHA256).and_then(|derived| derived.fill(&mut *key));
        key
    }

    fn about(&self, purpose: &str, of: &str) -> String {
        format!("{purpose}\0{of}\0{}", self.id)
    }
}

impl From<[u8; KEY_BYTES]> for MasterKey {
    fn from(key: [u8; KEY_BYTES]) -> Self {
        let id = hex::encode(&Sha256::digest([&b"rookery master key"[..], &key].concat())[..4]);
        let root = hkdf::Salt::new(hkdf::HKDF_SHA256, b"rookery master key").extract(&key);
        Self { cipher: XChaCha20Poly1305::new(&key.into()), root, id }
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
    fn what_another_key_has_sealed_is_sealed_anew() {
        let (old, new) = (|| MasterKey::from([1; 32]), || MasterKey::from([2; 32]));
        let keys = MasterKeys { current: new(), others: vec![old()] };
        let sealed = old().seal(b"secret", "upstream", "a");
        assert_eq!(keys.open_sealed(&sealed, "upstream", "a").unwrap(), b"secret");
        assert_eq!(keys.seal_anew(&sealed, "upstream", "b"), Err(NotOpened::Forged));
        let anew = keys.seal_anew(&sealed, "upstream", "a").unwrap().unwrap();
        assert_eq!(MasterKeys::from(new()).open_sealed(&anew, "upstream", "a").unwrap(), b"secret");
        assert_eq!(keys.seal_anew(&anew, "upstream", "a"), Ok(None));
        let stranger = MasterKey::from([3; 32]).seal(b"secret", "upstream", "a");
        assert!(matches!(keys.seal_anew(&stranger, "upstream", "a"), Err(NotOpened::OtherKey(_))));
    }

    #[test]
    fn each_use_has_a_key_of_its_own() {
        let key = MasterKey::from([1; 32]);
        let derived = key.derive("token");
        assert_eq!(derived, key.derive("token"));
        assert!(derived != key.derive("browser") && derived != MasterKey::from([2; 32]).derive("token"));
        assert!(*derived != [0; 32] && *derived != [1; 32]);
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
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
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
