//! A deletion request at one node, and what it deletes at another, in every order in which neither sees the other
//! at first.

use super::*;

/// Both kinds of target, and an event of each.
fn targets(keys: &Keys) -> [(Event, Event); 2] {
    let note = race(keys, 1, "");
    let article = keys.sign(now(), 30_023, Tags::from_iter([["t", "race"], ["d", "x"]]), "");
    let address = format!("30023:{}:x", keys.public_key());
    let delete = |letter, target: &str| keys.sign(now(), 5, Tags::from_iter([[letter, target]]), "");
    let by_id = delete("e", &note.id().to_hex());
    [(note, by_id), (article, delete("a", &address))]
}

async fn is_nowhere<const N: usize>(nodes: [&Node; N], keys: &Keys, event: &Event) {
    for node in nodes {
        assert_eq!(node.find_all_ways(keys, event.kind(), &[event]).await, [""; 0]);
    }
}

/// ```text
/// A  reads the marks · rows ‖                                       commits · reads the marks · blocked
/// B                            finds nothing · marks · true
/// ```
/// Whoever reads the marks only before it writes does not see those that come meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_it_is_written() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    for (event, request) in targets(&keys) {
        let (mut publisher, commit) = a.send_up_to(COMMIT, &event).await;
        b.store(&request).await;
        commit.release();
        refused(publisher.hear_ok(&event.id().to_hex()).await, "blocked: ");
        is_nowhere([&a, &b], &keys, &event).await;
    }
}

/// ```text
/// A  reads the marks ‖                                   rows · commits · reads the marks · blocked
/// B                     marks · finds nothing ‖                                                   commits · true
/// ```
/// The mark counts from when it is written, not from when its request is committed.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_by_a_request_that_is_not_committed() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    for (event, request) in targets(&keys) {
        let (row, commit) = (a.hold(ROW), b.hold(COMMIT));
        let mut publisher = a.send(&event).await;
        row.caught().await;
        let mut deleter = b.send(&request).await;
        commit.caught().await;
        row.release();
        refused(publisher.hear_ok(&event.id().to_hex()).await, "blocked: ");
        commit.release();
        assert!(deleter.hear_ok(&request.id().to_hex()).await.0);
        is_nowhere([&a, &b], &keys, &event).await;
    }
}

/// ```text
/// A                     rows · commits · reads the marks · true
/// B  finds nothing ‖                                            marks · finds it, takes it away · true
/// ```
/// Whoever looks for the event only before it marks does not see one that was committed meanwhile, by a node
/// that could not see the mark.
#[tokio::test(flavor = "multi_thread")]
async fn written_while_it_is_deleted() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    for ((event, request), mark) in
        targets(&keys).into_iter().zip(["INSERT INTO deleted_id", "UPDATE deleted_address"])
    {
        let (mut deleter, mark) = b.send_up_to(mark, &request).await;
        a.store(&event).await;
        mark.release();
        assert!(deleter.hear_ok(&request.id().to_hex()).await.0);
        is_nowhere([&a, &b], &keys, &event).await;
    }
}

/// ```text
/// A  reads the marks · rows ‖                                commits ‖ killed before it reads the marks
/// B                            marks · finds nothing · true                  looks again, takes it away
/// ```
/// Nobody is left to withdraw what A has committed, so the deleter has to look once more when every writer has
/// finished or given up.
#[tokio::test(flavor = "multi_thread")]
async fn deleted_while_a_node_writes_it_that_is_killed() {
    let second_look = ["scylla.deadline_ms=2000"];
    let (_ground, [a, b]) = nodes::<2>(&second_look).await;
    let keys = Keys::generate();
    let [(event, request), _] = targets(&keys);
    let (_publisher, commit) = a.send_up_to(COMMIT, &event).await;
    b.store_at_last(&request).await;
    let look = a.hold("SELECT at FROM deleted_id");
    commit.release();
    look.caught().await;
    drop(a.relay);
    b.loses(json!({ "ids": [event.id()] })).await;
    is_nowhere([&b], &keys, &event).await;
}
