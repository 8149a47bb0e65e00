//! The map of the embedded store, which is a part of the address space: it fills up, deletions and requests to
//! vanish make room, and it is as large as the machine allows.

use std::{
    fs::{self, File},
    path::Path,
    process::{Command, Output, Stdio},
};

use common::{Client, PATIENCE, Relay, eventually, now, relay_command, rookery, run_by, spawn};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const FULL: &str = "error: the store is full";
const SMALL: [&str; 4] = ["--set", "lmdb.map_bytes=8388608", "--set", "lmdb.min_free_bytes=1000"];

fn large(keys: &Keys, number: usize, tags: Tags) -> Event {
    keys.sign(now(), 1, tags, &format!("{number} {}", "x".repeat(8_000)))
}

/// Publishes notes until there is no room for one, and gives those that were stored.
async fn fill(client: &mut Client, keys: &Keys, from: usize) -> Vec<Event> {
    let mut stored = Vec::new();
    for number in from..from + 2_000 {
        let note = large(keys, number, Tags::default());
        match client.publish(&note).await {
            (true, _) => stored.push(note),
            (false, text) => {
                assert_eq!(text, FULL);
                return stored;
            }
        }
    }
    panic!("the map does not fill up");
}

fn deletion(keys: &Keys, events: &[Event]) -> Event {
    let ids: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    keys.sign(now(), 5, Tags::from_iter(ids.iter().map(|id| ["e", id])), "")
}

#[tokio::test]
async fn deletions_make_room_in_a_full_map() {
    let relay = Relay::start(&SMALL);
    let (keys, mut client) = (Keys::generate(), relay.connect().await);
    let stored = fill(&mut client, &keys, 0).await;
    assert!(stored.len() > 200, "{}", stored.len());
    // Again and again, without a restart.
    let mut left = &stored[..];
    for cycle in 1..=3 {
        let (gone, rest) = left.split_at(60);
        left = rest;
        assert_eq!(client.publish(&deletion(&keys, gone)).await, (true, String::new()), "cycle {cycle}");
        // What was freed is used once no reader and no older state needs it.
        let mut stored = 0;
        for attempt in 0.. {
            let note = large(&keys, cycle * 10_000 + attempt, Tags::default());
            stored += usize::from(client.publish(&note).await.0);
            if stored == 10 {
                break;
            }
            assert!(attempt < 1_000, "cycle {cycle}: {stored} stored in the room of 60");
        }
        fill(&mut client, &keys, cycle * 20_000).await;
    }
    let ids: Vec<_> = left.iter().map(Event::id).collect();
    let (found, _) = client.request("left", &[json!({ "ids": ids, "limit": 5_000 })]).await;
    assert_eq!(found.len(), left.len());
}

#[tokio::test]
async fn a_deletion_beside_refused_notes_is_stored() {
    let relay = Relay::start(&SMALL);
    let (keys, mut client) = (Keys::generate(), relay.connect().await);
    let stored = fill(&mut client, &keys, 0).await;
    let deletion = deletion(&keys, &stored[..20]);
    // All at once: some of them are one batch.
    let notes: Vec<Event> = (0..40).map(|n| large(&keys, 10_000 + n, Tags::default())).collect();
    let (before, after) = notes.split_at(20);
    for event in before.iter().chain([&deletion]).chain(after) {
        client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
    }
    for _ in 0..=notes.len() {
        let ok = client.hear().await;
        match ok[1] == deletion.id().to_hex() {
            true => assert_eq!((&ok[2], &ok[3]), (&json!(true), &json!(""))),
            false => assert!(ok[2] == true || ok[3] == FULL, "{ok}"),
        }
    }
}

#[tokio::test]
async fn sweeps_go_on_in_a_full_map() {
    let relay = Relay::start(&SMALL);
    let (gone, keys, mut client) = (Keys::generate(), Keys::generate(), relay.connect().await);
    for number in 0..60 {
        let note = large(&gone, number, Tags::default());
        assert_eq!(client.publish(&note).await, (true, String::new()));
    }
    fill(&mut client, &keys, 1_000).await;
    let vanish = gone.sign(now(), 62, Tags::from_iter([["relay", "ALL_RELAYS"]]), "");
    assert_eq!(client.publish(&vanish).await, (true, String::new()));
    // Its notes are removed in the background.
    let published = async {
        for number in 10_000.. {
            if client.publish(&large(&keys, number, Tags::default())).await.0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, published).await.expect("room again");
}

#[tokio::test]
async fn the_log_names_the_setting() {
    let data = TempDir::new().unwrap();
    let path = data.path().join("log");
    let log = File::create(&path).unwrap();
    let mut relay = relay_command(data.path(), &SMALL).stderr(log).spawn().unwrap();
    let read = || fs::read_to_string(&path).unwrap();
    let listening =
        || read().split_inclusive('\n').find(|line| line.contains(r#""listening""#)).map(str::to_owned);
    eventually("listening", || listening().is_some_and(|line| line.ends_with('\n'))).await;
    let entry: serde_json::Value = serde_json::from_str(&listening().unwrap()).unwrap();
    let url = format!("ws://{}", entry["address"].as_str().unwrap());
    let mut client = Client::connect(url.into_client_request().unwrap()).await;
    fill(&mut client, &Keys::generate(), 0).await;
    eventually("the name of the setting", || read().contains("raise lmdb.map_bytes")).await;
    relay.kill().unwrap();
    relay.wait().unwrap();
}

/// Runs it where there are so many bytes of addresses.
fn limited(gibibytes: u64, command: &Command) -> Command {
    let mut limited = Command::new("sh");
    limited.arg("-c").arg(format!(r#"ulimit -v {} && exec "$0" "$@""#, gibibytes << 20));
    run_by(limited, command)
}

#[tokio::test]
async fn the_map_is_as_large_as_the_machine_allows() {
    // As many as 39 bits make; and very few.
    for gibibytes in [512, 4] {
        let data = TempDir::new().unwrap();
        let (process, clients, operators) = spawn(limited(gibibytes, &relay_command(data.path(), &[])));
        let relay = Relay { process, clients, operators, data };
        let mut client = relay.connect().await;
        let note = large(&Keys::generate(), 0, Tags::default());
        assert_eq!(client.publish(&note).await, (true, String::new()));
        // Beside it, and then without it.
        let folder = relay.data.path().join("relay").to_str().unwrap().to_owned();
        let found = output(limited(gibibytes, &rookery(&["query", "--json", "--data", &folder])));
        assert_eq!(String::from_utf8(found.stdout).unwrap(), format!("{}\n", note.json()));
        let dump = Path::new(&folder).join("../dump");
        fs::write(&dump, note.json()).unwrap();
        let new = Path::new(&folder).join("../new");
        let arguments = ["import", dump.to_str().unwrap(), "--data", new.to_str().unwrap()];
        let imported = output(limited(gibibytes, &rookery(&arguments)));
        let said = String::from_utf8(imported.stderr).unwrap();
        assert!(said.contains("no room in the address space for lmdb.map_bytes"), "{said}");
        assert!(said.contains("accepted 1"), "{said}");
    }
}

fn output(mut command: Command) -> Output {
    let output = command.stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output
}
