//! Whether an event may enter: from the cheapest question to the signature.

mod policy;
mod recent;

use std::{cell::RefCell, num::NonZeroUsize, sync::Arc};

use url::Url;

pub use self::{
    policy::{Policy, difficulty, same_relay},
    recent::RecentIds,
};
use crate::{
    config::Limits,
    protocol::{
        Event, ParsedEvent, PublicKey, Reason, Timestamp,
        kind::Class,
        verify::{Identified, Verifier, VerifyError},
    },
};

/// Decides about events. One for the node; the verifier's cache is each thread's own.
pub struct Admission {
    /// This relay's own URL, if it knows it.
    url: Option<Url>,
    pub recent: RecentIds,
    hot_authors: NonZeroUsize,
}

/// An event that may go on.
#[derive(Debug, Clone)]
pub enum Admitted {
    /// To the store.
    Store(Arc<Event>),
    /// To live subscriptions only.
    Ephemeral(Arc<Event>),
    /// Nowhere: the same event, by its hash, is stored or on its way. The signature of this copy was not looked at:
    /// it may be another one than that which is kept, and nothing is done with it.
    Known,
}

/// What is said against an event that another relay has sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Objection {
    /// It is not what it claims to be: nothing else is said of it.
    Forged,
    /// It is dated too far ahead.
    Ahead,
    /// Its time is over.
    Expired,
    /// The policy of this relay is against it.
    Policy,
}

thread_local! {
    static VERIFIER: RefCell<Option<Verifier>> = const { RefCell::new(None) };
}

impl Admission {
    pub fn new(url: Option<Url>, recent: RecentIds, hot_authors: usize) -> Self {
        Self { url, recent, hot_authors: NonZeroUsize::new(hot_authors).unwrap_or(NonZeroUsize::MIN) }
    }

    /// Admits an event of a client that has authenticated as `keys`, by the limits of now.
    ///
    /// # Errors
    /// The reason that the client is to read.
    pub fn admit(
        &self,
        parsed: ParsedEvent<'_>,
        limits: &Limits,
        keys: &[PublicKey],
        now: Timestamp,
    ) -> Result<Admitted, Reason> {
        Policy::new(limits, self.url.as_ref()).check(&parsed, keys, now)?;
        // Before the id is believed: what is said of an event is said of its content.
        let identified = parsed.identify().map_err(refusal)?;
        if self.recent.contains(&identified.id()) {
            return Ok(Admitted::Known);
        }
        Ok(self.verify_signature(identified)?.into())
    }

    /// Admits what this relay made and signed itself, by the key of an account: activity. The signature is its own, and
    /// is not looked at. What the holder of the account wrote goes the way of [`Self::admit`], also where this relay has
    /// signed it.
    ///
    /// # Errors
    /// The event is none that this relay makes.
    pub fn admit_own(&self, event: Event, limits: &Limits, now: Timestamp) -> Result<Admitted, Reason> {
        Policy::new(limits, self.url.as_ref()).check_own(&event, now)?;
        Ok(event.into())
    }

    /// Admits an event that another relay has sent. What is said against it is said of the event of that id, whoever
    /// sends it: id and signature are checked before.
    ///
    /// # Errors
    /// What there is against it.
    pub fn admit_relayed(
        &self,
        parsed: ParsedEvent<'_>,
        limits: &Limits,
        now: Timestamp,
    ) -> Result<Admitted, Objection> {
        let policy = Policy::new(limits, self.url.as_ref());
        let objection = policy.check(&parsed, &[], now).is_err().then(|| policy.objection(&parsed, now));
        let identified = parsed.identify().map_err(|_| Objection::Forged)?;
        if objection.is_none() && self.recent.contains(&identified.id()) {
            return Ok(Admitted::Known);
        }
        let event = self.verify_signature(identified).map_err(|_| Objection::Forged)?;
        objection.map_or_else(|| Ok(event.into()), Err)
    }

    /// Checks id and signature alone.
    ///
    /// # Errors
    /// `invalid: …`.
    pub fn verify(&self, parsed: ParsedEvent<'_>) -> Result<Event, Reason> {
        self.verify_signature(parsed.identify().map_err(refusal)?)
    }

    fn verify_signature(&self, identified: Identified<'_>) -> Result<Event, Reason> {
        VERIFIER.with_borrow_mut(|verifier| {
            verifier
                .get_or_insert_with(|| Verifier::new(self.hot_authors))
                .verify_signature(identified)
                .map_err(refusal)
        })
    }
}

impl From<Event> for Admitted {
    fn from(event: Event) -> Self {
        match event.class() {
            Class::Ephemeral => Self::Ephemeral(Arc::new(event)),
            _ => Self::Store(Arc::new(event)),
        }
    }
}

fn refusal(error: VerifyError) -> Reason {
    Reason::invalid(error.to_string())
}
