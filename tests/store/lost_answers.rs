//! Records of which the answer to a conditional write does not come: who has won knows it all the same, who has lost
//! too, and who can not know is told so.
//!
//! In the drawings time goes to the right; `‖` is where a statement, or the answer to it, is held back, and `×` where it
//! is lost.

use std::time::Duration;

use futures_util::future::join;
use rookery::{
    config,
    route::key::digests,
    store::{
        records::{Race, Record, RecordKind::Name, Records, Version},
        scylla::Scylla,
    },
};

use common::{
    cassandra::server,
    gate::{Gate, Hold, Way},
};

use crate::{
    cql_server::{block_on, nodes_and_keyspace, patient, settings},
    subject::Subject,
};

const KEY: &str = "alice";

/// The conditional write.
const CHANGE: &str = "UPDATE record";
/// What is read of one record.
const READ: &str = "SELECT value, number, write FROM record";

/// Nodes whose ways to the server are in the test's hand, and one that has a way of its own.
struct Ground<const N: usize> {
    nodes: [(Scylla, Gate); N],
    other: Subject,
}

impl<const N: usize> Ground<N> {
    fn new(deadline_ms: u64) -> Self {
        let ([other], keyspace) = nodes_and_keyspace(patient());
        let nodes = [(); N].map(|()| {
            let gate = block_on(Gate::start(server()));
            let config = config::Scylla {
                nodes: vec![gate.address.to_string()],
                request_timeout_ms: 500,
                deadline_ms,
                ..settings(&keyspace)
            };
            (block_on(Scylla::open(&config, digests)).unwrap(), gate)
        });
        Self { nodes, other }
    }
}

/// For as long as other tests may keep the machine.
const PATIENT: u64 = 60_000;

async fn put(store: &dyn Records, expected: Option<Version>, value: &str) -> Race {
    store.put(Name, KEY, expected, value.into(), None).await.unwrap()
}

async fn get(store: &dyn Records) -> Option<Record> {
    let found = store.get(Name, KEY).await.unwrap();
    assert_eq!(found, store.get_decided(Name, KEY).await.unwrap());
    found
}

fn text(record: &Option<Record>) -> Option<&str> {
    record.as_ref().map(|record| std::str::from_utf8(&record.value).unwrap())
}

#[track_caller]
fn won(race: Race) -> Version {
    race.won().unwrap_or_else(|| panic!("{race:?}"))
}

#[track_caller]
fn overtaken(race: Race) -> Option<Record> {
    match race {
        Race::Overtaken(found) => found,
        other => panic!("{other:?}"),
    }
}

/// ```text
/// A  put ───── × ── reads: its own ── won
/// ```
#[test]
fn a_write_whose_answer_is_lost_is_won() {
    let ground = Ground::<1>::new(PATIENT);
    let (a, gate) = &ground.nodes[0];
    block_on(async {
        let answer = gate.hold(Way::Answer, CHANGE);
        let (race, ()) = join(put(a, None, "a"), async {
            answer.caught().await;
            answer.discard();
        })
        .await;
        let version = won(race);
        let record = get(ground.other.store().records()).await.unwrap();
        assert_eq!((record.version, &*record.value), (version, &b"a"[..]));
        // The same over a version, as who takes a lease over.
        let answer = gate.hold(Way::Answer, CHANGE);
        let (race, ()) = join(put(a, Some(version), "b"), async {
            answer.caught().await;
            answer.discard();
        })
        .await;
        assert_eq!(get(ground.other.store().records()).await.map(|record| record.version), Some(won(race)));
    });
}

/// ```text
/// A  put ‖ ───────────── × ── reads: that of B ── overtaken
/// B          put ── won
/// ```
#[test]
fn a_write_that_was_overtaken_on_its_way_is_lost() {
    let ground = Ground::<1>::new(PATIENT);
    let ((a, gate), b) = (&ground.nodes[0], ground.other.store().records());
    block_on(async {
        let mut before = None;
        for value in ["a name", "a lease"] {
            let request = gate.hold(Way::Request, CHANGE);
            let (race, version) = join(put(a, before, "late"), async {
                request.caught().await;
                let version = won(put(b, before, value).await);
                request.discard();
                version
            })
            .await;
            let found = overtaken(race);
            assert_eq!(found.as_ref().map(|found| found.version), Some(version));
            assert_eq!((text(&found), &get(b).await), (Some(value), &found));
            before = Some(version);
        }
    });
}

/// ```text
/// A  put ‖ ── reads: nothing ── put again ── won                  ┊ the first one arrives
/// B                                               removes it ── won ┊                       nothing is there
/// ```
#[test]
fn a_write_that_arrives_late_changes_nothing() {
    let ground = Ground::<1>::new(PATIENT);
    let ((a, gate), b) = (&ground.nodes[0], ground.other.store().records());
    block_on(async {
        let late = gate.hold(Way::Request, CHANGE);
        let (race, ()) = join(put(a, None, "a"), async {
            late.caught().await;
            late.let_others_pass();
        })
        .await;
        let version = won(race);
        won(b.remove(Name, KEY, version).await);
        late.release();
        // On the same connection, so behind it.
        assert_eq!(get(a).await, None);
        assert_eq!(get(b).await, None);
        // Nor is there anything that would keep others from making it again.
        won(put(b, None, "b").await);
        assert_eq!(text(&get(a).await), Some("b"));
    });
}

/// ```text
/// A  put ───────────────────── × ── reads: a mark of B ── overtaken, and not made again
/// B          removes it ── won
/// ```
#[test]
fn a_write_that_was_removed_before_its_answer_came_is_not_made_again() {
    let ground = Ground::<1>::new(PATIENT);
    let ((a, gate), b) = (&ground.nodes[0], ground.other.store().records());
    block_on(async {
        let answer = gate.hold(Way::Answer, CHANGE);
        let (race, ()) = join(put(a, None, "a"), async {
            answer.caught().await;
            let found = get(b).await.unwrap();
            won(b.remove(Name, KEY, found.version).await);
            answer.discard();
        })
        .await;
        assert_eq!(overtaken(race), None);
        assert_eq!(get(b).await, None);
    });
}

/// Who spends a ticket: of two who lose both answers one has it.
/// ```text
/// A  removes ──── ‖ ─── × ── reads: its own mark ── won
/// B  removes ──── ‖ ─── × ── reads: that of A ── overtaken
/// ```
#[test]
fn of_two_who_remove_it_and_lose_both_answers_one_has_won() {
    let ground = Ground::<2>::new(PATIENT);
    let [(a, gate_a), (b, gate_b)] = &ground.nodes;
    block_on(async {
        let version = won(put(ground.other.store().records(), None, "ticket").await);
        let answers = [gate_a, gate_b].map(|gate| gate.hold(Way::Answer, CHANGE));
        let removed = join(a.remove(Name, KEY, version), b.remove(Name, KEY, version));
        let ((one, other), ()) = join(removed, async {
            for answer in &answers {
                answer.caught().await;
            }
            answers.into_iter().for_each(Hold::discard);
        })
        .await;
        let wins = [&one, &other].map(|race| race.won().is_some());
        assert!(wins[0] != wins[1], "{one:?} {other:?}");
        assert_eq!(overtaken(if wins[0] { other } else { one }), None);
        assert_eq!(get(a).await, None);
    });
}

/// ```text
/// A  put ──── ‖   reads ── ‖ … unknown
/// ```
#[test]
fn where_nobody_answers_it_is_unknown() {
    let ground = Ground::<1>::new(1_500);
    let (a, gate) = &ground.nodes[0];
    block_on(async {
        let holds = [CHANGE, READ].map(|statement| gate.hold(Way::Answer, statement));
        let race = put(a, None, "a").await;
        assert!(matches!(race, Race::Unknown(_)), "{race:?}");
        holds.into_iter().for_each(Hold::discard);
        // It had happened.
        let read = tokio::time::timeout(Duration::from_secs(60), async {
            loop {
                if let Ok(found) = a.get_decided(Name, KEY).await {
                    return found;
                }
            }
        });
        assert_eq!(text(&read.await.unwrap()), Some("a"));
    });
}
