//! Lets through what may be served of the rows that were found: what is committed and current, and what the viewer may
//! see.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashMap},
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
    protocol::{Event, EventId, Filter, PublicKey, Timestamp},
    store::Query,
};

/// How often what took the place of a version is looked up: each time it was superseded itself meanwhile.
const LOOKS: usize = 8;

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

    /// What of these rows may be served, newest first: with the place of each, so that a page can end anywhere.
    /// `begins`: the walk has read nothing before them.
    ///
    /// A version that has been superseded may be there without the one that took its place, which was written after
    /// the rows were read. That one is looked up: of an address that always has a version, one is served.
    pub async fn served(
        &self,
        rows: Vec<Row>,
        query: &Query,
        hidden: &Snapshot,
        begins: bool,
    ) -> Result<Vec<(Place, Option<Candidate>)>, Failure> {
        let mut places: Vec<(Place, Option<Candidate>)> =
            rows.iter().map(|row| ((row.created_at, row.id), None)).collect();
        let first = rows.first().map(|row| Rank::new(row.created_at, row.id));
        // The walk has come by where better ones stand, and may have served them.
        let was_passed = |best: &Rank| !begins && first.is_some_and(|first| *best > first);
        let mut found = self.read(rows, query).await?;
        let mut looks = 0;
        loop {
            found.retain(|(_, found)| may_show(&found.event, query, hidden));
            self.pass_over_unsettled(&mut found).await?;
            let mut winners = self.pass_over_superseded(&mut found).await?;
            for (index, found) in found {
                places[index] = ((found.event.created_at(), found.event.id()), Some(found));
            }
            winners.retain(|best, _| {
                let is_served = |(_, found): &(Place, Option<Candidate>)| {
                    found.as_ref().is_some_and(|found| found.event.id() == best.id())
                };
                !was_passed(best) && !places.iter().any(is_served)
            });
            if winners.is_empty() || looks == LOOKS {
                break;
            }
            looks += 1;
            let winners = winners.into_iter().map(|(best, index)| (index, best.id()));
            found = self.look_up(winners).await?;
        }
        if looks > 0 {
            places.sort_by_key(|((created_at, id), _)| Reverse(Rank::new(*created_at, *id)));
        }
        Ok(places)
    }

    /// The events of rows, by the numbers of the rows: of those that may match.
    async fn read(&self, rows: Vec<Row>, query: &Query) -> Result<Vec<(usize, Candidate)>, Failure> {
        let (mut found, mut unread) = (Vec::new(), Vec::new());
        for (index, row) in rows.into_iter().enumerate() {
            match row.body {
                Body::Text { text, accepted_at, batch, committed } => {
                    let event = tables::parse(&text)?;
                    found.push((index, Candidate { event, accepted_at, batch, committed }));
                }
                Body::Fields { kind, pubkey } => {
                    if query.filters.iter().any(|(filter, _)| may_match(filter, kind, &pubkey)) {
                        unread.push((index, row.id));
                    }
                }
                Body::Unread => unread.push((index, row.id)),
            }
        }
        found.extend(self.look_up(unread).await?);
        Ok(found)
    }

    /// Those of these events that are committed.
    async fn look_up(
        &self,
        ids: impl IntoIterator<Item = (usize, EventId)>,
    ) -> Result<Vec<(usize, Candidate)>, Failure> {
        let tables = &*self.tables;
        let looks = ids
            .into_iter()
            .map(|(index, id)| async move { Ok::<_, Failure>((index, tables.find(id).await?)) });
        let found = tables.cql.all(looks).await?.into_iter();
        let committed = found.filter_map(|(index, FoundEvent { event, accepted_at, batch, .. })| {
            event.map(|event| (index, Candidate { event, accepted_at, batch, committed: true }))
        });
        Ok(committed.collect())
    }

    /// Passes over versions that are not the best of their address. Where there is a better one, it is told, and where
    /// one stood that it has superseded.
    async fn pass_over_superseded(
        &self,
        found: &mut Vec<(usize, Candidate)>,
    ) -> Result<BTreeMap<Rank, usize>, Failure> {
        let tables = &*self.tables;
        let addresses: BTreeSet<HashedAddress> =
            found.iter().filter_map(|(_, found)| HashedAddress::of(&found.event)).collect();
        let bests = addresses
            .into_iter()
            .map(|address| async move { Ok::<_, Failure>((address, known::best(tables, address).await?)) });
        let bests: HashMap<HashedAddress, Option<Rank>> = tables.cql.all(bests).await?.into_iter().collect();
        let mut better = BTreeMap::new();
        found.retain(|(index, Candidate { event, .. })| {
            let Some(address) = HashedAddress::of(event) else { return true };
            let (rank, best) = (Rank::of(event), bests.get(&address).copied().flatten());
            if let Some(best) = best.filter(|best| *best > rank) {
                self.leftovers.add(Arc::clone(event));
                better.insert(best, *index);
            }
            // One that is better than the best is on its way to its commit.
            best == Some(rank)
        });
        Ok(better)
    }

    /// Passes over what is not committed, or is deleted and not taken back yet. Of rows that may be of a batch whose
    /// writer has not come to the end, or never will, the row alone says nothing.
    async fn pass_over_unsettled(&self, found: &mut Vec<(usize, Candidate)>) -> Result<(), Failure> {
        let is_doubtful =
            |found: &Candidate| !self.settled.covers(found.batch) && !self.settled.stands(&found.event.id());
        let doubtful = || found.iter().filter(|(_, found)| is_doubtful(found));
        let batches: Vec<BatchId> = doubtful().filter_map(|(_, found)| found.batch).collect();
        if doubtful().next().is_none() {
            return Ok(());
        }
        self.settled.learn(&batches).await?;
        let looks = doubtful()
            .map(|(index, found)| async move { Ok::<_, Failure>((*index, self.stands(found).await?)) });
        let stands: HashMap<usize, bool> =
            self.tables.cql.all(looks.collect::<Vec<_>>()).await?.into_iter().collect();
        found.retain(|(index, _)| stands.get(index).copied().unwrap_or(true));
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
    filter.matches_kind(kind)
        && filter.authors.as_ref().is_none_or(|authors| authors.binary_search(pubkey).is_ok())
}

fn may_show(event: &Event, query: &Query, hidden: &Snapshot) -> bool {
    query.may_serve(event)
        && !hidden.hides(event)
        && query.filters.iter().any(|(filter, _)| filter.matches(event))
}
