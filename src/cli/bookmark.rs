//! Files beside others that note how far a command came, so that it can go on when it was cut short.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// Whoever runs the command, nobody else: it is of the file that is worked on, which may hold private events.
const OWNER_ONLY: u32 = 0o600;

/// `None` where there is none.
pub fn load<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// A rename is all or nothing; a torn bookmark would be worse than an old one.
pub fn save<T: Serialize>(path: &Path, bookmark: &T) -> io::Result<()> {
    let draft = with_ending(path, ".new");
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(OWNER_ONLY);
    options.open(&draft)?.write_all((serde_json::to_string(bookmark)? + "\n").as_bytes())?;
    fs::rename(&draft, path)
}

/// The name with something behind it.
pub fn with_ending(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(ending);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_and_never_damaged() {
        let folder = tempfile::tempdir().unwrap();
        let path = with_ending(&folder.path().join("a"), ".bookmark");
        assert_eq!(load::<u8>(&path).unwrap(), None);
        save(&path, &7).unwrap();
        assert_eq!(load::<u8>(&path).unwrap(), Some(7));
        fs::write(&path, "{").unwrap();
        assert!(load::<u8>(&path).is_err());
    }
}
