//! The scripts with which a cluster is run without Docker.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rand::RngExt;
use rookery::protocol::sign::Keys;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use common::{Client, Relay, binary, eventually, fresh};

/// As many ports from its base on are used at most.
const PORTS: u16 = 25;

fn script(name: &str) -> Command {
    Command::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/dev").join(name))
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What it said of its failure.
fn failed(output: Output) -> String {
    assert!(!output.status.success(), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

/// A folder for a cluster, and ports of its own. What was started is stopped, whatever became of the test.
struct Place {
    folder: TempDir,
    port: u16,
}

impl Place {
    fn new() -> Self {
        // Below those from which the system takes ports of its choice.
        let is_free =
            |port: &u16| (*port..*port + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
        let mut draws = std::iter::repeat_with(|| rand::rng().random_range(10_000..32_000));
        Self { folder: TempDir::new().unwrap(), port: draws.find(is_free).unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("cluster")
    }

    fn up(&self) -> Command {
        self.up_with(&[])
    }

    fn up_with(&self, flags: &[&str]) -> Command {
        let mut command = script("up.sh");
        command
            .args(flags)
            .arg(self.path())
            .env("ROOKERY_BINARY", binary())
            .env("ROOKERY_PORT", self.port.to_string())
            .env("ROOKERY_BASE_PORT", (self.port + 1).to_string());
        command
    }

    fn down(&self) -> Command {
        let mut command = script("down.sh");
        command.arg(self.path());
        command
    }

    /// The process of that name.
    fn process(&self, name: &str) -> String {
        fs::read_to_string(self.path().join(format!("{name}.pid"))).unwrap().trim().to_owned()
    }

    /// A program of that name which comes before the real one.
    fn shadow(&self, command: &mut Command, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        let old = std::env::var("PATH").unwrap();
        command.env("PATH", format!("{}:{old}", self.folder.path().display()));
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = self.down().output();
    }
}

fn kill(process: &str) {
    assert!(Command::new("kill").args(["-9", process]).status().unwrap().success());
}

#[tokio::test]
async fn a_whole_cluster_comes_up_behind_a_proxy_and_goes_down() {
    let place = Place::new();
    let port = place.port;
    let up = || {
        let mut up = place.up_with(&["--aggregator"]);
        up.env("ROOKERY_AGGREGATOR_ALLOW_PRIVATE", "true");
        up
    };
    let said = succeeded(up().output().unwrap());
    assert!(said.contains(&format!("ws://127.0.0.1:{port}")), "{said}");
    let prometheus = format!("http://127.0.0.1:{}", port + 1 + 23);
    assert!(said.contains(&prometheus), "{said}");
    // It looks for them some seconds after its start.
    eventually("the nodes in Prometheus", || {
        let targets = format!("{prometheus}/api/v1/targets");
        let found = Command::new("curl").args(["--fail", "--silent", &targets]).output().unwrap();
        let found = succeeded(found);
        (1..=6).all(|node| found.contains(&format!("127.0.0.1:{}", port + 1 + 10 + node)))
    })
    .await;
    // The nodes have a master key, so there are accounts.
    let status = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}"];
    let asked = Command::new("curl").args(status).arg(format!("http://127.0.0.1:{port}/v1/me")).output();
    assert_eq!(succeeded(asked.unwrap()), "401");
    // One socket after the other, so that each is at another node.
    let request = || format!("ws://127.0.0.1:{port}").into_client_request().unwrap();
    let keys = Keys::generate();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(request()).await;
        client.request("s", &[serde_json::json!({ "authors": [keys.public_key()] })]).await;
        clients.push(client);
    }
    let event = fresh(&keys, "to all");
    assert!(Client::connect(request()).await.publish(&event).await.0);
    for client in &mut clients {
        assert_eq!(client.hear().await[2]["id"], event.id().to_hex());
        // Behind the proxy, a node knows by its settings alone what clients call it.
        assert!(client.authenticate(&keys, &format!("ws://127.0.0.1:{port}")).await.0);
    }

    // Another relay is read by one process, and what it sends is stored by others.
    let source = Relay::start(&[]);
    let add = said.lines().find_map(|line| line.strip_prefix("Have other relays be read with: ")).unwrap();
    let mut words = add.split(' ').map(|word| if word == "wss://…" { source.url() } else { word.to_owned() });
    succeeded(Command::new(words.next().unwrap()).args(words).output().unwrap());
    let elsewhere = fresh(&keys, "elsewhere");
    assert!(source.connect().await.publish(&elsewhere).await.0);
    for client in &mut clients {
        assert_eq!(client.hear().await[2]["id"], elsewhere.id().to_hex());
    }
    drop(source);

    // Another one beside it is told who has the ports, and does no harm.
    let other = Place { folder: TempDir::new().unwrap(), port };
    let said = failed(other.up().output().unwrap());
    let taken = format!("127.0.0.1:{port} is taken by haproxy (process {}", place.process("haproxy"));
    assert!(said.contains(&taken), "{said}");
    drop(other);

    // A node that is gone comes back alone.
    let names = ["redis", "haproxy", "node-1", "node-2", "node-3", "reader", "consumer-1", "consumer-2"];
    let before = names.map(|name| place.process(name));
    kill(&before[3]);
    succeeded(script("restart.sh").arg("2").arg(place.path()).output().unwrap());
    let after = names.map(|name| place.process(name));
    let is_same: Vec<bool> = before.iter().zip(&after).map(|(before, after)| before == after).collect();
    assert_eq!(is_same, [true, true, true, false, true, true, true, true]);
    // So does one that runs.
    succeeded(script("restart.sh").arg("3").arg(place.path()).output().unwrap());
    assert_ne!(place.process("node-3"), after[4]);
    // And nothing is started twice.
    succeeded(place.up().output().unwrap());
    assert_eq!(place.process("haproxy"), after[1]);
    let mut reader = Client::connect(request()).await;
    assert_eq!(reader.request("r", &[serde_json::json!({ "ids": [event.id()] })]).await.0.len(), 1);

    succeeded(place.down().output().unwrap());
    assert!(reader.hear_frame().await.is_none_or(|frame| frame.is_close()));
    let left = fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().file_name());
    let left: Vec<_> = left.filter(|name| name.to_string_lossy().contains(".pid")).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// The tour's relay still runs, say: it would answer in place of the proxy.
#[test]
fn a_port_that_somebody_has_is_named_before_anything_starts() {
    let place = Place::new();
    let _relay = TcpListener::bind(("0.0.0.0", place.port)).unwrap();
    let said = failed(place.up().output().unwrap());
    let mine = format!("127.0.0.1:{} is taken by", place.port);
    let named = said.lines().filter(|line| line.contains(&format!("(process {},", std::process::id())));
    assert!(named.clone().count() == 1 && named.clone().all(|line| line.starts_with(&mine)), "{said}");
    assert!(!place.path().exists());
}

#[test]
fn a_process_that_ends_is_told_with_its_last_words() {
    let place = Place::new();
    let mut up = place.up();
    place.shadow(&mut up, "redis-server", "echo out of luck; exit 3");
    let said = failed(up.output().unwrap());
    assert!(said.contains("redis has ended") && said.contains("out of luck"), "{said}");
}

/// The program is where cargo says that it put it.
#[test]
fn the_folder_of_built_programs_is_cargos_to_choose() {
    let place = Place::new();
    let mut up = place.up();
    let message = r#"{"reason":"compiler-artifact","executable":"/elsewhere/release/rookery","fresh":true}"#;
    place.shadow(&mut up, "cargo", &format!("echo '{message}'"));
    let said = failed(up.env_remove("ROOKERY_BINARY").output().unwrap());
    assert!(said.contains("there is no program /elsewhere/release/rookery"), "{said}");
}

/// Ids of processes are used again.
#[test]
fn a_process_that_has_the_id_of_an_old_one_is_left_alone() {
    let place = Place::new();
    fs::create_dir(place.path()).unwrap();
    let mut stranger = Command::new("sleep").arg("600").spawn().unwrap();
    fs::write(place.path().join("node-1.pid"), stranger.id().to_string()).unwrap();
    fs::write(place.path().join("node-1.pid.began"), "1").unwrap();
    succeeded(place.down().output().unwrap());
    let ended = stranger.try_wait().unwrap();
    stranger.kill().unwrap();
    stranger.wait().unwrap();
    assert!(ended.is_none() && !place.path().join("node-1.pid").exists());
}

#[test]
fn what_clusters_and_tours_leave_behind_goes_into_no_commit_and_no_image() {
    let read = |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    for (list, prefix, suffix) in [(".gitignore", "", "/"), (".dockerignore", "**/", "")] {
        let list = read(list);
        for folder in ["rookery-data", "rookery-cluster", "target", "node_modules"] {
            assert!(list.lines().any(|line| line == format!("{prefix}{folder}{suffix}")), "{folder}: {list}");
        }
        assert!(list.lines().any(|line| line == format!("{prefix}*.key")), "{list}");
    }
}
