//! What an export that is not complete is about, in `FILE.rookery-export`: where its events come from, what was
//! asked for, and what was written. Going on with anything else would give a file that is no answer to anything.

use std::{
    io,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};

use crate::{
    cli::{
        bookmark::Bookmark,
        holder::Holder,
        lines::{Marks, Place},
    },
    protocol::Filter,
};

/// How often it is noted how far the export is.
const SAVE_EVERY: Duration = Duration::from_millis(500);

/// What the user asked for, beside the source.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    /// The filter as it was written: an age stays an age.
    pub filter: String,
    pub verify: bool,
    /// As whom the relay was asked, who may read more than others.
    pub reader: Option<String>,
}

/// What the file holds.
#[derive(Debug, Serialize, Deserialize)]
pub struct Notes {
    source: Holder,
    asked: Asked,
    /// What the flags meant when the export was begun: an age is a time here.
    filter: Filter,
    /// How far the events were written.
    pub marks: Marks,
}

/// Why an export is not gone on with.
#[derive(Debug, thiserror::Error)]
pub enum Doubt {
    #[error("there is no {} beside it, so it is complete, or no export. Export into another file", .0.display())]
    NoBookmark(PathBuf),
    #[error("{} can not be read: {error}. Export into another file", path.display())]
    Unreadable { path: PathBuf, error: io::Error },
    #[error("it is an export of {0}. Name that, or export into another file")]
    OtherSource(Holder),
    #[error("it was asked for {0}. Use the flags of then, or export into another file")]
    OtherFilter(String),
    #[error("it was begun {} --verify. Use the flags of then, or export into another file", if *.0 { "with" } else { "without" })]
    OtherVerify(bool),
    #[error("it was read {}. Use the key of then, or export into another file", .0.as_deref().map_or("without a key".to_owned(), |reader| format!("as {reader}")))]
    OtherReader(Option<String>),
    #[error("line {line} {what}. Export into another file")]
    OtherFile { line: u64, what: &'static str },
}

impl Notes {
    /// # Errors
    /// There are none, or they are about something else that was asked for.
    pub fn load(bookmark: &Bookmark, asked: &Asked) -> Result<Self, Doubt> {
        let path = || bookmark.path().to_owned();
        let loaded = bookmark.load::<Self>().map_err(|error| Doubt::Unreadable { path: path(), error })?;
        let found = loaded.ok_or_else(|| Doubt::NoBookmark(path()))?;
        if found.asked.filter != asked.filter {
            return Err(Doubt::OtherFilter(found.asked.filter));
        }
        if found.asked.verify != asked.verify {
            return Err(Doubt::OtherVerify(found.asked.verify));
        }
        if found.asked.reader != asked.reader {
            return Err(Doubt::OtherReader(found.asked.reader));
        }
        Ok(found)
    }

    pub fn filter(&self) -> &Filter {
        &self.filter
    }
}

/// Keeps the bookmark of an export while that is written.
pub struct Keeper {
    bookmark: Bookmark,
    notes: Notes,
    saved_at: Instant,
}

impl Keeper {
    pub fn new(bookmark: Bookmark, source: Holder, asked: Asked, filter: Filter) -> Self {
        let notes = Notes { source, asked, filter, marks: Marks::default() };
        Self { bookmark, notes, saved_at: Instant::now() }
    }

    /// Goes on behind `kept`. What was written after that is no longer so, and the bookmark says it first.
    ///
    /// # Errors
    /// The source is another one, or the bookmark can not be written.
    pub fn go_on(bookmark: Bookmark, mut notes: Notes, source: Holder, kept: Place) -> anyhow::Result<Self> {
        ensure!(notes.source.is(&source), Doubt::OtherSource(notes.source));
        notes.source = source;
        notes.marks.end_at(kept);
        bookmark.save(&notes).with_context(|| format!("cannot write {}", bookmark.path().display()))?;
        Ok(Self { bookmark, notes, saved_at: Instant::now() })
    }

    /// Whether nothing is noted yet. The first line is, before it is written, so that none stands in the file of
    /// which nothing is known.
    pub fn is_blank(&self) -> bool {
        self.notes.marks.is_empty()
    }

    /// Whether it is time to note that all before this place is written, or as much again as was noted.
    pub fn is_due(&self, place: Place) -> bool {
        self.saved_at.elapsed() >= SAVE_EVERY || self.notes.marks.end_before(place.line / 2)
    }

    /// Notes that all before this place is written.
    pub fn note(&mut self, place: Place) {
        self.notes.marks.note(place);
        self.saved_at = Instant::now();
        self.bookmark.note(&self.notes, "this export may not be gone on with if it is cut short");
    }

    /// Nothing is left to go on with.
    pub fn remove(&self) {
        self.bookmark.remove();
    }
}

/// `FILE.rookery-export`.
pub fn beside(file: &Path) -> Bookmark {
    Bookmark::beside(file, ".rookery-export")
}

#[cfg(test)]
impl Notes {
    /// Of an export of all that is newer than the first second.
    pub fn of_all() -> Self {
        let asked = Asked { filter: "{}".into(), verify: false, reader: None };
        let source = Holder { name: "ws://a".into(), store: None };
        let filter = Filter { since: Some(1), ..Filter::default() };
        Self { source, asked, filter, marks: Marks::default() }
    }
}
