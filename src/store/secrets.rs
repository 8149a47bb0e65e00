//! What records hold sealed, sealed anew under the master key of now: whoever changes that key has the old one open things
//! until nothing is left that only it opens.
//!
//! Nothing is remembered of how far it went. What was sealed anew is passed over when it is begun again.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{
    Store, StoreError,
    records::{Race, Record, RecordKind, Unfit},
};
use crate::seal::{FOR_ACCOUNT, FOR_CHECK, FOR_UPSTREAM, Keyring, MasterKeys, Sealed};

/// Where secrets are: in records of which kind, where in them, and what for. Whose each is says the key of its record.
const SECRETS: [(RecordKind, &str, &str); 3] = [
    (RecordKind::Upstream, "/auth/secret", FOR_UPSTREAM),
    (RecordKind::Account, "/secret", FOR_ACCOUNT),
    // The last: where it is under the new key, a node that has no other starts.
    (RecordKind::MasterKey, "", FOR_CHECK),
];

/// Records that are looked at in one go.
const AT_ONCE: usize = 100;
/// Writers of the same record that may be faster, one after the other.
const RACES: usize = 8;

/// The secrets in a store.
pub struct Secrets {
    store: Arc<dyn Store>,
    keyring: Arc<Keyring>,
}

/// What was found of some of them.
#[derive(Debug, Default, Serialize, Deserialize, ToSchema)]
pub struct Found {
    /// Which master key seals now.
    pub key: String,
    /// Secrets that are sealed under it.
    pub current: usize,
    /// Of those, the ones that were sealed anew now.
    pub anew: usize,
    /// Secrets that are sealed under another one that is at hand.
    pub old: usize,
    /// Those that no key at hand opens, and why.
    pub closed: Vec<String>,
    /// Where to go on; `null`: that were all.
    pub next: Option<String>,
}

/// Why it does not go on. What was done stays.
#[derive(Debug, thiserror::Error)]
pub enum Stopped {
    #[error("this node has no master key: {0:#}")]
    NoKey(anyhow::Error),
    #[error("it can not be gone on from there")]
    NowhereToGoOn,
    #[error("others change the same at the same time; begin again")]
    Contended,
    #[error("{0}")]
    Store(#[from] StoreError),
    #[error("{0}")]
    Unfit(#[from] Unfit),
    /// Nothing was written: what can not be told is not put in the place of a secret.
    #[error("a secret can not be written: {0}")]
    Unwritable(#[from] serde_json::Error),
}

impl Secrets {
    pub fn new(store: Arc<dyn Store>, keyring: Arc<Keyring>) -> Self {
        Self { store, keyring }
    }

    /// Looks at some secrets, from the first on or where the last answer ended; those under another master key are sealed
    /// anew if that is asked for.
    ///
    /// # Errors
    /// [`Stopped`].
    pub async fn look(&self, from: Option<&str>, is_sealed_anew: bool) -> Result<Found, Stopped> {
        let keys = self.keyring.keys(false).map_err(Stopped::NoKey)?;
        let (kind, after) = match from {
            None => (SECRETS[0].0.name(), ""),
            Some(from) => from.split_once('/').ok_or(Stopped::NowhereToGoOn)?,
        };
        let at = SECRETS.iter().position(|(its, ..)| its.name() == kind).ok_or(Stopped::NowhereToGoOn)?;
        let (kind, place, purpose) = SECRETS[at];
        let after = Some(after).filter(|after| !after.is_empty());
        let page = self.store.records().list(kind, "", after, AT_ONCE).await?;
        let next = match page.next {
            Some(after) => Some(format!("{}/{after}", kind.name())),
            None => SECRETS.get(at + 1).map(|(next, ..)| format!("{}/", next.name())),
        };
        let mut found = Found { key: keys.current().id().to_owned(), next, ..Found::default() };
        for record in page.records {
            self.one(&keys, (kind, place, purpose), record, is_sealed_anew, &mut found).await?;
        }
        Ok(found)
    }

    async fn one(
        &self,
        keys: &MasterKeys,
        (kind, place, purpose): (RecordKind, &str, &str),
        mut record: Record,
        is_sealed_anew: bool,
        found: &mut Found,
    ) -> Result<(), Stopped> {
        for _ in 0..RACES {
            let mut value: Value = serde_json::from_slice(&record.value).unwrap_or_default();
            let Some(secret) = value.pointer_mut(place).filter(|secret| !secret.is_null()) else {
                return Ok(());
            };
            let anew = match serde_json::from_value::<Sealed>(secret.clone()) {
                Ok(sealed) => keys.seal_anew(&sealed, purpose, &record.key).map_err(|why| why.to_string()),
                Err(_) => Err("it can not be read by this version".to_owned()),
            };
            match anew {
                Err(why) => found.closed.push(format!("{} {}: {why}", kind.name(), record.key)),
                Ok(None) => found.current += 1,
                Ok(Some(_)) if !is_sealed_anew => found.old += 1,
                Ok(Some(anew)) => {
                    *secret = serde_json::to_value(&anew)?;
                    let bytes = serde_json::to_vec(&value)?;
                    let records = self.store.records();
                    match records.put(kind, &record.key, Some(record.version), bytes, None).await? {
                        Race::Won(_) => {
                            found.current += 1;
                            found.anew += 1;
                        }
                        Race::Overtaken(Some(now)) => {
                            record = now;
                            continue;
                        }
                        Race::Overtaken(None) => {}
                        Race::Unknown(error) => return Err(error.into()),
                    }
                }
            }
            return Ok(());
        }
        Err(Stopped::Contended)
    }
}
