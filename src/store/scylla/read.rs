//! Answers queries and counts: merges the candidates of all filters, looks at some of them at a time, and
//! stops at the limits.

use std::sync::Arc;

use super::{
    chunk::{Body, Row},
    cql::Failure,
    hidden::Hidden,
    index::Key,
    merge::{Asked, Merge, Paused},
    plan::{Plan, plan},
    positions::Positions,
    settled::Settled,
    sieve::{Candidate, Sieve},
    sweep::Leftovers,
    tables::{self, FoundEvent, Tables},
};
use crate::{
    clock::Moment,
    config,
    protocol::{EventId, Timestamp, hll::HyperLogLog},
    store::{Counted, Cursor, End, Entry, FilterProgress, Kept, Page, Query},
};

/// How many rows a statement counts as in the budget of a question.
const STATEMENT_ROWS: usize = 10;
/// Rows looked at in one page.
const PAGE_SCANNED: usize = 2_000;

pub struct Reader {
    tables: Arc<Tables>,
    hidden: Arc<Hidden>,
    positions: Arc<Positions>,
    sieve: Sieve,
    bounds: QueryBounds,
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
        let sieve = Sieve::new(Arc::clone(&tables), leftovers, settled);
        Self { tables, hidden, positions, sieve, bounds }
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
        // Rows that were read, and how many of them the page has come to.
        let (mut read, mut looked_at) = (0, 0);
        loop {
            let rows = merge.take(self.portion(&cursor, &page, event_bytes)).await?;
            if rows.is_empty() {
                page.end = End::of(&cursor.progress);
                return Ok(page);
            }
            read += rows.len();
            let begins = cursor.after.is_none() && looked_at == 0;
            let mut served = self.sieve.served(rows, query, &hidden, begins).await?.into_iter();
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
            let json = &query.content.text(event.json(), &event.pubkey());
            page.push(Entry { id, created_at, position, accepted_at, json });
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
            let begins = looked_at == 0;
            looked_at += rows.len();
            let served = self.sieve.served(rows, query, &hidden, begins).await?;
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
}

/// How many events a filter still asks for: with the one that shows that there are more.
fn wanted(progress: &FilterProgress) -> usize {
    match *progress {
        FilterProgress::Wanted { left, .. } => left.saturating_add(1),
        FilterProgress::Boundary { left, .. } => left + 1,
        FilterProgress::More | FilterProgress::Unknown => 0,
    }
}
