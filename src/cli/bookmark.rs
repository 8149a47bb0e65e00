//! A file beside another one that notes how far a command came with it, so that it can go on when it was cut short.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Serialize, de::DeserializeOwned};

/// The mode of a bookmark: nobody else reads it, as the file that it is about may hold private events.
const OWNER_ONLY: u32 = 0o600;

/// Where a command notes how far it is. What the notes say is the command's own.
#[derive(Debug, Clone)]
pub struct Bookmark {
    path: PathBuf,
    /// It could not be written once, and is left alone since.
    is_lost: bool,
}

impl Bookmark {
    /// The one beside a file, whose name it has with this ending.
    pub fn beside(file: &Path, ending: &str) -> Self {
        Self { path: with_ending(file, ending), is_lost: false }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether it could not be written.
    pub fn is_lost(&self) -> bool {
        self.is_lost
    }

    /// What it says; `None` where there is none.
    ///
    /// # Errors
    /// It can not be read, or says nothing that is understood.
    pub fn load<T: DeserializeOwned>(&self) -> io::Result<Option<T>> {
        match fs::read_to_string(&self.path) {
            Ok(text) => Ok(Some(serde_json::from_str(&text)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Writes it, all or nothing; a torn one would be worse than an old one.
    pub fn save<T: Serialize>(&self, notes: &T) -> io::Result<()> {
        let draft = with_ending(&self.path, ".new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true).mode(OWNER_ONLY);
        options.open(&draft)?.write_all((serde_json::to_string(notes)? + "\n").as_bytes())?;
        fs::rename(&draft, &self.path)
    }

    /// Writes it for as long as that can be done. The user is told once where it can not, and what follows from it; the
    /// command goes on without.
    pub fn note<T: Serialize>(&mut self, notes: &T, consequence: &str) {
        if self.is_lost {
            return;
        }
        if let Err(error) = self.save(notes) {
            eprintln!("cannot write {}, so {consequence}: {error}", self.path.display());
            self.is_lost = true;
        }
    }

    /// Nothing is left to go on with. One that can not be removed says what is so, and is not believed of anything else.
    pub fn remove(&self) {
        let _ = fs::remove_file(&self.path);
    }
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
        let bookmark = Bookmark::beside(&folder.path().join("a"), ".bookmark");
        assert_eq!(bookmark.load::<u8>().unwrap(), None);
        bookmark.save(&7).unwrap();
        assert_eq!(bookmark.load::<u8>().unwrap(), Some(7));
        fs::write(bookmark.path(), "{").unwrap();
        assert!(bookmark.load::<u8>().is_err());
        bookmark.remove();
        assert_eq!(bookmark.load::<u8>().unwrap(), None);
    }

    #[test]
    fn is_given_up_once_it_can_not_be_written() {
        let mut bookmark = Bookmark::beside(Path::new("/proc/nowhere/a"), ".bookmark");
        bookmark.note(&7, "nothing follows");
        assert!(bookmark.is_lost());
    }
}
