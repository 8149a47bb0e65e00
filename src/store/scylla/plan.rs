//! Chooses, for a filter, the index that is likely to read least. There is no sampling as in the embedded
//! store: a look at a partition costs as much as reading its first rows.

use std::collections::BTreeSet;

use super::{
    cql::Failure,
    index::{self, Key},
    key::Address,
    known,
    tables::Tables,
};
use crate::protocol::{
    EventId, Filter, PublicKey, TagFilter,
    kind::{Class, class},
};

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
/// Addresses that are looked up one by one.
const MAX_ADDRESSES: usize = 1_000;
/// Letters whose values name one event, address or thing each.
const SELECTIVE: &[u8] = b"eaiqEAI";

/// Chooses for `filter`.
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
    if let Some(addresses) = addresses(filter) {
        let found = tables.cql.all(addresses.into_iter().map(|address| known::best(tables, address))).await?;
        return Ok(Plan::Ids(found.into_iter().flatten().map(|best| best.id()).collect()));
    }
    let tag = filter.tags.iter().min_by_key(|tag| (!is_selective(tag), tag.values().len()));
    Ok(Plan::Keys(match (tag, &filter.authors, &filter.kinds) {
        (Some(tag), _, _) if is_selective(tag) => under_tag(tag),
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

/// Everything that these authors have written.
async fn of_authors(tables: &Tables, authors: &[PublicKey]) -> Result<Vec<Key>, Failure> {
    let keys = |author: PublicKey| async move {
        let kinds = index::kinds(&tables.cql, &author).await?;
        Ok::<_, Failure>(kinds.into_iter().map(|kind| Key::Author(author, kind)).collect::<Vec<_>>())
    };
    let authors = authors.to_vec();
    Ok(tables.cql.all(authors.into_iter().map(keys)).await?.concat())
}

/// The addresses that the filter names, if it names addresses only, and not too many.
fn addresses(filter: &Filter) -> Option<Vec<Address>> {
    let (kinds, authors) = (filter.kinds.as_ref()?, filter.authors.as_ref()?);
    let identifiers = filter.tags.iter().find(|tag| tag.letter() == b'd')?.values();
    let count = authors.len().saturating_mul(kinds.len()).saturating_mul(identifiers.len());
    if count > MAX_ADDRESSES || kinds.iter().any(|&kind| class(kind) != Class::Addressable) {
        return None;
    }
    let mut addresses = Vec::with_capacity(count);
    for author in authors {
        for &kind in kinds {
            addresses.extend(identifiers.iter().map(|identifier| Address::new(*author, kind, identifier)));
        }
    }
    Some(addresses)
}
