//! A disk that fills up and is emptied again: writes are refused and come back, reads go on, and
//! nothing acknowledged is lost. The disk is a small tmpfs in a mount namespace of the relay's own.

use std::{
    collections::HashSet,
    fs::File,
    io::Write,
    path::{Path, PathBuf},
    process::Command,
};

use common::{Client, Relay, note, now, relay_command, run_by};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;
use tempfile::TempDir;

const FULL: &str = "error: the disk is full";

/// What puts a command into a mount namespace where it may mount, or `None` with the reason printed.
fn namespace() -> Option<Vec<&'static str>> {
    for way in [&["unshare", "-m"][..], &["unshare", "-Urm"]] {
        let folder = TempDir::new().unwrap();
        let probe = Command::new(way[0])
            .args(&way[1..])
            .args(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs"])
            .arg(folder.path())
            .output();
        if probe.is_ok_and(|output| output.status.success()) {
            return Some(way.to_vec());
        }
    }
    println!(
        "skipped, as neither `unshare -m` nor `unshare -Urm` may mount a tmpfs here: what happens on a full disk"
    );
    None
}

/// A relay on a disk of so many megabytes.
struct Small {
    relay: Relay,
}

impl Small {
    fn start(megabytes: u64, arguments: &[&str]) -> Option<Self> {
        let way = namespace()?;
        let data = TempDir::new().unwrap();
        let relay = relay_command(data.path(), arguments);
        let mut command = Command::new(way[0]);
        command.args(&way[1..]).args(["sh", "-c"]);
        command.arg(format!(r#"mount -t tmpfs -o size={megabytes}m tmpfs "$0" && exec "$@""#));
        command.arg(data.path());
        Some(Self { relay: Relay::spawn(run_by(command, &relay), data) })
    }

    /// The disk as the relay sees it.
    fn disk(&self) -> PathBuf {
        let inside = self.relay.data.path().strip_prefix("/").unwrap();
        Path::new(&format!("/proc/{}/root", self.relay.process.id())).join(inside)
    }

    /// Fills the disk until so many bytes are left.
    fn fill(&self, name: &str, leave: u64) {
        let mut file = File::create(self.disk().join(name)).unwrap();
        let free = || {
            let disk = rustix::fs::statvfs(self.disk()).unwrap();
            disk.f_bavail * disk.f_frsize
        };
        let chunk = vec![0; 4096];
        while free() >= leave + chunk.len() as u64 {
            file.write_all(&chunk).unwrap();
        }
    }

    fn empty(&self, name: &str) {
        std::fs::remove_file(self.disk().join(name)).unwrap();
    }

    /// A relay with room on a copy of what is on the disk.
    fn move_to_larger(self) -> Relay {
        let data = TempDir::new().unwrap();
        std::fs::create_dir(data.path().join("relay")).unwrap();
        for name in ["data.mdb", "FORMAT"] {
            std::fs::copy(self.disk().join("relay").join(name), data.path().join("relay").join(name))
                .unwrap();
        }
        drop(self);
        Relay::start_on(data, &[])
    }
}

fn event(len: usize) -> Event {
    note(&Keys::generate(), now(), &"x".repeat(len))
}

/// Every one of them is found, by its id.
async fn all_there(client: &mut Client, events: &[Event]) {
    for some in events.chunks(500) {
        let ids: Vec<_> = some.iter().map(Event::id).collect();
        let (found, _) = client.request("ids", &[json!({ "ids": ids, "limit": 1_000 })]).await;
        let found: HashSet<String> = found.into_iter().collect();
        for event in some {
            assert!(found.contains(&event.id().to_hex()), "{} was acknowledged and is lost", event.id());
        }
    }
}

#[tokio::test]
async fn below_the_reserve_nothing_is_written_and_everything_else_goes_on() {
    const RESERVE: &str = "lmdb.min_free_bytes=16000000";
    let Some(small) = Small::start(48, &["--set", RESERVE]) else { return };
    let relay = &small.relay;
    let (mut client, mut other) = (relay.connect().await, relay.connect().await);
    let stored: Vec<Event> = (0..20).map(|_| event(1_000)).collect();
    for event in &stored {
        assert_eq!(client.publish(event).await, (true, String::new()));
    }
    let keys = Keys::generate();
    other.request("live", &[json!({ "authors": [keys.public_key()] })]).await;
    let latest = now();
    for cycle in 0..3 {
        small.fill("filler", 15_000_000);
        let refused = keys.sign(latest - cycle, 1, Tags::default(), "no room");
        assert_eq!(client.publish(&refused).await, (false, FULL.into()));
        // Copies are answered, ephemeral events delivered, questions answered.
        let again = client.publish(&stored[0]).await;
        assert!(again.0 && again.1.starts_with("duplicate: "), "{again:?}");
        let ephemeral = keys.sign(latest - cycle, 20_001, Tags::default(), "passes");
        assert_eq!(client.publish(&ephemeral).await, (true, String::new()));
        assert_eq!(other.hear().await[2]["id"], ephemeral.id().to_hex());
        all_there(&mut client, &stored).await;
        assert_eq!(Relay::get(relay.operators, "/health/live", "").0, 200);
        small.empty("filler");
        // What was refused was not kept, nor is it taken for known.
        let (found, _) = client.request("refused", &[json!({ "ids": [refused.id()] })]).await;
        assert_eq!(found, [""; 0]);
        client.say(json!(["CLOSE", "refused"])).await;
        assert_eq!(client.publish(&refused).await, (true, String::new()));
        assert_eq!(other.hear().await[2]["id"], refused.id().to_hex());
    }
    assert_eq!(relay.metric("rookery_store_errors_total"), 3.0);
}

#[tokio::test]
async fn the_store_itself_may_meet_the_end_of_the_disk() {
    let Some(small) = Small::start(12, &["--set", "lmdb.min_free_bytes=0"]) else { return };
    let relay = &small.relay;
    let mut client = relay.connect().await;
    let mut stored: Vec<Event> = Vec::new();
    let mut refused = Vec::new();
    // Different sizes and rooms, so that the end is met at different places.
    for (cycle, len) in [100, 3_000, 30_000, 200_000, 1_000].into_iter().enumerate() {
        small.fill("filler", 300_000 + 20_000 * cycle as u64);
        let mut failures = 0;
        while failures < 20 {
            // Many in flight: one batch has several of them.
            let batch: Vec<Event> = (0..16).map(|_| event(len)).collect();
            for event in &batch {
                client.say_text(format!(r#"["EVENT",{}]"#, event.json())).await;
            }
            for _ in &batch {
                let ok = client.hear().await;
                let event = batch.iter().find(|event| ok[1] == event.id().to_hex()).unwrap();
                if ok[2] == true {
                    stored.push(event.clone());
                } else {
                    assert_eq!(ok[3], FULL, "{ok}");
                    refused.push(event.clone());
                    failures += 1;
                }
            }
            assert!(stored.len() < 10_000, "the disk does not fill up");
        }
        all_there(&mut client, &stored).await;
        // Not even a byte; though the store may have pages of its own to use again.
        small.fill("rest", 0);
        for _ in 0..20 {
            let event = event(100);
            match client.publish(&event).await {
                (true, _) => stored.push(event),
                (false, text) => assert_eq!(text, FULL),
            }
        }
        all_there(&mut client, &stored).await;
        small.empty("rest");
        small.empty("filler");
        // With room again, what was refused is taken, without a restart.
        for event in refused.drain(..).take(8) {
            let (accepted, text) = client.publish(&event).await;
            assert!(accepted, "{text}");
            stored.push(event);
        }
    }
    all_there(&mut client, &stored).await;
    let larger = small.move_to_larger();
    let mut client = larger.connect().await;
    all_there(&mut client, &stored).await;
    let last = event(10);
    assert_eq!(client.publish(&last).await, (true, String::new()));
}
