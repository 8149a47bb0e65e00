//! The schedules of `docs/design/feed.md`, on each store.

use std::{sync::atomic::Ordering::Relaxed, time::Duration};

use futures_util::future::join_all;
use tokio::time::sleep;

use super::*;
use crate::{
    clock,
    feed::stage::{Home, Node, foreign, homes, keys},
    protocol::{Tags, Timestamp},
};

const BOUNDS: Bounds = Bounds { changes_per_minute: 1_000, versions: 10 };

fn person(number: u8) -> PublicKey {
    PublicKey([number; 32])
}

impl Node {
    async fn people(&self, account: &Keys) -> Vec<u8> {
        let list = self.follows.standing(account.public_key()).await.unwrap();
        let mut people: Vec<u8> =
            list.iter().flat_map(|list| people(list.tags())).map(|key| key.0[0]).collect();
        people.sort_unstable();
        people
    }

    async fn follow(&self, account: &Keys, number: u8) -> Result<Changed, FeedError> {
        self.follows.change(account, Wish::Follow(person(number)), None).await
    }
}

fn list_of(account: &Keys, at: Timestamp, people: impl IntoIterator<Item = u8>) -> Event {
    let tags = people.into_iter().map(|number| ["p".to_owned(), person(number).to_hex()]);
    account.sign(at, kind::FOLLOW_LIST, tags.collect::<Tags>(), "kept")
}

async fn until(what: &str, holds: impl AsyncFn() -> bool) {
    let waited = async {
        while !holds().await {
            sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), waited).await.unwrap_or_else(|_| panic!("{what}"));
}

#[actix::test]
async fn what_two_nodes_change_at_once_is_all_there() {
    for home in homes() {
        let [a, b] = [(); 2].map(|()| Node::new(&home, BOUNDS));
        let [account] = keys();
        let changes = (1..=12).map(|number| {
            let node = if number % 2 == 0 { &a } else { &b };
            node.follow(&account, number)
        });
        for changed in join_all(changes).await {
            assert!(changed.unwrap().was_otherwise);
        }
        assert_eq!(a.people(&account).await, (1..=12).collect::<Vec<_>>());
        let again = a.follow(&account, 3).await.unwrap();
        assert!(!again.was_otherwise && again.list.is_some());
        // Half go, and half come, at once.
        let changes = (1..=12).map(|number| {
            let (node, wish) = match number % 2 {
                0 => (&a, Wish::Unfollow(person(number))),
                _ => (&b, Wish::Follow(person(number + 100))),
            };
            node.follows.change(&account, wish, None)
        });
        assert!(join_all(changes).await.into_iter().all(|changed| changed.is_ok()));
        assert_eq!(a.people(&account).await, [1, 3, 5, 7, 9, 11, 101, 103, 105, 107, 109, 111]);
    }
}

#[actix::test]
async fn what_a_node_that_died_had_begun_is_finished_by_the_next() {
    for home in homes() {
        let [a, b] = [(); 2].map(|()| Node::new(&home, BOUNDS));
        let [account] = keys();
        a.follow(&account, 1).await.unwrap();
        // The record is moved on, and nobody knows of the list: twice.
        for (node, number) in [(&a, 2), (&b, 3)] {
            node.gate.fails.store(true, Relaxed);
            assert!(matches!(node.follow(&account, number).await, Err(FeedError::Unknown)));
        }
        assert_eq!(a.people(&account).await, [1]);
        b.gate.fails.store(false, Relaxed);
        b.follow(&account, 4).await.unwrap();
        assert_eq!(b.people(&account).await, [1, 2, 3, 4]);
        b.follows.change(&account, Wish::Unfollow(person(2)), None).await.unwrap();
        assert_eq!(b.people(&account).await, [1, 3, 4]);
    }
}

#[actix::test]
async fn a_list_that_comes_late_does_no_harm() {
    for home in homes() {
        let [a, b] = [(); 2].map(|()| Node::new(&home, BOUNDS));
        let [account] = keys();
        a.follow(&account, 1).await.unwrap();
        a.gate.close();
        let late = a.follow(&account, 2);
        let meanwhile = async {
            a.gate.is_waited_at().await;
            b.follow(&account, 3).await.unwrap();
            let stands = b.follows.standing(account.public_key()).await.unwrap().map(|list| list.id());
            a.gate.open();
            stands
        };
        let (late, stands) = futures_util::future::join(late, meanwhile).await;
        // It was overtaken by a list that has what it wished.
        assert_eq!(late.unwrap(), Changed { list: stands, was_otherwise: true });
        assert_eq!(a.people(&account).await, [1, 2, 3]);
    }
}

#[actix::test]
async fn a_list_of_another_program_that_comes_between_is_gone_on_from() {
    for home in homes() {
        let [a, b] = [(); 2].map(|()| Node::new(&home, BOUNDS));
        let [account] = keys();
        a.follow(&account, 1).await.unwrap();
        a.gate.close();
        let late = a.follow(&account, 2);
        let meanwhile = async {
            a.gate.is_waited_at().await;
            foreign(&b, list_of(&account, clock::now() + 60, [1, 50])).await;
            a.gate.open();
        };
        let (late, ()) = futures_util::future::join(late, meanwhile).await;
        assert!(late.unwrap().was_otherwise);
        assert_eq!(a.people(&account).await, [1, 2, 50]);
        let list = a.follows.standing(account.public_key()).await.unwrap().unwrap();
        assert_eq!((list.created_at() > clock::now() + 50, &*list.content()), (true, "kept"));
        // What it unfollowed since does not come back.
        foreign(&b, list_of(&account, list.created_at() + 1, [50])).await;
        a.follow(&account, 3).await.unwrap();
        assert_eq!(a.people(&account).await, [3, 50]);
    }
}

#[actix::test]
async fn what_is_refused_is_nothing_that_others_finish() {
    for home in homes() {
        let node = Node::new(&home, BOUNDS);
        let [account] = keys();
        node.follow(&account, 1).await.unwrap();
        node.gate.is_full.store(true, Relaxed);
        assert!(matches!(node.follow(&account, 2).await, Err(FeedError::Refused(_))));
        node.gate.is_full.store(false, Relaxed);
        node.follow(&account, 3).await.unwrap();
        assert_eq!(node.people(&account).await, [1, 3]);
        let versions = node.follows.history(account.public_key()).await.unwrap();
        assert_eq!(versions.iter().map(|version| version.people).collect::<Vec<_>>(), [2, 1]);
    }
}

#[actix::test]
async fn a_list_that_shrank_elsewhere_is_not_gone_on_from_unasked() {
    for home in homes() {
        let node = Node::new(&home, BOUNDS);
        let [account] = keys();
        foreign(&node, list_of(&account, clock::now(), 1..=23)).await;
        node.follow(&account, 24).await.unwrap();
        let full = node.follows.standing(account.public_key()).await.unwrap().unwrap();
        let other = list_of(&account, full.created_at() + 1, [1, 2]);
        foreign(&node, other.clone()).await;
        let unfollow = || node.follows.change(&account, Wish::Unfollow(person(2)), None);
        for refused in [node.follow(&account, 25).await, unfollow().await] {
            let Err(FeedError::Shrunk { had: 24, has: 1 | 3, list }) = refused else { panic!("{refused:?}") };
            assert_eq!(list, Some(other.id()));
        }
        let wish = Wish::Follow(person(25));
        let stale = Some(Confirmed(Some(full.id())));
        assert!(node.follows.change(&account, wish, stale).await.is_err());
        assert_eq!(node.people(&account).await, [1, 2]);
        // What is taken back is longer, so nothing has to be confirmed.
        node.follows.take_back(&account, full.id(), None).await.unwrap();
        assert_eq!(node.people(&account).await, (1..=24).collect::<Vec<_>>());
        let confirmed =
            Some(Confirmed(node.follows.standing(account.public_key()).await.unwrap().map(|l| l.id())));
        let is_kept = async || {
            let versions = node.follows.history(account.public_key()).await.unwrap();
            versions.iter().any(|version| version.id == other.id())
        };
        until("it is kept", is_kept).await;
        assert!(node.follows.take_back(&account, other.id(), None).await.is_err());
        node.follows.take_back(&account, other.id(), confirmed).await.unwrap();
        node.follow(&account, 25).await.unwrap();
        assert_eq!(node.people(&account).await, [1, 2, 25]);
    }
}

/// Two other programs, of which the second has begun with nothing; nothing was made here.
#[actix::test]
async fn a_list_that_shrank_between_others_is_not_gone_on_from_unasked() {
    for home in homes() {
        let node = Node::new(&home, BOUNDS);
        let [account] = keys();
        let start = clock::now();
        for (at, people) in [(start, 1..=40), (start + 1, 1..=1)] {
            foreign(&node, list_of(&account, at, people)).await;
        }
        let versions = async || node.follows.history(account.public_key()).await.unwrap().len();
        until("they are kept", async || versions().await == 2).await;
        let refused = node.follow(&account, 50).await;
        assert!(matches!(refused, Err(FeedError::Shrunk { had: 40, has: 2, .. })), "{refused:?}");
        assert_eq!(node.people(&account).await, [1]);
        let stands = node.follows.standing(account.public_key()).await.unwrap().map(|list| list.id());
        let wish = Wish::Follow(person(50));
        node.follows.change(&account, wish, Some(Confirmed(stands))).await.unwrap();
        // Once is enough.
        node.follow(&account, 51).await.unwrap();
        assert_eq!(node.people(&account).await, [1, 50, 51]);
    }
}

/// ```text
/// here     follows 1 ── stored                              follows 2
/// another                       deletes the list (NIP-09)
/// ```
#[actix::test]
async fn what_another_program_has_deleted_does_not_come_back() {
    for home in homes() {
        let node = Node::new(&home, BOUNDS);
        let [account] = keys();
        node.follow(&account, 1).await.unwrap();
        let list = node.follows.standing(account.public_key()).await.unwrap().unwrap();
        let tags = Tags::from_iter([["e", &list.id().to_hex()]]);
        foreign(&node, account.sign(list.created_at() + 1, kind::DELETION, tags, "")).await;
        assert_eq!(node.follows.standing(account.public_key()).await.unwrap(), None);
        node.follow(&account, 2).await.unwrap();
        assert_eq!(node.people(&account).await, [2]);
    }
}

#[actix::test]
async fn the_last_versions_are_kept_those_of_others_too() {
    for home in homes() {
        let node = Node::new(&home, Bounds { versions: 3, ..BOUNDS });
        let [account] = keys();
        let key = account.public_key();
        let start = clock::now();
        let foreigners: Vec<Event> =
            (0..3).map(|nth| list_of(&account, start + nth, [1, 100 + nth as u8])).collect();
        for list in &foreigners {
            foreign(&node, list.clone()).await;
        }
        let ids = async || -> Vec<(EventId, bool)> {
            let versions = node.follows.history(key).await.unwrap();
            versions.iter().map(|version| (version.id, version.is_foreign)).collect()
        };
        until("they are kept", async || ids().await.len() == 3).await;
        node.follow(&account, 7).await.unwrap();
        let kept = ids().await;
        assert_eq!((kept.len(), kept[0].1), (4, false));
        assert_eq!(
            kept[1..].iter().map(|(id, _)| *id).rev().collect::<Vec<_>>(),
            [0, 1, 2].map(|n| foreigners[n].id())
        );
        node.follow(&account, 8).await.unwrap();
        assert_eq!(ids().await.len(), 4);
        let gone = node.follows.take_back(&account, foreigners[0].id(), None).await;
        assert!(matches!(gone, Err(FeedError::NotFound(_))), "{gone:?}");
        node.follows.take_back(&account, foreigners[1].id(), None).await.unwrap();
        assert_eq!(node.people(&account).await, [1, 101]);
        let parts = home.store.records().list(RecordKind::FollowVersion, "", None, 100).await.unwrap();
        assert_eq!(parts.records.len(), 4, "what is let go of is gone");
    }
}

#[actix::test]
async fn a_version_that_no_record_holds_is_kept_in_parts() {
    let home: Home = homes().into_iter().next().unwrap();
    let node = Node::new(&home, BOUNDS);
    let [account] = keys();
    let tags = (0..4_000).map(|_| ["p".to_owned(), PublicKey(rand::random()).to_hex()]);
    let long = account.sign(clock::now(), kind::FOLLOW_LIST, tags.collect::<Tags>(), "");
    foreign(&node, long.clone()).await;
    until("it is kept", async || !node.follows.history(account.public_key()).await.unwrap().is_empty()).await;
    let versions = node.follows.history(account.public_key()).await.unwrap();
    assert!(versions[0].parts > 1 && versions[0].people == 4_000, "{versions:?}");
    foreign(&node, list_of(&account, clock::now() + 1, [1])).await;
    until("it can be taken back", async || node.follows.take_back(&account, long.id(), None).await.is_ok())
        .await;
    let list = node.follows.standing(account.public_key()).await.unwrap().unwrap();
    assert_eq!(list.tags(), long.tags());
}

#[actix::test]
async fn nobody_changes_a_list_faster_than_anybody_reads() {
    for home in homes() {
        let [a, b] = [(); 2].map(|()| Node::new(&home, Bounds { changes_per_minute: 5, versions: 1 }));
        let [account] = keys();
        let mut refused = 0;
        for number in 1..=20 {
            let node = if number % 2 == 0 { &a } else { &b };
            match node.follow(&account, number).await {
                Ok(_) => {}
                Err(FeedError::TooFast { seconds: 1..=60 }) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert_eq!((refused, a.people(&account).await.len()), (15, 5));
        let list = a.follows.standing(account.public_key()).await.unwrap().unwrap();
        assert!(list.created_at() <= clock::now() + 5);
        assert!(a.follow(&account, 1).await.is_ok(), "what is so already is nothing to be made");
    }
}
