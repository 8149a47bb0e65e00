//! Answers queries and counts: merges the scans of the filters, looks at each candidate once, stops
//! at the limits. A read transaction lives for one page.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, binary_heap::PeekMut},
};

use heed::{Env, RoTxn, WithoutTls};

use super::{
    hidden::{Hidden, Snapshot},
    records::RecordRange,
    scan::{Head, Scan},
    schema::{Tables, Tail},
    stored_event::StoredEvent,
};
use crate::{
    config,
    protocol::{Fields, Filter, hll::HyperLogLog},
    store::{
        Content, Counted, Cursor, End, Entry, FilterProgress, Page, Query,
        records::{self, RecordKind},
    },
};

/// Answers questions. Cheap to clone, one for each reading thread.
#[derive(Clone)]
pub struct Reader {
    env: Env<WithoutTls>,
    tables: Tables,
    hidden: Hidden,
    bounds: QueryBounds,
}

/// How much work one question may make.
#[derive(Debug, Clone, Copy)]
pub struct QueryBounds {
    pub page_bytes: usize,
    pub page_entries: usize,
    pub query_entries: usize,
    pub count_entries: usize,
}

impl From<&config::Lmdb> for QueryBounds {
    fn from(config: &config::Lmdb) -> Self {
        let config::Lmdb { page_bytes, page_entries, query_entries, count_entries, .. } = *config;
        Self { page_bytes, page_entries, query_entries, count_entries }
    }
}

/// The scans of the filters, walked together.
struct Merge<'t, 'q> {
    /// `None` for a filter that wants no more.
    scans: Vec<Option<Scan<'t>>>,
    /// Where the next candidate of each stands, and which it is. A REQ may have hundreds of filters.
    heads: BinaryHeap<Reverse<(Tail, usize)>>,
    query: &'q Query,
    tables: &'t Tables,
    txn: &'t RoTxn<'t>,
    hidden: Snapshot,
    scanned: usize,
}

/// A candidate that may be shown to the viewer, and the filters that it matches.
struct Found<'t> {
    record: StoredEvent<'t>,
    position: u64,
    /// Indices into the filters of the query.
    filters: Vec<usize>,
}

impl Reader {
    pub fn new(env: Env<WithoutTls>, tables: Tables, hidden: Hidden, bounds: QueryBounds) -> Self {
        Self { env, tables, hidden, bounds }
    }

    /// Reads a record of the relay itself.
    pub fn record(&self, kind: RecordKind, key: &str) -> heed::Result<Option<records::Record>> {
        super::records::get(&self.env, &self.tables, kind, key)
    }

    /// Reads a page of records.
    pub fn records(&self, span: &RecordRange) -> heed::Result<records::Listed> {
        super::records::list(&self.env, &self.tables, span)
    }

    /// Reads one page.
    pub fn page(&self, query: &Query, mut cursor: Cursor) -> heed::Result<Page> {
        let hidden = self.hidden.snapshot();
        let txn = self.env.read_txn()?;
        let after = cursor.after.map(|(created_at, id)| Tail::new(created_at, &id));
        let open = |filter: usize| cursor.progress[filter].is_open();
        let mut merge = Merge::new(query, &self.tables, &txn, hidden, after, open)?;
        let mut page = Page::of(query.content);
        page.effort.plan = merge.scans.iter().flatten().map(|scan| scan.source).collect();
        while let Some(tail) = merge.peek() {
            let found = merge.take(tail)?;
            page.effort.rows = merge.scanned;
            if let Some(found) = found {
                let created_at = found.record.created_at();
                let wanted = FilterProgress::offer(&mut cursor.progress, &found.filters, created_at);
                for filter in found.filters {
                    if !cursor.progress[filter].is_open() {
                        merge.close(filter);
                    }
                }
                // Where only keys are wanted, the text is not looked at.
                let json = if query.content == Content::Events { found.record.json() } else { Some("") };
                if wanted && let Some(json) = json {
                    page.push(Entry {
                        id: *found.record.id(),
                        created_at,
                        position: found.position,
                        accepted_at: None,
                        json: &query.content.text(json, found.record.pubkey()),
                    });
                }
            }
            if cursor.scanned + merge.scanned >= self.bounds.query_entries {
                page.end = End::Unknown;
                return Ok(page);
            }
            if page.bytes() >= self.bounds.page_bytes || merge.scanned >= self.bounds.page_entries {
                cursor.after = Some((tail.created_at(), tail.id_bound()));
                cursor.scanned += merge.scanned;
                page.next = Some(cursor);
                return Ok(page);
            }
        }
        page.end = End::of(&cursor.progress);
        Ok(page)
    }

    /// Counts what matches any of the filters.
    pub fn count(&self, query: &Query) -> heed::Result<Counted> {
        let hidden = self.hidden.snapshot();
        let txn = self.env.read_txn()?;
        let mut merge = Merge::new(query, &self.tables, &txn, hidden, None, |_| true)?;
        let hll = match &*query.filters {
            [(filter, _)] => HyperLogLog::for_filter(filter),
            _ => None,
        };
        let mut counted = Counted { count: 0, approximate: false, hll };
        while let Some(tail) = merge.peek() {
            if let Some(found) = merge.take(tail)? {
                counted.count += 1;
                if let Some(hll) = &mut counted.hll {
                    hll.add(found.record.pubkey());
                }
            }
            if merge.scanned >= self.bounds.count_entries {
                counted.approximate = true;
                break;
            }
        }
        Ok(counted)
    }
}

impl<'t, 'q> Merge<'t, 'q> {
    fn new(
        query: &'q Query,
        tables: &'t Tables,
        txn: &'t RoTxn<'t>,
        hidden: Snapshot,
        after: Option<Tail>,
        open: impl Fn(usize) -> bool,
    ) -> heed::Result<Self> {
        let mut scans = Vec::with_capacity(query.filters.len());
        let mut heads = BinaryHeap::new();
        for (index, (filter, _)) in query.filters.iter().enumerate() {
            scans.push(match open(index) {
                true => Some(Scan::new(filter, tables, txn, after)?),
                false => None,
            });
            let head = scans[index].as_ref().and_then(Scan::peek);
            heads.extend(head.map(|head| Reverse((head.tail, index))));
        }
        Ok(Self { scans, heads, query, tables, txn, hidden, scanned: 0 })
    }

    /// Reads no more for a filter.
    fn close(&mut self, filter: usize) {
        self.scans[filter] = None;
    }

    /// Where the next candidate of any filter stands.
    fn peek(&mut self) -> Option<Tail> {
        while let Some(&Reverse((tail, filter))) = self.heads.peek() {
            if self.scans[filter].is_some() {
                return Some(tail);
            }
            self.heads.pop();
        }
        None
    }

    /// Steps over the candidate at `tail`; `Some` where the viewer may see it and a filter matches.
    fn take(&mut self, tail: Tail) -> heed::Result<Option<Found<'t>>> {
        let mut filters = Vec::new();
        let mut at = None;
        while let Some(mut first) = self.heads.peek_mut()
            && first.0.0 == tail
        {
            let Reverse((_, index)) = *first;
            let scan = &mut self.scans[index];
            let Some(head) = scan.as_mut().map(Scan::step).transpose()?.flatten() else {
                PeekMut::pop(first);
                continue;
            };
            // Put in place: with one filter, which is most often so, the heap has nothing to sift.
            match scan.as_ref().and_then(Scan::peek) {
                Some(next) => *first = Reverse((next.tail, index)),
                None => {
                    PeekMut::pop(first);
                }
            }
            self.scanned += 1;
            if may_match(&self.query.filters[index].0, head) {
                filters.push(index);
                at = Some(head.row.position);
            }
        }
        let Some(position) = at else { return Ok(None) };
        let bytes = self.tables.event.get(self.txn, &position.to_be_bytes())?;
        let Some(record) = bytes.and_then(StoredEvent::decode) else { return Ok(None) };
        if !self.may_show(&record) {
            return Ok(None);
        }
        filters.retain(|&index| self.query.filters[index].0.matches(&record));
        Ok((!filters.is_empty()).then_some(Found { record, position, filters }))
    }

    fn may_show(&self, record: &StoredEvent<'_>) -> bool {
        self.query.may_serve(record) && !self.hidden.hides(record)
    }
}

/// What the index row alone can rule out.
fn may_match(filter: &Filter, head: Head) -> bool {
    filter.matches_kind(head.row.kind)
}
