//! For whom an event is that tells what an account has done.

use super::Tags;

/// Whom the account has chosen. Nobody is a choice, too: then there is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Audience {
    /// Those who follow the author, and whom the author follows.
    Friends,
    /// All who follow the author.
    Followers,
}

impl Audience {
    /// The tag that says it.
    pub const TAG: &str = "audience";

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Friends => "friends",
            Self::Followers => "followers",
        }
    }

    /// What the tags of an event say, if that is understood.
    pub fn of(tags: &Tags) -> Option<Self> {
        let said = tags.first_value(Self::TAG)?;
        [Self::Friends, Self::Followers].into_iter().find(|audience| audience.as_str() == said)
    }
}
