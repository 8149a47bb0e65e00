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
    cli::{bookmark, holder::Holder, lines::Place},
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
pub struct Bookmark {
    source: Holder,
    asked: Asked,
    /// What was meant by that then.
    filter: Filter,
    /// Places up to which the events were written: the first line, doubled again and again, and the last. So a
    /// file that has lost its end can be told from another one.
    marks: Vec<Place>,
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

impl Bookmark {
    /// # Errors
    /// There is none, or it is about something else that was asked for.
    pub fn load(path: &Path, asked: &Asked) -> Result<Self, Doubt> {
        let loaded = bookmark::load::<Self>(path)
            .map_err(|error| Doubt::Unreadable { path: path.to_owned(), error })?;
        let found = loaded.ok_or_else(|| Doubt::NoBookmark(path.to_owned()))?;
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

    /// The noted place at this line, if there is one.
    pub fn mark_at(&self, line: u64) -> Option<Place> {
        self.marks.iter().find(|mark| mark.line == line).copied()
    }

    /// Whether nothing is noted of this line or a later one.
    pub fn ends_before(&self, line: u64) -> bool {
        self.marks.last().is_none_or(|mark| mark.line < line)
    }

    pub fn mark(&mut self, place: Place) {
        match &mut self.marks[..] {
            [.., before, last] if last.line < 2 * before.line => *last = place,
            _ => self.marks.push(place),
        }
    }
}

/// Keeps the bookmark of an export while that is written.
pub struct Keeper {
    path: PathBuf,
    bookmark: Bookmark,
    saved_at: Instant,
    /// Why nothing more is noted.
    is_lost: bool,
}

impl Keeper {
    pub fn new(path: PathBuf, source: Holder, asked: Asked, filter: Filter) -> Self {
        Self::of(path, Bookmark { source, asked, filter, marks: Vec::new() })
    }

    /// Goes on behind `kept`. What was written after that is no longer so, and the bookmark says it first.
    ///
    /// # Errors
    /// The source is another one, or the bookmark can not be written.
    pub fn go_on(path: PathBuf, mut bookmark: Bookmark, source: Holder, kept: Place) -> anyhow::Result<Self> {
        ensure!(bookmark.source.is(&source), Doubt::OtherSource(bookmark.source));
        bookmark.source = source;
        bookmark.marks.retain(|mark| mark.line <= kept.line);
        bookmark::save(&path, &bookmark).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self::of(path, bookmark))
    }

    fn of(path: PathBuf, bookmark: Bookmark) -> Self {
        Self { path, bookmark, saved_at: Instant::now(), is_lost: false }
    }

    /// Whether nothing is noted yet. The first line is, before it is written, so that none stands in the file of
    /// which nothing is known.
    pub fn is_blank(&self) -> bool {
        self.bookmark.marks.is_empty()
    }

    /// Whether it is time to note that all before this place is written, or as much again as was noted.
    pub fn is_due(&self, place: Place) -> bool {
        self.saved_at.elapsed() >= SAVE_EVERY || self.bookmark.ends_before(place.line / 2)
    }

    /// Notes that all before this place is written. Where that can not be, the export goes on without.
    pub fn note(&mut self, place: Place) {
        self.bookmark.mark(place);
        self.saved_at = Instant::now();
        if self.is_lost {
            return;
        }
        if let Err(error) = bookmark::save(&self.path, &self.bookmark) {
            let name = self.path.display();
            eprintln!(
                "cannot write {name}, so this export may not be gone on with if it is cut short: {error}"
            );
            self.is_lost = true;
        }
    }

    /// Nothing is left to go on with.
    pub fn remove(&self) {
        // One that can not be removed says what is so of the file.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// `FILE.rookery-export`.
pub fn beside(file: &Path) -> PathBuf {
    bookmark::with_ending(file, ".rookery-export")
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Bookmark {
        /// Of an export of all that is newer than the first second.
        pub fn of_all() -> Self {
            let asked = Asked { filter: "{}".into(), verify: false, reader: None };
            let source = Holder { name: "ws://a".into(), store: None };
            let filter = Filter { since: Some(1), ..Filter::default() };
            Self { source, asked, filter, marks: Vec::new() }
        }
    }

    #[test]
    fn marks_are_few_and_half_of_a_file_is_always_known() {
        let mut bookmark = Bookmark::of_all();
        let mut place = Place::default();
        for line in 1..=10_000 {
            place = place.after(b"x", 2);
            if line == 1 || line % 7 == 0 {
                bookmark.mark(place);
            }
        }
        let lines: Vec<u64> = bookmark.marks.iter().map(|mark| mark.line).collect();
        assert!(lines.len() < 16 && lines[0] == 1 && lines.last() == Some(&9_996), "{lines:?}");
        let known = |line| lines.iter().rev().find(|&&mark| mark <= line).copied().unwrap_or(0);
        assert!((14..=9_996).all(|line| 4 * known(line) >= line), "{lines:?}");
        assert!(bookmark.ends_before(9_997) && !bookmark.ends_before(9_996));
    }
}
