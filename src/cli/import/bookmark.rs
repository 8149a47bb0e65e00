//! How far an import came, in `FILE.rookery-progress`, and whether that is still so. What it says is believed
//! only of the file that it was made with, as far as that was read, and of a target that still has what it
//! took: else events would be missing, and nobody would know.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{cli::lines::Place, protocol::EventId};

/// What the file holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bookmark {
    /// The relay or the folder that the lines went to.
    pub target: String,
    /// All lines before it are answered.
    pub done: Place,
    /// Some of the events that the target took last. Of a store that was wiped, or brought back from a
    /// backup, it has none.
    pub witnesses: Vec<EventId>,
}

/// Why a bookmark is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    #[error("it can not be read: {0}")]
    Unreadable(io::Error),
    #[error("it is about an import into {0}")]
    OtherTarget(String),
    #[error("the file is not the one that it was")]
    OtherFile,
    #[error("{0} does not have what it took then")]
    Forgotten(String),
}

impl Bookmark {
    /// # Errors
    /// It can not be read; a missing one is `None`.
    pub fn load(path: &Path) -> Result<Option<Self>, Doubt> {
        match fs::read_to_string(path) {
            Ok(text) => {
                serde_json::from_str(&text).map(Some).map_err(|error| Doubt::Unreadable(error.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Doubt::Unreadable(error)),
        }
    }

    /// A rename is all or nothing; a torn bookmark would be worse than an old one.
    pub fn save(&self, path: &Path) -> io::Result<()> {
        let draft = with_ending(path, ".new");
        fs::write(&draft, serde_json::to_string(self)? + "\n")?;
        fs::rename(&draft, path)
    }
}

/// `FILE.rookery-progress`.
pub fn progress_file(input: &Path) -> PathBuf {
    with_ending(input, ".rookery-progress")
}

fn with_ending(path: &Path, ending: &str) -> PathBuf {
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
        let path = progress_file(&folder.path().join("a.jsonl"));
        assert_eq!(Bookmark::load(&path).unwrap(), None);
        let bookmark =
            Bookmark { target: "ws://a".into(), done: Place::default(), witnesses: vec![EventId([7; 32])] };
        bookmark.save(&path).unwrap();
        assert_eq!(Bookmark::load(&path).unwrap(), Some(bookmark));
        fs::write(&path, "{").unwrap();
        assert!(matches!(Bookmark::load(&path), Err(Doubt::Unreadable(_))));
    }
}
