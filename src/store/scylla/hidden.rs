//! Authors who have asked to vanish (NIP-62) and of whom something may still be in the tables. Readers
//! pass over it until it is removed.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

use super::{
    cql::{Cql, Failure},
    key,
};
use crate::{
    clock::Moment,
    protocol::{Event, Fields, PublicKey, Timestamp},
};

/// For how long the list is believed. Requests that this node wrote count at once, those of other nodes
/// after this time.
const BELIEVED: Duration = Duration::from_secs(1);

/// The list, as this node knows it.
#[derive(Default)]
pub struct Hidden(Mutex<State>);

#[derive(Default)]
struct State {
    authors: Snapshot,
    /// When the servers were asked for it.
    asked_at: Option<Moment>,
    /// Grows with every addition, so that a list that was read before one is not taken for newer.
    changes: u64,
}

/// What was hidden at one time.
#[derive(Debug, Clone, Default)]
pub struct Snapshot(Arc<[(PublicKey, Timestamp)]>);

impl Hidden {
    /// What is hidden now.
    ///
    /// # Errors
    /// When the servers refuse.
    pub async fn snapshot(&self, cql: &Cql) -> Result<Snapshot, Failure> {
        let changes = {
            let state = self.0.lock();
            if state.asked_at.is_some_and(|at| at.elapsed() < BELIEVED) {
                return Ok(state.authors.clone());
            }
            state.changes
        };
        let asked = Moment::now();
        let authors = Snapshot(vanishing(cql).await?.into());
        let mut state = self.0.lock();
        if state.changes == changes {
            state.authors = authors;
            state.asked_at = Some(asked);
        }
        Ok(state.authors.clone())
    }

    /// Hides what these authors have asked for.
    pub fn add(&self, authors: &[(PublicKey, Timestamp)]) {
        let mut state = self.0.lock();
        state.authors = Snapshot([&*state.authors.0, authors].concat().into());
        state.changes += 1;
    }

    /// Believes nothing until the list is read again.
    pub fn forget(&self) {
        let mut state = self.0.lock();
        state.asked_at = None;
        state.changes += 1;
    }
}

impl Snapshot {
    pub fn hides(&self, event: &Event) -> bool {
        self.0.iter().any(|(author, until)| event.vanishes_with(author, *until))
    }
}

/// The authors of whom something may be left, and up to which time.
///
/// # Errors
/// When the servers refuse.
pub async fn vanishing(cql: &Cql) -> Result<Vec<(PublicKey, Timestamp)>, Failure> {
    let rows: Vec<(Vec<u8>, Option<i64>)> = cql.read(&cql.statements.get_vanishing, Vec::new()).await?;
    let authors =
        rows.iter().filter_map(|(author, until)| Some((key::pubkey(author)?, key::seconds((*until)?))));
    Ok(authors.collect())
}
