//! What is remembered, and what of it is asked for again.

use super::*;
use crate::{
    aggregate::upstream::RelayUrl,
    store::{Store, memory::Memory},
};

const DELETED: Verdict = Verdict::Refused(Refusal::Deleted);

fn upstream(host: &str) -> UpstreamId {
    RelayUrl::parse(&format!("ws://{host}")).unwrap().id()
}

fn filter(json: &str) -> Filter {
    serde_json::from_str(json).unwrap()
}

fn key(n: usize) -> Key {
    let mut id = [0; 32];
    id[..8].copy_from_slice(&n.to_be_bytes());
    Key { created_at: n as u64, id: EventId(id) }
}

fn one(most: usize) -> Refused {
    Refused::new(upstream("a"), &[filter("{}"), filter(r#"{"kinds":[1]}"#)], most)
}

async fn found(refused: &Refused, store: &Memory, of: &str) -> Vec<Key> {
    let mut keys = refused.keys(store.records(), &filter(of)).await.unwrap();
    keys.sort_by_key(|key| key.created_at);
    keys
}

async fn records(store: &Memory) -> usize {
    store.records().list(RecordKind::Refused, "", None, 1_000).await.unwrap().records.len()
}

#[test]
fn each_reason_holds_for_its_time() {
    let (at, now) = (5_000, 1_000);
    for (verdict, expected) in [
        (Verdict::Stored, None),
        (Verdict::Known, None),
        (Verdict::Routed, Some(FOR_EVER)),
        (Verdict::Dead, Some(FOR_EVER)),
        (Verdict::Refused(Refusal::Superseded), Some(FOR_EVER)),
        (DELETED, Some(FOR_EVER)),
        (Verdict::Refused(Refusal::Expired), Some(FOR_EVER)),
        (Verdict::Refused(Refusal::Policy), Some(now + 86_400)),
        (Verdict::Refused(Refusal::Ahead), Some(at)),
        (Verdict::Refused(Refusal::Forged), Some(now + 28_800)),
        (Verdict::Refused(Refusal::Unasked), Some(now + 28_800)),
    ] {
        assert_eq!(until(verdict, at, now), expected, "{verdict:?}");
    }
}

#[tokio::test]
async fn it_is_known_to_this_upstream_and_filter_after_a_restart() {
    let (store, of_all, of_notes) = (Memory::new(), "{}", r#"{"kinds":[1]}"#);
    let refused = one(1_000);
    assert_eq!(found(&refused, &store, of_all).await, []);
    let forged = Verdict::Refused(Refusal::Forged);
    for (n, verdict) in [(1, DELETED), (2, forged), (3, Verdict::Stored), (4, Verdict::Known)] {
        refused.note((&filter(of_all)).into(), key(n), verdict);
    }
    // Its time has come already.
    refused.note((&filter(of_all)).into(), key(5), Verdict::Refused(Refusal::Ahead));
    refused.note((&filter(of_notes)).into(), key(6), DELETED);
    assert_eq!(found(&refused, &store, of_all).await.len(), 3, "before it is written, too");
    refused.save(store.records()).await.unwrap();
    refused.note((&filter(of_all)).into(), key(7), DELETED);
    refused.save(store.records()).await.unwrap();
    for refused in [refused, one(1_000)] {
        assert_eq!(found(&refused, &store, of_all).await, [key(1), key(2), key(7)]);
        assert_eq!(found(&refused, &store, of_notes).await, [key(6)]);
    }
    assert_eq!(records(&store).await, 3, "one a series");
    let other = Refused::new(upstream("b"), &[filter("{}")], 1_000);
    assert_eq!(found(&other, &store, of_all).await, []);
    // What was noted for a filter that is no more is gone.
    let narrower = Refused::new(upstream("a"), &[filter(of_notes)], 1_000);
    assert_eq!(found(&narrower, &store, of_notes).await, [key(6)]);
    assert_eq!(records(&store).await, 1);
}

#[tokio::test]
async fn the_oldest_of_what_is_too_much_falls_out() {
    let (store, refused) = (Memory::new(), one(2 * CHUNK));
    for n in 0..3 * CHUNK + 10 {
        refused.note((&filter("{}")).into(), key(n), DELETED);
    }
    refused.save(store.records()).await.unwrap();
    let expected: Vec<Key> = (2 * CHUNK..3 * CHUNK + 10).map(key).collect();
    for refused in [refused, one(2 * CHUNK)] {
        assert!(found(&refused, &store, "{}").await == expected);
    }
    assert_eq!(records(&store).await, 2);
    // In memory there is a bound as well.
    let refused = one(10);
    (0..MAX_WAITING + 9).for_each(|n| refused.note((&filter("{}")).into(), key(n), DELETED));
    assert_eq!(refused.inner.lock().waiting(), MAX_WAITING);
}

#[tokio::test]
async fn two_who_write_for_the_same_upstream_do_no_harm() {
    let (store, all) = (Memory::new(), filter("{}"));
    let both = [one(100_000), one(100_000)];
    for round in 0..20 {
        for (nth, refused) in both.iter().enumerate() {
            refused.note((&all).into(), key(2 * round + nth), DELETED);
        }
        let [a, b] = both.each_ref().map(|refused| refused.save(store.records()));
        let (a, b) = tokio::join!(a, b);
        a.and(b).unwrap();
    }
    let expected: Vec<Key> = (0..40).map(key).collect();
    for refused in both {
        let mut keys = found(&refused, &store, "{}").await;
        keys.dedup();
        assert_eq!(keys, expected);
    }
}

#[test]
fn records_are_found_again() {
    let series = Series { filter: (&filter("{}")).into(), is_long: true };
    let chunk = Chunk { begun: 1_900_000_000_000, series };
    assert_eq!(Chunk::parse(&chunk.key(upstream("a"))), Some(chunk));
    let entry = Entry { key: key(77), until: 1 << 40, why: 3 };
    let mut value = Vec::new();
    [entry, entry].iter().for_each(|entry| entry.write(&mut value));
    assert_eq!(entries(&value).collect::<Vec<_>>(), [entry, entry]);
    const { assert!((CHUNK + 1) * ENTRY_BYTES < MAX_VALUE_BYTES) };
    // As written before: what is stored has to be found.
    assert_eq!(FilterId::from(&filter("{}")).to_string(), "1349cde127705c16");
}
