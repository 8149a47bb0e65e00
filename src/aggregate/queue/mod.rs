//! What waits between those who read upstreams and those who store what they read.
//!
//! A queue need not be durable: the upstream has what is lost, and whatever was not finished is read again. So whoever
//! takes an entry says when it is finished, and only such a word moves anything.

pub mod memory;
pub mod streams;
mod words;

use std::sync::Arc;

use futures_util::future::BoxFuture;

pub use self::streams::Place;
use super::{counts::Verdict, flight::Number, upstream::UpstreamId};
use crate::{
    protocol::{EventId, Timestamp},
    trace::Queued,
};

/// An event of an upstream, as it was received.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub upstream: UpstreamId,
    pub number: Number,
    /// The id that the event has by its own account: nobody has looked yet whether that is so.
    pub id: EventId,
    /// The event, as text.
    pub text: Box<str>,
    pub received: Timestamp,
    /// Where it is traced. Boxed, as it seldom is.
    pub trace: Option<Box<Queued>>,
    /// Where it was taken from, if the queue has such places.
    pub place: Option<Box<Place>>,
}

impl Entry {
    /// Processes have ended again and again that looked at it.
    pub fn is_deadly(&self) -> bool {
        self.place.as_ref().is_some_and(|place| place.is_deadly)
    }
}

/// It holds as much as it may.
#[derive(Debug, PartialEq, Eq)]
pub struct Full;

/// What was put into the queue is not in it any more, or nobody knows: it is read again.
#[derive(Debug, PartialEq, Eq)]
pub struct Broken;

/// What is said of an entry that was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Word {
    /// This has become of it.
    Finished(Verdict),
    /// It can not be stored, and whether there is no place for another dead letter of its upstream.
    Full(bool),
}

/// Who hears, at the node that has put an entry, what has become of it. Of each entry it hears once that it is finished,
/// or once that it is lost.
pub trait Listener: Send + Sync {
    fn hear(&self, upstream: UpstreamId, number: Number, word: Word);

    /// It was in the queue when that broke.
    fn lose(&self, upstream: UpstreamId, number: Number);
}

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

    /// Says something of an entry that was taken.
    fn say(&self, entry: &Entry, word: Word);

    /// What was finished of an upstream, for its reader: all since this was asked for last, once there is any.
    ///
    /// # Errors
    /// [`Broken`], once for each time that it broke: of what was put before, nothing more will be heard.
    fn words(&self, upstream: UpstreamId) -> BoxFuture<'_, Result<Vec<(Number, Verdict)>, Broken>>;

    /// How much of its room is taken, from 0 to 1.
    fn fill(&self) -> f64;
}

/// One that hears nothing.
#[cfg(test)]
pub struct Deaf;

#[cfg(test)]
impl Listener for Deaf {
    fn hear(&self, _: UpstreamId, _: Number, _: Word) {}

    fn lose(&self, _: UpstreamId, _: Number) {}
}

/// Whoever hears it.
pub type AnyListener = Arc<dyn Listener>;
