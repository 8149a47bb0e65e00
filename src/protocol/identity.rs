//! Which store it is: what nodes say of themselves, so that those who do not belong together notice.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A number that was drawn once, with the tables or the data folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Identity {
    /// Of tables that several nodes share.
    Shared(u64),
    /// Of the store of one node.
    Own(u64),
}

/// The text is not one of an identity.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no identity of a store")]
pub struct NoIdentity;

impl Identity {
    /// Whether live events may go from a node of the one to a node of the other: they share the store, or
    /// each has its own.
    pub fn meets(self, other: Self) -> bool {
        self == other || matches!((self, other), (Self::Own(_), Self::Own(_)))
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Shared(number) => write!(f, "shared-{number:016x}"),
            Self::Own(number) => write!(f, "own-{number:016x}"),
        }
    }
}

impl From<Identity> for String {
    fn from(identity: Identity) -> Self {
        identity.to_string()
    }
}

impl TryFrom<String> for Identity {
    type Error = NoIdentity;

    fn try_from(text: String) -> Result<Self, NoIdentity> {
        text.parse()
    }
}

impl FromStr for Identity {
    type Err = NoIdentity;

    fn from_str(text: &str) -> Result<Self, NoIdentity> {
        let (kind, number) = text.split_once('-').ok_or(NoIdentity)?;
        let number = u64::from_str_radix(number, 16).map_err(|_| NoIdentity)?;
        match kind {
            "shared" => Ok(Self::Shared(number)),
            "own" => Ok(Self::Own(number)),
            _ => Err(NoIdentity),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_from_its_text() {
        for identity in [Identity::Shared(7), Identity::Own(u64::MAX)] {
            assert_eq!(identity.to_string().parse(), Ok(identity));
            let json = serde_json::to_string(&identity).unwrap();
            assert_eq!(serde_json::from_str::<Identity>(&json).unwrap(), identity);
        }
        for text in ["", "own", "own-", "own-xyz", "other-7"] {
            assert_eq!(text.parse::<Identity>(), Err(NoIdentity), "{text}");
        }
    }

    #[test]
    fn nodes_meet_who_share_a_store_or_have_none_in_common_at_all() {
        use Identity::{Own, Shared};
        assert!(Shared(1).meets(Shared(1)) && Own(1).meets(Own(2)));
        assert!(!Shared(1).meets(Shared(2)) && !Shared(1).meets(Own(1)) && !Own(1).meets(Shared(1)));
    }
}
