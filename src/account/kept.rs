//! Records of accounts as values.

use std::time::Duration;

use serde::{Serialize, de::DeserializeOwned};
use tracing::error;

use super::Refused;
use crate::store::{
    Store,
    records::{MAX_PAGE, Race, Record, RecordKind, RecordPages, Version},
};

/// Writers of the same record that may be faster, one after the other.
const RACES: usize = 8;

/// A record's value, and which version it is.
#[derive(Debug, Clone)]
pub struct Kept<T> {
    pub value: T,
    pub version: Version,
}

/// What a record says.
pub fn value<T: DeserializeOwned>(kind: RecordKind, record: &Record) -> Result<T, Refused> {
    serde_json::from_slice(&record.value).map_err(|error| {
        // Its text could hold what the record holds.
        error!(kind = kind.name(), key = record.key, line = error.line(), "a record can not be read");
        Refused::Unavailable("a record can not be read by this version".into())
    })
}

pub async fn read<T: DeserializeOwned>(
    store: &dyn Store,
    kind: RecordKind,
    key: &str,
) -> Result<Option<Kept<T>>, Refused> {
    let Some(record) = store.records().get(kind, key).await? else { return Ok(None) };
    Ok(Some(Kept { value: value(kind, &record)?, version: record.version }))
}

/// Writes a record over the version that is expected. `false`: another one was faster.
pub async fn write<T: Serialize>(
    store: &dyn Store,
    kind: RecordKind,
    key: &str,
    expected: Option<Version>,
    value: &T,
    expires_in: Option<Duration>,
) -> Result<Option<Version>, Refused> {
    let value = serde_json::to_vec(value).map_err(|error| Refused::Unavailable(error.to_string()))?;
    match store.records().put(kind, key, expected, value, expires_in).await? {
        Race::Won(version) => Ok(Some(version)),
        Race::Overtaken(_) => Ok(None),
        Race::Unknown(error) => Err(error.into()),
    }
}

/// Changes a record as `change` says, which is asked again whenever another writer was faster. `None`: there is none.
pub async fn change<T: Serialize + DeserializeOwned>(
    store: &dyn Store,
    kind: RecordKind,
    key: &str,
    mut change: impl FnMut(&mut T) -> Result<(), Refused>,
) -> Result<Option<Kept<T>>, Refused> {
    for _ in 0..RACES {
        let Some(Kept { value: mut changed, version }) = read::<T>(store, kind, key).await? else {
            return Ok(None);
        };
        change(&mut changed)?;
        if let Some(version) = write(store, kind, key, Some(version), &changed, None).await? {
            return Ok(Some(Kept { value: changed, version }));
        }
    }
    Err(Refused::Contended)
}

/// Removes a record, whatever version it is. `false`: there is none.
pub async fn remove(store: &dyn Store, kind: RecordKind, key: &str) -> Result<bool, Refused> {
    let records = store.records();
    let mut there = records.get(kind, key).await?;
    for _ in 0..RACES {
        let Some(record) = there else { return Ok(false) };
        match records.remove(kind, key, record.version).await {
            Race::Won(_) => return Ok(true),
            Race::Overtaken(now) => there = now,
            Race::Unknown(error) => return Err(error.into()),
        }
    }
    Err(Refused::Contended)
}

/// All records whose keys begin so.
pub async fn all<T: DeserializeOwned>(
    store: &dyn Store,
    kind: RecordKind,
    prefix: &str,
) -> Result<Vec<(String, Kept<T>)>, Refused> {
    let (mut pages, mut all) = (RecordPages::of(store.records(), kind, prefix, MAX_PAGE), Vec::new());
    while let Some(page) = pages.next().await? {
        for record in page {
            let kept = Kept { value: value(kind, &record)?, version: record.version };
            all.push((record.key, kept));
        }
    }
    Ok(all)
}

/// Removes all records whose keys begin so.
pub async fn remove_all(store: &dyn Store, kind: RecordKind, prefix: &str) -> Result<(), Refused> {
    let mut pages = RecordPages::of(store.records(), kind, prefix, MAX_PAGE);
    while let Some(page) = pages.next().await? {
        for record in page {
            remove(store, kind, &record.key).await?;
        }
    }
    Ok(())
}
