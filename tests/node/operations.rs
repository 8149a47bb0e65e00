//! What operators see and do: health, metrics, folders, ports, settings.

use std::{
    io::{BufRead, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use common::{
    Relay, note, now,
    raw::{CLOSE, FIN, PING, PONG, Raw},
    relay_command, rookery, run_by,
};
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs a command that must refuse to start: what it says.
fn refusal(mut command: Command) -> String {
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut text = String::new();
    for line in BufReader::new(process.stderr.take().unwrap()).lines() {
        text += &(line.unwrap() + "\n");
        if text.contains("\"listening\"") {
            process.kill().unwrap();
            panic!("it started: {command:?}");
        }
    }
    assert_eq!(process.wait().unwrap().code(), Some(1), "{text}");
    // Before it may stand what the log says of the start.
    let at = text.find("error: ").unwrap_or_else(|| panic!("an error in words was expected, not {text}"));
    text[at..].to_owned()
}

#[tokio::test]
async fn health_and_metrics_answer_and_clients_do_not_see_them() {
    let relay = Relay::start(&["--node-id", "n-7"]);
    assert_eq!(Relay::get(relay.operators, "/health/live", ""), (200, "live\n".into()));
    assert_eq!(Relay::get(relay.operators, "/health/ready", ""), (200, "ready\n".into()));
    assert_eq!(Relay::get(relay.operators, "/other", "").0, 404);
    for path in ["/metrics", "/health/live", "/health/ready"] {
        assert_eq!(Relay::get(relay.clients, path, "").0, 404, "{path}");
    }
    let mut client = relay.connect().await;
    let event = note(&Keys::generate(), now(), "counted");
    assert!(client.publish(&event).await.0);
    assert!(client.publish(&event).await.0);
    client.request("s", &[json!({ "limit": 1 })]).await;
    client.say_text("nonsense").await;
    client.hear().await;
    let (free, size) = (relay.metric("rookery_disk_free_bytes"), relay.metric("rookery_disk_size_bytes"));
    assert!(0.0 < free && free <= size, "{free} of {size}");
    for (metric, expected) in [
        ("rookery_connections", 1.0),
        ("rookery_connections_opened_total", 1.0),
        ("rookery_subscriptions", 1.0),
        ("rookery_events_total{result=\"stored\"}", 1.0),
        ("rookery_events_total{result=\"duplicate\"}", 1.0),
        ("rookery_messages_total{verb=\"event\"}", 2.0),
        ("rookery_messages_total{verb=\"req\"}", 1.0),
        ("rookery_messages_total{verb=\"malformed\"}", 1.0),
        ("rookery_events_sent_total", 1.0),
        ("rookery_store_errors_total", 0.0),
    ] {
        assert_eq!(relay.metric(metric), expected, "{metric}");
    }
    let (_, text) = Relay::get(relay.operators, "/metrics", "");
    assert!(text.contains("node=\"n-7\"") && text.ends_with("# EOF\n"), "{text}");
}

#[tokio::test]
async fn a_folder_serves_one_relay() {
    let relay = Relay::start(&[]);
    let text = refusal(relay_command(relay.data.path(), &[]));
    assert!(text.contains("in use by another process") && text.contains("--data"), "{text}");
    // The one that is there is not disturbed.
    let mut client = relay.connect().await;
    assert!(client.publish(&note(&Keys::generate(), now(), "undisturbed")).await.0);
    // The lock of a relay that was killed is gone with it.
    relay.restart_after_kill(&[]).connect().await;
}

#[test]
fn a_folder_of_another_kind_is_left_alone() {
    for (file, content, says) in [
        ("FORMAT", "Rookery data folder, format 999\n", "format 999"),
        ("FORMAT", "something else\n", "no data folder of Rookery"),
        ("data.mdb", "of another program", "choose an empty or new one"),
        ("thesis.txt", "precious", "choose an empty or new one"),
    ] {
        let data = TempDir::new().unwrap();
        let folder = data.path().join("relay");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join(file), content).unwrap();
        let text = refusal(relay_command(data.path(), &[]));
        assert!(text.contains(says) && text.contains(folder.to_str().unwrap()), "{text}");
        assert_eq!(std::fs::read_to_string(folder.join(file)).unwrap(), content);
    }
    let data = TempDir::new().unwrap();
    std::fs::write(data.path().join("relay"), "a file").unwrap();
    let text = refusal(relay_command(data.path(), &[]));
    assert!(text.contains("cannot use the data folder"), "{text}");
}

#[test]
fn a_damaged_store_is_refused_in_words() {
    let relay = Relay::start(&[]);
    let data = TempDir::new().unwrap();
    let folder = data.path().join("relay");
    std::fs::create_dir(&folder).unwrap();
    std::fs::copy(relay.data.path().join("relay/FORMAT"), folder.join("FORMAT")).unwrap();
    std::fs::write(folder.join("data.mdb"), vec![b'x'; 100_000]).unwrap();
    let text = refusal(relay_command(data.path(), &[]));
    assert!(text.contains("cannot open the store"), "{text}");
}

#[test]
fn a_port_in_use_is_named_with_its_flag() {
    let relay = Relay::start(&[]);
    for flag in ["--listen", "--ops-listen"] {
        let data = TempDir::new().unwrap();
        let other = if flag == "--listen" { "--ops-listen" } else { "--listen" };
        let taken = relay.clients.to_string();
        let mut command = rookery(&["relay", flag, &taken, other, "127.0.0.1:0", "--data"]);
        command.arg(data.path().join("relay"));
        let text = refusal(command);
        assert!(text.contains(&taken) && text.contains(flag) && text.contains("in use"), "{text}");
        assert!(!data.path().join("relay").exists(), "a relay that can not start makes no folder");
    }
}

#[test]
fn settings_that_can_not_be_are_refused_by_name() {
    let data = TempDir::new().unwrap();
    let file = data.path().join("rookery.toml");
    let started = |arguments: &[&str]| refusal(relay_command(data.path(), arguments));
    for (setting, says) in [
        ("limits.max_filter=1", "limits.max_filter"),
        ("limits.max_filters", "is not SETTING=VALUE"),
        ("limits.max_filters=many", "limits.max_filters=many"),
        ("limits.max_filters=-1", "max_filters"),
        ("limits.max_filters=0", "limits.max_filters must be from 1 to 65536, not 0"),
        ("session.idle_seconds=30", "session.idle_seconds must be larger"),
        ("session.mailbox=128", "session.mailbox must be larger"),
        (
            "limits.max_message_bytes=100000000",
            "limits.max_message_bytes must be from 1 to 67108864, not 100000000",
        ),
        ("info.pubkey=npub1", "info.pubkey"),
        ("url=http://relay.example.com", "wss://relay.example.com"),
        ("trusted_proxy=10.0.0.0/40", "trusted_proxy"),
        ("workers=-1", "workers"),
    ] {
        let text = started(&["--set", setting]);
        assert!(text.contains(says), "{setting}: {text}");
    }
    for (content, says) in [
        ("[limits]\nmax_filter = 1\n", "max_filter"),
        ("[limit]\nmax_filters = 1\n", "limit"),
        ("limits = 1\n", "limits"),
        ("listen = \n", "not valid TOML"),
    ] {
        std::fs::write(&file, content).unwrap();
        let text = started(&["--config", file.to_str().unwrap()]);
        assert!(text.contains(says), "{content}: {text}");
    }
    let text = started(&["--config", "/nonexistent/rookery.toml"]);
    assert!(text.contains("/nonexistent/rookery.toml"), "{text}");
    let mut command = relay_command(data.path(), &[]);
    command.env("ROOKERY_LIMITS_MAX_FILTERS", "few");
    let text = refusal(command);
    assert!(text.contains("ROOKERY_LIMITS_MAX_FILTERS"), "{text}");
}

/// What a start logs before it listens there, in a shell that has done this before.
fn log_of_start(data: &Path, limits: &str, listen: &str, arguments: &[&str]) -> Vec<Value> {
    let mut relay = rookery(&["relay", "--listen", listen, "--ops-listen", "127.0.0.1:0", "--data"]);
    relay.arg(data.join("relay")).args(arguments);
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!(r#"{limits}; exec "$0" "$@""#)]);
    let mut process = run_by(shell, &relay).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(process.stderr.take().unwrap()).lines();
    let mut log: Vec<Value> = Vec::new();
    for line in lines {
        log.push(serde_json::from_str(&line.unwrap()).unwrap());
        if log.last().unwrap()["message"] == "listening" {
            break;
        }
    }
    process.kill().unwrap();
    process.wait().unwrap();
    log
}

#[test]
fn the_limit_of_descriptors_is_raised_and_logged() {
    let data = TempDir::new().unwrap();
    let log = log_of_start(data.path(), "ulimit -Sn 64; ulimit -Hn 1000", "127.0.0.1:0", &[]);
    let start = log.iter().find(|entry| entry["message"] == "starting").unwrap();
    assert_eq!(start["file_descriptors"], 1_000, "{start}");
    // Some are kept back.
    assert_eq!(start["max_connections"], 744, "{start}");
}

#[test]
fn the_start_warns_where_authentication_needs_a_url() {
    let data = TempDir::new().unwrap();
    let (here, everywhere) = ("127.0.0.1:0", "0.0.0.0:0");
    for (listen, arguments, expected) in [
        (everywhere, &[][..], true),
        (here, &["--trusted-proxy", "127.0.0.1"], true),
        (everywhere, &["--url", "wss://relay.example.com"], false),
        (here, &[], false),
    ] {
        let log = log_of_start(data.path(), ":", listen, arguments);
        let warned = log.iter().any(|entry| {
            entry["level"] == "WARN" && entry["message"].as_str().is_some_and(|text| text.contains("--url"))
        });
        assert_eq!(warned, expected, "{listen} {arguments:?}: {log:?}");
    }
}

#[test]
fn a_misspelt_variable_is_named() {
    let data = TempDir::new().unwrap();
    let set = "export ROOKERY_LIMITS_AUTHREQUIRED=true ROOKERY_LISEN=x ROOKERY_LIMITS_MAX_TAGS=9";
    let log = log_of_start(data.path(), set, "127.0.0.1:0", &[]);
    let warning = log.iter().find(|entry| entry["level"] == "WARN").expect("a warning").to_string();
    assert!(warning.contains("ROOKERY_LIMITS_AUTHREQUIRED, ROOKERY_LISEN;"), "{warning}");
    assert!(!warning.contains("MAX_TAGS"), "{warning}");
    let log = log_of_start(data.path(), ":", "127.0.0.1:0", &[]);
    assert!(log.iter().all(|entry| entry["level"] != "WARN"), "{log:?}");
}

#[tokio::test]
async fn a_hangup_is_no_reason_to_go() {
    let relay = Relay::start(&[]);
    let mut client = relay.connect().await;
    let keys = Keys::generate();
    for round in 0..5 {
        relay.signal("HUP");
        assert!(client.publish(&note(&keys, now() - round, "still here")).await.0);
    }
}

#[test]
fn a_data_folder_is_its_owners_alone() {
    use std::os::unix::fs::PermissionsExt;
    let relay = Relay::start(&[]);
    let folder = relay.data.path().join("relay");
    assert_eq!(std::fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
}

#[test]
fn a_silent_client_is_closed_and_one_that_answers_pings_is_not() {
    let idle = ["session.ping_seconds=1", "session.idle_seconds=2"];
    let relay = Relay::start(&["--set", idle[0], "--set", idle[1]]);
    let (mut silent, mut alive) = (Raw::connect(relay.clients), Raw::connect(relay.clients));
    // Six pings later the other would have been closed twice.
    for _ in 0..6 {
        assert_eq!(alive.read_frame(), Some((PING, vec![])));
        alive.send_frame(FIN | PONG, b"");
    }
    let (code, last) = silent.hear_close();
    assert_eq!((code, last), (1001, None));
    alive.send_frame(FIN | PING, b"me too");
    let answer = std::iter::from_fn(|| alive.read_frame()).find(|(opcode, _)| *opcode != PING);
    assert_eq!(answer, Some((PONG, b"me too".to_vec())));
    assert_eq!(relay.metric("rookery_connections_closed_total{reason=\"idle\"}"), 1.0);
    alive.send_frame(FIN | CLOSE, b"");
    assert_eq!(alive.hear_close().0, 1000);
}
