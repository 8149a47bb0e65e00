//! Opens the file that LMDB maps.

use std::path::Path;

use heed::{Env, EnvFlags, EnvOpenOptions, WithoutTls};
use tracing::warn;

use super::{migrate::MORE_TABLES, schema::TABLES};
use crate::config;

/// Slots for read transactions, those of other processes that read the folder included. Whoever opens
/// it first decides, so it is the same for all; the configuration allows fewer threads.
const MAX_READERS: u32 = 1_024;

/// The smallest map that is worth a try.
const MIN_MAP_BYTES: usize = 1 << 24;

/// Opens the file with the map that is configured, or as large a one as the address space has room for: that may have
/// 39 bits, or be limited (`ulimit -v`). Half of what is there is left to everything else.
pub fn open(path: &Path, config: &config::Lmdb) -> heed::Result<Env<WithoutTls>> {
    let mut size = config.map_bytes;
    let mut env = map(path, size);
    while env.as_ref().is_err_and(is_out_of_memory) && size > MIN_MAP_BYTES {
        size /= 2;
        env = map(path, size);
    }
    let mut env = env?;
    if size < config.map_bytes {
        env.prepare_for_closing().wait();
        env = map(path, size / 2)?;
        let (wanted, taken) = (config.map_bytes, env.info().map_size);
        warn!(
            "no room in the address space for lmdb.map_bytes = {wanted}: the store may grow to {taken} bytes"
        );
    }
    env.clear_stale_readers()?;
    Ok(env)
}

#[expect(unsafe_code, reason = "LMDB maps the file: sound as long as nothing else writes to it")]
fn map(path: &Path, size: usize) -> heed::Result<Env<WithoutTls>> {
    /// LMDB wants whole pages, and no system has larger ones.
    const PAGE: usize = 64 * 1024;
    let mut options = EnvOpenOptions::new().read_txn_without_tls();
    options.map_size(size / PAGE * PAGE).max_dbs(TABLES + MORE_TABLES).max_readers(MAX_READERS);
    // SAFETY: the folder's lock keeps other relays away, and tools open it for reading only. No
    // flag is set that gives up durability or locking.
    unsafe { options.flags(EnvFlags::empty()).open(path) }
}

fn is_out_of_memory(error: &heed::Error) -> bool {
    matches!(error, heed::Error::Io(io) if io.kind() == std::io::ErrorKind::OutOfMemory)
}
