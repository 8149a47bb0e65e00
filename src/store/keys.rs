//! The keys of everything that matches a filter, for reconciliation.

use std::{cmp::Reverse, sync::Arc};

use super::{Content, Cursor, End, Limit, Query, Store, StoreError, Viewer};
use crate::{
    clock,
    protocol::{
        EventId, Filter, Timestamp,
        negentropy::{Filling, Key, KeySet},
    },
};

/// Reads the keys of all that matches, as the operator, who sees everything. `None`: the store did not read to the
/// end, which nobody may take for one.
///
/// # Errors
/// The store fails.
pub async fn keys(store: &dyn Store, filter: Filter) -> Result<Option<KeySet>, StoreError> {
    keys_and(store, filter, Vec::new()).await
}

/// The same, and these, whether they are stored or not.
///
/// # Errors
/// The store fails.
pub async fn keys_and(
    store: &dyn Store,
    filter: Filter,
    mut others: Vec<Key>,
) -> Result<Option<KeySet>, StoreError> {
    others.sort_unstable_by_key(|&key| place(key));
    others.dedup();
    let mut others = others.into_iter().peekable();
    let filters = vec![(filter, Limit::exactly(usize::MAX))];
    let query = Query { filters, viewer: Viewer::Operator, now: clock::now(), content: Content::Keys };
    let query = Arc::new(query);
    let mut keys = Filling::default();
    let mut cursor = Some(Cursor::start(&query));
    while let Some(from) = cursor {
        let page = store.query(Arc::clone(&query), from).await?;
        for key in page.iter().map(|entry| entry.key()) {
            while let Some(other) = others.next_if(|&other| place(other) < place(key)) {
                keys.push(other);
            }
            others.next_if_eq(&key);
            keys.push(key);
        }
        if page.next.is_none() && page.end != End::Finish {
            return Ok(None);
        }
        cursor = page.next;
    }
    others.for_each(|other| keys.push(other));
    Ok(Some(keys.finish()))
}

/// Where a key stands in the order in which stores answer.
fn place(Key { created_at, id }: Key) -> (Reverse<Timestamp>, EventId) {
    (Reverse(created_at), id)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::{
        protocol::{Tags, sign::Keys},
        store::memory::Memory,
    };

    #[tokio::test]
    async fn what_is_added_stands_in_its_place_once() {
        let (store, author) = (Memory::new(), Keys::generate());
        let events: Vec<_> = [5, 7, 7, 9]
            .map(|at| author.sign(at, 1, Tags::default(), &rand::random::<u64>().to_string()))
            .into();
        let key = |event: &crate::protocol::Event| Key { created_at: event.created_at(), id: event.id() };
        let batch: Vec<_> = events.iter().cloned().map(Arc::new).collect();
        store.write(batch.into(), 10, Instant::now() + Duration::from_secs(9)).await.unwrap();
        let other = |created_at, byte| Key { created_at, id: EventId([byte; 32]) };
        let others =
            vec![other(1, 1), key(&events[1]), other(7, 0), other(7, 255), other(12, 3), other(1, 1)];
        let mut expected: Vec<Key> = events.iter().map(key).chain(others.clone()).collect();
        expected.sort_unstable_by_key(|&key| place(key));
        expected.dedup();
        let found = keys_and(&store, Filter::default(), others).await.unwrap().unwrap();
        let expected: KeySet = expected.into_iter().collect();
        assert_eq!((found.len(), found.begin(4_096)), (8, expected.begin(4_096)));
    }
}
