//! What the tables say of the events, addresses and authors that a batch is about, and what a batch has
//! changed of it so far.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use super::{
    batch::BatchId,
    cql::{Failure, blob, kind as kind_column},
    key::{HashedAddress, Rank, seconds},
    tables::{FoundEvent, Tables},
};
use crate::{
    protocol::{Event, EventId, Fields, PublicKey, Timestamp, kind},
    store::Outcome,
};

/// One question to the tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Lookup {
    Event(EventId),
    Best(HashedAddress),
    DeletedId(EventId, PublicKey),
    DeletedAddress(HashedAddress),
    Vanished(PublicKey),
}

/// What the tables say to one question.
enum Finding {
    Event(EventId, FoundEvent),
    Best(HashedAddress, Option<Rank>),
    DeletedId(EventId, PublicKey, bool),
    DeletedAddress(HashedAddress, Option<Timestamp>),
    Vanished(PublicKey, Option<Timestamp>),
}

/// What they say to all questions.
#[derive(Debug, Default)]
pub struct Known {
    /// Committed events, by id.
    pub stored: HashMap<EventId, Arc<Event>>,
    /// When they were accepted, in milliseconds since 1970.
    pub accepted_at: HashMap<EventId, u64>,
    /// Who committed them.
    pub batches: HashMap<EventId, BatchId>,
    /// How often events were swept, of those that were.
    pub swept: HashMap<EventId, i32>,
    /// The best version ever seen of each address.
    pub best: HashMap<HashedAddress, Rank>,
    pub deleted_ids: HashSet<(EventId, PublicKey)>,
    pub deleted_addresses: HashMap<HashedAddress, Timestamp>,
    pub vanished: HashMap<PublicKey, Timestamp>,
}

/// What has to be known to decide about an event.
pub fn lookups(event: &Event) -> BTreeSet<Lookup> {
    let mut lookups = marks(event);
    lookups.insert(Lookup::Event(event.id()));
    lookups.extend(HashedAddress::of(event).map(Lookup::Best));
    if event.kind() == kind::DELETION {
        lookups.extend(targets(event));
    }
    lookups
}

/// The marks that would take an event away.
pub fn marks(event: &Event) -> BTreeSet<Lookup> {
    let mut lookups = BTreeSet::new();
    for owner in owners(event) {
        if !matches!(event.kind(), kind::DELETION | kind::VANISH) {
            lookups.insert(Lookup::DeletedId(event.id(), owner));
        }
        if event.kind() != kind::VANISH {
            lookups.insert(Lookup::Vanished(owner));
        }
    }
    lookups.extend(HashedAddress::of(event).map(Lookup::DeletedAddress));
    lookups
}

/// What a deletion request may take away.
pub fn targets(request: &Event) -> BTreeSet<Lookup> {
    let ids = request.tags().values("e").filter_map(EventId::from_hex).map(Lookup::Event);
    ids.chain(HashedAddress::named_by(request).map(Lookup::Best)).collect()
}

/// Whoever may delete an event: its author, and the recipients of a gift wrap (NIP-59).
fn owners(event: &Event) -> Vec<PublicKey> {
    let mut owners = vec![event.pubkey()];
    if event.kind() == kind::GIFT_WRAP {
        owners.extend(event.tags().values("p").filter_map(PublicKey::from_hex));
    }
    owners
}

impl Known {
    /// Asks the tables, and adds what they say. Of each address the winner is fetched, too.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn load(&mut self, tables: &Tables, lookups: BTreeSet<Lookup>) -> Result<(), Failure> {
        let asked: HashSet<EventId> = lookups.iter().filter_map(Lookup::event).collect();
        let first = tables.cql.all(lookups.into_iter().map(|lookup| ask(tables, lookup))).await?;
        let mut winners = BTreeSet::new();
        for finding in first {
            if let Finding::Best(_, Some(best)) = &finding
                && !asked.contains(&best.id())
            {
                winners.insert(Lookup::Event(best.id()));
            }
            self.add(finding);
        }
        let second = tables.cql.all(winners.into_iter().map(|lookup| ask(tables, lookup))).await?;
        second.into_iter().for_each(|finding| self.add(finding));
        Ok(())
    }

    fn add(&mut self, finding: Finding) {
        match finding {
            Finding::Event(id, FoundEvent { event, accepted_at, swept, batch }) => {
                self.accepted_at.insert(id, accepted_at);
                self.batches.extend(batch.map(|batch| (id, batch)));
                self.stored.extend(event.map(|event| (id, event)));
                self.swept.insert(id, swept);
            }
            Finding::Best(address, best) => self.best.extend(best.map(|best| (address, best))),
            Finding::DeletedId(id, author, deleted) => {
                self.deleted_ids.extend(deleted.then_some((id, author)));
            }
            Finding::DeletedAddress(address, until) => {
                self.deleted_addresses.extend(until.map(|until| (address, until)));
            }
            Finding::Vanished(author, until) => self.vanished.extend(until.map(|until| (author, until))),
        }
    }

    /// Why a mark refuses the event, if one does.
    pub fn refusal(&self, event: &Event) -> Option<Outcome> {
        let created_at = event.created_at();
        let owners = owners(event);
        let reaches = |until: Option<&Timestamp>| until.is_some_and(|until| created_at <= *until);
        let is_vanished = |owner: &PublicKey| {
            self.vanished.get(owner).is_some_and(|until| event.vanishes_with(owner, *until))
        };
        let is_deleted = |owner: &PublicKey| {
            event.is_deletable_by(owner) && self.deleted_ids.contains(&(event.id(), *owner))
        };
        if owners.iter().any(is_vanished) {
            return Some(Outcome::Vanished);
        }
        let address = HashedAddress::of(event);
        let by_address = address.and_then(|address| self.deleted_addresses.get(&address));
        (owners.iter().any(is_deleted) || reaches(by_address)).then_some(Outcome::Deleted)
    }

    /// Whether the event is stored and, where it has an address, was noted as a version of it: else its
    /// writer did not come to the end.
    pub fn is_whole(&self, event: &Event) -> bool {
        let is_noted =
            |address: &HashedAddress| self.best.get(address).is_some_and(|best| *best >= Rank::of(event));
        self.stored.contains_key(&event.id()) && HashedAddress::of(event).as_ref().is_none_or(is_noted)
    }

    /// Whether a better version of the event's address is known.
    pub fn is_superseded(&self, event: &Event) -> bool {
        let best = HashedAddress::of(event).and_then(|address| self.best.get(&address));
        best.is_some_and(|best| *best > Rank::of(event))
    }
}

impl Lookup {
    fn event(&self) -> Option<EventId> {
        match self {
            Self::Event(id) => Some(*id),
            _ => None,
        }
    }
}

async fn ask(tables: &Tables, lookup: Lookup) -> Result<Finding, Failure> {
    let (cql, statements) = (&tables.cql, &tables.cql.statements);
    let to_values = |HashedAddress { pubkey, kind, d }| vec![blob(pubkey.0), kind_column(kind), blob(d)];
    type Number = Option<(Option<i64>,)>;
    let read_time = |row: Number| row.and_then(|(number,)| number).map(seconds);
    Ok(match lookup {
        Lookup::Event(id) => Finding::Event(id, tables.find(id).await?),
        Lookup::Best(of) => Finding::Best(of, best(tables, of).await?),
        Lookup::DeletedId(id, author) => {
            let row: Number = cql.first(&statements.get_id_mark, vec![blob(id.0), blob(author.0)]).await?;
            Finding::DeletedId(id, author, row.is_some())
        }
        Lookup::DeletedAddress(of) => Finding::DeletedAddress(
            of,
            read_time(cql.first(&statements.get_address_mark, to_values(of)).await?),
        ),
        Lookup::Vanished(author) => {
            let row = cql.first(&statements.get_author_mark, vec![blob(author.0)]).await?;
            Finding::Vanished(author, read_time(row))
        }
    })
}

/// The best version of an address ever seen.
///
/// # Errors
/// When the servers refuse.
pub async fn best(tables: &Tables, address: HashedAddress) -> Result<Option<Rank>, Failure> {
    let values = vec![blob(address.pubkey.0), kind_column(address.kind), blob(address.d)];
    let row: Option<(Option<Vec<u8>>,)> = tables.cql.first(&tables.cql.statements.get_best, values).await?;
    Ok(row.and_then(|(best,)| best).as_deref().and_then(Rank::parse))
}
