//! The relay as `nostr-tools` sees it, a client that we did not write and that most web clients are
//! made with. The tests are the `*.test.mjs` files of the folder beside this one, run by Node.js.

use std::{path::PathBuf, process::Command};

use common::Relay;

/// Set it to do without Node.js.
const SKIP: &str = "ROOKERY_TEST_WITHOUT_NODE";

fn run(script: &str, arguments: &[&str]) {
    if std::env::var_os(SKIP).is_some_and(|value| value == "1") {
        println!("skipped {script}: {SKIP} is 1");
        return;
    }
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/nostr-tools");
    assert!(
        folder.join("node_modules/nostr-tools").is_dir(),
        "nostr-tools is not installed: run `npm ci` in tests/nostr-tools, or set {SKIP}=1"
    );
    let relay = Relay::start(arguments);
    let node = Command::new("node").arg(folder.join(script)).arg(relay.url()).current_dir(&folder).output();
    let output = node.unwrap_or_else(|error| {
        panic!("can not run `node` ({error}): install Node.js 20 or newer, or set {SKIP}=1")
    });
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{script}: {said}{}", String::from_utf8_lossy(&output.stderr));
    // A script that runs nothing proves nothing.
    assert!(said.lines().any(|line| line.ends_with("fail 0")) && !said.contains("pass 0"), "{said}");
}

#[test]
fn basics() {
    run("basics.test.mjs", &[]);
}

#[test]
fn accounts() {
    run("accounts.test.mjs", &["--set", "accounts.open=everybody"]);
}

#[test]
fn private() {
    run("private.test.mjs", &[]);
}

#[test]
fn work() {
    run("work.test.mjs", &["--set", "limits.min_pow_difficulty=8"]);
}
