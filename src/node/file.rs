//! Whether a file has become another one.

use std::{
    fs,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

/// A file that is looked at again and again. Looking is all that finds each way to change it: in place, by another one
/// of its name (editors), by a link that leads elsewhere (Kubernetes), also on file systems that tell of nothing.
pub struct WatchedFile {
    path: PathBuf,
    /// As it was when it was last acted on.
    known: Option<Look>,
    last: Option<Look>,
}

/// What tells a file from what it was before.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Look {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    /// Changes with who owns it and who may write it, too.
    changed: (i64, i64),
}

impl WatchedFile {
    /// Takes the file as it is for known.
    pub fn new(path: &Path) -> Self {
        let known = look(path);
        Self { path: path.to_owned(), known, last: known }
    }

    /// Takes the file as it is now for known: it is about to be read.
    pub fn know(&mut self) {
        self.known = look(&self.path);
        self.last = self.known;
    }

    /// Whether it is another file than the one that was known, and the same as a look ago: one that is being written
    /// changes from look to look. It is known from then on. One that is not there is no other.
    pub fn has_changed(&mut self) -> bool {
        let now = look(&self.path);
        let is_settled = now.is_some() && now == self.last;
        self.last = now;
        let has_changed = is_settled && now != self.known;
        if has_changed {
            self.known = now;
        }
        has_changed
    }
}

fn look(path: &Path) -> Option<Look> {
    let found = fs::metadata(path).ok()?;
    Some(Look {
        device: found.dev(),
        inode: found.ino(),
        bytes: found.len(),
        modified: (found.mtime(), found.mtime_nsec()),
        changed: (found.ctime(), found.ctime_nsec()),
    })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn each_way_to_change_a_file_is_seen_once_it_has_settled() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        fs::write(path("a"), "1").unwrap();
        fs::write(path("b"), "1").unwrap();
        symlink(path("a"), path("link")).unwrap();
        let mut watched = WatchedFile::new(&path("link"));
        assert!(!watched.has_changed());
        let is_seen_once = |watched: &mut WatchedFile, what: &str| {
            let seen: Vec<bool> = (0..4).map(|_| watched.has_changed()).collect();
            assert_eq!(seen, [false, true, false, false], "{what}");
        };
        fs::write(path("a"), "22").unwrap();
        is_seen_once(&mut watched, "written in place");
        fs::rename(path("b"), path("a")).unwrap();
        is_seen_once(&mut watched, "replaced");
        fs::write(path("c"), "22").unwrap();
        symlink(path("c"), path("other")).unwrap();
        fs::rename(path("other"), path("link")).unwrap();
        is_seen_once(&mut watched, "the link leads elsewhere");
        fs::write(path("c"), "333").unwrap();
        watched.know();
        assert!((0..4).all(|_| !watched.has_changed()));
        fs::remove_file(path("link")).unwrap();
        assert!((0..4).all(|_| !watched.has_changed()));
        fs::write(path("link"), "1").unwrap();
        assert!(!watched.has_changed());
        fs::write(path("link"), "half, and more").unwrap();
        let seen: Vec<bool> = (0..3).map(|_| watched.has_changed()).collect();
        assert_eq!(seen, [false, true, false], "while it is written");
    }
}
