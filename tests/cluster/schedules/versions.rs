//! Versions of one address at two nodes at once.

use super::*;

/// Two versions, the winner first: by their times, or by their ids.
fn versions(keys: &Keys, kind: u16, same_time: bool) -> [Event; 2] {
    let tags = || Tags::from_iter([["t", "race"], ["d", "x"]]);
    let newer = now();
    let older = if same_time { newer } else { newer - 10 };
    let mut versions = [keys.sign(newer, kind, tags(), "one"), keys.sign(older, kind, tags(), "another")];
    if same_time {
        versions.sort_by_key(Event::id);
    }
    versions
}

const CASES: [(u16, bool); 4] = [(10_002, false), (10_003, true), (30_023, false), (30_024, true)];

async fn only_the_winner_is_found(nodes: [&Node; 2], keys: &Keys, versions: &[Event; 2]) {
    let [winner, loser] = versions;
    for node in nodes {
        assert_eq!(node.find_all_ways(keys, winner.kind(), &[winner, loser]).await, ids(&[winner]));
        refused(node.publish(loser).await, "duplicate: ");
    }
}

/// ```text
/// A  reads: no version · rows of the loser ‖                           commits · reads the rank · superseded
/// B                                           the winner · true
/// ```
/// Whoever reads the rank only before it writes acknowledges what is not served.
#[tokio::test(flavor = "multi_thread")]
async fn the_winner_overtakes_the_loser() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    for (kind, same_time) in CASES {
        let keys = Keys::generate();
        let [winner, loser] = &versions(&keys, kind, same_time);
        let commit = a.hold(COMMIT);
        let mut publisher = a.send(loser).await;
        commit.caught().await;
        b.store(winner).await;
        commit.release();
        refused(publisher.hear_ok(&loser.id().to_hex()).await, "duplicate: ");
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}

/// ```text
/// A  reads: no version ‖                                             rank of the winner · commits · true
/// B                       reads: no version · the loser · true
/// ```
/// A does not know of the loser, so nobody takes it away: readers have to compare with the rank.
#[tokio::test(flavor = "multi_thread")]
async fn the_loser_slips_in_before_the_winner() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    for (kind, same_time) in CASES {
        let keys = Keys::generate();
        let [winner, loser] = &versions(&keys, kind, same_time);
        let rank = a.hold("UPDATE latest");
        let mut publisher = a.send(winner).await;
        rank.caught().await;
        b.store(loser).await;
        rank.release();
        assert!(publisher.hear_ok(&winner.id().to_hex()).await.0);
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}

/// ```text
/// A  reads: no version · rows ‖                                          rank of the loser · commits · superseded
/// B                              rank of the winner ‖                                              commits · true
/// ```
/// Ranks are written after each other in the wrong order; of one time, only the cell itself can tell them.
#[tokio::test(flavor = "multi_thread")]
async fn the_rank_of_the_loser_is_written_last() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    for (kind, same_time) in CASES {
        let keys = Keys::generate();
        let [winner, loser] = &versions(&keys, kind, same_time);
        let (rank, commit) = (a.hold("UPDATE latest"), b.hold(COMMIT));
        let mut first = a.send(loser).await;
        rank.caught().await;
        let mut second = b.send(winner).await;
        commit.caught().await;
        rank.release();
        refused(first.hear_ok(&loser.id().to_hex()).await, "duplicate: ");
        commit.release();
        assert!(second.hear_ok(&winner.id().to_hex()).await.0);
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}
