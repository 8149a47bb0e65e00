//! Nodes whose clocks are wrong: nothing valid is removed, nothing comes twice.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;
use tempfile::TempDir;

use crate::{
    hears,
    stored::{Keyspace, publish_all},
};
use common::{Relay, cassandra, eventually, now, redis::Redis};

const DAY: i64 = 24 * 60 * 60;

/// A wall clock of its own. What measures durations is not touched.
pub struct Clock(TempDir);

impl Clock {
    /// Of Debian's package faketime.
    const LIBRARY: &str = "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1";

    pub fn new() -> Self {
        let clock = Self(TempDir::new().unwrap());
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the others.
    pub fn set(&self, ahead: i64) {
        let new = self.0.path().join("new");
        std::fs::write(&new, format!("{ahead:+}\n")).unwrap();
        std::fs::rename(new, self.file()).unwrap();
    }

    fn file(&self) -> PathBuf {
        self.0.path().join("offset")
    }

    pub fn is_there() -> bool {
        Path::new(Self::LIBRARY).exists()
    }

    pub fn give(&self, command: &mut Command) {
        if Self::is_there() {
            command
                .env("LD_PRELOAD", Self::LIBRARY)
                .env("FAKETIME_TIMESTAMP_FILE", self.file())
                .env("FAKETIME_NO_CACHE", "1")
                .env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
        }
    }

    /// A node that has it.
    fn node(&self, keyspace: &Keyspace, redis: &str) -> Relay {
        let data = TempDir::new().unwrap();
        let server = cassandra::server();
        let store = ["--redis", redis, "--scylla", server, "--keyspace", &keyspace.name, "--workers", "1"];
        let sweeps = ["--set", "store.sweep_seconds=1"];
        let mut command = common::relay_command(data.path(), &[&store[..], &sweeps].concat());
        self.give(&mut command);
        Relay::spawn(command, data)
    }
}

/// Events that expire in the coming two hours.
fn expiring(keys: &Keys) -> Vec<Event> {
    let event = |n: u64| {
        let at = (now() + 300 + n * 70).to_string();
        keys.sign(now(), 1, Tags::from_iter([["expiration", &at]]), &n.to_string())
    };
    (0..100).map(event).collect()
}

/// While one node is held up, another one has a clock that is a day ahead: it was set, or the node is started so.
async fn nothing_goes_while_a_clock_is_ahead_and_nobody_says_so(is_set_later: bool) {
    if !Clock::is_there() {
        return eprintln!("faketime is not installed: nothing is tested");
    }
    let (redis, keyspace, clock) = (Redis::start(), Keyspace::make(), Clock::new());
    let right = keyspace.node(&redis.url());
    let keys = Keys::generate();
    publish_all(&mut right.connect().await, &expiring(&keys)).await;
    let wrong = is_set_later.then(|| clock.node(&keyspace, &redis.url()));
    if let Some(wrong) = &wrong {
        eventually("a comparison of clocks", || wrong.metric("rookery_bus_connected") == 1.0).await;
        wrong.log().says("the clock of this node is as those of the others").await;
    }
    right.signal("STOP");
    clock.set(DAY);
    let wrong = wrong.unwrap_or_else(|| clock.node(&keyspace, &redis.url()));
    let notices = || wrong.metric("rookery_clock_ahead_seconds") > DAY as f64 / 2.0;
    eventually("a word of the clock", notices).await;
    right.signal("CONT");
    let mut reader = right.connect().await;
    let found = reader.request("s", &[json!({ "authors": [keys.public_key()] })]).await.0;
    assert_eq!(found.len(), 100);
}

#[tokio::test]
async fn a_clock_that_is_set_while_the_other_node_is_held_up_removes_nothing() {
    nothing_goes_while_a_clock_is_ahead_and_nobody_says_so(true).await;
}

#[tokio::test]
async fn a_node_that_starts_with_a_wrong_clock_while_the_other_one_is_held_up_removes_nothing() {
    nothing_goes_while_a_clock_is_ahead_and_nobody_says_so(false).await;
}

/// What was sent as stored comes late from a node whose clock is hours behind or ahead.
#[tokio::test]
async fn what_a_node_with_a_wrong_clock_accepts_comes_once() {
    if !Clock::is_there() {
        return eprintln!("faketime is not installed: nothing is tested");
    }
    for off in [-2, 2] {
        let (redis, keyspace, clock) = (Redis::start(), Keyspace::make(), Clock::new());
        clock.set(off * 60 * 60);
        let (wrong, right) = (clock.node(&keyspace, &redis.url()), keyspace.node(&redis.url()));
        for node in [&wrong, &right] {
            eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        }
        let keys = Keys::generate();
        let created_at = now() - 3 * 60 * 60;
        let events: Vec<Event> =
            (0..8).map(|n| keys.sign(created_at + n, 1, Tags::default(), &n.to_string())).collect();
        let (mut publisher, mut reader) = (wrong.connect().await, right.connect().await);
        // So that the node is told of them once Redis goes on.
        assert_eq!(
            reader.request("w", &[json!({ "authors": [keys.public_key()], "limit": 0 })]).await.0,
            [""; 0]
        );
        redis.signal("STOP");
        for event in &events[..7] {
            assert_eq!(publisher.publish(event).await, (true, String::new()));
        }
        let mut client = right.connect().await;
        assert_eq!(client.request("s", &[json!({ "authors": [keys.public_key()] })]).await.0.len(), 7);
        redis.signal("CONT");
        assert_eq!(publisher.publish(&events[7]).await, (true, String::new()));
        hears(&mut client, &events[7]).await;
    }
}
