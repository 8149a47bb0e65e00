//! Bounds of what clients may send and ask.

use serde::{Deserialize, Serialize};

use super::setting::{section, whole};

section! {
    /// What clients may send and ask. Where NIP-11 has a field for a bound, it shows it.
    Limits {
        /// Longest message of a client, in bytes, fragments together.
        max_message_bytes: live usize = 512 * 1024 => whole(1, 1 << 26),
        /// Longer messages up to so many bytes are passed over and answered; beyond, the connection ends.
        max_refused_bytes: live usize = 8 * 1024 * 1024 => whole(0, 1 << 30),
        /// Most tags of an event.
        max_tags: live usize = 5_000 => whole(0, 1 << 20),
        /// Most subscriptions of a connection.
        max_subscriptions: live usize = 300 => whole(1, 1 << 20),
        /// Most filters of a REQ or COUNT.
        max_filters: live usize = 200 => whole(1, 1 << 16),
        /// Most values of a filter, its lists together.
        max_filter_values: live usize = 5_000 => whole(0, 1 << 20),
        /// Most routing keys of a connection, its subscriptions together.
        max_routing_keys: live usize = 20_000 => whole(0, 1 << 24),
        /// Most bytes of the messages that made the subscriptions of a connection, together: what is
        /// kept of them grows with it.
        max_subscription_bytes: live usize = 2 * 1024 * 1024 => whole(0, 1 << 32),
        /// Stored events sent for a filter that has no limit.
        default_limit: live usize = 500 => whole(1, 1 << 24),
        /// Highest limit of a filter that is honoured; higher ones count as this.
        max_limit: live usize = 5_000 => whole(1, 1 << 24),
        /// Most events sent beyond a limit so that the last second is whole (NIP-67), and at most a tenth
        /// of the limit.
        max_boundary_events: live usize = 500 => whole(0, 1 << 24),
        /// Bytes of stored events after which the answer to a REQ ends, at the end of a page. EOSE says
        /// "more" then, and the client pages on.
        max_answer_bytes: live usize = 64 * 1024 * 1024 => whole(1, 1 << 40),
        /// How far ahead created_at may be, in seconds.
        max_ahead_seconds: live u64 = 15 * 60 => whole(0, 1 << 32),
        /// Leading zero bits that an event's id must have (NIP-13). 0: none.
        min_pow_difficulty: live u32 = 0 => whole(0, 256),
        /// Whether clients must authenticate (NIP-42) before they read or write.
        auth_required: live bool = false,
        /// Most public keys that a connection may authenticate as.
        max_auth_keys: live usize = 64 => whole(0, 1 << 16),
        /// Most connections of the node. File descriptors may set a lower bound; the start says so.
        max_connections: live usize = 100_000 => whole(1, 1 << 24),
        /// Most connections of one address (of IPv6, one /64 network); loopback has no such bound.
        max_connections_per_address: live usize = 1_000 => whole(1, 1 << 24),
    }
}
