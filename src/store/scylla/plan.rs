//! Chooses, for a filter, the index that is likely to read least. There is little sampling, unlike in the
//! embedded store: a look at a partition costs as much as reading its first rows.

use std::collections::BTreeSet;

use super::{
    cql::Failure,
    index::{self, Key},
    tables::Tables,
};
use crate::protocol::{EventId, Filter, PublicKey, TagFilter};

/// Where the candidates of a filter are.
#[derive(Debug, PartialEq, Eq)]
pub enum Plan {
    /// At known ids.
    Ids(Vec<EventId>),
    /// Under these keys of an index.
    Keys(Vec<Key>),
}

/// Pairs of author and kind beyond which the kinds alone are read.
const MAX_PAIRS: usize = 2_000;
/// Kinds beyond which each author is asked first which of them they have written.
const FEW_KINDS: usize = 8;
/// Letters whose values name one event, address or thing each.
const SELECTIVE: &[u8] = b"eaiqEAIQ";
/// The letter of what tells the addressable events of an author apart. Some values (`""`, the names of
/// applications) are everybody's, most are one event's. There is no look-up of addresses: those are of the
/// first tag of that letter, and a filter may name any.
const IDENTIFIER: u8 = b'd';
/// Values of that letter that are sampled, and rows from which on one is everybody's.
const SAMPLED_IDENTIFIERS: usize = 4;
const FEW_ROWS: usize = 32;

/// Chooses the index for `filter`.
///
/// # Errors
/// When the servers refuse.
pub async fn plan(tables: &Tables, filter: &Filter) -> Result<Plan, Failure> {
    if filter.is_never() {
        return Ok(Plan::Keys(Vec::new()));
    }
    if let Some(ids) = &filter.ids {
        return Ok(Plan::Ids(ids.to_vec()));
    }
    let tag = filter.tags.iter().min_by_key(|tag| (!is_selective(tag), tag.values().len()));
    let rare = match tag.is_some_and(is_selective) {
        true => None,
        false => rare_identifier(tables, filter).await?,
    };
    Ok(Plan::Keys(match (rare.or(tag), &filter.authors, &filter.kinds) {
        (Some(tag), _, _) if is_selective(tag) || rare.is_some() => under_tag(tag),
        (_, Some(authors), Some(kinds)) if kinds.len() > FEW_KINDS && authors.len() <= MAX_PAIRS => {
            let mut keys = of_authors(tables, authors).await?;
            keys.retain(|key| matches!(key, Key::Author(_, kind) if kinds.binary_search(kind).is_ok()));
            keys
        }
        (_, Some(authors), Some(kinds)) if authors.len().saturating_mul(kinds.len()) <= MAX_PAIRS => {
            authors.iter().flat_map(|author| kinds.iter().map(|kind| Key::Author(*author, *kind))).collect()
        }
        (Some(tag), _, _) => under_tag(tag),
        (None, _, Some(kinds)) => kinds.iter().map(|kind| Key::Kind(*kind)).collect(),
        (None, Some(authors), None) => of_authors(tables, authors).await?,
        (None, None, None) => vec![Key::Time],
    }))
}

fn is_selective(tag: &TagFilter) -> bool {
    SELECTIVE.contains(&tag.letter())
}

fn under_tag(tag: &TagFilter) -> Vec<Key> {
    let keys: BTreeSet<Key> = tag.values().iter().map(|value| Key::tag(tag.letter(), value)).collect();
    keys.into_iter().collect()
}

/// The keys of everything that these authors have written.
async fn of_authors(tables: &Tables, authors: &[PublicKey]) -> Result<Vec<Key>, Failure> {
    let list_keys = |author: PublicKey| async move {
        let kinds = index::kinds(&tables.cql, &author).await?;
        Ok::<_, Failure>(kinds.into_iter().map(|kind| Key::Author(author, kind)).collect::<Vec<_>>())
    };
    let authors = authors.to_vec();
    Ok(tables.cql.all(authors.into_iter().map(list_keys)).await?.concat())
}

/// What tells events of these authors and kinds apart, where few events have one of its values, by a sample of
/// them.
async fn rare_identifier<'f>(tables: &Tables, filter: &'f Filter) -> Result<Option<&'f TagFilter>, Failure> {
    let tag = filter.tags.iter().find(|tag| tag.letter() == IDENTIFIER);
    let Some(tag) = tag.filter(|_| filter.authors.is_some() && filter.kinds.is_some()) else {
        return Ok(None);
    };
    let step = tag.values().len().div_ceil(SAMPLED_IDENTIFIERS);
    let sampled: Vec<Key> =
        tag.values().iter().step_by(step).map(|value| Key::tag(tag.letter(), value)).collect();
    let counts = sampled.into_iter().map(|key| index::rows_up_to(&tables.cql, key, FEW_ROWS));
    let is_rare = tables.cql.all(counts).await?.into_iter().all(|rows| rows < FEW_ROWS);
    Ok(is_rare.then_some(tag))
}
