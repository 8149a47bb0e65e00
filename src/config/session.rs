//! One connection.

use serde::{Deserialize, Serialize};

use super::setting::{DAY, HOUR, section, whole};

section! {
    /// One connection: its windows, queues and timeouts.
    Session {
        /// Seconds within which a client must have sent its HTTP request, and a proxy its PROXY header.
        handshake_seconds: fixed u64 = 5 => whole(1, HOUR),
        /// Seconds between pings.
        ping_seconds: fixed u64 = 30 => whole(1, DAY - 1),
        /// Seconds of silence after which a connection is closed.
        idle_seconds: fixed u64 = 90 => whole(2, DAY),
        /// Events of a connection that may wait for their OK, and subscriptions that may wait to be
        /// entered; beyond, it is not read from.
        window: fixed usize = 128 => whole(1, 1 << 16),
        /// Messages of other actors that may wait for a session. A client that does not read fills it.
        mailbox: fixed usize = 4_096 => whole(2, 1 << 20),
        /// Bytes of live events that may wait for a session. A client that lags further is closed.
        max_lag_bytes: fixed usize = 16 * 1024 * 1024 => whole(0, 1 << 40),
        /// Bytes of live events held back while the stored ones are sent. Beyond, the subscription is closed.
        max_held_bytes: live usize = 4 * 1024 * 1024 => whole(0, 1 << 40),
        /// Seconds for which the network may leave what was sent unacknowledged.
        unacknowledged_seconds: fixed u64 = 60 => whole(0, DAY),
    }
}
