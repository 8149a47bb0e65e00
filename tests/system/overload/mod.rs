//! More comes than the store takes, or the store takes its time: what is accepted is answered in time, what is
//! refused was never stored, and who asks for little gets it.

mod flood;
mod health;
mod stage;

use std::{collections::HashSet, sync::atomic::Ordering, time::Duration};

use common::{Client, cassandra, eventually, fresh, now};
use flood::{Flood, Outcome};
use rookery::{
    config,
    protocol::{Event, EventId, Tags, sign::Keys},
    route::key::digests,
    store::{
        lmdb::{Access, Lmdb},
        memory::Memory,
        scylla::{Scylla, apply_schema},
    },
};
use serde_json::json;
use stage::{Node, Staged};
use tempfile::TempDir;

const OVERLOADED: &str = "error: overloaded, try again later";

async fn send(client: &mut Client, event: &Event) {
    client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
}

/// The answers to so many events: by whom they are accepted, and what the others are told.
async fn answers(client: &mut Client, count: usize) -> (HashSet<String>, Vec<String>) {
    let (mut accepted, mut refused) = (HashSet::new(), Vec::new());
    for _ in 0..count {
        let ok = client.hear().await;
        assert_eq!(ok[0], "OK", "{ok}");
        match ok[2].as_bool() {
            Some(true) => drop(accepted.insert(ok[1].as_str().unwrap().to_owned())),
            _ => refused.push(ok[3].as_str().unwrap().to_owned()),
        }
    }
    (accepted, refused)
}

fn hex(ids: &[EventId]) -> HashSet<String> {
    ids.iter().map(|id| id.to_hex()).collect()
}

fn notes(count: usize) -> Vec<Event> {
    let keys = Keys::generate();
    (0..count).map(|_| fresh(&keys, "note")).collect()
}

fn contact_list(keys: &Keys) -> Event {
    let follows = (0..5_000).map(|n| ["p".to_owned(), format!("{n:064x}")]);
    keys.sign(now(), 3, Tags::from_iter(follows), "")
}

#[tokio::test]
async fn what_was_refused_while_the_store_hung_is_never_stored() {
    let store = Staged::held(Memory::new());
    let node = Node::start(&store, |config| config.persister.deadline_ms = 1_000);
    let (mut client, notes) = (node.connect().await, notes(20));
    send(&mut client, &notes[0]).await;
    eventually("the store hangs", || store.begun() == 1).await;
    for note in &notes[1..] {
        send(&mut client, note).await;
    }
    let (accepted, refused) = answers(&mut client, notes.len()).await;
    assert_eq!(accepted.len(), 0, "nothing is known to be stored");
    let late = refused.iter().filter(|text| *text != OVERLOADED).collect::<Vec<_>>();
    assert_eq!(late, ["error: the store did not answer in time; try again"]);
    // As long as it hangs, nobody waits in vain.
    assert_eq!(client.publish(&fresh(&Keys::generate(), "in vain")).await, (false, OVERLOADED.into()));
    store.release();
    eventually("the store is heard of again", || store.written().len() == 1).await;
    let after = fresh(&Keys::generate(), "after");
    assert_eq!(client.publish(&after).await, (true, String::new()));
    assert_eq!(store.written(), [notes[0].id(), after.id()]);
}

#[tokio::test]
async fn a_batch_that_fails_goes_on_without_the_event_that_fails() {
    let store = Staged::held(Memory::new());
    let node = Node::start(&store, |config| config.persister.deadline_ms = 60_000);
    let (mut client, notes) = (node.connect().await, notes(101));
    send(&mut client, &notes[0]).await;
    eventually("the store hangs", || store.begun() == 1).await;
    *store.poison.lock().unwrap() = Some(notes[77].id());
    for note in &notes[1..] {
        send(&mut client, note).await;
    }
    // Of the same connection: what came before it waits.
    client.request("all are there", &[json!({ "kinds": [30_000] })]).await;
    store.release();
    let (accepted, refused) = answers(&mut client, notes.len()).await;
    assert_eq!(refused, ["error: the store failed"]);
    let others: Vec<EventId> = notes.iter().map(Event::id).filter(|id| *id != notes[77].id()).collect();
    assert_eq!(accepted, hex(&others));
    let batches = store.batches.lock().unwrap().len();
    // The first note, a hundred, and of each batch that failed its parts.
    assert!(batches <= 2 + 3 * 8, "{batches} batches");
}

/// What is too much at once is not too much in parts, and whoever is still in time is not told so.
#[tokio::test]
async fn a_batch_that_is_late_goes_on_in_parts() {
    let store = Staged::held(Memory::new());
    let node = Node::start(&store, |config| config.persister.deadline_ms = 60_000);
    let (mut client, notes) = (node.connect().await, notes(101));
    send(&mut client, &notes[0]).await;
    eventually("the store hangs", || store.begun() == 1).await;
    store.most.store(30, Ordering::Relaxed);
    for note in &notes[1..] {
        send(&mut client, note).await;
    }
    client.request("all are there", &[json!({ "kinds": [30_000] })]).await;
    store.release();
    let (accepted, refused) = answers(&mut client, notes.len()).await;
    assert_eq!((accepted.len(), refused), (notes.len(), Vec::new()));
}

#[tokio::test]
async fn contact_lists_are_written_one_by_one_and_notes_between_them() {
    let store = Staged::held(Memory::new());
    let node = Node::start(&store, |config| {
        config.persister.deadline_ms = 60_000;
        // However fast the store turns out to be, a list is more than a batch.
        config.persister.max_batch_rows = 2_048;
    });
    let (mut greedy, mut modest) = (node.connect().await, node.connect().await);
    let first = fresh(&Keys::generate(), "first");
    send(&mut greedy, &first).await;
    eventually("the store hangs", || store.begun() == 1).await;
    let lists: Vec<Event> = (0..6).map(|_| contact_list(&Keys::generate())).collect();
    for list in &lists {
        send(&mut greedy, list).await;
    }
    greedy.request("all are there", &[json!({ "kinds": [30_000] })]).await;
    let notes = notes(3);
    for note in &notes {
        send(&mut modest, note).await;
    }
    modest.request("all are there", &[json!({ "kinds": [30_000] })]).await;
    store.release();
    assert_eq!(answers(&mut modest, 3).await.0.len(), 3);
    assert_eq!(answers(&mut greedy, 7).await.0.len(), 7);
    let batches = store.batches.lock().unwrap().clone();
    let sizes: Vec<usize> = batches.iter().map(Vec::len).collect();
    assert_eq!(sizes, [1, 1, 3, 1, 1, 1, 1, 1], "the first note, a list, the notes, the other lists");
    assert_eq!(batches[2], notes.iter().map(Event::id).collect::<Vec<_>>());
}

#[tokio::test]
async fn who_asks_for_little_is_served_beside_those_who_ask_for_too_much() {
    let folder = TempDir::new().unwrap();
    let lmdb = Lmdb::open(folder.path(), &config::Lmdb::default(), Access::Exclusive).unwrap();
    let per_second = 200;
    let store = Staged::paced(lmdb, Duration::from_secs(1) / per_second);
    let node = Node::start(&store, |config| config.persister.deadline_ms = 4_000);
    let flood = Flood { per_second, times: 5.0, duration: Duration::from_secs(5), connections: 8 };
    let Outcome { late, batches, .. } = flood::run(&flood, &[(node, store)]).await;
    assert_eq!(late, 0, "given a place, and answered late");
    // As long as it lasted, the store had something to do: but for the first and the last ones, batches are as
    // large as the pace allows.
    let full = batches.iter().filter(|size| 4 * **size as u32 >= per_second / 4).count();
    assert!(4 * full >= 3 * batches.len().saturating_sub(10), "{batches:?}");
}

/// Three nodes on one CQL server, which is as slow as it is today.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "two minutes of load, and figures for people"]
async fn a_cluster_takes_what_its_store_takes() {
    let keyspace = cassandra::new_name();
    let settings = config::Scylla {
        nodes: vec![cassandra::server().to_owned()],
        keyspace,
        threads: 1,
        ..config::Scylla::default()
    };
    apply_schema(&settings, "{'class': 'SimpleStrategy', 'replication_factor': 1}").await.unwrap();
    let mut nodes = Vec::new();
    for _ in 0..3 {
        let store = Staged::paced(Scylla::open(&settings, digests).await.unwrap(), Duration::ZERO);
        nodes.push((Node::start(&store, |_| {}), store));
    }
    // Of a server that has just started.
    flood::full_speed(&nodes, Duration::from_secs(10), 4, 32).await;
    for times in [1.5, 3.0, 5.0] {
        let per_second = flood::full_speed(&nodes, Duration::from_secs(10), 4, 32).await;
        let flood = Flood { per_second, times, duration: Duration::from_secs(15), connections: 8 };
        let Outcome { accepted, late, goodput, .. } = flood::run(&flood, &nodes).await;
        assert!(1_000 * late <= accepted, "{late} given a place, and answered late");
        assert!(goodput > 0.5, "most of the store's time is lost");
    }
}
