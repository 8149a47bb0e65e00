//! Reads a configuration file, once it is known who may have written it.

use std::{fs::File, io::Read, os::unix::fs::MetadataExt, path::Path};

use anyhow::{Context, ensure};
use toml::Table;

use super::{
    check::{check_kinds, check_names},
    renamed::{OldName, rename},
    source::Source,
};

/// Who must have written a file that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Whoever starts the program names the file, and has looked at it.
    Any,
    /// Nobody looks when a running node reads it: it must be of this user or of root, and nobody else may write it.
    Own,
}

/// Reads a file, and says which old names of settings it uses.
///
/// # Errors
/// Says what is wrong with it, or with who may write it.
pub(super) fn read(path: &Path, trust: Trust) -> anyhow::Result<(Table, Vec<OldName>)> {
    let opened = || format!("cannot read the configuration file {}", path.display());
    let mut file = File::open(path).with_context(opened)?;
    if trust == Trust::Own {
        // Of what was opened, not of what the path leads to by now.
        is_own(&file).with_context(opened)?;
    }
    let mut text = String::new();
    file.read_to_string(&mut text).with_context(opened)?;
    let mut table: Table = text.parse().with_context(|| format!("{} is not valid TOML", path.display()))?;
    let within = || format!("in {}", path.display());
    let old_names = rename(&mut table, Source::File).with_context(within)?;
    check_names(&table).and_then(|()| check_kinds(&table)).with_context(within)?;
    Ok((table, old_names))
}

/// Whether nobody else may have written the file.
///
/// # Errors
/// Says what to do about it.
fn is_own(file: &File) -> anyhow::Result<()> {
    const OTHERS_WRITE: u32 = 0o022;
    let found = file.metadata()?;
    let user = rustix::process::geteuid().as_raw();
    ensure!(
        [0, user].contains(&found.uid()),
        "it belongs to user {}; a running relay reads only what belongs to root or to its own user ({user})",
        found.uid()
    );
    ensure!(
        found.mode() & OTHERS_WRITE == 0,
        "others may write it (mode {:o}); a running relay reads only what nobody else may write (chmod go-w)",
        found.mode() & 0o777
    );
    Ok(())
}
