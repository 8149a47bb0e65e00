//! Files that only their owner reads.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Write},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::Path,
};

/// Makes a file that holds this, with the folders that it is in, unless it is there. A process that dies half-way leaves
/// none: the file has its name when it is whole. Of several that make it, all find the one that was first.
///
/// # Errors
/// It can not be written.
pub fn make_once(file: &Path, text: &str) -> io::Result<()> {
    if file.exists() {
        return Ok(());
    }
    if let Some(folder) = file.parent() {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    }
    let beside = file.with_extension(format!("new-{}", std::process::id()));
    let mut new = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
    new.write_all(text.as_bytes())?;
    new.sync_all()?;
    let linked = fs::hard_link(&beside, file);
    fs::remove_file(&beside)?;
    match linked {
        Err(error) if error.kind() != ErrorKind::AlreadyExists => Err(error),
        _ => Ok(()),
    }
}

/// Whether others than its owner may read it. A group may where the owner is root: that is how a secret is mounted for
/// whoever is not.
///
/// # Errors
/// It can not be looked at.
pub fn is_open(file: &Path) -> io::Result<bool> {
    let metadata = fs::metadata(file)?;
    Ok(is_open_to_others(metadata.mode(), metadata.uid()))
}

fn is_open_to_others(mode: u32, owner: u32) -> bool {
    const ROOT: u32 = 0;
    let group_reads = if owner == ROOT { 0o040 } else { 0 };
    mode & 0o077 & !group_reads != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_one_stays_and_nobody_else_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a/b/secret");
        make_once(&file, "1").unwrap();
        make_once(&file, "2").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "1");
        assert!(!is_open(&file).unwrap());
        assert_eq!(fs::read_dir(folder.path().join("a/b")).unwrap().count(), 1);
        assert!(make_once(Path::new("/proc/none/secret"), "1").is_err());
    }

    #[test]
    fn a_group_reads_what_is_of_root() {
        let cases =
            [(0o600, 7, false), (0o640, 7, true), (0o640, 0, false), (0o660, 0, true), (0o644, 0, true)];
        for (mode, owner, is_open) in cases {
            assert_eq!(is_open_to_others(0o100_000 | mode, owner), is_open, "{mode:o} of {owner}");
        }
    }
}
