//! How far an import came, in `FILE.rookery-progress`, and whether that is still so. What it says is believed
//! only of the file that it was made with, as far as that was read, and of a target that still has what it
//! took: else events would be missing, and nobody would know.

use std::{
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{
    cli::{bookmark::Bookmark, holder::Holder, lines::Place},
    protocol::EventId,
};

/// What the file holds.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Notes {
    /// Where the lines went.
    pub target: Holder,
    /// All lines before it are answered.
    pub done: Place,
    /// Some of the events that the target took last. Of a store that was wiped, or brought back from a
    /// backup, it has none.
    pub witnesses: Vec<EventId>,
    /// What of the file of rejects is of the lines before `done`, and of them alone.
    #[serde(default)]
    pub rejects: Option<Rejects>,
}

/// A file of rejects, and how long it is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rejects {
    pub path: PathBuf,
    pub bytes: u64,
}

/// Why a bookmark is not believed.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    #[error("it can not be read: {0}")]
    Unreadable(io::Error),
    #[error("it is about an import into {0}")]
    OtherTarget(Holder),
    #[error("the file is not the one that it was")]
    OtherFile,
    #[error("{0} does not have what it took then")]
    Forgotten(Holder),
}

impl Notes {
    /// # Errors
    /// They can not be read; missing ones are `None`.
    pub fn load(bookmark: &Bookmark) -> Result<Option<Self>, Doubt> {
        bookmark.load().map_err(Doubt::Unreadable)
    }
}

/// `FILE.rookery-progress`.
pub fn beside(input: &Path) -> Bookmark {
    Bookmark::beside(input, ".rookery-progress")
}
