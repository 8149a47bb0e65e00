//! Why a relay could not be talked to, or did not do what was asked for. What a relay itself said is
//! [shown](super::shown) in the text, so errors may be printed and logged as they are.

use crate::protocol::{Identity, Timestamp, reply};

use super::shown;

/// Why a relay could not be talked to, or did not do what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers there, or a server in front of the relay says that it is away (status 5xx).
    #[error("cannot reach {url}: {reason}")]
    Unreachable { url: String, reason: String },
    /// The host of the URL has no address.
    #[error("cannot reach {url}: nobody knows the host {host}. Check how it is written, and the network")]
    UnknownHost { url: String, host: String },
    /// The host has no address that may be connected to ([`super::Reach`]).
    #[error("{url} is not on the public Internet, or is this relay itself")]
    Forbidden { url: String },
    /// The URL or the name of the client can not stand in a request.
    #[error("{url} cannot be asked for: {reason}")]
    NoRequest { url: String, reason: String },
    /// Who answers there is no relay, or its certificate is not valid.
    #[error("{url} answers, but not as a relay should: {reason}. Check the address and its path")]
    NoRelay { url: String, reason: String },
    /// The connection ended.
    #[error("the connection was lost: {0}")]
    Lost(String),
    /// The relay let a time pass that [`super::Bounds`] names.
    #[error("the relay did not {0} in time")]
    Silent(&'static str),
    /// Another store answers than did over an earlier connection, so what was done over that is not there.
    #[error("{url} has another store ({now}) than before ({before})")]
    OtherStore { url: String, before: Identity, now: Identity },
    /// The relay wants authentication, and the endpoint has no key.
    #[error("the relay wants to know who you are, and there is no key to say it with")]
    NoKey,
    /// The relay did not take the answer to its challenge.
    #[error("the relay refused to authenticate this key: {}", shown(.0))]
    AuthRefused(String),
    /// The relay refused a subscription (`CLOSED`), in its words.
    #[error("the relay refused the query: {}", shown(.0))]
    Refused(String),
    /// The relay ended a subscription (`CLOSED`) that was live already, in its words.
    #[error("the relay ended the subscription: {}", shown(.0))]
    Ended(String),
    /// The relay does not reconcile (NIP-77), and what it said instead, if anything.
    #[error("the relay does not reconcile (NIP-77): {}", shown(.0))]
    NoReconciliation(String),
    /// The relay has more events that match than it reconciles at once.
    #[error("the relay has too many events to reconcile at once: {}", shown(.0))]
    TooMany(String),
    /// The relay refused or ended a reconciliation (`NEG-ERR`), in its words.
    #[error("the relay refused to reconcile: {}", shown(.0))]
    NotReconciled(String),
    /// What the relay says is none of the protocol, or leads nowhere.
    #[error("the relay reconciles as nobody should: {0}")]
    BadReconciliation(String),
    /// Nothing that the relay sends is of use, so older events can not be asked for.
    #[error("the relay sends nothing that could be used, {sent} events at a time")]
    NothingUsable { sent: usize },
    /// None of what was sent was asked for and valid.
    #[error("the relay ignores the filter: it sent {sent} events, and none that was asked for is valid")]
    FilterIgnored { sent: usize },
    /// An answer is far longer than its limit.
    #[error("the relay sends events without end, whatever the limit")]
    Endless,
    /// A second holds more events than the relay sends at once.
    #[error(
        "the relay seems to hold more than {known} events of one second (created_at {second}), and sends no more of \
         them: they cannot be paged through"
    )]
    CrowdedSecond { known: usize, second: Timestamp },
}

impl ClientError {
    /// Whether another connection, after a while, may do better.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unreachable { .. } | Self::UnknownHost { .. } | Self::Lost(_) | Self::Silent(_) => true,
            // What helps is for the relay to say: these two pass (NIP-01).
            Self::Refused(reason) | Self::Ended(reason) | Self::NotReconciled(reason) => {
                matches!(reply::prefix(reason), "error" | "rate-limited")
            }
            _ => false,
        }
    }
}
