//! The record of an account's follow list: which list stands, or is being made, and what was wished since.

use serde::{Deserialize, Serialize};

use super::list::{Wish, people};
use crate::{
    feed::{reading::Place, replaceable},
    protocol::{Event, EventId, Timestamp},
};

/// The follow list of an account, as its record has it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Ledger {
    /// The list that was made last. It stands, or it is on its way into the store, or it never came there.
    pub made: Option<Made>,
    /// What it has that no list had that is known to be stored: whoever finds that it is not there makes a list that
    /// has it too.
    pub wishes: Vec<Wish>,
    /// When lists were made within the last minute.
    pub lately: Vec<Timestamp>,
    /// Lists that were stored, or were to be, the newest first.
    pub versions: Vec<Version>,
}

/// A list that was made here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Made {
    pub id: EventId,
    pub created_at: Timestamp,
    pub people: usize,
}

/// A list that an account has had.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Version {
    pub id: EventId,
    pub created_at: Timestamp,
    pub people: usize,
    /// Whether another program wrote it, by a socket.
    pub is_foreign: bool,
    /// Records that it is kept in.
    pub parts: usize,
}

impl replaceable::Ledger for Ledger {
    fn made(&self) -> Option<Place> {
        self.made.as_ref().map(|made| Place { at: made.created_at, id: made.id })
    }

    fn set_made(&mut self, event: &Event) {
        let people = people(event.tags()).len();
        self.made = Some(Made { id: event.id(), created_at: event.created_at(), people });
    }

    fn lately(&mut self) -> &mut Vec<Timestamp> {
        &mut self.lately
    }

    fn forget_changes(&mut self) {
        self.wishes.clear();
    }
}

impl Ledger {
    /// How many people the longest list had that another program wrote since a list was made here last: the one that stands
    /// may have been made from an empty copy.
    pub fn had_since(&self) -> usize {
        let since = self.made.as_ref().map_or(0, |made| made.created_at);
        let foreign =
            self.versions.iter().filter(|version| version.is_foreign && version.created_at >= since);
        foreign.map(|version| version.people).max().unwrap_or_default()
    }

    /// Notes a version; beyond so many, the oldest are taken out.
    pub fn keep(&mut self, version: Version, most: usize) -> Vec<Version> {
        if self.versions.iter().any(|known| known.id == version.id) {
            return Vec::new();
        }
        self.versions.push(version);
        self.versions.sort_by_key(|version| (std::cmp::Reverse(version.created_at), version.id));
        self.versions.split_off(most.min(self.versions.len()))
    }
}
