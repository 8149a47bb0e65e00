//! Where the secret key of a client command comes from: a flag, a file, or the environment.
//!
//! Files are written for their owner only and never overwritten.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::{OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use anyhow::{Context, bail};
use clap::Args;

use crate::protocol::{nip19, sign::Keys};

/// The variable that holds a secret key where no flag names one.
pub const VARIABLE: &str = "ROOKERY_KEY";
/// A key file is one line; whatever is longer is another file.
const MAX_FILE_BYTES: u64 = 4_096;

/// Flags of every command that signs or authenticates.
#[derive(Debug, Args)]
pub struct KeyFlags {
    /// Secret key, nsec or hex; others on this machine can see it here, a file is safer
    #[arg(long, value_name = "SECRET", conflicts_with = "key_file")]
    key: Option<String>,
    /// File with a secret key, as `rookery key new --out` writes it [or: env ROOKERY_KEY]
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
}

impl KeyFlags {
    /// The key that the flags or the environment name, in this order.
    pub fn load(&self) -> anyhow::Result<Option<Keys>> {
        if let Some(secret) = &self.key {
            return keys(secret).context("--key").map(Some);
        }
        if let Some(path) = &self.key_file {
            return read_file(path).map(Some);
        }
        from_environment()
    }

    /// # Errors
    /// No key is named; the error says how to get one.
    pub fn require(&self) -> anyhow::Result<Keys> {
        match self.load()? {
            Some(keys) => Ok(keys),
            None => bail!(
                "no key to sign with: make one with `rookery key new --out my.key`, then add --key-file my.key (or set {VARIABLE})"
            ),
        }
    }
}

/// The pair of the secret in the environment, if there is one.
pub fn from_environment() -> anyhow::Result<Option<Keys>> {
    match std::env::var(VARIABLE) {
        Ok(secret) if !secret.trim().is_empty() => keys(&secret).context(VARIABLE).map(Some),
        _ => Ok(None),
    }
}

/// The pair of a secret, nsec or hexadecimal digits. Errors never quote the text.
pub fn keys(secret: &str) -> anyhow::Result<Keys> {
    let secret = nip19::read_secret(secret).context("this is no secret key")?;
    Keys::from_secret(secret).context("this number is no secret key; make one with `rookery key new`")
}

/// Reads a key file: empty lines and lines with `#` do not count, one line is the secret.
pub fn read_file(path: &Path) -> anyhow::Result<Keys> {
    let name = path.display();
    let file = fs::File::open(path).with_context(|| format!("cannot open the key file {name}"))?;
    let metadata = file.metadata()?;
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        eprintln!("warning: others can read {name}; keep it to yourself with `chmod 600 {name}`");
    }
    let mut text = String::new();
    file.take(MAX_FILE_BYTES + 1)
        .read_to_string(&mut text)
        .with_context(|| format!("cannot read the key file {name}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        bail!("{name} is too long for a key file");
    }
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    match (lines.next(), lines.next()) {
        (Some(secret), None) => keys(secret).with_context(|| name.to_string()),
        _ => bail!("{name} does not hold exactly one key"),
    }
}

/// Writes a secret for its owner only.
///
/// # Errors
/// The file exists, or cannot be written.
pub fn write_file(path: &Path, keys: &Keys) -> anyhow::Result<()> {
    let name = path.display();
    let mut file = match fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            bail!(
                "{name} exists and is not overwritten: name another file, or show it with `rookery key show {name}`"
            )
        }
        Err(error) => return Err(error).with_context(|| format!("cannot write {name}")),
    };
    writeln!(file, "{}", nip19::nsec(&keys.secret()))?;
    file.sync_all().with_context(|| format!("cannot write {name}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_written_key_is_read_back_and_never_overwritten() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.key");
        let mine = Keys::generate();
        write_file(&path, &mine).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(read_file(&path).unwrap().secret(), mine.secret());
        let error = write_file(&path, &Keys::generate()).unwrap_err().to_string();
        assert!(error.contains("not overwritten"), "{error}");
        assert_eq!(read_file(&path).unwrap().secret(), mine.secret());
    }

    #[test]
    fn says_what_is_wrong_without_quoting_the_secret() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.key");
        for (text, expected) in [
            ("", "exactly one key"),
            ("a\nb\n", "exactly one key"),
            ("nsec1vl029mg", "no secret key"),
            (&"0".repeat(64), "rookery key new"),
            (&"x".repeat(5_000), "too long"),
        ] {
            fs::write(&path, text).unwrap();
            let error = format!("{:#}", read_file(&path).map(|_| ()).unwrap_err());
            assert!(error.contains(expected), "{error}");
            assert!(text.is_empty() || text.len() < 5 || !error.contains(text), "{error}");
        }
        let secret = hex::encode([7; 32]);
        fs::write(&path, format!("# mine\n\n{secret}\n")).unwrap();
        assert_eq!(read_file(&path).unwrap().secret(), [7; 32]);
    }
}
