//! Runs the built program, and makes and reads the events that it works with.

use std::{
    fs,
    process::{Command, Output, Stdio},
    time::Duration,
};

use rookery::protocol::{Event, ParsedEvent, sign::Keys};
use tempfile::TempDir;

pub const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
pub const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
pub const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

/// Longest that anything may take which is to happen at once.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// The program, with what it says to be read.
pub fn rookery(args: &[&str]) -> Command {
    let mut command = common::rookery(args);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

pub fn run(args: &[&str]) -> Output {
    rookery(args).output().unwrap()
}

pub fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

pub fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Succeeds, and gives the standard output.
pub fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", err(&output));
    out(&output).to_owned()
}

/// Fails with exit code 1 or 2, and gives the standard error.
pub fn fail(args: &[&str]) -> String {
    let output = run(args);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {output:?}");
    err(&output).to_owned()
}

/// Events with these times, with distinct ids.
pub fn events(times: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let keys = Keys::generate();
    let sign = |(index, at): (usize, u64)| keys.sign(at, 1, Default::default(), &format!("event {index}"));
    times.into_iter().enumerate().map(sign).collect()
}

pub fn times(lines: &str) -> Vec<u64> {
    lines.lines().map(|line| serde_json::from_str::<ParsedEvent>(line).unwrap().created_at).collect()
}

pub fn ids(lines: &str) -> Vec<String> {
    let id = |line| serde_json::from_str::<ParsedEvent>(line).unwrap().id.to_hex();
    let mut ids: Vec<String> = lines.lines().map(id).collect();
    ids.sort_unstable();
    ids
}

pub fn sorted_ids(events: &[Event]) -> Vec<String> {
    let mut ids: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    ids.sort_unstable();
    ids
}

/// A file of events, and its path.
pub fn dump(folder: &TempDir, events: &[Event]) -> String {
    let path = folder.path().join("events.jsonl");
    let text: String = events.iter().map(|event| format!("{}\n", event.json())).collect();
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}
