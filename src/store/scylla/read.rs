//! Answers queries and counts: merges the candidates of all filters, looks at some of them at a time, and
//! stops at the limits.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use super::{
    batch::BatchId,
    cql::Failure,
    hidden::{Hidden, Snapshot},
    index::Key,
    key::{HashedAddress, Rank},
    known::{self, Known},
    merge::{Asked, Body, Merge, Paused, Row},
    plan::{Plan, plan},
    positions::Positions,
    settled::Settled,
    sweep::Leftovers,
    tables::{self, FoundEvent, Tables},
};
use crate::{
    clock::Moment,
    config,
    protocol::{Event, EventId, Fields, Filter, Timestamp, hll::HyperLogLog},
    store::{Counted, Cursor, End, Entry, FilterProgress, Kept, Page, Query},
};

/// What a statement counts for in the budget of a question, in rows.
const STATEMENT_ROWS: usize = 10;
/// Rows looked at in one page.
const PAGE_SCANNED: usize = 2_000;

pub struct Reader {
    tables: Arc<Tables>,
    hidden: Arc<Hidden>,
    positions: Arc<Positions>,
    leftovers: Arc<Leftovers>,
    settled: Arc<Settled>,
    bounds: QueryBounds,
}

/// Where a row stands in the answer.
type Place = (Timestamp, EventId);

/// An event that may be served.
struct Candidate {
    event: Arc<Event>,
    /// When a node accepted it, in milliseconds since 1970 by the clock of the servers.
    accepted_at: u64,
    /// Of whoever wrote the row.
    batch: Option<BatchId>,
    /// Whether it is known to be committed.
    committed: bool,
}

/// Where the candidates of a filter are.
enum Candidates {
    Under(Vec<Key>),
    Known { ids: usize, rows: Vec<Row> },
}

/// How much work one question may make.
#[derive(Debug, Clone, Copy)]
pub struct QueryBounds {
    pub page_bytes: usize,
    pub page_rows: usize,
    pub query_rows: usize,
    pub count_rows: usize,
}

impl From<&config::Scylla> for QueryBounds {
    fn from(config: &config::Scylla) -> Self {
        let config::Scylla { page_bytes, page_rows, query_rows, count_rows, .. } = *config;
        Self { page_bytes, page_rows, query_rows, count_rows }
    }
}

impl Reader {
    pub fn new(
        tables: Arc<Tables>,
        hidden: Arc<Hidden>,
        positions: Arc<Positions>,
        leftovers: Arc<Leftovers>,
        settled: Arc<Settled>,
        bounds: QueryBounds,
    ) -> Self {
        Self { tables, hidden, positions, leftovers, settled, bounds }
    }

    /// Reads one page.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn page(&self, query: &Query, mut cursor: Cursor) -> Result<Page, Failure> {
        let hidden = self.hidden.snapshot(&self.tables.cql).await?;
        let paused = cursor.kept.take::<Paused>().filter(|paused| paused.at == cursor.after);
        let mut event_bytes = paused.as_ref().map_or(0, |paused| paused.event_bytes);
        let mut merge = match paused {
            Some(paused) => Merge::resume(&self.tables.cql, paused, self.bounds.page_rows),
            None => {
                let open: Vec<usize> = cursor.progress.iter().map(wanted).collect();
                self.merge(query, cursor.after, &open).await?
            }
        };
        let mut page = Page::of(query.content);
        page.effort.plan = merge.plan.clone();
        // Those that were read, and of them those that the page has come to.
        let (mut read, mut looked_at) = (0, 0);
        loop {
            let rows = merge.take(self.portion(&cursor, &page, event_bytes)).await?;
            if rows.is_empty() {
                page.end = End::of(&cursor.progress);
                return Ok(page);
            }
            read += rows.len();
            let mut served = self.served(rows, query, &hidden).await?.into_iter();
            while let Some((place, found)) = served.next() {
                looked_at += 1;
                page.effort.rows = looked_at;
                if let Some(found) = found {
                    self.offer(&found, query, &mut cursor, &mut page, &mut merge);
                }
                if !cursor.progress.iter().any(FilterProgress::is_open) {
                    page.end = End::of(&cursor.progress);
                    return Ok(page);
                }
                let is_full = page.bytes() >= self.bounds.page_bytes || looked_at >= PAGE_SCANNED;
                let scanned = cursor.scanned + read + merge.statements * STATEMENT_ROWS;
                if is_full && scanned < self.bounds.query_rows {
                    let unseen = served.filter_map(|(place, found)| found.map(|_| place)).collect();
                    event_bytes = page.bytes().checked_div(page.len()).unwrap_or(event_bytes);
                    cursor.after = Some(place);
                    cursor.scanned = scanned;
                    cursor.kept = Kept::new(merge.pause(place, unseen, event_bytes));
                    page.next = Some(cursor);
                    return Ok(page);
                }
                if is_full {
                    break;
                }
            }
            if cursor.scanned + read + merge.statements * STATEMENT_ROWS >= self.bounds.query_rows {
                page.end = End::Unknown;
                return Ok(page);
            }
        }
    }

    /// How many rows are looked at next: about as many as fill the page, if events are as large as those before and as
    /// many of the rows are served. What does not fit is read again.
    fn portion(&self, cursor: &Cursor, page: &Page, event_bytes: usize) -> usize {
        let open = cursor.progress.iter().map(wanted).fold(0, usize::saturating_add);
        let room = self.bounds.page_bytes.saturating_sub(page.bytes());
        let event_bytes = page.bytes().checked_div(page.len()).unwrap_or(event_bytes);
        let events = room.checked_div(event_bytes).map_or(usize::MAX, |events| events + 1);
        let rows_of_event = page.effort.rows.div_ceil(page.len().max(1)).max(1);
        open.min(events.saturating_mul(rows_of_event)).clamp(1, self.bounds.page_rows.max(1))
    }

    /// Hands an event to the filters that match it, and puts it on the page if one wants it.
    fn offer(
        &self,
        found: &Candidate,
        query: &Query,
        cursor: &mut Cursor,
        page: &mut Page,
        merge: &mut Merge<'_>,
    ) {
        let event = &*found.event;
        let filters = query.filters.iter().enumerate();
        let matching: Vec<usize> =
            filters.filter(|(_, (filter, _))| filter.matches(event)).map(|(index, _)| index).collect();
        let was_open: Vec<bool> = matching.iter().map(|&index| cursor.progress[index].is_open()).collect();
        let created_at = event.created_at();
        if FilterProgress::offer(&mut cursor.progress, &matching, created_at) {
            let id = event.id();
            let position = self.positions.of(&id);
            // Also of what this node accepted: if its write failed, another node may store and publish it.
            let accepted_at = Some(self.tables.cql.clock.latest(found.accepted_at, Moment::now()));
            page.push(Entry { id, created_at, position, accepted_at, json: event.json() });
        }
        for (&index, was_open) in matching.iter().zip(was_open) {
            if was_open && !cursor.progress[index].is_open() {
                merge.close(index);
            }
        }
    }

    /// Counts what matches any of the filters.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn count(&self, query: &Query) -> Result<Counted, Failure> {
        let hidden = self.hidden.snapshot(&self.tables.cql).await?;
        let open = vec![usize::MAX; query.filters.len()];
        let mut merge = self.merge(query, None, &open).await?;
        let hll = match &*query.filters {
            [(filter, _)] => HyperLogLog::for_filter(filter),
            _ => None,
        };
        let mut counted = Counted { count: 0, approximate: false, hll };
        let mut looked_at = 0;
        loop {
            let rows = merge.take(self.bounds.page_rows.max(1)).await?;
            if rows.is_empty() {
                return Ok(counted);
            }
            looked_at += rows.len();
            let served = self.served(rows, query, &hidden).await?;
            for found in served.into_iter().filter_map(|(_, found)| found) {
                counted.count += 1;
                if let Some(hll) = &mut counted.hll {
                    hll.add(&found.event.pubkey());
                }
            }
            if looked_at + merge.statements * STATEMENT_ROWS >= self.bounds.count_rows {
                counted.approximate = true;
                return Ok(counted);
            }
        }
    }

    /// The candidates of all filters of which something is wanted.
    async fn merge(
        &self,
        query: &Query,
        after: Option<(Timestamp, EventId)>,
        wanted: &[usize],
    ) -> Result<Merge<'_>, Failure> {
        let mut merge = Merge::new(&self.tables.cql, after, self.bounds.page_rows);
        // All filters at once, as there may be hundreds.
        let open: Vec<usize> = (0..query.filters.len()).filter(|&index| wanted[index] > 0).collect();
        let plans = open.into_iter().map(|index| async move {
            let candidates = match plan(&self.tables, &query.filters[index].0).await? {
                Plan::Keys(keys) => Candidates::Under(keys),
                Plan::Ids(ids) => Candidates::Known { ids: ids.len(), rows: self.known_rows(ids).await? },
            };
            Ok::<_, Failure>((index, candidates))
        });
        let mut plans = self.tables.cql.all(plans).await?;
        plans.sort_unstable_by_key(|(index, _)| *index);
        let mut asked = Vec::new();
        for (index, candidates) in plans {
            let filter = &query.filters[index].0;
            let window = (filter.since.unwrap_or_default(), filter.until.unwrap_or(Timestamp::MAX));
            match candidates {
                Candidates::Under(keys) => {
                    merge.plan.push((keys.first().map_or("none", Key::name), keys.len()));
                    asked.push(Asked { group: index, keys, window, wanted: wanted[index] });
                }
                Candidates::Known { ids, rows } => {
                    merge.plan.push(("id", ids));
                    merge.statements += ids;
                    merge.add_rows(index, rows, window);
                }
            }
        }
        merge.add(asked).await?;
        Ok(merge)
    }

    /// The rows of known ids. Of many, only where they stand: their texts are read when their turn comes.
    async fn known_rows(&self, ids: Vec<EventId>) -> Result<Vec<Row>, Failure> {
        let tables = &*self.tables;
        if ids.len() > self.bounds.page_rows {
            let rows = ids.into_iter().map(|id| async move {
                let at = tables::created_at(&tables.cql, id).await?;
                Ok::<_, Failure>(at.map(|created_at| Row { created_at, id, body: Body::Unread }))
            });
            return Ok(tables.cql.all(rows).await?.into_iter().flatten().collect());
        }
        let rows = ids.into_iter().map(|id| async move {
            let FoundEvent { event, accepted_at, batch, .. } = tables.find(id).await?;
            Ok::<_, Failure>(event.map(|event| {
                let text = event.json().to_owned();
                let body = Body::Text { text, accepted_at, batch, committed: true };
                Row { created_at: event.created_at(), id, body }
            }))
        });
        Ok(tables.cql.all(rows).await?.into_iter().flatten().collect())
    }

    /// What of these rows may be served, in their order: with the place of each, so that a page can end
    /// anywhere.
    async fn served(
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

/// How many events a filter still asks for: with the one that shows that there are more.
fn wanted(progress: &FilterProgress) -> usize {
    match *progress {
        FilterProgress::Wanted { left, .. } => left.saturating_add(1),
        FilterProgress::Boundary { left, .. } => left + 1,
        FilterProgress::More | FilterProgress::Unknown => 0,
    }
}

/// What the row alone can rule out.
fn may_match(filter: &Filter, kind: u16, pubkey: &crate::protocol::PublicKey) -> bool {
    filter.kinds.as_ref().is_none_or(|kinds| kinds.binary_search(&kind).is_ok())
        && filter.authors.as_ref().is_none_or(|authors| authors.binary_search(pubkey).is_ok())
}

fn may_show(event: &Event, query: &Query, hidden: &Snapshot) -> bool {
    query.viewer.may_see(event)
        && !event.is_expired(query.now)
        && !hidden.hides(event)
        && query.filters.iter().any(|(filter, _)| filter.matches(event))
}
