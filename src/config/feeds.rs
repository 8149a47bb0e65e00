//! Home feeds from memory.

use serde::{Deserialize, Serialize};

use super::setting::{section, whole};

section! {
    /// Home feeds from memory: the newest events of authors that clients of this node are subscribed to.
    /// Used with the cluster store and a bus only.
    Feeds {
        /// Bytes of memory for it; those not asked for the longest go first. 0: off, the store is asked. -1: 64 MiB where
        /// there are accounts, whose feeds are read most, and off elsewhere. On, a REQ may miss what another node
        /// acknowledged within the last instant, until the bus has brought it: milliseconds, or seconds if that node died.
        max_bytes: fixed i64 = -1 => whole(-1, 1 << 44),
        /// Most events that are kept of an author and kind. Questions for about as many ask the store.
        max_events: fixed usize = 2_000 => whole(1, 1 << 20),
        /// Reads of the store that fill it may be under way at once.
        max_fills: fixed usize = 4 => whole(1, 1 << 16),
        /// Bytes of events of a page; the next page is looked for when they are sent.
        page_bytes: fixed usize = 128 * 1024 => whole(1, 1 << 30),
    }
}

impl Feeds {
    /// The same, where it is known whether there are accounts.
    pub fn of_node(&self, has_accounts: bool) -> Self {
        const OF_ACCOUNTS: i64 = 64 * 1024 * 1024;
        let max_bytes = match self.max_bytes {
            ..0 if has_accounts => OF_ACCOUNTS,
            told => told.max(0),
        };
        Self { max_bytes, ..self.clone() }
    }

    /// Bytes of memory for it.
    pub fn bytes(&self) -> usize {
        usize::try_from(self.max_bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_told_holds_and_else_accounts_have_memory() {
        let bytes =
            |max_bytes| [false, true].map(|has| Feeds { max_bytes, ..Feeds::default() }.of_node(has).bytes());
        assert_eq!([0, 7, Feeds::default().max_bytes].map(bytes), [[0, 0], [7, 7], [0, 1 << 26]]);
    }
}
