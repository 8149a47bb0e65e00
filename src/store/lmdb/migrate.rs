//! From one format of the data folder to the next.
//!
//! Before the first row is changed, the file `FORMAT` names the new format, so an older program refuses the folder from
//! then on, also if this one is killed. How far the folder really is stands in table `meta`, in the same transaction as
//! the rows that were changed, so a start goes on where the one before it was cut off.
//!
//! A table holds rows of one format: a step that changes them writes a table of another name, and empties the old one
//! at its end.

use std::time::{Duration, Instant};

use heed::{CommitOrAbort, Database, Env, RwTxn, WithoutTls, types::Bytes};
use tracing::info;

use super::{
    OpenError,
    folder::Folder,
    schema::{FORMAT, FORMAT_KEY, TAG_KEY, Table, number},
};

/// The way from one format to the next.
pub struct MigrationStep {
    pub to: u32,
    /// What the step is about, for the log.
    pub what: &'static str,
    /// The tables that the step works on, the new ones included.
    pub tables: &'static [&'static str],
    /// How many of these tables, from the first on, are written anew: there must be room for old and new rows.
    pub copied: usize,
    pub piece: Piece,
}

/// Changes some rows, those behind a place that an earlier piece has left: the place to go on behind, or `None` where
/// nothing is left to do.
pub type Piece = fn(&mut RwTxn<'_>, &[Table], &Part<'_>) -> heed::Result<Option<Vec<u8>>>;

/// What a piece is to do.
#[cfg_attr(not(test), expect(dead_code, reason = "no step has moved rows yet but those of the tests"))]
pub struct Part<'p> {
    pub behind: Option<&'p [u8]>,
    /// How many rows it changes at most.
    pub rows: usize,
}

/// Every step that there is.
const STEPS: &[MigrationStep] = &[MigrationStep {
    to: 2,
    what: "tables for records of the relay itself",
    tables: &["record", "record_expiration"],
    copied: 0,
    piece: |_, _, _| Ok(None),
}];

/// Tables that steps work on beside those of the format.
pub const MORE_TABLES: u32 = 4;

/// Rows of one transaction.
const ROWS: usize = 10_000;

/// Key of `meta` for the place behind which a step goes on.
const PLACE_KEY: &[u8] = b"migrated_up_to";

/// What a step needs beside copies: pages of the tables' trees, and those that are freed only later.
const BESIDE: u64 = 1024 * 1024;

/// How often the log says how far a migration has come.
const TELL_EVERY: Duration = Duration::from_secs(5);

/// The steps of a program.
struct Steps {
    all: &'static [MigrationStep],
    rows: usize,
}

/// Brings a folder that this process alone has open to the format of this program.
pub fn migrate(env: &Env<WithoutTls>, folder: &Folder) -> Result<(), OpenError> {
    Steps { all: STEPS, rows: ROWS }.carry_out(env, folder)
}

/// Refuses a folder that is not in the format of this program, where it may not be changed.
pub fn check(env: &Env<WithoutTls>, folder: &Folder) -> Result<(), OpenError> {
    match open_table(env, "meta")?.map(|meta| format(env, meta)).transpose()?.flatten() {
        Some(FORMAT) => Ok(()),
        _ => Err(folder.refused_as_older().into()),
    }
}

impl Steps {
    fn carry_out(&self, env: &Env<WithoutTls>, folder: &Folder) -> Result<(), OpenError> {
        let meta = make_table(env, "meta")?;
        // A folder without a format is new, and has nothing to change.
        let Some(from) = format(env, meta)? else { return Ok(()) };
        let last = self.all.iter().map(|step| step.to).max().unwrap_or(from);
        if from > last {
            return Err(folder.refused_as(&from.to_string()).into());
        }
        for step in self.all.iter().filter(|step| step.to > from) {
            let tables =
                step.tables.iter().map(|name| make_table(env, name)).collect::<heed::Result<Vec<_>>>()?;
            check_room(env, folder, step, &tables)?;
            folder.write_format(last).map_err(|source| folder.io(source))?;
            info!(format = step.to, "changing the data folder: {}", step.what);
            self.carry_out_one(env, meta, step, &tables)?;
            info!(format = step.to, "the data folder is changed");
        }
        Ok(())
    }

    fn carry_out_one(
        &self,
        env: &Env<WithoutTls>,
        meta: Table,
        step: &MigrationStep,
        tables: &[Table],
    ) -> heed::Result<()> {
        let (mut pieces, mut told) = (0, Instant::now());
        loop {
            let mut txn = env.write_txn()?;
            let behind = meta.get(&txn, PLACE_KEY)?.map(<[u8]>::to_vec);
            let part = Part { behind: behind.as_deref(), rows: self.rows };
            let place = (step.piece)(&mut txn, tables, &part)?;
            match &place {
                Some(place) => meta.put(&mut txn, PLACE_KEY, place)?,
                None => {
                    meta.delete(&mut txn, PLACE_KEY)?;
                    meta.put(&mut txn, FORMAT_KEY, &u64::from(step.to).to_be_bytes())?;
                }
            }
            txn.commit()?;
            pieces += 1;
            if place.is_none() {
                return Ok(());
            }
            if told.elapsed() >= TELL_EVERY {
                told = Instant::now();
                let rows = pieces * self.rows;
                info!(format = step.to, "still changing the data folder: about {rows} rows since this start");
            }
        }
    }
}

/// Refuses a migration for which there is no room: old and new rows are needed for a while, and pages that a
/// transaction frees are of use only later.
fn check_room(
    env: &Env<WithoutTls>,
    folder: &Folder,
    step: &MigrationStep,
    tables: &[Table],
) -> Result<(), OpenError> {
    let (txn, info) = (env.read_txn()?, env.info());
    let mut needed = BESIDE;
    let mut page = 0;
    for table in &tables[..step.copied] {
        let stat = table.stat(&txn)?;
        page = u64::from(stat.page_size);
        let pages = (stat.branch_pages + stat.leaf_pages + stat.overflow_pages) as u64;
        needed = needed.saturating_add(pages * page * 22 / 10);
    }
    let in_map = (info.map_size as u64).saturating_sub((info.last_page_number as u64 + 1) * page);
    let on_disk = folder.free_bytes().map_err(|source| folder.io(source))?;
    match in_map.min(on_disk) {
        free if free >= needed => Ok(()),
        free => Err(OpenError::NoRoomToMigrate { to: step.to, needed, free }),
    }
}

/// The format that the rows have; `None` where there are no rows. Folders of the first format do not say it.
fn format(env: &Env<WithoutTls>, meta: Table) -> heed::Result<Option<u32>> {
    let txn = env.read_txn()?;
    let is_made = meta.get(&txn, TAG_KEY)?.is_some();
    let format = meta.get(&txn, FORMAT_KEY)?.and_then(number).map_or(1, |format| format as u32);
    Ok(is_made.then_some(format))
}

fn make_table(env: &Env<WithoutTls>, name: &str) -> heed::Result<Table> {
    let txn = env.write_txn()?;
    let table = env.create_databases_and_commit(txn, |opener, txn| {
        let table = opener.create_database::<Bytes, Bytes>(txn, Some(name))?;
        Ok::<_, heed::Error>(CommitOrAbort::<Database<'_, Bytes, Bytes>, ()>::Commit(table))
    })?;
    Ok(table.unwrap_commit())
}

fn open_table(env: &Env<WithoutTls>, name: &str) -> heed::Result<Option<Table>> {
    let txn = env.read_txn()?;
    let table = env.open_databases_and_commit(txn, |opener, txn| {
        let table = opener.open_database::<Bytes, Bytes>(txn, Some(name))?;
        Ok::<_, heed::Error>(CommitOrAbort::<Option<Database<'_, Bytes, Bytes>>, ()>::Commit(table))
    })?;
    Ok(table.unwrap_commit())
}

#[cfg(test)]
mod tests {
    use std::{
        env,
        io::{self, BufRead, BufReader, Write},
        ops::Bound,
        path::Path,
        process::{Command, Stdio},
    };

    use heed::EnvOpenOptions;

    use super::{
        super::{
            folder::{Access, FolderError},
            schema::Tables,
        },
        *,
    };

    /// Says that this process is the one that is killed, and on which folder.
    const FOLDER: &str = "ROOKERY_TEST_MIGRATES";

    /// Rows that are there before.
    const COUNT: u64 = 2_000;

    /// Writes the rows of `time` to another table, each with one more byte.
    const COPY: &[MigrationStep] =
        &[MigrationStep { to: 3, what: "a test", tables: &["time", "time_2"], copied: 1, piece: copy }];

    fn copy(txn: &mut RwTxn<'_>, tables: &[Table], part: &Part<'_>) -> heed::Result<Option<Vec<u8>>> {
        if env::var_os(FOLDER).is_some() {
            // Whoever reads this may end the process, or let it go on.
            println!("a piece");
            io::stdin().read_line(&mut String::new()).unwrap();
        }
        let [old, new] = tables else { panic!("{}", tables.len()) };
        let from = part.behind.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = old.range(txn, &(from, Bound::Unbounded))?.take(part.rows);
        let rows = rows.map(|row| row.map(|(key, row)| (key.to_vec(), [row, &[1]].concat())));
        let rows = rows.collect::<heed::Result<Vec<_>>>()?;
        for (key, row) in &rows {
            new.put(txn, key, row)?;
        }
        if rows.len() < part.rows {
            old.clear(txn)?;
            return Ok(None);
        }
        Ok(rows.last().map(|(key, _)| key.clone()))
    }

    #[expect(unsafe_code, reason = "LMDB maps the file, which only this test has open")]
    fn open(path: &Path, map_size: usize) -> Env<WithoutTls> {
        let mut options = EnvOpenOptions::new().read_txn_without_tls();
        options.map_size(map_size).max_dbs(super::super::schema::TABLES + MORE_TABLES);
        // SAFETY: no other process has it open.
        unsafe { options.open(path) }.unwrap()
    }

    /// A folder of this program's format with rows in it.
    fn made(path: &Path) -> Env<WithoutTls> {
        drop(Folder::open(path, Access::Exclusive).unwrap());
        let env = open(path, 1 << 24);
        let tables = Tables::create(&env).unwrap();
        let mut txn = env.write_txn().unwrap();
        for n in 0..COUNT {
            tables.time.put(&mut txn, &n.to_be_bytes(), &n.to_be_bytes()).unwrap();
        }
        txn.commit().unwrap();
        env
    }

    fn rows(env: &Env<WithoutTls>, table: &str) -> Vec<(Vec<u8>, Vec<u8>)> {
        let Some(table) = open_table(env, table).unwrap() else { return Vec::new() };
        let txn = env.read_txn().unwrap();
        let rows = table.iter(&txn).unwrap().map(|row| row.map(|(key, row)| (key.to_vec(), row.to_vec())));
        rows.collect::<heed::Result<Vec<_>>>().unwrap()
    }

    fn is_copied(env: &Env<WithoutTls>) -> bool {
        let row = |n: u64| (n.to_be_bytes().to_vec(), [&n.to_be_bytes()[..], &[1]].concat());
        rows(env, "time").is_empty() && rows(env, "time_2") == (0..COUNT).map(row).collect::<Vec<_>>()
    }

    #[test]
    fn the_last_step_leads_to_the_format() {
        let formats: Vec<u32> = STEPS.iter().map(|step| step.to).collect();
        assert_eq!(formats, (2..=FORMAT).collect::<Vec<_>>());
    }

    /// Whichever transactions were the last ones: the next start goes on behind them, and nothing is lost or done
    /// twice. From the first one on no older program opens the folder.
    #[test]
    fn a_step_that_is_killed_goes_on_where_it_was() {
        const NAME: &str = "store::lmdb::migrate::tests::a_step_that_is_killed_goes_on_where_it_was";
        let steps = Steps { all: COPY, rows: 100 };
        if let Some(folder) = env::var_os(FOLDER) {
            let folder = Path::new(&folder);
            return steps.carry_out(&open(folder, 1 << 24), &Folder::at(folder)).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        drop(made(folder.path()));
        let mut places = Vec::new();
        for committed in [0, 2, 1, 3, 0] {
            let mut child = Command::new(env::current_exe().unwrap());
            child.args(["--exact", NAME, "--nocapture"]).env(FOLDER, folder.path());
            child.stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut child = child.spawn().unwrap();
            child.stdin.as_mut().unwrap().write_all("\n".repeat(committed).as_bytes()).unwrap();
            let output = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
            let begun = output.filter(|line| line.contains("a piece")).take(committed + 1).count();
            // In the middle of the next one.
            child.kill().unwrap();
            child.wait().unwrap();
            assert_eq!(begun, committed + 1, "it ended by itself");

            let refused = Folder::open(folder.path(), Access::Shared).unwrap_err();
            assert!(matches!(&refused, FolderError::Version { found, .. } if found == "3"), "{refused}");
            let env = open(folder.path(), 1 << 24);
            assert_eq!(rows(&env, "time").len() as u64, COUNT);
            places.push(rows(&env, "time_2").len());
            assert_eq!(format(&env, open_table(&env, "meta").unwrap().unwrap()).unwrap(), Some(2));
            env.prepare_for_closing().wait();
        }
        assert_eq!(places, [0, 200, 300, 600, 600]);
        let env = open(folder.path(), 1 << 24);
        steps.carry_out(&env, &Folder::at(folder.path())).unwrap();
        assert!(is_copied(&env));
        assert_eq!(format(&env, open_table(&env, "meta").unwrap().unwrap()).unwrap(), Some(3));
        steps.carry_out(&env, &Folder::at(folder.path())).unwrap();
        assert!(is_copied(&env), "done twice");
    }

    #[test]
    fn nothing_is_changed_where_there_is_no_room() {
        let folder = tempfile::tempdir().unwrap();
        made(folder.path()).prepare_for_closing().wait();
        let env = open(folder.path(), 1 << 20);
        let refused = Steps { all: COPY, rows: 100 }.carry_out(&env, &Folder::at(folder.path()));
        assert!(matches!(refused, Err(OpenError::NoRoomToMigrate { to: 3, .. })), "{refused:?}");
        assert_eq!(rows(&env, "time").len() as u64, COUNT);
        // It may be used as it is.
        assert!(Folder::open(folder.path(), Access::Shared).is_ok());
    }

    #[test]
    fn rows_of_a_newer_format_are_refused() {
        let folder = tempfile::tempdir().unwrap();
        let env = made(folder.path());
        let mut txn = env.write_txn().unwrap();
        let meta = open_table(&env, "meta").unwrap().unwrap();
        meta.put(&mut txn, FORMAT_KEY, &9_u64.to_be_bytes()).unwrap();
        txn.commit().unwrap();
        let refused = migrate(&env, &Folder::at(folder.path())).unwrap_err();
        assert!(matches!(refused, OpenError::Folder(FolderError::Version { .. })), "{refused}");
    }
}
