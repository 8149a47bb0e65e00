//! Whom an account does not want to hear of (NIP-51, kind 10000). Of the list, the part that everybody may read; what
//! other programs have encrypted in it stays as it is.

use std::collections::HashSet;

use serde::{Deserialize, Serialize};

use super::{
    error::FeedError,
    follows::{List, people},
    replaceable::{Change, Changes, Draft, MOST_WISHES, Pending},
};
use crate::{
    protocol::{Event, PublicKey, kind, sign::Keys},
    store::records::RecordKind,
};

/// What an account wants of its mutes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wish {
    Mute(PublicKey),
    Unmute(PublicKey),
}

struct Wished(Wish);

impl Change for Wished {
    const EVENT: u16 = kind::MUTE_LIST;
    const RECORD: RecordKind = RecordKind::Mutes;
    type Ledger = Pending<Vec<Wish>>;

    async fn draft(
        &mut self,
        ledger: Self::Ledger,
        stands: Option<&Event>,
    ) -> Result<Option<Draft<Self::Ledger>>, FeedError> {
        let mut ledger = ledger.unsettled(stands);
        ledger.changes.push(self.0);
        let mut list = stands.map(List::of).unwrap_or_default();
        let mut is_changed = false;
        for wish in &ledger.changes {
            is_changed |= match *wish {
                Wish::Mute(person) => list.add(person),
                Wish::Unmute(person) => list.take_out(person),
            };
        }
        if ledger.changes.len() > MOST_WISHES {
            return Err(FeedError::Unknown);
        }
        Ok(is_changed.then_some(Draft { tags: list.tags, content: list.content, ledger }))
    }
}

/// Has a wish fulfilled.
///
/// # Errors
/// It is not, or not known to be.
pub async fn change(changes: &Changes, keys: &Keys, wish: Wish) -> Result<(), FeedError> {
    changes.make(keys, Wished(wish)).await.map(drop)
}

/// Whom an account has muted, in the order of its list.
///
/// # Errors
/// The store fails.
pub async fn of(changes: &Changes, account: PublicKey) -> Result<Vec<PublicKey>, FeedError> {
    let list = changes.standing(account, kind::MUTE_LIST).await?;
    Ok(list.map(|list| people(list.tags())).unwrap_or_default())
}

/// Those whom somebody does not want to hear of.
#[derive(Debug, Clone, Default)]
pub struct Muted(HashSet<PublicKey>);

impl Muted {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, person: PublicKey) -> bool {
        self.0.contains(&person)
    }

    /// Whether an event is theirs, or hands on what is.
    pub fn hides(&self, event: &Event) -> bool {
        let hands_on = || {
            let mut people = event.tags().values("p").filter_map(PublicKey::from_hex);
            event.kind() == kind::REPOST && people.any(|person| self.has(person))
        };
        !self.is_empty() && (self.has(event.pubkey()) || hands_on())
    }
}

impl FromIterator<PublicKey> for Muted {
    fn from_iter<I: IntoIterator<Item = PublicKey>>(people: I) -> Self {
        Self(people.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use futures_util::future::join_all;

    use super::*;
    use crate::{
        clock,
        feed::{
            Bounds,
            stage::{Home, Node, foreign, homes, keys},
        },
        protocol::Tags,
    };

    const BOUNDS: Bounds = Bounds { changes_per_minute: 30, versions: 10 };

    fn person(number: u8) -> PublicKey {
        PublicKey([number; 32])
    }

    fn nodes(home: &Home) -> [Node; 2] {
        [(); 2].map(|()| Node::new(home, BOUNDS))
    }

    async fn muted(node: &Node, keys: &Keys) -> Vec<u8> {
        let mut muted: Vec<u8> =
            of(&node.changes, keys.public_key()).await.unwrap().iter().map(|key| key.0[0]).collect();
        muted.sort_unstable();
        muted
    }

    #[actix::test]
    async fn many_at_once_lose_nothing() {
        for home in homes() {
            let (nodes, [keys]) = (nodes(&home), keys());
            let all = (1..=10).map(|n| {
                let (nodes, keys) = (&nodes, &keys);
                async move { change(&nodes[usize::from(n) % 2].changes, keys, Wish::Mute(person(n))).await }
            });
            for changed in join_all(all).await {
                changed.unwrap();
            }
            assert_eq!(muted(&nodes[0], &keys).await, (1..=10).collect::<Vec<_>>());
            change(&nodes[1].changes, &keys, Wish::Unmute(person(3))).await.unwrap();
            assert_eq!(muted(&nodes[0], &keys).await, [1, 2, 4, 5, 6, 7, 8, 9, 10]);
        }
    }

    /// The record is moved on, and nobody knows of the list; then one is refused.
    #[actix::test]
    async fn what_a_node_that_died_had_begun_is_finished_and_what_was_refused_is_not() {
        for home in homes() {
            let ([dies, other], [keys]) = (nodes(&home), keys());
            dies.gate.fails.store(true, Relaxed);
            let unknown = change(&dies.changes, &keys, Wish::Mute(person(1))).await.unwrap_err();
            assert!(matches!(unknown, FeedError::Unknown), "{unknown}");
            change(&other.changes, &keys, Wish::Mute(person(2))).await.unwrap();
            assert_eq!(muted(&other, &keys).await, [1, 2]);
            other.gate.is_full.store(true, Relaxed);
            change(&other.changes, &keys, Wish::Mute(person(3))).await.unwrap_err();
            other.gate.is_full.store(false, Relaxed);
            change(&other.changes, &keys, Wish::Mute(person(4))).await.unwrap();
            assert_eq!(muted(&other, &keys).await, [1, 2, 4]);
        }
    }

    #[actix::test]
    async fn what_other_programs_have_in_the_list_stays() {
        for home in homes() {
            let ([node, _], [keys]) = (nodes(&home), keys());
            let tags: Tags =
                [vec!["word", "gm"], vec!["p", "no key"], vec!["t", "spam"]].into_iter().collect();
            foreign(&node, keys.sign(clock::now(), kind::MUTE_LIST, tags, "encrypted?iv=x")).await;
            change(&node.changes, &keys, Wish::Mute(person(1))).await.unwrap();
            change(&node.changes, &keys, Wish::Mute(person(1))).await.unwrap();
            let list = node.changes.standing(keys.public_key(), kind::MUTE_LIST).await.unwrap().unwrap();
            let names: Vec<&str> = list.tags().iter().map(|tag| tag.name()).collect();
            assert_eq!((names, &*list.content()), (vec!["word", "p", "t", "p"], "encrypted?iv=x"));
            change(&node.changes, &keys, Wish::Unmute(person(1))).await.unwrap();
            assert_eq!(muted(&node, &keys).await, Vec::<u8>::new());
        }
    }

    #[test]
    fn what_they_say_and_what_others_hand_on_of_it_is_hidden() {
        let [loud, friend] = keys();
        let muted: Muted = [loud.public_key()].into_iter().collect();
        let naming = || Tags::from_iter([["p", &*loud.public_key().to_hex()]]);
        let sign = |keys: &Keys, kind, tags| keys.sign(1, kind, tags, "x");
        assert!(muted.hides(&sign(&loud, kind::NOTE, Tags::default())));
        assert!(muted.hides(&sign(&friend, kind::REPOST, naming())));
        assert!(!muted.hides(&sign(&friend, kind::NOTE, naming())));
        assert!(!Muted::default().hides(&sign(&loud, kind::NOTE, Tags::default())));
    }
}
