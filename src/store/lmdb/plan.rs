//! Chooses, for a filter, the index that reads least.

use heed::RoTxn;

use super::schema::{Key, Table, Tables, Tail, between};
use crate::protocol::Filter;

/// Where the candidates of a filter are.
pub enum Plan {
    /// Nowhere.
    Nothing,
    /// At known ids.
    Ids,
    /// In these ranges of one index, each newest first.
    Ranges { index: &'static str, table: Table, prefixes: Vec<Key> },
}

/// Ranges beyond which a coarser index is read instead, where there is one.
const MAX_RANGES: usize = 2_000;
/// Ranges of a candidate that are sampled, and rows looked at in each.
const SAMPLED_RANGES: usize = 4;
const SAMPLED_ROWS: usize = 64;

/// Chooses the index for `filter`. The table of addresses is none of the choices: it knows an event by its first `d`
/// tag, and a filter may name any.
pub fn plan(filter: &Filter, tables: &Tables, txn: &RoTxn) -> heed::Result<Plan> {
    if filter.is_never() {
        return Ok(Plan::Nothing);
    }
    if filter.ids.is_some() {
        return Ok(Plan::Ids);
    }
    let mut candidates = Vec::new();
    for tag in &filter.tags {
        let prefixes =
            tag.values().iter().map(|value| Key::tag(tables.tag_hash.of(tag.letter(), value))).collect();
        candidates.push(("tag", tables.tag, prefixes));
    }
    if let Some(authors) = &filter.authors {
        candidates.push(match &filter.kinds {
            Some(kinds) if authors.len().saturating_mul(kinds.len()) <= MAX_RANGES => {
                let pair = |author| kinds.iter().map(move |&kind| Key::author_kind(author, kind));
                ("author_kind", tables.author_kind, authors.iter().flat_map(pair).collect())
            }
            _ => ("author", tables.author, authors.iter().map(Key::author).collect()),
        });
    }
    let (index, table, prefixes) = match cheapest(candidates, filter, txn)? {
        Some(candidate) => candidate,
        None => match &filter.kinds {
            Some(kinds) => ("kind", tables.kind, kinds.iter().map(|&kind| Key::kind(kind)).collect()),
            None => ("time", tables.time, vec![Key::time()]),
        },
    };
    Ok(Plan::Ranges { index, table, prefixes })
}

/// An index by its name, and ranges of it.
type Candidate = (&'static str, Table, Vec<Key>);

/// The candidate with the fewest rows in the filter's window, judged by a sample where there is a
/// choice.
fn cheapest(mut candidates: Vec<Candidate>, filter: &Filter, txn: &RoTxn) -> heed::Result<Option<Candidate>> {
    if candidates.len() < 2 {
        return Ok(candidates.pop());
    }
    let mut best: Option<(usize, Candidate)> = None;
    for candidate in candidates {
        let cost = sample(&candidate, filter, txn)?;
        if best.as_ref().is_none_or(|(best, _)| cost < *best) {
            best = Some((cost, candidate));
        }
    }
    Ok(best.map(|(_, candidate)| candidate))
}

/// About how many rows the candidate has to offer: the ranges, and their rows by a sample.
fn sample((_, table, prefixes): &Candidate, filter: &Filter, txn: &RoTxn) -> heed::Result<usize> {
    let step = prefixes.len().div_ceil(SAMPLED_RANGES).max(1);
    let mut rows = 0;
    let mut ranges = 0;
    for prefix in prefixes.iter().step_by(step) {
        let (first, last) = window(filter, *prefix, None);
        for row in table.range(txn, &between(&first, &last))?.take(SAMPLED_ROWS) {
            row?;
            rows += 1;
        }
        ranges += 1;
    }
    Ok(prefixes.len() + rows * prefixes.len() / ranges.max(1))
}

/// First and last key of a range within the filter's window, after `after`.
pub fn window(filter: &Filter, prefix: Key, after: Option<Tail>) -> (Key, Key) {
    let first = Tail::first_at(filter.until.unwrap_or(u64::MAX));
    let first = after.map_or(first, |after| first.max(after));
    let last = Tail::last_at(filter.since.unwrap_or_default());
    (prefix.tail(first), prefix.tail(last))
}
