//! Up to where an account has read what concerns it. It only goes on.

use super::{error::FeedError, reading::Place};
use crate::{
    clock,
    protocol::PublicKey,
    store::{
        Store,
        records::{Race, Record, RecordKind},
    },
};

/// How far ahead a place may be, in seconds: clocks differ.
const AHEAD: u64 = 15 * 60;

/// # Errors
/// The store fails.
pub async fn read_mark(store: &dyn Store, account: PublicKey) -> Result<Option<Place>, FeedError> {
    let record = store.records().get(RecordKind::ReadMark, &account.to_hex()).await?;
    Ok(record.as_ref().and_then(place))
}

fn place(record: &Record) -> Option<Place> {
    Place::parse(std::str::from_utf8(&record.value).ok()?)
}

/// Where the mark is now: there, or further on.
///
/// # Errors
/// The place is in the future, or the store fails.
pub async fn have_read(store: &dyn Store, account: PublicKey, to: Place) -> Result<Place, FeedError> {
    if to.at > clock::now().saturating_add(AHEAD) {
        return Err(FeedError::unfit("read", "it is in the future, and would hide what is still to come"));
    }
    /// Others that may be faster, one after the other.
    const RACES: usize = 8;
    let key = account.to_hex();
    let mut found = store.records().get(RecordKind::ReadMark, &key).await?;
    for _ in 0..RACES {
        if let Some(is) = found.as_ref().and_then(place)
            && !to.is_before(is)
        {
            return Ok(is);
        }
        let expected = found.map(|record| record.version);
        let put =
            store.records().put(RecordKind::ReadMark, &key, expected, to.to_string().into_bytes(), None);
        match put.await? {
            Race::Won(_) => return Ok(to),
            Race::Overtaken(now) => found = now,
            Race::Unknown(_) => return Err(FeedError::Unknown),
        }
    }
    Err(FeedError::Overloaded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{protocol::EventId, store::memory::Memory};

    #[tokio::test]
    async fn a_mark_only_goes_on() {
        let (store, account) = (Memory::new(), PublicKey([1; 32]));
        let place = |at, id| Place { at, id: EventId([id; 32]) };
        for (to, is) in
            [((5, 5), (5, 5)), ((4, 1), (5, 5)), ((5, 6), (5, 5)), ((5, 4), (5, 4)), ((6, 9), (6, 9))]
        {
            assert_eq!(have_read(&store, account, place(to.0, to.1)).await.unwrap(), place(is.0, is.1));
            assert_eq!(read_mark(&store, account).await.unwrap(), Some(place(is.0, is.1)));
        }
        let future = place(clock::now() + 86_400, 1);
        assert!(matches!(have_read(&store, account, future).await, Err(FeedError::Unfit { .. })));
    }
}
