//! How much is asked of a relay at once: what it says of itself (NIP-11), within bounds.

use serde_json::Value;

/// How much is asked of a relay at once. Default: what every relay bears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Manners {
    /// Subscriptions that are open on a connection. Default: as many as are of use.
    pub subscriptions: usize,
    /// Events of an answer. Default: 5,000, which relays cut as they like.
    pub events: usize,
    /// Bytes of a message. Default: 128 KiB.
    pub message_bytes: usize,
    /// Whether it is told who asks before it is asked anything. Default: only where it wants that at once.
    pub authenticates: bool,
}

impl Default for Manners {
    fn default() -> Self {
        Self { subscriptions: usize::MAX, events: 5_000, message_bytes: 128 * 1024, authenticates: false }
    }
}

impl Manners {
    /// What a document asks for. It may say anything, so nothing less is taken from it than a relay needs to be read
    /// at all, and nothing more than is asked of one that says nothing.
    pub fn told(document: &Value) -> Self {
        let default = Self::default();
        let limits = &document["limitation"];
        let number = |name: &str, least: usize, most: usize| {
            let told = limits[name].as_u64().filter(|told| *told > 0);
            told.map_or(most, |told| usize::try_from(told).unwrap_or(usize::MAX).clamp(least, most))
        };
        Self {
            subscriptions: number("max_subscriptions", 1, default.subscriptions),
            events: number("max_limit", 20, default.events),
            message_bytes: number("max_message_length", 16 * 1024, default.message_bytes),
            authenticates: limits["auth_required"].as_bool().unwrap_or(default.authenticates),
        }
    }

    /// How many of those that would be asked for by their ids may be named in a message.
    pub(super) fn ids(&self, most: usize) -> usize {
        // One is 64 digits, two quotes and a comma; the rest is the message around them.
        most.min(self.events).min((self.message_bytes - AROUND) / 67)
    }

    /// How long a message of a reconciliation may be before it is written in hexadecimal digits.
    pub(super) fn frame_bytes(&self, most: usize, filter: usize) -> usize {
        most.min(self.message_bytes.saturating_sub(AROUND + filter) / 2).max(LEAST_FRAME)
    }
}

/// Bytes of a message around what it is about.
const AROUND: usize = 200;
/// Shorter messages are none of NIP-77.
const LEAST_FRAME: usize = 4_096;

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_told_is_believed_within_bounds() {
        let default = Manners::default();
        for nothing in [
            json!({}),
            json!([]),
            json!({ "limitation": 7 }),
            json!({ "limitation": { "max_limit": "500", "max_subscriptions": -1, "auth_required": "no" } }),
            json!({ "limitation": { "max_limit": 0, "max_message_length": 1e30 } }),
            json!({ "limitation": { "max_limit": 1_000_000, "max_message_length": u64::MAX } }),
        ] {
            assert_eq!(Manners::told(&nothing), default, "{nothing}");
        }
        let told = Manners::told(&json!({ "limitation": {
            "max_subscriptions": 3, "max_limit": 100, "max_message_length": 20_000, "auth_required": true,
        } }));
        assert_eq!(
            told,
            Manners { subscriptions: 3, events: 100, message_bytes: 20_000, authenticates: true }
        );
        assert_eq!((told.ids(500), told.frame_bytes(60_000, 100)), (100, 9_850));
        let least = Manners::told(&json!({ "limitation": {
            "max_subscriptions": 1, "max_limit": 1, "max_message_length": 1,
        } }));
        assert_eq!((least.subscriptions, least.events, least.message_bytes), (1, 20, 16 * 1024));
        assert!(least.ids(500) == 20 && least.frame_bytes(60_000, 1 << 20) == 4_096);
    }
}
