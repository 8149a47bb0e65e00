//! Follow lists that change, that a node may have missed, or that can not be read.

use std::{collections::BTreeSet, sync::atomic::Ordering};

use serde_json::json;

use super::Stage;
use crate::protocol::{Audience, Tags, kind, sign::Keys};

#[actix::test]
async fn follows_and_unfollows_count_at_once() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    let mut client = stage.connect_as(&reader).await;
    client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
    let deleted = format!("3:{}:", author.public_key());
    type Change<'a> = (&'a Keys, u16, Vec<&'a Keys>, [bool; 2]);
    let changes: [Change<'_>; 9] = [
        (&reader, kind::FOLLOW_LIST, vec![], [false, false]),
        (&reader, kind::FOLLOW_LIST, vec![&author], [false, true]),
        (&author, kind::FOLLOW_LIST, vec![&reader], [true, true]),
        (&author, kind::FOLLOW_LIST, vec![], [false, true]),
        (&author, kind::FOLLOW_LIST, vec![&reader], [true, true]),
        (&author, kind::DELETION, vec![], [false, true]),
        (&reader, kind::FOLLOW_LIST, vec![], [false, false]),
        (&reader, kind::FOLLOW_LIST, vec![&author], [false, true]),
        (&reader, kind::VANISH, vec![], [false, false]),
    ];
    for (nth, (who, kind, whom, expected)) in changes.into_iter().enumerate() {
        let change = match kind {
            kind::FOLLOW_LIST => stage.list(who, &whom),
            kind => stage.event(who, kind, Tags::from_iter([["a", &deleted], ["relay", "ALL_RELAYS"]])),
        };
        stage.publish(&change, true).await;
        // What is done right after it is judged by it, though the lists have not been read again yet.
        let mut shown = BTreeSet::new();
        for (audience, is_shown) in [Audience::Friends, Audience::Followers].into_iter().zip(expected) {
            let id = stage.act(&author, audience).await;
            shown.extend(is_shown.then_some(id));
        }
        assert_eq!(client.heard().await.into_iter().collect::<BTreeSet<_>>(), shown, "change {nth}");
    }
}

/// Between nodes, a change may be missed. After that nothing is shown by what was known before.
#[actix::test]
async fn after_a_doubt_the_lists_are_read_anew() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    stage.follow(&author, &[&reader]).await;
    let mut client = stage.connect_as(&reader).await;
    client.ask("x", json!({ "kinds": [kind::ACTIVITY] })).await;
    let shown = stage.act(&author, Audience::Friends).await;
    assert_eq!(client.heard().await, [shown]);
    let unheard = stage.list(&author, &[]);
    stage.store(&unheard).await;
    stage.doubts.fetch_add(1, Ordering::Relaxed);
    stage.act(&author, Audience::Friends).await;
    let shown = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [shown]);
    let unheard = stage.list(&reader, &[]);
    stage.store(&unheard).await;
    stage.doubts.fetch_add(1, Ordering::Relaxed);
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
}

#[actix::test]
async fn what_is_not_known_is_not_shown() {
    let mut stage = Stage::new();
    let [author, reader] = [(); 2].map(|()| Keys::generate());
    stage.follow(&reader, &[&author]).await;
    let mut client = stage.connect_as(&reader).await;
    stage.store.hides_lists.store(true, Ordering::Relaxed);
    let stored = stage.act(&author, Audience::Followers).await;
    let named = json!({ "kinds": [kind::ACTIVITY] });
    assert_eq!(client.ask("x", named.clone()).await, []);
    stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, []);
    client.say(json!(["COUNT", "count", named.clone()])).await;
    assert_eq!(client.next().await[0], "CLOSED");
    // It is read again for the next one that comes, and for the next question.
    stage.store.hides_lists.store(false, Ordering::Relaxed);
    let shown = stage.act(&author, Audience::Followers).await;
    assert_eq!(client.heard().await, [shown]);
    assert!(client.ask("y", named).await.contains(&stored));
}
