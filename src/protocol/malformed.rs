//! What is wrong with a message that is none.

use super::Reason;

/// A message that can not be acted upon, and to what the refusal is to be addressed.
#[derive(Debug, PartialEq, Eq)]
pub enum Malformed {
    /// Answer `OK false` to the event with this id, as the client wrote it.
    Event(String, Reason),
    /// Answer `CLOSED` to this subscription id, as the client wrote it.
    Subscription(String, Reason),
    /// Answer `CLOSED` to the COUNT of this id, as the client wrote it.
    Count(String, Reason),
    /// Answer `NEG-ERR` to this id, as the client wrote it.
    Negentropy(String, Reason),
    /// Nothing in it can be named: answer `NOTICE`.
    Unknown(Reason),
}
