//! A request to vanish at one node, and what its author wrote at others.

use super::*;

fn vanish(keys: &Keys, created_at: u64) -> Event {
    keys.sign(created_at, 62, Tags::from_iter([["relay", "ALL_RELAYS"]]), "")
}

/// ```text
/// A  reads the marks · rows of an older one ‖                     commits · reads the marks · blocked
/// B                                            vanishes · true
/// C                                                        a newer one · true
/// ```
/// What vanishes is said by the time of the request, not by the order in which things come.
#[tokio::test(flavor = "multi_thread")]
async fn older_ones_go_and_newer_ones_stay() {
    let (_ground, nodes) = nodes::<3>(&[]).await;
    let [a, b, c] = &nodes;
    let keys = Keys::generate();
    let until = now() - 10;
    let (older, newer) = (race_at(&keys, until, 1, "older"), race_at(&keys, until + 1, 1, "newer"));
    let (mut publisher, commit) = a.send_up_to(COMMIT, &older).await;
    let strike = b.hold_answers(STRIKE);
    b.store(&vanish(&keys, until)).await;
    c.store(&newer).await;
    commit.release();
    refused(publisher.hear_ok(&older.id().to_hex()).await, "blocked: ");
    for node in &nodes {
        assert_eq!(node.find_all_ways(&keys, 1, &[&older, &newer]).await, ids(&[&newer]));
    }
    refused(c.publish(&older).await, "blocked: ");
    drop(strike);
}

/// The request is carried out.
const STRIKE: &str = "DELETE FROM vanishing";

/// ```text
/// A  reads the marks ‖                                  rows · commits ‖ killed before it reads the marks
/// B                     vanishes · true · finds nothing                                            looks again
/// ```
/// Nobody is left to withdraw what A has committed, so the request may not be struck off the list as soon as
/// nothing of the author is found.
#[tokio::test(flavor = "multi_thread")]
async fn vanished_while_a_node_writes_that_is_killed() {
    let (_ground, [a, b]) = nodes::<2>(&["scylla.deadline_ms=2000"]).await;
    let keys = Keys::generate();
    let event = race_at(&keys, now() - 10, 1, "");
    let (_publisher, row) = a.send_up_to(ROW, &event).await;
    let (sweep, strike) = (b.hold_answers(PAGE), b.hold_answers(STRIKE));
    b.store_at_last(&vanish(&keys, now() - 5)).await;
    sweep.caught().await;
    let look = a.hold("SELECT until FROM vanished");
    row.release();
    look.caught().await;
    drop(a.relay);
    sweep.release();
    strike.caught().await;
    strike.release();
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
}

/// ```text
/// A  vanishes · true · looks at what mentions its author ‖
/// A                                                         another one publishes · true · and is found
/// ```
/// What is removed is looked for beside the writers.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_waits_for_what_is_being_removed() {
    let (_ground, [a]) = nodes::<1>(&[]).await;
    let keys = Keys::generate();
    let look = a.hold("SELECT created_at, id, kind, pubkey FROM by_tag");
    a.store(&vanish(&keys, now())).await;
    look.caught().await;
    let event = race_at(&Keys::generate(), now(), 1, "another");
    a.store(&event).await;
    assert_eq!(a.find(json!({ "ids": [event.id()] })).await, ids(&[&event]));
    look.release();
}
