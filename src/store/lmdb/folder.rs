//! The data folder: what marks it as ours, which version wrote it, and who may open it.

use std::{
    fs::{self, DirBuilder, File},
    io::Write,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use rustix::fs::{FlockOperation, flock, statvfs};

use super::schema::FORMAT;

/// Whoever runs the relay reads and writes the folder, nobody else.
const OWNER_ONLY: u32 = 0o700;
const FORMAT_FILE: &str = "FORMAT";
const LOCK_FILE: &str = "rookery.lock";
const TITLE: &str = "Rookery data folder, format ";

/// Why a folder is not opened.
#[derive(Debug, thiserror::Error)]
pub enum FolderError {
    #[error("{0} holds other files and is no data folder of Rookery; choose an empty or new one")]
    Foreign(PathBuf),
    #[error(
        "{path} was written in format {found}, and this version knows {FORMAT} and older ones; use the version that wrote it, or one that is newer"
    )]
    Version { path: PathBuf, found: String },
    #[error(
        "{0} is in the format of an older version, or half way from it; start `rookery relay` on it once, which brings it to format {FORMAT}"
    )]
    Older(PathBuf),
    #[error("{0} is in use by another process; stop that one, or choose another folder with --data")]
    InUse(PathBuf),
    #[error("{0} is no data folder of Rookery; `rookery` makes one when it runs")]
    Missing(PathBuf),
    #[error("cannot use the data folder {0}: it is a file")]
    NoFolder(PathBuf),
    #[error("cannot use the data folder {path}: {source}")]
    Io { path: PathBuf, source: std::io::Error },
}

/// Who else may have the folder open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Nobody, as the process writes; the folder is made when it is missing.
    Exclusive,
    /// A relay that runs on it, as the process only reads.
    Shared,
}

/// An open data folder. Gives its lock back when dropped.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    _lock: Option<File>,
}

impl Folder {
    pub fn open(path: &Path, access: Access) -> Result<Self, FolderError> {
        let fail = |source| FolderError::Io { path: path.to_owned(), source };
        let lock = match access {
            Access::Shared => None,
            Access::Exclusive => {
                // Private events are in the folder. The rights of one that was there already are its owner's affair.
                if path.is_file() {
                    return Err(FolderError::NoFolder(path.to_owned()));
                }
                DirBuilder::new().recursive(true).mode(OWNER_ONLY).create(path).map_err(fail)?;
                check_foreign(path)?;
                let lock = File::options()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(path.join(LOCK_FILE))
                    .map_err(fail)?;
                flock(&lock, FlockOperation::NonBlockingLockExclusive)
                    .map_err(|_| FolderError::InUse(path.to_owned()))?;
                if !path.join(FORMAT_FILE).exists() {
                    write_format(path, FORMAT).map_err(fail)?;
                }
                Some(lock)
            }
        };
        let text = fs::read_to_string(path.join(FORMAT_FILE)).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => FolderError::Missing(path.to_owned()),
            _ => fail(source),
        })?;
        let found = text.trim().strip_prefix(TITLE).ok_or_else(|| FolderError::Foreign(path.to_owned()))?;
        if !found.parse().is_ok_and(|found: u32| (1..=FORMAT).contains(&found)) {
            return Err(FolderError::Version { path: path.to_owned(), found: found.to_owned() });
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    /// A folder of which nothing is checked.
    #[cfg(test)]
    pub fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), _lock: None }
    }

    /// Says which programs may open the folder from now on.
    pub fn write_format(&self, format: u32) -> std::io::Result<()> {
        write_format(&self.path, format)
    }

    pub fn refused_as(&self, found: &str) -> FolderError {
        FolderError::Version { path: self.path.clone(), found: found.to_owned() }
    }

    pub fn refused_as_older(&self) -> FolderError {
        FolderError::Older(self.path.clone())
    }

    pub fn io(&self, source: std::io::Error) -> FolderError {
        FolderError::Io { path: self.path.clone(), source }
    }

    /// Makes the names in the folder, and its own in the one above, as durable as what the files hold.
    pub fn sync(&self) -> Result<(), FolderError> {
        let path = fs::canonicalize(&self.path);
        let sync =
            path.and_then(|path| path.ancestors().take(2).try_for_each(|at| File::open(at)?.sync_all()));
        sync.map_err(|source| FolderError::Io { path: self.path.clone(), source })
    }

    /// Bytes that can still be written to the disk.
    pub fn free_bytes(&self) -> std::io::Result<u64> {
        let disk = statvfs(&self.path)?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}

/// A folder without our mark must be empty, but for what a start cut short leaves behind.
fn check_foreign(path: &Path) -> Result<(), FolderError> {
    if path.join(FORMAT_FILE).exists() {
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|source| FolderError::Io { path: path.to_owned(), source })?;
    // The token of operators' programs may be put there beforehand.
    let ours = [LOCK_FILE, "FORMAT.new", "ops.token"];
    match entries.flatten().all(|entry| ours.iter().any(|name| entry.file_name() == *name)) {
        true => Ok(()),
        false => Err(FolderError::Foreign(path.to_owned())),
    }
}

/// Marks the folder, durably and at once or not at all.
fn write_format(path: &Path, format: u32) -> std::io::Result<()> {
    let new = path.join("FORMAT.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{TITLE}{format}")?;
    file.sync_all()?;
    fs::rename(new, path.join(FORMAT_FILE))?;
    File::open(path)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_folders_are_opened_and_by_one_writer() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("new/folder");
        assert!(matches!(Folder::open(&path, Access::Shared), Err(FolderError::Missing(_))));
        let first = Folder::open(&path, Access::Exclusive).unwrap();
        assert!(matches!(Folder::open(&path, Access::Exclusive), Err(FolderError::InUse(_))));
        assert!(Folder::open(&path, Access::Shared).is_ok());
        drop(first);
        assert!(Folder::open(&path, Access::Exclusive).is_ok());

        fs::write(path.join(FORMAT_FILE), format!("{TITLE}999\n")).unwrap();
        let error = Folder::open(&path, Access::Exclusive).unwrap_err();
        assert!(matches!(&error, FolderError::Version { found, .. } if found == "999"), "{error}");
        fs::write(path.join(FORMAT_FILE), "something else").unwrap();
        assert!(matches!(Folder::open(&path, Access::Exclusive), Err(FolderError::Foreign(_))));

        let prepared = parent.path().join("prepared");
        fs::create_dir(&prepared).unwrap();
        fs::write(prepared.join("ops.token"), "").unwrap();
        assert!(Folder::open(&prepared, Access::Exclusive).is_ok());

        let foreign = parent.path().join("foreign");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("data.mdb"), "").unwrap();
        assert!(matches!(Folder::open(&foreign, Access::Exclusive), Err(FolderError::Foreign(_))));
    }
}
