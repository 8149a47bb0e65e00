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

/// From here on a version is the winner of its address.
const RANK: &str = "UPDATE latest";

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
        let (mut publisher, commit) = a.send_up_to(COMMIT, loser).await;
        b.store(winner).await;
        commit.release();
        refused(publisher.hear_ok(&loser.id().to_hex()).await, "duplicate: ");
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}

/// ```text
/// A  reads: no version · commits ‖                                   rank of the winner · true
/// B                       reads: no version · the loser · true
/// ```
/// A does not know of the loser, so nobody takes it away: readers have to compare with the rank.
#[tokio::test(flavor = "multi_thread")]
async fn the_loser_slips_in_before_the_winner() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    for (kind, same_time) in CASES {
        let keys = Keys::generate();
        let [winner, loser] = &versions(&keys, kind, same_time);
        let (mut publisher, rank) = a.send_up_to(RANK, winner).await;
        b.store(loser).await;
        rank.release();
        assert!(publisher.hear_ok(&winner.id().to_hex()).await.0);
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}

/// ```text
/// A  reads: no version · commits the loser ‖                               rank of the loser · reads the rank · superseded
/// B                                           commits and ranks the winner ‖                                             true
/// ```
/// Ranks are written after each other in the wrong order; of one time, only the cell itself can tell them.
#[tokio::test(flavor = "multi_thread")]
async fn the_rank_of_the_loser_is_written_last() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    for (kind, same_time) in CASES {
        let keys = Keys::generate();
        let [winner, loser] = &versions(&keys, kind, same_time);
        let (rank, ranked) = (a.hold(RANK), b.hold_answers(RANK));
        let mut first = a.send(loser).await;
        rank.caught().await;
        let mut second = b.send(winner).await;
        ranked.caught().await;
        rank.release();
        refused(first.hear_ok(&loser.id().to_hex()).await, "duplicate: ");
        ranked.release();
        assert!(second.hear_ok(&winner.id().to_hex()).await.0);
        only_the_winner_is_found([&a, &b], &keys, &[winner.clone(), loser.clone()]).await;
    }
}

/// ```text
/// A                    the loser · true      finds the loser                the winner · true
/// B                                     rows ‖               killed
/// ```
/// What is acknowledged stays until its successor is: a successor that is half written takes nobody's place.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_stays_until_its_successor_is_committed() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let cases = CASES.map(|(kind, same_time)| (kind, same_time, Keys::generate()));
    let versions = cases.each_ref().map(|(kind, same_time, keys)| versions(keys, *kind, *same_time));
    for [_, loser] in &versions {
        a.store(loser).await;
    }
    // All in one batch: they wait for one that is held up.
    let (first, commit) = (b.hold(COMMIT), b.hold(COMMIT));
    let mut publisher = b.send(&race(&Keys::generate(), 1, "")).await;
    first.caught().await;
    for [winner, _] in &versions {
        publisher.say_text(format!(r#"["EVENT",{}]"#, winner.json())).await;
    }
    assert_eq!(publisher.request("nothing", &[json!({ "ids": ["00".repeat(32)] })]).await.0, [""; 0]);
    first.release();
    commit.caught().await;
    let stays = async || {
        for ((kind, _, keys), [winner, loser]) in cases.iter().zip(&versions) {
            assert_eq!(a.find_all_ways(keys, *kind, &[winner, loser]).await, ids(&[loser]));
            let (taken, why) = a.publish(loser).await;
            assert!(taken && why.starts_with("duplicate: "), "{why}");
        }
    };
    stays().await;
    drop(b.relay);
    commit.discard();
    stays().await;
    for ((kind, _, keys), [winner, loser]) in cases.iter().zip(&versions) {
        a.store(winner).await;
        assert_eq!(a.find_all_ways(keys, *kind, &[winner, loser]).await, ids(&[winner]));
    }
}

/// ```text
/// A            the loser · true                          the loser is found · the winner · true
/// B                              rows · commits ‖ killed
/// ```
/// It is committed, and nobody knows of it as a version: a copy makes that good, and is no duplicate before.
#[tokio::test(flavor = "multi_thread")]
async fn a_version_is_committed_and_has_no_rank() {
    let (_ground, [a, b]) = nodes::<2>(&[]).await;
    let keys = Keys::generate();
    let [winner, loser] = &versions(&keys, 30_023, false);
    a.store(loser).await;
    let (_publisher, rank) = b.send_up_to(RANK, winner).await;
    drop(b.relay);
    rank.discard();
    assert_eq!(a.find_all_ways(&keys, 30_023, &[winner, loser]).await, ids(&[loser]));
    a.store(winner).await;
    assert_eq!(a.find_all_ways(&keys, 30_023, &[winner, loser]).await, ids(&[winner]));
}
