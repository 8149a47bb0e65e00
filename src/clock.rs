//! The wall clock, in the protocol's unit.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::protocol::Timestamp;

/// Milliseconds since the epoch. A clock set before 1970 reads 0.
pub fn millis() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

/// Seconds since the epoch. A clock set before 1970 reads 0.
pub fn now() -> Timestamp {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
