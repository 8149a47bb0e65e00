//! A log that nobody reads: standard error is a pipe, and full. Clients are served as ever, what is not written is
//! counted, and the process ends when it is to end.

use std::{
    io::{BufRead, BufReader, Write, pipe},
    process::{ChildStderr, Stdio},
    time::Duration,
};

use common::{PATIENCE, Relay, fresh, relay_command, rookery};
use rookery::protocol::sign::Keys;
use rustix::io::ioctl_fionread;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::Instant;

const LOST: &str = "rookery_log_lines_lost_total";

/// A relay that says all that it does, and the pipe in which nobody reads on.
fn start() -> (Relay, BufReader<ChildStderr>) {
    let data = TempDir::new().unwrap();
    let arguments = ["--workers", "1", "--log", "trace", "--set", "log_lines=64"];
    let mut command = relay_command(data.path(), &arguments);
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut unread = BufReader::new(process.stderr.take().unwrap());
    let mut line = String::new();
    let entry = loop {
        line.clear();
        assert_ne!(unread.read_line(&mut line).unwrap(), 0, "the relay ended");
        let entry: Value = serde_json::from_str(&line).unwrap();
        if entry["message"] == "listening" {
            break entry;
        }
    };
    let address = |name: &str| entry[name].as_str().unwrap().parse().unwrap();
    (Relay { process, clients: address("address"), operators: address("operators"), data }, unread)
}

/// A client comes, publishes, asks and goes.
async fn is_served(relay: &Relay, keys: &Keys) {
    let mut client = relay.connect().await;
    let event = fresh(keys, "hello");
    let (accepted, text) = client.publish(&event).await;
    assert!(accepted, "{text}");
    let (found, _) = client.request("s", &[json!({ "ids": [event.id()] })]).await;
    assert_eq!(found, [event.id().to_hex()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_holds_nobody_up() {
    let (mut relay, unread) = start();
    let keys = Keys::generate();
    let begun = Instant::now();
    // A pipe takes 64 KiB, and then nothing more.
    while relay.metric(LOST) == 0.0 {
        is_served(&relay, &keys).await;
        assert!(begun.elapsed() < 2 * PATIENCE, "no line was lost");
    }
    let told = || (ioctl_fionread(unread.get_ref()).unwrap(), relay.metric(LOST));
    for _ in 0..20 {
        let before = told();
        // Until the pipe and the queue are full, what is said may wait in the queue.
        while told() == before {
            is_served(&relay, &keys).await;
            assert!(begun.elapsed() < 4 * PATIENCE, "what was said is neither written nor counted");
        }
    }
    let (status, text) = Relay::get(relay.operators, "/health/ready", "");
    assert_eq!(status, 200, "{text}");
    // What is left to be said is not waited for.
    relay.signal("TERM");
    assert!(relay.process.wait().unwrap().success());
    drop(unread);
}

#[tokio::test]
async fn an_error_that_nobody_reads_keeps_no_process_from_its_end() {
    // As much as a pipe takes.
    const FULL: usize = 64 * 1024;
    let (unread, mut full) = pipe().unwrap();
    full.write_all(&vec![b'x'; FULL]).unwrap();
    let mut process = rookery(&["config", "--check", "/nowhere"]).stderr(full).spawn().unwrap();
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = process.try_wait().unwrap() {
            break status;
        }
        if begun.elapsed() > PATIENCE {
            process.kill().unwrap();
            panic!("it does not end");
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert_eq!(status.code(), Some(1));
    drop(unread);
}
