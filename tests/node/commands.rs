//! The client commands, and the examples, against the relay that they come with.

#[expect(dead_code, reason = "a program of its own")]
#[path = "../../examples/send.rs"]
mod send;
#[expect(dead_code, reason = "a program of its own")]
#[path = "../../examples/watch.rs"]
mod watch;

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Output, Stdio},
};

use common::{Relay, rookery};
use rookery::protocol::{ParsedEvent, sign::Keys};

fn run(arguments: &[&str]) -> Output {
    rookery(arguments).output().unwrap()
}

/// What the command printed; it must have succeeded.
fn printed(arguments: &[&str]) -> String {
    let output = run(arguments);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[tokio::test]
async fn the_examples_send_and_watch() {
    let relay = Relay::start(&[]);
    let url = relay.url();
    let (lines, mut printed) = tokio::sync::mpsc::unbounded_channel();
    let watching = async {
        let print = |line: &str| lines.send(line.to_owned()).unwrap();
        watch::watch(&url, print).await.unwrap_err()
    };
    let sending = async {
        assert_eq!(printed.recv().await.unwrap(), "what follows is new");
        let id = send::send(&url, "hello library").await.unwrap();
        let line = printed.recv().await.unwrap();
        let note: ParsedEvent = serde_json::from_str(&line).unwrap();
        assert_eq!((note.id, &*note.content), (id, "hello library"));
    };
    tokio::select! {
        error = watching => panic!("{error}"),
        () = sending => {}
    }
}

#[tokio::test]
async fn a_post_is_sent_watched_queried_and_deleted() {
    let relay = Relay::start(&[]);
    let url = relay.url();
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("my.key");
    printed(&["key", "new", "--out", text(&key)]);
    let mut watch = rookery(&["watch", "--relay", &url, "--kind", "1", "--json"])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while relay.metric("rookery_subscriptions") < 1.0 {
        tokio::task::yield_now().await;
    }
    printed(&["send", "hello rookery", "--relay", &url, "--key-file", text(&key), "--tag", "t=greeting"]);
    let mut line = String::new();
    BufReader::new(watch.stdout.take().unwrap()).read_line(&mut line).unwrap();
    watch.kill().unwrap();
    watch.wait().unwrap();
    let event: ParsedEvent = serde_json::from_str(&line).unwrap();
    assert_eq!(event.content, "hello rookery");
    let found = printed(&["query", "--relay", &url, "--tag", "t=greeting", "--keyword", "ROOKERY", "--json"]);
    assert_eq!(found, line);

    let id = event.id.to_hex();
    let tag = format!("e={id}");
    printed(&["send", "", "--kind", "5", "--tag", &tag, "--relay", &url, "--key-file", text(&key)]);
    assert_eq!(printed(&["query", "--relay", &url, "--id", &id, "--json"]), "");
    let refused =
        run(&["send", "far ahead", "--created-at", "4102444800", "--relay", &url, "--key-file", text(&key)]);
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&[refused.stdout, refused.stderr].concat()).contains("invalid: "));
}

#[test]
fn a_relay_is_exported_and_imported_into_a_folder_and_another_relay() {
    let folder = tempfile::tempdir().unwrap();
    let keys = Keys::generate();
    let events: Vec<_> =
        (0..1_200).map(|n| common::note(&keys, 1_000 + n / 3, &format!("note {n}"))).collect();
    let mut lines: Vec<String> = events.iter().map(|event| format!("{}\n", event.json())).collect();
    let forged = common::note(&keys, 1, "forged").json().replace("forged", "changed") + "\n";
    let input = folder.path().join("in.jsonl");
    std::fs::write(&input, lines.concat() + &forged + "no json\n").unwrap();

    let relay = Relay::start(&[]);
    let rejects = folder.path().join("rejects.tsv");
    printed(&["import", text(&input), "--relay", &relay.url(), "--rejects", text(&rejects)]);
    let rejects = std::fs::read_to_string(rejects).unwrap();
    assert!(rejects.contains("1201\tinvalid: ") && rejects.contains("1202\tunreadable: "), "{rejects}");

    let packed = folder.path().join("out.jsonl.zst");
    printed(&["export", text(&packed), "--relay", &relay.url()]);
    let data = folder.path().join("data");
    printed(&["import", text(&packed), "--data", text(&data)]);
    let mut exported: Vec<String> =
        printed(&["export", "--data", text(&data)]).lines().map(|line| format!("{line}\n")).collect();
    exported.sort();
    lines.sort();
    assert_eq!(exported, lines);

    let newest = printed(&["query", "--data", text(&data), "--amount", "2", "--order-by", "asc", "--json"]);
    let times: Vec<u64> =
        newest.lines().map(|line| serde_json::from_str::<ParsedEvent>(line).unwrap().created_at).collect();
    assert_eq!(times, [1_399, 1_399]);

    let running = run(&["import", text(&input), "--data", text(&relay.data.path().join("relay"))]);
    assert!(!running.status.success());
    assert!(String::from_utf8_lossy(&running.stderr).contains("in use by another process"));
    // Reading beside a running relay is fine.
    let beside =
        printed(&["query", "--data", text(&relay.data.path().join("relay")), "--amount", "1", "--json"]);
    assert_eq!(beside.lines().count(), 1);
}
