//! The embedded store.

use serde::{Deserialize, Serialize};

use super::setting::{HOUR, section, whole};

section! {
    /// The embedded store (LMDB).
    Lmdb {
        /// Address space of the store, in bytes: as large as its file may become. Not disk space, the file grows
        /// as it is filled. Where the machine has less, the store takes what there is, and says so.
        map_bytes: fixed usize = 1 << 40 => whole(1 << 20, 1 << 47),
        /// Bytes of that which are kept free, but at most an eighth of it: below, only deletions and requests
        /// to vanish are stored, below half of it only removals go on.
        reserve_bytes: fixed u64 = 64 * 1024 * 1024 => whole(0, 1 << 47),
        /// The same for the disk: bytes that are to be free on it or within the file.
        min_free_bytes: fixed u64 = 256 * 1024 * 1024 => whole(0, i64::MAX),
        /// Threads that read. 0: two a core.
        readers: fixed usize = 0 => whole(0, 512),
        /// Queries that may wait for a reading thread; beyond, they read "error: overloaded".
        max_waiting_queries: fixed usize = 10_000 => whole(1, 1 << 18),
        /// Changes of the relay's own records (settings, lists, accounts) that may wait to be written; beyond, they
        /// fail.
        max_waiting_records: fixed usize = 1_024 => whole(1, 1 << 18),
        /// Ranges of rows (a filter has one for each id, tag value, or author and kind) of the questions that are
        /// given to each reading thread at once; further questions wait. A quarter is kept for those of few ranges.
        question_ranges: fixed usize = 1_024 => whole(1, 1 << 20),
        /// Milliseconds for which a question waits for its turn; then it reads "error: overloaded".
        question_wait_ms: fixed u64 = 5_000 => whole(0, HOUR * 1_000),
        /// Bytes of events read at once for a subscription; the next page is read when they are sent.
        page_bytes: fixed usize = 128 * 1024 => whole(1, 1 << 30),
        /// Index entries looked at in one page.
        page_entries: fixed usize = 100_000 => whole(1, 1 << 32),
        /// Index entries looked at for a REQ; past it, EOSE comes without a hint.
        query_entries: fixed usize = 2_000_000 => whole(0, 1 << 40),
        /// Index entries looked at for a COUNT; past it, the answer is approximate.
        count_entries: fixed usize = 1_000_000 => whole(0, 1 << 40),
        /// Milliseconds that a removal (of the expired, of the vanished) takes in one commit: events that come
        /// meanwhile wait for it.
        sweep_ms: fixed u64 = 5 => whole(1, 60_000),
        /// Most events that it takes.
        sweep_batch: fixed usize = 500 => whole(1, 1 << 20),
    }
}
