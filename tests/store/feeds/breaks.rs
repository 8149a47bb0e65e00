//! What may have been missed or has failed: nothing is told from memory by it.

use std::sync::atomic::Ordering;

use super::Stage;
use crate::subject::{NOW, note, soon, user};

#[tokio::test]
async fn a_break_while_a_feed_is_filled_makes_it_worthless() {
    for (during, after) in [(Some((0, 1)), Some((0, 1))), (None, Some((1, 0))), (None, None)] {
        let (stage, keys) = (Stage::new(), user(1));
        stage.store(&note(&keys, 10, "before")).await;
        stage.ask(&keys).await;
        stage.listen(during);
        stage.store(&note(&keys, 11, "missed")).await;
        stage.listen(after);
        stage.filled().await;
        stage.expect(&keys, false).await;
    }
}

#[tokio::test]
async fn a_break_makes_all_feeds_worthless_and_they_are_filled_again() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.ask(&keys).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
    stage.listen(None);
    stage.store(&note(&keys, 10, "missed")).await;
    stage.expect(&keys, false).await;
    stage.listen(Some((0, 1)));
    stage.expect(&keys, false).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
}

#[tokio::test]
async fn a_read_that_fails_is_made_again() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.store(&note(&keys, 10, "")).await;
    stage.store.fails.store(true, Ordering::Relaxed);
    stage.ask(&keys).await;
    stage.filled().await;
    stage.store.fails.store(false, Ordering::Relaxed);
    stage.expect(&keys, false).await;
    stage.filled().await;
    stage.expect(&keys, true).await;
}

/// Nobody knows what became of it: the store does.
#[tokio::test]
async fn a_write_that_fails_makes_its_authors_feeds_worthless() {
    let (stage, keys) = (Stage::new(), user(1));
    stage.ask(&keys).await;
    stage.filled().await;
    stage.store.fails.store(true, Ordering::Relaxed);
    stage.feeds.write([note(&keys, 10, "")].into(), NOW, soon()).await.unwrap_err();
    stage.expect(&keys, false).await;
}
