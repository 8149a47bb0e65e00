//! Reconciliation with other relays and with clients.

use serde::{Deserialize, Serialize};

use super::setting::{DAY, section, whole};

section! {
    /// Reconciliation with other relays and with clients (NIP-77): who asks finds out which events only one side has.
    Sync {
        /// Reconciliations of a connection that may be open at once. 0: none is served.
        max_open: live usize = 16 => whole(0, 1 << 16),
        /// Most events of one, of which 40 bytes each are kept while it is open. Where more match, it is refused with
        /// "blocked: too many query results".
        max_events: live usize = 2_000_000 => whole(1, 1 << 31),
        /// The same for all of the node together; beyond, "error: overloaded".
        max_events_of_all: fixed usize = 4_000_000 => whole(1, 1 << 31),
        /// Longest message of the protocol that is sent, in bytes; it goes as hexadecimal digits, two a byte.
        frame_bytes: live usize = 60_000 => whole(4_096, 1 << 24),
        /// Messages that are answered at once, each by a thread. 0: one a core.
        threads: fixed usize = 0 => whole(0, 512),
        /// Seconds without a message after which one is ended, at the next ping.
        idle_seconds: live u64 = 60 => whole(1, DAY),
    }
}
