//! Why something about an account is not done.

use std::time::Duration;

use super::{Name, guesses::Wait, hashing::Busy};
use crate::store::{StoreError, records::Unfit};

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// What was said of this can not be.
    #[error("{why}")]
    Unfit { field: &'static str, why: String },
    #[error("{name} is taken here")]
    Taken { name: Name, free: Vec<Name> },
    /// The name, the password, or both.
    #[error("name and password do not match")]
    WrongPassword,
    /// Somebody who is signed in has to say their password once more, and says another one.
    #[error("this is not the password of your account; you are still signed in")]
    AnotherPassword,
    /// Whoever signs in by a key has not signed what this relay asked.
    #[error("this challenge is not good, or not any more: ask for another one, and sign that")]
    Challenge,
    /// They are signed in by a key that this relay does not have.
    #[error(
        "this relay has neither your key nor an account for it: sign it yourself, and send it by the socket"
    )]
    OwnKey,
    #[error("nobody new is taken here")]
    Closed,
    #[error("this invitation is not good, or not any more")]
    Invitation,
    #[error("this link is not good, or not any more")]
    Reset,
    #[error("whoever runs this relay has switched this account off")]
    Disabled,
    #[error("nobody is called so here")]
    Unknown,
    /// Too many guesses, or too much of something else.
    #[error("too many tries; the next one may be in {} s", .0.as_secs() + 1)]
    Wait(Duration),
    #[error("too many people sign in at once")]
    Busy,
    /// The store does not answer, or does not say whether it was done.
    #[error("the store does not answer, so it is not known whether this was done: {0}")]
    Unavailable(String),
    #[error("others change the same at the same time")]
    Contended,
    /// The key of the account can not be opened.
    #[error("the keys of accounts can not be opened at this node")]
    Sealed,
}

impl Refused {
    pub(super) fn unfit(field: &'static str, why: impl ToString) -> Self {
        Self::Unfit { field, why: why.to_string() }
    }
}

impl From<StoreError> for Refused {
    fn from(error: StoreError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

impl From<Unfit> for Refused {
    fn from(unfit: Unfit) -> Self {
        Self::Unavailable(unfit.to_string())
    }
}

impl From<Busy> for Refused {
    fn from(_: Busy) -> Self {
        Self::Busy
    }
}

impl From<Wait> for Refused {
    fn from(Wait(wait): Wait) -> Self {
        Self::Wait(wait)
    }
}
