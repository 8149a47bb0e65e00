//! People who are followed, wherever they write.

use serde::{Deserialize, Serialize};

use super::setting::{DAY, section, whole};

/// Whose follow lists are followed, beside those of whom operators name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Fetch {
    Off,
    Accounts,
}

/// So many fit into the record of a relay where all of them write.
const MOST_PEOPLE: i64 = 1_200;

section! {
    /// People who are followed (`rookery upstream follow`): which relays are read for them follows from the relay lists
    /// that they have published (NIP-65).
    Follow {
        /// URLs of relays where their follow and relay lists are looked for, beside this store, such as
        /// ["wss://purplepag.es"]. Whoever has no relay list is read there, too.
        indexers: fixed Vec<String> = Vec::new(),
        /// "accounts": those are followed, too, whom people follow who are signed in here, so that their feeds are not
        /// empty. Each of them in turn, as far as `people` goes. "off": nobody but whom operators name.
        fetch: fixed Fetch = Fetch::Off,
        /// People, those included whom somebody follows. Beyond, who was added last is left out.
        people: fixed usize = 1_000 => whole(1, MOST_PEOPLE),
        /// Relays that are read for them.
        relays: fixed usize = 200 => whole(1, 900),
        /// Whether a relay that they alone have named may have an address that is not public: whoever is followed could have
        /// this one send requests into your network.
        allow_private: fixed bool = false,
        /// Minutes between looks at their lists.
        minutes: fixed u64 = 60 => whole(1, 7 * DAY / 60),
        /// Seconds for which it is tried to reach a relay in vain, until it is left out for a week, and others are read
        /// instead.
        silent_seconds: fixed u64 = 86_400 => whole(1, 30 * DAY),
    }
}
