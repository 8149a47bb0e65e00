//! The index of live subscriptions: which of them an event may concern, by routing key, and which
//! of those it does, by filter. A plain struct, one a worker.

use std::collections::HashMap;

use slab::Slab;
use smallvec::SmallVec;

use super::key::{RoutingKey, cover, keys};
use crate::protocol::{Event, Filter};

/// Names a subscription in the index.
pub type Slot = usize;

/// Subscriptions of type-erased owners: `T` says whose a subscription is.
pub struct Index<T> {
    subscriptions: Slab<Indexed<T>>,
    by_key: HashMap<RoutingKey, SmallVec<[u32; 4]>, foldhash::fast::RandomState>,
    /// Counts the events looked up, so that a subscription that several keys lead to is met once.
    lookup: u64,
}

struct Indexed<T> {
    owner: T,
    filters: Box<[Filter]>,
    /// The last lookup that met it.
    met: u64,
}

impl<T> Default for Index<T> {
    fn default() -> Self {
        Self { subscriptions: Slab::new(), by_key: HashMap::default(), lookup: 0 }
    }
}

impl<T> Index<T> {
    /// Adds a subscription that matches what any of its filters matches.
    pub fn insert(&mut self, owner: T, filters: Box<[Filter]>) -> Slot {
        let covers: Vec<RoutingKey> = filters.iter().flat_map(cover).collect();
        let slot = self.subscriptions.insert(Indexed { owner, filters, met: 0 });
        for key in covers {
            let slots = self.by_key.entry(key).or_default();
            // Filters of one subscription may share keys.
            if slots.last() != Some(&(slot as u32)) {
                slots.push(slot as u32);
            }
        }
        slot
    }

    /// Takes a subscription out, and gives its keys back, as often as they were entered.
    pub fn remove(&mut self, slot: Slot) -> Vec<RoutingKey> {
        let Some(subscription) = self.subscriptions.try_remove(slot) else { return Vec::new() };
        let covers: Vec<RoutingKey> = subscription.filters.iter().flat_map(cover).collect();
        for &key in &covers {
            let Some(slots) = self.by_key.get_mut(&key) else { continue };
            if let Some(at) = slots.iter().position(|&other| other as usize == slot) {
                slots.swap_remove(at);
            }
            if slots.is_empty() {
                self.by_key.remove(&key);
            }
        }
        covers
    }

    /// Calls `deliver` once for each subscription that matches the event.
    pub fn matches(&mut self, event: &Event, mut deliver: impl FnMut(&T)) {
        self.lookup += 1;
        for key in keys(event) {
            let Some(slots) = self.by_key.get(&key) else { continue };
            for &slot in slots {
                let Some(subscription) = self.subscriptions.get_mut(slot as usize) else { continue };
                if subscription.met == self.lookup {
                    continue;
                }
                subscription.met = self.lookup;
                if subscription.filters.iter().any(|filter| filter.matches(event)) {
                    deliver(&subscription.owner);
                }
            }
        }
    }

    /// How many subscriptions there are.
    pub fn len(&self) -> usize {
        self.subscriptions.len()
    }

    pub fn is_empty(&self) -> bool {
        self.subscriptions.is_empty()
    }

    /// How many distinct routing keys there are.
    pub fn keys(&self) -> usize {
        self.by_key.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    fn filters(json: &str) -> Box<[Filter]> {
        serde_json::from_str(json).unwrap()
    }

    #[test]
    fn finds_each_subscription_once_and_forgets_the_removed() {
        let keys = Keys::generate();
        let event = keys.sign(1, 1, Tags::from_iter([["t", "a"], ["t", "b"], ["t", "a"]]), "");
        let mut index = Index::default();
        let both =
            index.insert("both", filters(r##"[{"#t":["a","b"]},{"#t":["a"],"kinds":[1]},{"kinds":[1]}]"##));
        let all = index.insert("all", filters("[{},{}]"));
        let none = index.insert("none", filters(r##"[{"#t":["a"],"kinds":[2]},{"kinds":[]}]"##));
        let found = |index: &mut Index<&'static str>| {
            let mut found = Vec::new();
            index.matches(&event, |owner| found.push(*owner));
            found.sort_unstable();
            found
        };
        assert_eq!(found(&mut index), ["all", "both"]);
        index.remove(both);
        assert_eq!(found(&mut index), ["all"]);
        index.remove(all);
        index.remove(none);
        assert_eq!(found(&mut index), [""; 0]);
        assert_eq!((index.len(), index.keys()), (0, 0));
    }
}
