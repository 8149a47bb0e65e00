//! How fast clients may be.

use serde::{Deserialize, Serialize};

use super::setting::{section, whole};

section! {
    /// How fast clients may be, beyond which they read "rate-limited: …". Loopback is exempt unless
    /// told otherwise.
    Rate {
        /// Messages a second of one connection. 0: no bound.
        messages_per_second: live u32 = 200 => whole(0, 1 << 24),
        /// Messages that a connection may send at once after a pause.
        messages_burst: live u32 = 4_000 => whole(0, 1 << 24),
        /// Messages a second of one address (of IPv6, one /64 network), all its connections together.
        /// 0: no bound.
        address_messages_per_second: live u32 = 2_000 => whole(0, 1 << 24),
        /// Messages that an address may send at once after a pause.
        address_messages_burst: live u32 = 20_000 => whole(0, 1 << 24),
        /// Addresses whose rate is remembered.
        max_addresses: fixed usize = 65_536 => whole(1, 1 << 22),
        /// Whether the bounds also hold for loopback.
        include_loopback: live bool = false,
    }
}
