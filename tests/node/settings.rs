//! Every number may be set to either end of its range, all of them at once: the node starts, serves and ends.

use std::time::{Duration, Instant};

use common::{PATIENCE, Relay};
use rookery::config::{Range, ranges};
use tempfile::NamedTempFile;

/// A file in which each number is at that end.
fn file(end: impl Fn(Range) -> String) -> NamedTempFile {
    let (mut text, mut before) = (String::new(), "");
    for (section, name, range) in ranges() {
        if section != before {
            text.push_str(&format!("[{section}]\n"));
            before = section;
        }
        text.push_str(&format!("{name} = {}\n", end(range)));
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn starts_serves_and_ends(end: impl Fn(Range) -> String) {
    let file = file(&end);
    // Other tests have a deadline of their own, which would win over the file.
    let (_, _, deadline) = ranges().find(|(_, name, _)| *name == "deadline_ms").unwrap();
    let deadline = format!("persister.deadline_ms={}", end(deadline));
    let mut relay = Relay::start(&["--config", file.path().to_str().unwrap(), "--set", &deadline]);
    assert_eq!(Relay::get(relay.operators, "/health/live", "").0, 200);
    assert_eq!(Relay::get(relay.operators, "/metrics", "").0, 200);
    assert_eq!(Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n").0, 200);
    let client = relay.connect().await;
    drop(client);
    relay.signal("TERM");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = relay.process.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn all_numbers_may_be_the_least() {
    let least = |range| match range {
        Range::Whole(from, _) => from.to_string(),
        Range::Part(from, _) => format!("{from:?}"),
    };
    starts_serves_and_ends(least).await;
}

#[tokio::test]
async fn all_numbers_may_be_the_most() {
    let most = |range| match range {
        Range::Whole(_, to) => to.to_string(),
        Range::Part(_, to) => format!("{to:?}"),
    };
    starts_serves_and_ends(most).await;
}
