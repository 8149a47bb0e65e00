//! The token that operators' programs show (RFC 6750): what a file says, which only its owner reads.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, ensure};
use sha2::{Digest, Sha256};
use tracing::warn;

use crate::private_file::{is_open, make_once};

/// Characters of a token.
const LENGTHS: std::ops::RangeInclusive<usize> = 16..=256;

/// A token, by its digest: comparing takes as long whatever is presented.
pub struct Token([u8; 32]);

impl Token {
    /// The token that a file holds. One that is missing is made, where nobody has named it.
    ///
    /// # Errors
    /// It can not be read or made, or holds no token.
    pub fn open(file: &Path, is_made: bool) -> anyhow::Result<Self> {
        if is_made {
            let token = hex::encode(rand::random::<[u8; 32]>());
            make_once(file, &format!("{token}\n"))
                .with_context(|| format!("cannot make {}", file.display()))?;
        }
        let token = Self::read(file)?;
        if is_open(file)? {
            warn!("others than its owner may read {}: chmod 600 it", file.display());
        }
        Ok(Self(digest(&token)))
    }

    /// Where the token is of a node that keeps its events in this folder, unless it is named.
    pub fn default_file(data: &Path) -> PathBuf {
        data.join("ops.token")
    }

    /// The token that a file holds.
    ///
    /// # Errors
    /// It can not be read, or holds no token.
    pub fn read(file: &Path) -> anyhow::Result<String> {
        let shown = file.display();
        let text = fs::read_to_string(file).with_context(|| format!("cannot read the token in {shown}"))?;
        let token = text.trim();
        ensure!(
            LENGTHS.contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()),
            "{shown} holds no token: {} to {} characters without a space",
            LENGTHS.start(),
            LENGTHS.end()
        );
        Ok(token.to_owned())
    }

    /// Whether this is it.
    pub fn is(&self, presented: &str) -> bool {
        self.0 == digest(presented)
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = Token::default_file(folder.path());
        assert!(Token::open(&file, false).is_err());
        let token = Token::open(&file, true).unwrap();
        let text = Token::read(&file).unwrap();
        assert!(!is_open(&file).unwrap());
        assert!(token.is(&text) && !token.is(&text[1..]) && !token.is(""));
        assert!(Token::open(&file, true).unwrap().is(&text));
    }

    #[test]
    fn what_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("token");
        for text in ["", "short", "fifteen letters", &"x".repeat(300), "with a space in the midst"] {
            fs::write(&file, text).unwrap();
            assert!(Token::open(&file, false).is_err(), "{text}");
        }
        fs::write(&file, " 0123456789abcdef\n").unwrap();
        assert!(Token::open(&file, false).unwrap().is("0123456789abcdef"));
    }
}
