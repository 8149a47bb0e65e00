//! Decides about the events of a batch, one after the other, as if each were written before the next is
//! looked at. Touches nothing: what follows from it is for [`super::write`] to carry out.

use std::{collections::HashSet, sync::Arc};

use super::{
    key::{HashedAddress, Rank},
    known::Known,
};
use crate::{
    protocol::{Event, EventId, Fields, Timestamp, kind},
    store::{Outcome, Removed},
};

/// What a batch comes to.
#[derive(Debug, Default)]
pub struct Decided {
    pub outcomes: Vec<Outcome>,
    /// Events that stand when the batch is done. Not all that are stored: a later one of the batch may
    /// have taken them away.
    pub insert: Vec<Arc<Event>>,
    /// Events that requests take away.
    pub remove: Vec<Arc<Event>>,
    /// Events that better versions take the place of.
    pub superseded: Vec<Arc<Event>>,
    /// New winners of addresses.
    pub ranks: HashSet<HashedAddress>,
    /// Deletion requests and requests to vanish, whose marks are to be written.
    pub requests: Vec<Arc<Event>>,
    pub removed: Removed,
}

/// Decides about a batch. Afterwards `known` is what holds when the batch is done.
pub fn decide(batch: &[Arc<Event>], now: Timestamp, known: &mut Known) -> Decided {
    let mut decided = Decided::default();
    for event in batch {
        let outcome = Deciding { known, decided: &mut decided }.event(event, now);
        decided.outcomes.push(outcome);
    }
    decided
}

struct Deciding<'a> {
    known: &'a mut Known,
    decided: &'a mut Decided,
}

impl Deciding<'_> {
    /// The order of the questions is the contract of [`Store::write`](crate::store::Store::write), but for
    /// one: a copy is asked last whether it is one, because a row of an event that is gone may be left.
    fn event(&mut self, event: &Arc<Event>, now: Timestamp) -> Outcome {
        if event.is_expired(now) {
            return Outcome::Expired;
        }
        match self.known.refusal(event) {
            Some(Outcome::Deleted) => {
                // It is the winner of its address all the same, if it is the best so far.
                self.note_rank(event);
                return Outcome::Deleted;
            }
            Some(refusal) => return refusal,
            None => {}
        }
        if self.known.is_superseded(event) {
            return Outcome::Superseded;
        }
        if self.known.is_whole(event) {
            return Outcome::Duplicate;
        }
        self.note_rank(event);
        self.known.stored.insert(event.id(), Arc::clone(event));
        self.decided.insert.push(Arc::clone(event));
        match event.kind() {
            kind::DELETION => self.delete(event),
            kind::VANISH => self.vanish(event),
            _ => {}
        }
        Outcome::Stored
    }

    /// Notes a rank if it is the best so far, and takes away the version that it supersedes.
    fn note_rank(&mut self, event: &Event) {
        let Some(address) = HashedAddress::of(event) else { return };
        let rank = Rank::of(event);
        let best = self.known.best.get(&address).copied();
        if best.is_some_and(|best| best >= rank) {
            return;
        }
        if let Some(superseded) = best.and_then(|best| self.take_out(best.id())) {
            self.decided.superseded.push(superseded);
        }
        self.known.best.insert(address, rank);
        self.decided.ranks.insert(address);
    }

    fn remove(&mut self, id: EventId) {
        let event = self.take_out(id);
        self.decided.remove.extend(event);
    }

    fn take_out(&mut self, id: EventId) -> Option<Arc<Event>> {
        let event = self.known.stored.remove(&id)?;
        self.decided.insert.retain(|inserted| inserted.id() != id);
        self.decided.removed.ids.push(id);
        Some(event)
    }

    /// Carries out a deletion request (NIP-09).
    fn delete(&mut self, request: &Arc<Event>) {
        self.decided.requests.push(Arc::clone(request));
        let author = request.pubkey();
        for id in request.tags().values("e").filter_map(EventId::from_hex) {
            self.known.deleted_ids.insert((id, author));
            if self.known.stored.get(&id).is_some_and(|event| event.is_deletable_by(&author)) {
                self.remove(id);
            }
        }
        for address in HashedAddress::named_by(request) {
            let until = self.known.deleted_addresses.entry(address).or_default();
            *until = request.created_at().max(*until);
            let until = *until;
            if let Some(best) = self.known.best.get(&address)
                && best.created_at <= until
            {
                self.remove(best.id());
            }
        }
    }

    /// Carries out a request to vanish (NIP-62): what was stored before this batch is hidden, and removed by and by.
    fn vanish(&mut self, request: &Arc<Event>) {
        self.decided.requests.push(Arc::clone(request));
        let author = request.pubkey();
        let until = self.known.vanished.entry(author).or_default();
        *until = request.created_at().max(*until);
        let until = *until;
        let gone = self.decided.insert.iter().filter(|event| event.vanishes_with(&author, until));
        let gone: Vec<EventId> = gone.map(|event| event.id()).collect();
        gone.into_iter().for_each(|id| self.remove(id));
        self.decided.removed.many = true;
    }
}
