//! Settings that have another name since the last version. The old one is understood until the next version, and
//! whoever uses it is told.

use std::fmt;

use thiserror::Error;
use toml::{Table, Value};

use super::{
    source::Source,
    table::{insert, lookup, path, remove, variable},
};

/// The section of a setting, and its name there.
type Name = (&'static str, &'static str);

/// A setting that was called otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Renamed {
    pub old: Name,
    pub new: Name,
}

const fn renamed(old: Name, new: Name) -> Renamed {
    Renamed { old, new }
}

/// What has another name in this version. To be emptied when it is the one before.
pub(super) const RENAMED: &[Renamed] = &[
    renamed(("bus", "fence_ms"), ("bus", "watermark_ms")),
    renamed(("bus", "silent_fences"), ("bus", "missing_watermarks")),
    renamed(("store", "map_bytes"), ("lmdb", "map_bytes")),
    renamed(("store", "reserve_bytes"), ("lmdb", "reserve_bytes")),
    renamed(("store", "min_free_bytes"), ("lmdb", "min_free_bytes")),
    renamed(("store", "readers"), ("lmdb", "readers")),
    renamed(("store", "max_waiting_queries"), ("lmdb", "max_waiting_queries")),
    renamed(("store", "max_waiting_records"), ("lmdb", "max_waiting_records")),
    renamed(("store", "question_ranges"), ("lmdb", "question_ranges")),
    renamed(("store", "question_wait_ms"), ("lmdb", "question_wait_ms")),
    renamed(("store", "page_bytes"), ("lmdb", "page_bytes")),
    renamed(("store", "page_entries"), ("lmdb", "page_entries")),
    renamed(("store", "query_entries"), ("lmdb", "query_entries")),
    renamed(("store", "count_entries"), ("lmdb", "count_entries")),
    renamed(("store", "sweep_ms"), ("lmdb", "sweep_ms")),
    renamed(("store", "sweep_batch"), ("lmdb", "sweep_batch")),
];

/// An old name that somebody still uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OldName {
    renamed: Renamed,
    /// Who uses it.
    pub(super) source: Source,
}

impl fmt::Display for OldName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Renamed { old, new } = self.renamed;
        match self.source {
            Source::Variable => {
                write!(f, "{} is called {} now", variable(old.0, old.1), variable(new.0, new.1))?
            }
            source => {
                let used_by = source.told(old.0, old.1);
                write!(f, "{} ({used_by}) is called {} now", path(old.0, old.1), path(new.0, new.1))?;
            }
        }
        f.write_str("; the next version does not understand the old name")
    }
}

/// A setting is given by its old name and by its new one, so it is not known which of the values is meant.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{old} and {new} are one setting, which has two values: leave out {old}, its old name")]
pub struct GivenTwice {
    old: String,
    new: String,
}

/// Gives the settings of a source that have old names their new ones, and says which those are.
///
/// # Errors
/// One has a value by each of its names.
pub(super) fn rename(table: &mut Table, source: Source) -> Result<Vec<OldName>, GivenTwice> {
    rename_by(RENAMED, table, source)
}

fn rename_by(all: &[Renamed], table: &mut Table, source: Source) -> Result<Vec<OldName>, GivenTwice> {
    let mut used = Vec::new();
    for renamed @ Renamed { old, new } in all {
        let Some(value) = remove(table, old.0, old.1) else { continue };
        if lookup(table, new.0, new.1).is_some() {
            let called = |(section, name)| match source {
                Source::Variable => variable(section, name),
                _ => path(section, name),
            };
            return Err(GivenTwice { old: called(*old), new: called(*new) });
        }
        insert(table, new.0, new.1, value);
        used.push(OldName { renamed: *renamed, source });
    }
    remove_emptied(all, table);
    Ok(used)
}

/// A section of which every setting has moved to another one is no section any more.
fn remove_emptied(all: &[Renamed], table: &mut Table) {
    for Renamed { old, .. } in all {
        if table.get(old.0).and_then(Value::as_table).is_some_and(Table::is_empty) {
            table.remove(old.0);
        }
    }
}

/// Takes those out of records by whose new names there are others: a node of the version before has changed them
/// beside one of this. What they are called.
pub(super) fn remove_overruled(records: &mut Table) -> Vec<String> {
    remove_overruled_by(RENAMED, records)
}

fn remove_overruled_by(all: &[Renamed], records: &mut Table) -> Vec<String> {
    let is_overruled = |records: &Table, renamed: &Renamed| {
        [renamed.old, renamed.new].iter().all(|name| lookup(records, name.0, name.1).is_some())
    };
    let mut overruled = Vec::new();
    for renamed @ Renamed { old, .. } in all {
        if is_overruled(records, renamed) {
            remove(records, old.0, old.1);
            overruled.push(path(old.0, old.1));
        }
    }
    overruled
}

/// An old name in a change of a setting that nodes share.
pub(super) fn old_name(section: &str, name: &str) -> Option<OldName> {
    let renamed = RENAMED.iter().find(|renamed| renamed.old == (section, name))?;
    Some(OldName { renamed: *renamed, source: Source::Record })
}

/// What a setting is called now that may be called by its old name.
pub(super) fn current<'a>(section: &'a str, name: &'a str) -> (&'a str, &'a str) {
    RENAMED
        .iter()
        .find(|renamed| renamed.old == (section, name))
        .map_or((section, name), |renamed| renamed.new)
}

/// The old names of a setting.
pub(super) fn old_names(section: &str, name: &str) -> impl Iterator<Item = Name> {
    RENAMED.iter().filter(move |renamed| renamed.new == (section, name)).map(|renamed| renamed.old)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::paths;

    const MOVED: &[Renamed] =
        &[renamed(("limits", "max_tag"), ("limits", "max_tags")), renamed(("old", "name"), ("info", "name"))];

    #[test]
    fn what_is_renamed_is_a_setting_and_was_none() {
        let is_one =
            |(section, name): Name| paths().any(|(its, setting, _)| (its, setting) == (section, name));
        for Renamed { old, new } in RENAMED {
            assert!(is_one(*new) && !is_one(*old), "{old:?} {new:?}");
        }
    }

    #[test]
    fn an_old_name_becomes_the_new_one_and_is_told() {
        let mut table = "[limits]\nmax_tag = 3\n[old]\nname = 'x'".parse().unwrap();
        let told = rename_by(MOVED, &mut table, Source::Record).unwrap();
        assert_eq!(table, "[limits]\nmax_tags = 3\n[info]\nname = 'x'".parse().unwrap());
        let told: Vec<String> = told.iter().map(ToString::to_string).collect();
        assert_eq!(told.len(), 2);
        let first = "limits.max_tag (a record of the store) is called limits.max_tags now; ";
        assert!(told[0].starts_with(first), "{told:?}");
        assert_eq!(rename_by(MOVED, &mut table, Source::Record), Ok(vec![]));
    }

    #[test]
    fn two_values_are_refused_but_of_records_the_new_one_counts() {
        let both: Table = "[limits]\nmax_tag = 3\nmax_tags = 4".parse().unwrap();
        let error = rename_by(MOVED, &mut both.clone(), Source::Variable).unwrap_err();
        let expected = ["ROOKERY_LIMITS_MAX_TAG", "ROOKERY_LIMITS_MAX_TAGS"].map(str::to_owned);
        assert_eq!([error.old, error.new], expected);
        let mut records = both;
        assert_eq!(remove_overruled_by(MOVED, &mut records), ["limits.max_tag"]);
        assert_eq!(records, "[limits]\nmax_tags = 4".parse().unwrap());
    }
}
