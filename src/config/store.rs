//! What all stores go by.

use serde::{Deserialize, Serialize};

use super::setting::{DAY, part, section, whole};

section! {
    /// What holds for the embedded store and for the cluster store: when they remove what nobody is served any more.
    Store {
        /// Seconds between removals of expired events; where nodes share a store also between comparisons of their
        /// clocks, and looks for what a node left half written.
        sweep_seconds: fixed u64 = 10 => whole(1, DAY),
        /// Seconds that an event stays after it has expired. It is served to nobody; this is for clocks of
        /// nodes that differ.
        sweep_margin_seconds: fixed u64 = 60 => whole(0, 365 * DAY),
        /// Part of the time that removals take while there is something to remove.
        sweep_share: fixed f64 = 0.25 => part(0.001, 1.0),
    }
}
