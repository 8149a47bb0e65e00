//! The page in a real Chromium: `web/tests/`, run by Node.js.

use std::{
    io::{BufRead, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
};

use crate::{binary, root, watch};

/// Set it to do without Node.js.
const WITHOUT_NODE: &str = "ROOKERY_TEST_WITHOUT_NODE";
/// Set it to do without Chromium.
const WITHOUT_BROWSER: &str = "ROOKERY_TEST_WITHOUT_BROWSER";

fn is_set(name: &str) -> bool {
    std::env::var_os(name).is_some_and(|value| value == "1")
}

/// The folder of the page, with what it is made with.
pub fn web() -> PathBuf {
    let folder = root().join("web");
    assert!(
        folder.join("node_modules/preact").is_dir(),
        "what web/ needs is not installed: run `npm ci` there, or set {WITHOUT_NODE}=1"
    );
    folder
}

/// Whether Node.js is there, wanted, and new enough for what web/ is made with. That of Debian 12 and Ubuntu 24.04 is not.
/// `what` is not done otherwise, which is said.
pub fn has_node(what: &str) -> bool {
    const NEEDED: [u32; 2] = [20, 19];
    if is_set(WITHOUT_NODE) {
        println!("skipped {what}: {WITHOUT_NODE} is 1");
        return false;
    }
    let output = Command::new("node").arg("--version").output().unwrap_or_else(|error| {
        panic!("can not run `node` ({error}): install Node.js 20.19 or newer, or set {WITHOUT_NODE}=1")
    });
    let version = String::from_utf8_lossy(&output.stdout);
    let parts = version.trim_start_matches('v').split('.').map_while(|part| part.trim().parse().ok());
    let is_new_enough = parts.take(2).collect::<Vec<u32>>().as_slice() >= NEEDED.as_slice();
    if !is_new_enough {
        println!("NOT RUN, Node.js is older than 20.19: {what}");
    }
    is_new_enough
}

/// Runs a file of tests of the page, with these variables.
pub fn run(script: &str, variables: &[(&str, String)]) {
    if is_set(WITHOUT_BROWSER) {
        println!("skipped {script}: {WITHOUT_BROWSER} is 1");
        return;
    }
    if !has_node(script) {
        return;
    }
    let browsers = ["/usr/bin/chromium", "/usr/bin/chromium-browser"].map(PathBuf::from);
    if std::env::var_os("CHROMIUM").is_none() && !browsers.iter().any(|path| path.exists()) {
        // Not every distribution has it as a package.
        println!("NOT RUN, chromium is not installed: {script}");
        return;
    }
    let node = Command::new("node")
        .args(["--test-reporter=spec", "--test"])
        .arg(script)
        .current_dir(web())
        .env("ROOKERY", binary())
        .envs(variables.iter().map(|(name, value)| (name, value)))
        .stdout(Stdio::piped())
        .spawn();
    let mut node = node.unwrap();
    let mut said = String::new();
    for line in BufReader::new(node.stdout.take().unwrap()).lines().map_while(Result::ok) {
        watch::note(&line);
        said += &line;
        said.push('\n');
    }
    println!("{said}");
    assert!(node.wait().unwrap().success(), "{script}: {said}");
    // A script that runs nothing proves nothing.
    assert!(said.lines().any(|line| line.ends_with("fail 0")) && !said.contains("pass 0"), "{said}");
}
