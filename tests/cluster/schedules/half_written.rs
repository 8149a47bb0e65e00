//! What a node leaves half written when it dies or is stopped: it is not served, whatever is done about it counts,
//! and those that are left finish it.

use super::*;

/// What a writer looks at before it answers.
const CHECK: &str = "SELECT at FROM deleted_id";

/// Until the server itself finds so many rows, of which nobody tells.
async fn until_there_are(count: usize, rows: &str, ground: &Ground, of: &[u8]) {
    let keyspace = &ground.keyspace.as_ref().unwrap().name;
    let session = SessionBuilder::new().known_node(cassandra::server()).build().await.unwrap();
    let text = format!("SELECT id FROM {keyspace}.{rows} = ? ALLOW FILTERING");
    let there = async {
        loop {
            let found = session.query_unpaged(&*text, (of.to_vec(),)).await.unwrap();
            if found.into_rows_result().unwrap().rows_num() == count {
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    timeout(PATIENCE, there).await.expect("there are never so many");
}

async fn until_rows_are(count: usize, ground: &Ground, keys: &Keys) {
    until_there_are(count, "by_author WHERE pubkey", ground, &keys.public_key().0).await;
}

async fn until_it_is_committed(ground: &Ground, event: &Event) {
    until_there_are(1, "event WHERE id", ground, &event.id().0).await;
}

fn delete(keys: &Keys, event: &Event) -> Event {
    keys.sign(now(), 5, Tags::from_iter([["e", &event.id().to_hex()]]), "")
}

/// ```text
/// A  rows ‖ killed
/// B                 finds nothing                  writes it again · finds it · hears it
/// ```
/// Rows alone are no event. Nobody sends it again, and still it does not stay half written for good.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_finished_by_those_who_are_left() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let mut clients = [b.follow(&keys).await];
    let event = race(&keys, 1, "");
    let (_publisher, _commit) = a.send_up_to(COMMIT, &event).await;
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    drop(a.relay);
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    all_hear(&mut clients, &event).await;
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    let (taken, why) = b.publish(&event).await;
    assert!(taken && why.starts_with("duplicate: "), "{why}");
    all_have_heard_it_all(&mut clients, &keys, &b).await;
}

/// ```text
/// A  stores · told to end · ends
/// B                              finds it · nothing is left to do
/// ```
/// Whoever ends in order leaves nothing for others to finish, though it has told nobody lately how far it was.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_left_of_who_ends_in_order() {
    let (ground, [mut a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    a.store(&event).await;
    a.relay.signal("TERM");
    let ended = async {
        while a.relay.process.try_wait().unwrap().is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(PATIENCE, ended).await.expect("it does not end");
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    let keyspace = &ground.keyspace.as_ref().unwrap().name;
    let session = SessionBuilder::new().known_node(cassandra::server()).build().await.unwrap();
    for table in ["draft", "writer"] {
        let rows = session.query_unpaged(format!("SELECT origin FROM {keyspace}.{table}"), ()).await.unwrap();
        assert_eq!(rows.into_rows_result().unwrap().rows_num(), 0, "{table}");
    }
}

/// ```text
/// A  rows ‖ killed
/// B                 deletes: nothing is committed · true       clears its rows away
/// ```
/// The mark of a deletion reaches what is not there yet as an event.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_deleted() {
    let (ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    let (_publisher, commit) = a.send_up_to(COMMIT, &event).await;
    drop(a.relay);
    b.store(&delete(&keys, &event)).await;
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    refused(b.publish(&event).await, "blocked: ");
    // That of the deletion request stays.
    until_rows_are(1, &ground, &keys).await;
    commit.release();
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
}

/// ```text
/// A  rows ‖                                        commits ‖ killed before it reads the marks
/// B         deletes: nothing is committed · true ‖ killed
/// C                                                            finds nothing · clears it away
/// ```
/// Neither is left to take it back, and what B had meant to look at once more is gone with it. Who reads what no
/// writer has finished reads the marks as its writer would have.
#[tokio::test(flavor = "multi_thread")]
async fn it_is_committed_after_its_deletion() {
    let (ground, [a, b, c]) = nodes::<3>(&[]).await;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    let (_publisher, commit) = a.send_up_to(COMMIT, &event).await;
    b.store(&delete(&keys, &event)).await;
    drop(b.relay);
    let (check, landed) = (a.hold(CHECK), a.hold_answers(COMMIT));
    commit.release();
    landed.caught().await;
    landed.release();
    check.caught().await;
    drop(a.relay);
    assert_eq!(c.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    until_rows_are(1, &ground, &keys).await;
    assert_eq!(c.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
}

/// ```text
/// A  rows ‖ killed
/// B                 vanishes · true · removes what it finds       nothing is left
/// ```
#[tokio::test(flavor = "multi_thread")]
async fn its_author_vanishes() {
    let (ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let event = race_at(&keys, now() - 10, 1, "");
    let (_publisher, commit) = a.send_up_to(COMMIT, &event).await;
    drop(a.relay);
    b.store(&keys.sign(now() - 5, 62, Tags::from_iter([["relay", "ALL_RELAYS"]]), "")).await;
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    until_rows_are(1, &ground, &keys).await;
    commit.release();
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
}

/// ```text
/// A  rows · stopped                                               goes on: commits · true
/// B                  A is silent: writes it again · finds it
/// ```
/// Whoever finishes it can not know whether its writer is dead. Both write the same.
#[tokio::test(flavor = "multi_thread")]
async fn its_writer_was_stopped_and_goes_on() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let mut clients = [b.follow(&keys).await];
    let event = race(&keys, 1, "");
    let (mut publisher, commit) = a.send_up_to(COMMIT, &event).await;
    a.relay.signal("STOP");
    all_hear(&mut clients, &event).await;
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    a.relay.signal("CONT");
    commit.release();
    assert!(publisher.hear_ok(&event.id().to_hex()).await.0);
    assert_eq!(b.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    all_have_heard_it_all(&mut clients, &keys, &b).await;
}

/// ```text
/// A  rows · stopped                                                   goes on: commits · reads the marks · blocked
/// B                  A is silent: writes it again · deletes it · true
/// ```
#[tokio::test(flavor = "multi_thread")]
async fn its_writer_was_stopped_and_goes_on_after_its_deletion() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let event = race(&keys, 1, "");
    let (row, mut clients) = (a.hold(ROW), [b.follow(&keys).await]);
    let mut publisher = a.send(&event).await;
    row.caught().await;
    a.relay.signal("STOP");
    all_hear(&mut clients, &event).await;
    b.store(&delete(&keys, &event)).await;
    a.relay.signal("CONT");
    row.release();
    refused(publisher.hear_ok(&event.id().to_hex()).await, "blocked: ");
    for node in [&a, &b] {
        assert_eq!(node.find_all_ways(&keys, 1, &[&event]).await, [""; 0]);
    }
}

/// ```text
/// A  rows ‖ error · killed          the commit lands
/// B                                                   reads: stored · logs it again, publishes · true
/// ```
/// The copy comes when the event has long been old, and it is stored: but its writer did not come to the end, so
/// nobody may have heard of it.
#[tokio::test(flavor = "multi_thread")]
async fn its_commit_lands_after_the_death_of_its_writer() {
    let (ground, [a, b, c]) = nodes_and_a_hasty_one::<3>().await;
    let keys = Keys::generate();
    let mut clients = [b.follow(&keys).await, c.follow(&keys).await];
    let event = race(&keys, 1, "");
    let commit = a.hold(COMMIT);
    refused(a.publish(&event).await, "error: ");
    drop(a.relay);
    // Until it is older than two deadlines of its writer, by which nodes once went. Others may have finished it or
    // not: either order is right.
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    commit.release();
    until_it_is_committed(&ground, &event).await;
    let (taken, why) = b.publish(&event).await;
    assert!(taken && why.starts_with("duplicate: "), "{why}");
    all_hear(&mut clients, &event).await;
    for node in [&b, &c] {
        assert_eq!(node.find_all_ways(&keys, 1, &[&event]).await, ids(&[&event]));
    }
    all_have_heard_it_all(&mut clients, &keys, &b).await;
}
