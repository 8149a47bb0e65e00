//! Authors who have asked to vanish (NIP-62) and of whom something is still in the tables. Readers
//! pass over it until it is removed.

use std::sync::Arc;

use heed::{Env, WithoutTls};
use parking_lot::RwLock;

use super::{
    schema::{Tables, number},
    stored_event::StoredEvent,
};
use crate::protocol::{Fields, PublicKey, Timestamp};

/// Shared between the writer, which changes it, and the readers.
#[derive(Clone, Default)]
pub struct Hidden(Arc<RwLock<Snapshot>>);

/// What was hidden at one time. Taken before a read transaction begins: what is removed from the
/// list is removed from the tables before.
#[derive(Clone, Default)]
pub struct Snapshot(Arc<[(PublicKey, Timestamp)]>);

impl Hidden {
    pub fn snapshot(&self) -> Snapshot {
        self.0.read().clone()
    }

    pub fn add(&self, authors: &[(PublicKey, Timestamp)]) {
        if !authors.is_empty() {
            self.set([&*self.snapshot().0, authors].concat());
        }
    }

    /// Makes it what the tables say.
    pub fn reload(&self, env: &Env<WithoutTls>, tables: &Tables) -> heed::Result<()> {
        let txn = env.read_txn()?;
        let mut authors = Vec::new();
        for row in tables.vanishing.iter(&txn)? {
            let (key, value) = row?;
            authors.extend(key.try_into().ok().map(PublicKey).zip(number(value)));
        }
        self.set(authors);
        Ok(())
    }

    fn set(&self, authors: Vec<(PublicKey, Timestamp)>) {
        *self.0.write() = Snapshot(authors.into());
    }
}

impl Snapshot {
    pub fn hides(&self, record: &StoredEvent<'_>) -> bool {
        self.0.iter().any(|(author, until)| record.vanishes_with(author, *until))
    }
}
