//! What waits between those who read upstreams and those who store what they read.
//!
//! A queue need not be durable: the upstream has what is lost, and whatever was not finished is read again. So whoever
//! takes an entry says when it is finished, and only such a word moves anything.

pub mod memory;

use futures_util::future::BoxFuture;

use super::{counts::Verdict, flight::Number, upstream::UpstreamId};
use crate::{protocol::Timestamp, trace::Queued};

/// An event of an upstream, as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub upstream: UpstreamId,
    pub number: Number,
    /// The event, as text.
    pub text: Box<str>,
    pub received: Timestamp,
    /// Where it is traced. Boxed, as it seldom is.
    pub trace: Option<Box<Queued>>,
}

/// It holds as much as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// The queue.
pub trait Queue: Send + Sync {
    /// Puts an entry at the end.
    ///
    /// # Errors
    /// [`Full`], and then it is not there.
    fn offer(&self, entry: Entry) -> Result<(), Full>;

    /// The same, once there is room for it.
    fn put(&self, entry: Entry) -> BoxFuture<'_, ()>;

    /// The oldest entries of each upstream in turn, at most so many, once there is one. Their room is taken until they are finished.
    fn take(&self, most: usize) -> BoxFuture<'_, Vec<Entry>>;

    /// The word that an entry is finished, and what has become of it.
    fn finish(&self, upstream: UpstreamId, number: Number, verdict: Verdict);

    /// Such words about an upstream, for its reader: all since they were asked for last, once there are any.
    fn words(&self, upstream: UpstreamId) -> BoxFuture<'_, Vec<(Number, Verdict)>>;

    /// How much of its room is taken, from 0 to 1.
    fn fill(&self) -> f64;
}
