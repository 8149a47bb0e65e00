//! Home feeds from memory.

use serde::{Deserialize, Serialize};

use super::setting::{section, whole};

section! {
    /// Home feeds from memory: the newest events of authors that clients of this node are subscribed to.
    /// Used with the cluster store and a bus only.
    Feeds {
        /// Bytes of memory for it; those not asked for the longest go first. 0: off, the store is asked.
        /// On, a REQ may miss what another node acknowledged within the last instant, until the bus has
        /// brought it: milliseconds, or seconds if that node died.
        max_bytes: fixed usize = 0 => whole(0, 1 << 44),
        /// Most events that are kept of an author and kind. Questions for about as many ask the store.
        max_events: fixed usize = 2_000 => whole(1, 1 << 20),
        /// Reads of the store that fill it may be under way at once.
        max_fills: fixed usize = 4 => whole(1, 1 << 16),
        /// Bytes of events of a page; the next page is looked for when they are sent.
        page_bytes: fixed usize = 128 * 1024 => whole(1, 1 << 30),
    }
}
