//! Lets through what may be served of the rows that were found: what is committed and current, and what the viewer may
//! see.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    batch::BatchId,
    chunk::{Body, Row},
    cql::Failure,
    hidden::Snapshot,
    key::{HashedAddress, Rank},
    known::{self, Known},
    settled::Settled,
    sweep::Leftovers,
    tables::{self, FoundEvent, Tables},
};
use crate::{
    protocol::{Event, EventId, Fields, Filter, PublicKey, Timestamp},
    store::Query,
};

pub struct Sieve {
    tables: Arc<Tables>,
    leftovers: Arc<Leftovers>,
    settled: Arc<Settled>,
}

/// Where a row stands in the answer.
pub type Place = (Timestamp, EventId);

/// An event that may be served.
pub struct Candidate {
    pub event: Arc<Event>,
    /// When a node accepted it, in milliseconds since 1970 by the clock of the servers.
    pub accepted_at: u64,
    /// The batch that wrote the row.
    batch: Option<BatchId>,
    /// Whether the event is known to be committed.
    committed: bool,
}

impl Sieve {
    pub fn new(tables: Arc<Tables>, leftovers: Arc<Leftovers>, settled: Arc<Settled>) -> Self {
        Self { tables, leftovers, settled }
    }

    /// What of these rows may be served, in their order: with the place of each, so that a page can end
    /// anywhere.
    pub async fn served(
        &self,
        rows: Vec<Row>,
        query: &Query,
        hidden: &Snapshot,
    ) -> Result<Vec<(Place, Option<Candidate>)>, Failure> {
        let mut places: Vec<(Place, Option<Candidate>)> =
            rows.iter().map(|row| ((row.created_at, row.id), None)).collect();
        let tables = &*self.tables;
        let mut read = Vec::new();
        for (index, row) in rows.into_iter().enumerate() {
            match row.body {
                Body::Text { text, accepted_at, batch, committed } => {
                    let event = tables::parse(&text)?;
                    places[index].1 = Some(Candidate { event, accepted_at, batch, committed });
                }
                Body::Fields { kind, pubkey } => {
                    if query.filters.iter().any(|(filter, _)| may_match(filter, kind, &pubkey)) {
                        read.push((index, row.id));
                    }
                }
                Body::Unread => read.push((index, row.id)),
            }
        }
        let texts = read
            .into_iter()
            .map(|(index, id)| async move { Ok::<_, Failure>((index, tables.find(id).await?)) });
        for (index, FoundEvent { event, accepted_at, batch, .. }) in tables.cql.all(texts).await? {
            places[index].1 = event.map(|event| Candidate { event, accepted_at, batch, committed: true });
        }
        for (_, found) in &mut places {
            *found = found.take().filter(|found| may_show(&found.event, query, hidden));
        }
        self.pass_over_unsettled(&mut places).await?;
        let addresses: BTreeSet<HashedAddress> =
            places.iter().filter_map(|(_, found)| HashedAddress::of(&found.as_ref()?.event)).collect();
        let winners = addresses
            .into_iter()
            .map(|address| async move { Ok::<_, Failure>((address, known::best(tables, address).await?)) });
        let winners: HashMap<HashedAddress, Option<Rank>> =
            tables.cql.all(winners).await?.into_iter().collect();
        for (_, found) in &mut places {
            let Some(Candidate { event, .. }) = found else { continue };
            let Some(address) = HashedAddress::of(event) else { continue };
            let (rank, best) = (Rank::of(event), winners.get(&address).copied().flatten());
            if best != Some(rank) {
                // A better one may still be on its way to its commit, a worse one is left over.
                if best.is_some_and(|best| best > rank) {
                    self.leftovers.add(Arc::clone(event));
                }
                *found = None;
            }
        }
        Ok(places)
    }

    /// Passes over what is not committed, or is deleted and not taken back yet. Of rows that may be of a batch whose
    /// writer has not come to the end, or never will, the row alone says nothing.
    async fn pass_over_unsettled(&self, places: &mut [(Place, Option<Candidate>)]) -> Result<(), Failure> {
        let is_doubtful =
            |found: &Candidate| !self.settled.covers(found.batch) && !self.settled.stands(&found.event.id());
        let mut doubtful: Vec<&mut Option<Candidate>> = places
            .iter_mut()
            .map(|(_, found)| found)
            .filter(|found| found.as_ref().is_some_and(is_doubtful))
            .collect();
        if doubtful.is_empty() {
            return Ok(());
        }
        let batches: Vec<BatchId> = doubtful.iter().filter_map(|found| found.as_ref()?.batch).collect();
        self.settled.learn(&batches).await?;
        doubtful.retain(|found| found.as_ref().is_some_and(is_doubtful));
        let looks = doubtful.into_iter().map(|found| async move {
            if let Some(candidate) = found
                && !self.stands(candidate).await?
            {
                *found = None;
            }
            Ok::<_, Failure>(())
        });
        self.tables.cql.all(looks.collect::<Vec<_>>()).await?;
        Ok(())
    }

    /// Whether an event is committed, and then no mark is against it: what its writer looks at before it answers.
    async fn stands(&self, Candidate { event, committed, .. }: &Candidate) -> Result<bool, Failure> {
        let id = event.id();
        if !committed && self.tables.find(id).await?.event.is_none() {
            return Ok(false);
        }
        let mut known = Known::default();
        known.load(&self.tables, known::marks(event)).await?;
        let stands = known.refusal(event).is_none();
        if stands {
            self.settled.note_standing(id);
        }
        Ok(stands)
    }
}

/// Whether an event may match a filter, by its row alone.
fn may_match(filter: &Filter, kind: u16, pubkey: &PublicKey) -> bool {
    filter.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&kind).is_ok())
        && filter.authors.as_ref().is_none_or(|authors| authors.binary_search(pubkey).is_ok())
}

fn may_show(event: &Event, query: &Query, hidden: &Snapshot) -> bool {
    query.viewer.may_see(event)
        && !event.is_expired(query.now)
        && !hidden.hides(event)
        && query.filters.iter().any(|(filter, _)| filter.matches(event))
}
