//! Why something that an account asked for was not done.

use crate::{
    account,
    protocol::{EventId, Reason},
    store::{StoreError, records::Unfit},
};

/// Why it was not done. Where nothing else is said, nothing was written.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FeedError {
    /// The relay does not take the event, in its own words.
    #[error("{0}")]
    Refused(Reason),
    /// What was asked for can not be.
    #[error("{detail}")]
    Unfit { field: &'static str, detail: String },
    #[error("{0}")]
    NotFound(&'static str),
    /// It is somebody else's.
    #[error("it is not yours")]
    NotYours,
    /// The account does too much; so many seconds later it may go on.
    #[error("too much at once; go on in {seconds} s")]
    TooFast { seconds: u64 },
    /// More comes than the store takes.
    #[error("too much is waiting to be stored; try again")]
    Overloaded,
    /// The store fails. What was to be written may be, and the same again does no harm.
    #[error("the store did not answer in time; the same again does no harm")]
    Unknown,
    #[error("{0}")]
    Store(#[from] StoreError),
    /// The account is not to be had.
    #[error("{0}")]
    Account(#[from] account::Refused),
    /// The follow list is a lot shorter than the one that this account had here.
    #[error("your list has {has} people, and had {had}: nothing was written")]
    Shrunk {
        had: usize,
        has: usize,
        /// The list that stands, which is to be named in order to go on from it; `None`: there is none.
        list: Option<EventId>,
    },
}

impl FeedError {
    pub fn unfit(field: &'static str, detail: impl Into<String>) -> Self {
        Self::Unfit { field, detail: detail.into() }
    }
}

impl From<Unfit> for FeedError {
    fn from(unfit: Unfit) -> Self {
        Self::unfit("record", unfit.to_string())
    }
}
