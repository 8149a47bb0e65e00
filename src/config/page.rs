//! The page that browsers are shown.

use serde::{Deserialize, Serialize};

use super::setting::section;

section! {
    /// The page that a browser is shown at the address of the relay.
    Page {
        /// Whether there is one. Without it browsers are told in a line that this is a relay.
        enabled: fixed bool = true,
        /// What strangers see of it: "accounts": what people with an account here post ("all" where there are none);
        /// "all": the newest posts of everybody; "none": nothing. Posts with a content warning are not shown.
        public: fixed Public = Public::Accounts,
    }
}

/// What strangers see on the front page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Public {
    Accounts,
    All,
    None,
}
