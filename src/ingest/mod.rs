//! Whether an event may enter: from the cheapest question to the signature.

mod policy;
mod recent;

use std::{cell::RefCell, num::NonZeroUsize, sync::Arc};

pub use self::{
    policy::{Policy, difficulty, same_relay},
    recent::Recent,
};
use crate::protocol::{Event, ParsedEvent, PublicKey, Reason, Timestamp, kind::Class, verify::Verifier};

/// Decides about events. One for the node; the verifier's cache is each thread's own.
pub struct Admission {
    pub policy: Policy,
    pub recent: Recent,
    hot_authors: NonZeroUsize,
}

/// An event that may go on.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// To the store.
    Store(Arc<Event>),
    /// To live subscriptions only.
    Ephemeral(Arc<Event>),
    /// Nowhere: it is stored.
    Known,
}

thread_local! {
    static VERIFIER: RefCell<Option<Verifier>> = const { RefCell::new(None) };
}

impl Admission {
    pub fn new(policy: Policy, recent: Recent, hot_authors: usize) -> Self {
        Self { policy, recent, hot_authors: NonZeroUsize::new(hot_authors).unwrap_or(NonZeroUsize::MIN) }
    }

    /// Admits an event of a client that has authenticated as `keys`.
    ///
    /// # Errors
    /// The reason that the client is to read.
    pub fn admit(
        &self,
        parsed: ParsedEvent<'_>,
        keys: &[PublicKey],
        now: Timestamp,
    ) -> Result<Admitted, Reason> {
        self.policy.check(&parsed, keys, now)?;
        if self.recent.contains(&parsed.id) {
            return Ok(Admitted::Known);
        }
        let event = Arc::new(self.verify(parsed)?);
        Ok(match event.class() {
            Class::Ephemeral => Admitted::Ephemeral(event),
            _ => Admitted::Store(event),
        })
    }

    /// Checks id and signature alone.
    ///
    /// # Errors
    /// `invalid: …`.
    pub fn verify(&self, parsed: ParsedEvent<'_>) -> Result<Event, Reason> {
        VERIFIER.with_borrow_mut(|verifier| {
            verifier
                .get_or_insert_with(|| Verifier::new(self.hot_authors))
                .verify(parsed)
                .map_err(|error| Reason::invalid(error.to_string()))
        })
    }
}
