//! One event at two nodes.

use super::*;

/// ```text
/// A  reads: not stored · rows ‖                                commits · true
/// B                            reads: not stored · commits · true
/// ```
/// Both store it, and both publish it. Whoever took an event for its own to route because it stored it would
/// let it be heard twice; whoever left it to the other, not at all.
#[tokio::test(flavor = "multi_thread")]
async fn a_copy_at_two_nodes_at_once() {
    let (_ground, nodes) = nodes::<3>(&[]).await;
    let [a, b, _] = &nodes;
    let keys = Keys::generate();
    let mut clients = follow_at(&nodes, &keys).await;
    let event = race(&keys, 1, "");
    let (mut publisher, commit) = a.send_up_to(COMMIT, &event).await;
    b.store(&event).await;
    all_hear(&mut clients, &event).await;
    commit.release();
    assert_eq!(publisher.hear_ok(&event.id().to_hex()).await, (true, String::new()));
    for node in &nodes {
        assert_eq!(node.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    }
    all_have_heard_it_all(&mut clients, &keys, a).await;
}

/// ```text
/// A  rows ‖  error                          the commit lands
/// B               reads: not stored · true
/// ```
/// A statement outlives the patience of who sent it. Were it not the same whenever it lands, there would be two.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_elsewhere_before_the_first_lands() {
    let (_ground, nodes) = nodes_and_a_hasty_one::<3>().await;
    let [a, b, _] = &nodes;
    let keys = Keys::generate();
    let mut clients = follow_at(&nodes, &keys).await;
    let event = race(&keys, 1, "");
    let (commit, landed) = (a.hold(COMMIT), a.hold_answers(COMMIT));
    refused(a.publish(&event).await, "error: ");
    commit.caught().await;
    b.store(&event).await;
    all_hear(&mut clients, &event).await;
    commit.release();
    landed.caught().await;
    landed.release();
    for node in &nodes {
        assert_eq!(node.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    }
    all_have_heard_it_all(&mut clients, &keys, b).await;
}

/// ```text
/// A  rows · commits ‖                                            true
/// B                  reads: stored · logs it again, publishes · true
/// ```
/// The first writer may never know that it has written. Who answers `duplicate` to a copy that young has to
/// publish it, or nobody hears it for as long as A waits.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_elsewhere_after_the_first_has_landed() {
    let (_ground, nodes) = nodes::<3>(&[]).await;
    let [a, b, _] = &nodes;
    let keys = Keys::generate();
    let mut clients = follow_at(&nodes, &keys).await;
    let event = race(&keys, 1, "");
    let commit = a.hold_answers(COMMIT);
    let mut publisher = a.send(&event).await;
    commit.caught().await;
    let (accepted, text) = b.publish(&event).await;
    assert!(accepted && text.starts_with("duplicate: "), "{text}");
    all_hear(&mut clients, &event).await;
    commit.release();
    assert_eq!(publisher.hear_ok(&event.id().to_hex()).await, (true, String::new()));
    all_have_heard_it_all(&mut clients, &keys, a).await;
}

/// ```text
/// A  rows ‖              error       stores another
///           REQ: nothing                             hears it
/// B                                    stores it
/// ```
/// What is half written is not stored, so who asked meanwhile has to hear it later, from another node.
#[tokio::test(flavor = "multi_thread")]
async fn a_retry_elsewhere_of_what_was_half_written() {
    // Or A would try again itself.
    let hasty = [&HASTY[..], &["persister.retry_seconds=0"]].concat();
    let (_ground, nodes) = nodes_of([&hasty[..], &[]]).await;
    let [a, b] = &nodes;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    let (mut publisher, commit) = a.send_up_to(COMMIT, &event).await;
    let mut client = a.relay.connect().await;
    let filter = json!({ "authors": [keys.public_key()] });
    assert_eq!(client.request("s", &[filter]).await.0, [""; 0]);
    assert!(!publisher.hear_ok(&event.id().to_hex()).await.0);
    commit.discard();
    let other = race(&keys, 1, "another");
    a.store_at_last(&other).await;
    hears(&mut client, &other).await;
    b.store(&event).await;
    hears(&mut client, &event).await;
    all_have_heard_it_all(&mut [client], &keys, b).await;
}

/// ```text
/// A  rows ‖  error                          the commit lands   tries again: stored · publishes
/// B                 reads A's log: not stored                                                   hears it
/// ```
/// Whoever reads the log looks once at what failed, and whoever is sent a copy later finds an old duplicate. Only A
/// knows that it does not know.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_lands_when_nobody_looks_any_more() {
    let (_ground, nodes) = nodes_and_a_hasty_one::<2>().await;
    let [a, b] = &nodes;
    let keys = Keys::generate();
    let mut clients = follow_at(&nodes, &keys).await;
    let event = race(&keys, 1, "");
    let (commit, looked) = (a.hold(COMMIT), b.hold_answers(EVENT));
    refused(a.publish(&event).await, "error: ");
    commit.caught().await;
    looked.caught().await;
    commit.release();
    looked.release();
    all_hear(&mut clients, &event).await;
    all_have_heard_it_all(&mut clients, &keys, b).await;
}

/// ```text
/// A  rows ‖  error                                tries again: deleted · clears its rows away
/// B                 deletes: nothing is committed
/// ```
/// Who deletes an event finds it by its commit mark. Rows without one would be found by their author for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_of_what_was_half_written() {
    let (_ground, nodes) = nodes_and_a_hasty_one::<2>().await;
    let [a, b] = &nodes;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    let (mut publisher, commit) = a.send_up_to(COMMIT, &event).await;
    assert!(!publisher.hear_ok(&event.id().to_hex()).await.0);
    b.store(&keys.sign(now(), 5, Tags::from_iter([["e", &event.id().to_hex()]]), "")).await;
    commit.discard();
    for node in &nodes {
        node.loses(json!({ "authors": [keys.public_key()], "kinds": [1] })).await;
    }
}

/// ```text
/// A  rows · commits ‖ killed
/// B                           hears nothing of A · reads its log
/// ```
/// Nobody publishes what A has committed, and nobody sends it again. Watermarks alone prove nothing of the dead.
#[tokio::test(flavor = "multi_thread")]
async fn a_node_is_killed_between_commit_and_publication() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let mut clients = [b.follow(&keys).await];
    let event = race(&keys, 1, "");
    let commit = a.hold_answers(COMMIT);
    let _publisher = a.send(&event).await;
    commit.caught().await;
    drop(a.relay);
    all_hear(&mut clients, &event).await;
    all_have_heard_it_all(&mut clients, &keys, &b).await;
}
