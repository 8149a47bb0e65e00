//! A node that can not do its work says so, or ends: it never looks alive and does not answer.

use std::{
    os::unix::process::ExitStatusExt,
    process::{Command, Stdio},
};

use rookery::{
    protocol::sign::Keys,
    store::memory::Memory,
    telemetry::{end_on_panic, init_logs},
};

use crate::overload::{
    send,
    stage::{Node, Staged},
};
use common::{Relay, eventually, fresh};

#[tokio::test]
async fn a_node_whose_store_hangs_is_not_ready_until_it_goes_on() {
    let store = Staged::held(Memory::new());
    let node = Node::start(&store, |config| config.general.stuck_seconds = 1);
    let ready = || Relay::get(node.operators, "/health/ready", "");
    eventually("it is ready", || ready().0 == 200).await;
    let mut client = node.connect().await;
    send(&mut client, &fresh(&Keys::generate(), "hangs")).await;
    eventually("it is not ready", || ready().0 == 503).await;
    assert_eq!(ready().1, "not ready: the store does not finish a batch\n");
    store.release();
    eventually("it is ready again", || ready().0 == 200).await;
}

/// Set for a program of tests that is to run this one only, and to end by a planted fault.
const PLANTED: &str = "ROOKERY_TEST_PLANTED_FAULT";

#[test]
fn a_panic_anywhere_ends_the_process_with_a_line_in_the_log() {
    let test = "overload::health::a_node_with_a_planted_fault";
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--nocapture"]).env(PLANTED, "1").stdout(Stdio::null());
    let output = command.output().unwrap();
    const SIGABRT: i32 = 6;
    assert_eq!(output.status.signal(), Some(SIGABRT), "{:?}", output.status);
    let log = String::from_utf8_lossy(&output.stderr);
    let line = log.lines().find(|line| line.contains("a planted fault: the process ends"));
    assert!(line.is_some_and(|line| line.contains("ERROR")), "{log}");
}

#[tokio::test]
async fn a_node_with_a_planted_fault() {
    if std::env::var_os(PLANTED).is_none() {
        return;
    }
    let log = init_logs("info", 100, None).unwrap();
    end_on_panic(&log.0);
    let store = Staged::held(Memory::new());
    store.release();
    let node = Node::start(&store, |_| {});
    let note = fresh(&Keys::generate(), "fatal");
    *store.fatal.lock().unwrap() = Some(note.id());
    node.connect().await.publish(&note).await;
}
