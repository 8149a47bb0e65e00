//! Who holds events, as a bookmark notes it: a relay, or a data folder.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::protocol::Identity;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The URL of the relay, or the path of the folder.
    pub name: String,
    /// Which store it has. Relays of others do not tell.
    pub store: Option<Identity>,
}

impl Holder {
    /// Whether the one that was noted is this one now. A store is known again under any name; who told it once has
    /// to tell it again. Of all others the name has to do.
    pub fn is(&self, now: &Self) -> bool {
        match self.store {
            Some(store) => now.store == Some(store),
            None => now.name == self.name,
        }
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.store {
            Some(store) => write!(f, "{} ({store})", self.name),
            None => f.write_str(&self.name),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_known_under_any_name_and_a_relay_without_one_by_its_name() {
        let holder = |name: &str, store| Holder { name: name.into(), store };
        let (a, b) = (Some(Identity::Shared(1)), Some(Identity::Shared(2)));
        for (noted, now, expected) in [
            (holder("x", a), holder("x", a), true),
            (holder("x", a), holder("y", a), true),
            (holder("x", a), holder("x", b), false),
            (holder("x", a), holder("x", None), false),
            (holder("x", None), holder("x", None), true),
            (holder("x", None), holder("x", a), true),
            (holder("x", None), holder("y", a), false),
        ] {
            assert_eq!(noted.is(&now), expected, "{noted}, {now}");
        }
    }
}
