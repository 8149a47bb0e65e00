//! The keys of everything that matches a filter, for reconciliation.

use std::sync::Arc;

use super::{Content, Cursor, End, Limit, Query, Store, StoreError, Viewer};
use crate::{
    clock,
    protocol::{
        Filter,
        negentropy::{Filling, KeySet},
    },
};

/// Reads the keys of all that matches, as the operator, who sees everything. `None`: the store did not read to the
/// end, which nobody may take for one.
///
/// # Errors
/// The store fails.
pub async fn keys(store: &dyn Store, filter: Filter) -> Result<Option<KeySet>, StoreError> {
    let filters = vec![(filter, Limit::exactly(usize::MAX))];
    let query = Query { filters, viewer: Viewer::Operator, now: clock::now(), content: Content::Keys };
    let query = Arc::new(query);
    let mut keys = Filling::default();
    let mut cursor = Some(Cursor::start(&query));
    while let Some(from) = cursor {
        let page = store.query(Arc::clone(&query), from).await?;
        page.iter().for_each(|entry| keys.push(entry.key()));
        if page.next.is_none() && page.end != End::Finish {
            return Ok(None);
        }
        cursor = page.next;
    }
    Ok(Some(keys.finish()))
}
