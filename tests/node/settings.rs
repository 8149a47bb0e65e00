//! Settings: every number may be set to either end of its range, all of them at once, and the node starts, serves and
//! ends; and what may change while it runs does.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader},
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Stdio,
    time::{Duration, Instant},
};

use common::{Client, PATIENCE, Relay, now, refused, relay_command, rookery};
use rookery::{
    config::{Range, ranges},
    protocol::{Tags, sign::Keys},
};
use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// A file in which each number is at that end.
fn file(end: impl Fn(Range) -> String) -> NamedTempFile {
    let (mut text, mut before) = (String::new(), "");
    for (section, name, range) in ranges() {
        if section != before {
            text.push_str(&format!("[{section}]\n"));
            before = section;
        }
        text.push_str(&format!("{name} = {}\n", end(range)));
    }
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

async fn starts_serves_and_ends(end: impl Fn(Range) -> String) {
    let file = file(&end);
    // Other tests have a deadline of their own, which would win over the file.
    let (_, _, deadline) = ranges().find(|(_, name, _)| *name == "deadline_ms").unwrap();
    let deadline = format!("persister.deadline_ms={}", end(deadline));
    let mut relay = Relay::start(&["--config", file.path().to_str().unwrap(), "--set", &deadline]);
    assert_eq!(Relay::get(relay.operators, "/health/live", "").0, 200);
    assert_eq!(Relay::get(relay.operators, "/metrics", "").0, 200);
    assert_eq!(Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n").0, 200);
    let client = relay.connect().await;
    drop(client);
    relay.signal("TERM");
    let begun = Instant::now();
    let status = loop {
        if let Some(status) = relay.process.try_wait().unwrap() {
            break status;
        }
        assert!(begun.elapsed() < PATIENCE, "it does not end");
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    assert!(status.success(), "{status}");
}

#[tokio::test]
async fn all_numbers_may_be_the_least() {
    let least = |range| match range {
        Range::Whole(from, _) => from.to_string(),
        Range::Part(from, _) => format!("{from:?}"),
    };
    starts_serves_and_ends(least).await;
}

#[tokio::test]
async fn all_numbers_may_be_the_most() {
    let most = |range| match range {
        Range::Whole(_, to) => to.to_string(),
        Range::Part(_, to) => format!("{to:?}"),
    };
    starts_serves_and_ends(most).await;
}

/// A relay with a configuration file that changes while it runs.
struct Configured {
    relay: Relay,
    file: PathBuf,
}

impl Configured {
    fn start(text: &str, settings: &[&str]) -> Self {
        Self::start_with(text, settings, &[])
    }

    fn start_with(text: &str, settings: &[&str], variables: &[(&str, &str)]) -> Self {
        let data = TempDir::new().unwrap();
        let file = data.path().join("rookery.toml");
        write(&file, text);
        let arguments: Vec<&str> =
            ["--config", file.to_str().unwrap()].into_iter().chain(settings.iter().copied()).collect();
        let mut command = relay_command(data.path(), &arguments);
        command.envs(variables.iter().copied());
        Self { relay: Relay::spawn(command, data), file }
    }

    /// Writes the file in place, asks for it to be read by a signal, and waits for what is said of it.
    async fn change(&self, text: &str) -> String {
        self.relay.log().clear();
        write(&self.file, text);
        self.relay.signal("HUP");
        self.relay.log().says("SIGHUP").await
    }

    fn limitation(&self) -> Value {
        information(&self.relay)["limitation"].clone()
    }
}

fn write(file: &PathBuf, text: &str) {
    fs::write(file, text).unwrap();
    fs::set_permissions(file, Permissions::from_mode(0o644)).unwrap();
}

fn information(relay: &Relay) -> Value {
    let (_, body) = Relay::get(relay.clients, "/", "Accept: application/nostr+json\r\n");
    serde_json::from_str(&body).unwrap()
}

#[tokio::test]
async fn what_is_live_changes_for_connections_that_are_open() {
    let configured = Configured::start("", &[]);
    let mut client = configured.relay.connect().await;
    let keys = Keys::generate();
    let tagged = |at| keys.sign(at, 1, Tags::from_iter([["a", "b"], ["c", "d"]]), "");
    assert!(client.publish(&tagged(now())).await.0);
    client.request("first", &[json!({})]).await;
    let said = configured
        .change(
            "[info]\nname = 'Other'\n[limits]\nmax_tags = 1\nmax_subscriptions = 1\nmax_filters = 1\ndefault_limit = 7\n\
             [session]\nmax_held_bytes = 5\n",
        )
        .await;
    for change in [
        r#"info.name \"Rookery\" → \"Other\""#,
        "limits.max_tags 5000 → 1",
        "limits.max_subscriptions 300 → 1",
        "session.max_held_bytes 4194304 → 5",
    ] {
        assert!(said.contains(change), "{said}");
    }
    assert_eq!(information(&configured.relay)["name"], "Other");
    assert_eq!(configured.limitation()["max_event_tags"], 1);
    assert_eq!(configured.limitation()["default_limit"], 7);
    refused(client.publish(&tagged(now() - 1)).await, "invalid: an event has at most 1 tags");
    // The one that is there stays.
    client.say(json!(["REQ", "second", {}])).await;
    assert_eq!(client.hear().await[2], "rate-limited: more than 1 subscriptions");
    client.say(json!(["REQ", "first", {}, {}])).await;
    assert_eq!(client.hear().await[2], "invalid: more than 1 filters");
    let said = configured.change("[limits]\nauth_required = true\nmin_pow_difficulty = 0").await;
    assert!(said.contains("limits.max_tags 1 → 5000"), "{said}");
    assert_eq!(configured.limitation()["auth_required"], true);
    refused(client.publish(&tagged(now() - 2)).await, "auth-required: ");
    configured.change("").await;
    assert!(client.publish(&tagged(now() - 2)).await.0);
}

#[tokio::test]
async fn rates_and_bounds_of_connections_change_too() {
    let configured = Configured::start("", &["--trusted-proxy", "127.0.0.1"]);
    let connect = async || {
        let mut request = configured.relay.url().into_client_request().unwrap();
        request.headers_mut().insert("x-forwarded-for", "203.0.113.7".parse().unwrap());
        Client::connect(request).await
    };
    let mut client = connect().await;
    configured
        .change(
            "[rate]\nmessages_per_second = 1\nmessages_burst = 1\n[limits]\nmax_connections_per_address = 1\n\
             max_message_bytes = 100000",
        )
        .await;
    assert_eq!(configured.limitation()["max_message_length"], 100_000);
    client.request("a", &[json!({ "limit": 0 })]).await;
    client.say(json!(["REQ", "b", {}])).await;
    assert_eq!(client.hear().await[2], "rate-limited: slow down");
    let forwarded = "X-Forwarded-For: 203.0.113.7\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\
                     Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    assert_eq!(Relay::get(configured.relay.clients, "/", forwarded).0, 429);
    configured.change("[limits]\nmax_connections = 1").await;
    assert_eq!(Relay::get(configured.relay.clients, "/", forwarded).0, 503);
    configured.change("").await;
    connect().await;
}

#[tokio::test]
async fn a_file_is_read_again_as_a_whole_or_not_at_all() {
    let configured = Configured::start("[limits]\nmax_tags = 10", &[]);
    for (text, expected) in [
        ("[limits]\nmax_tags = 11\nmax_filters = 0", "limits.max_filters must be from 1 to 65536, not 0"),
        ("[limits]\nmax_tags = 11\nmax_filter = 1", "unknown setting"),
        ("workers = 'x'\n[limits]\nmax_tags = 11", "workers must be a whole number, not"),
        ("[limits]\nmax_tags = 11\n[session]\nwindow = 60000", "session.mailbox must be larger"),
        ("[limits\nmax_tags = 11", "is not valid TOML"),
    ] {
        let said = configured.change(text).await;
        assert!(said.contains("nothing changes: ") && said.contains(expected), "{said}");
        assert_eq!(configured.limitation()["max_event_tags"], 10);
    }
    fs::remove_file(&configured.file).unwrap();
    configured.relay.log().clear();
    configured.relay.signal("HUP");
    assert!(
        configured
            .relay
            .log()
            .says("SIGHUP")
            .await
            .contains("nothing changes: cannot read the configuration")
    );
    assert_eq!(configured.limitation()["max_event_tags"], 10);
    assert!(configured.change("[limits]\nmax_tags = 12").await.contains("limits.max_tags 10 → 12"));
    assert!(configured.change("[limits]\nmax_tags = 12").await.contains("nothing changes"));
}

#[tokio::test]
async fn what_a_change_does_not_do_is_named() {
    let configured =
        Configured::start_with("", &["--set", "limits.max_filters=7"], &[("ROOKERY_LIMITS_MAX_TAGS", "9")]);
    let text = "workers = 3\ntrusted_proxy = ['10.0.0.1']\n[scylla]\npassword = 'secret'\n[limits]\nmax_filters = 8\n\
                max_tags = 8\nmax_limit = 8";
    let said = configured.change(text).await;
    for part in [
        "limits.max_limit 5000 → 8; takes effect at the next start: ",
        "workers, ",
        "trusted_proxy",
        "scylla.password",
        "; without effect: limits.max_tags (set by ROOKERY_LIMITS_MAX_TAGS), limits.max_filters (set by the command line)",
    ] {
        assert!(said.contains(part), "{said}");
    }
    assert!(!said.contains("secret"), "{said}");
    assert_eq!(configured.limitation()["max_event_tags"], 9);
}

#[tokio::test]
async fn a_file_that_changes_is_read_without_being_asked() {
    let configured = Configured::start("[limits]\nmax_tags = 1", &[]);
    let (relay, file) = (&configured.relay, &configured.file);
    let beside = |name: &str| file.with_file_name(name);
    let is_read = async |tags: u64| {
        let said = relay.log().says("the configuration file has changed").await;
        assert!(said.contains(&format!("→ {tags}")), "{said}");
        assert_eq!(configured.limitation()["max_event_tags"], tags);
        relay.log().clear();
    };
    write(file, "[limits]\nmax_tags = 2");
    is_read(2).await;
    // As editors do.
    write(&beside("new.toml"), "[limits]\nmax_tags = 3");
    fs::rename(beside("new.toml"), file).unwrap();
    is_read(3).await;
    // As Kubernetes does.
    write(&beside("mounted.toml"), "[limits]\nmax_tags = 4");
    symlink(beside("mounted.toml"), beside("link")).unwrap();
    fs::rename(beside("link"), file).unwrap();
    is_read(4).await;
}

#[tokio::test]
async fn a_file_that_others_may_write_is_not_read_again() {
    let configured = Configured::start("[limits]\nmax_tags = 1", &[]);
    let log = configured.relay.log();
    for mode in [0o666, 0o664, 0o646] {
        log.clear();
        fs::write(&configured.file, format!("[limits]\nmax_tags = {mode}")).unwrap();
        fs::set_permissions(&configured.file, Permissions::from_mode(mode)).unwrap();
        configured.relay.signal("HUP");
        let said = log.says("SIGHUP").await;
        assert!(said.contains(&format!("others may write it (mode {mode:o})")), "{said}");
        assert_eq!(configured.limitation()["max_event_tags"], 1);
    }
    log.clear();
    // Mended, it need not be written once more.
    fs::set_permissions(&configured.file, Permissions::from_mode(0o640)).unwrap();
    log.says("limits.max_tags 1 → 422").await;
}

#[test]
fn a_file_is_checked_without_a_relay() {
    let file = NamedTempFile::new().unwrap();
    let check = |text: &str| {
        fs::write(file.path(), text).unwrap();
        let output = rookery(&["config", "--check"]).arg(file.path()).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = check("[limits]\nmax_tags = 3");
    assert!(code == Some(0) && said.contains("is valid"), "{said}");
    let (code, said) = check("[limits]\nmax_tags = -1");
    assert!(code == Some(1) && said.contains("limits.max_tags must be from 0"), "{said}");
    fs::set_permissions(file.path(), Permissions::from_mode(0o666)).unwrap();
    let (code, said) = check("");
    assert!(code == Some(0) && said.contains("a running relay would not read it: "), "{said}");
}

#[test]
fn the_effective_configuration_says_where_each_value_comes_from() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "[limits]\nmax_tags = 3\nmax_filters = 3\n").unwrap();
    let mut command = rookery(&["config", "--set", "limits.max_filters=4", "--config"]);
    let output = command.arg(file.path()).env("ROOKERY_LIMITS_MAX_LIMIT", "5").output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for line in [
        "max_tags = 3 # the file",
        "max_filters = 4 # the command line",
        "max_limit = 5 # ROOKERY_LIMITS_MAX_LIMIT",
        "default_limit = 500",
    ] {
        assert!(said.lines().any(|found| found == line), "{said}");
    }
    fs::write(file.path(), &said).unwrap();
    assert!(rookery(&["config", "--check"]).arg(file.path()).status().unwrap().success());
}

#[tokio::test]
async fn a_setting_is_understood_by_its_old_name_wherever_it_is_set() {
    let settings = ["--set", "bus.fence_ms=700"];
    let variables = [("ROOKERY_BUS_SILENT_FENCES", "8")];
    let configured = Configured::start_with("", &settings, &variables);
    let told = |used: &str, now: &str| format!("{used} is called {now} now; the next version");
    let shown = configured.relay.settings();
    for line in
        ["watermark_ms = 700 # the command line", "missing_watermarks = 8 # ROOKERY_BUS_MISSING_WATERMARKS"]
    {
        assert!(shown.lines().any(|found| found == line), "{shown}");
    }
    // A file that is read again, too.
    configured.change("[bus]\nfence_ms = 900\n").await;
    configured.relay.log().says(&told("bus.fence_ms (the file)", "bus.watermark_ms")).await;
    let address = configured.relay.operators.to_string();
    let mut command = rookery(&["config", "set", "bus.fence_ms=900", "--ops-listen", &address]);
    let said = String::from_utf8(command.output().unwrap().stderr).unwrap();
    assert!(said.contains("bus.watermark_ms takes effect at the start"), "{said}");
    // At the start, before it listens.
    let data = TempDir::new().unwrap();
    let mut command = relay_command(data.path(), &settings);
    let mut relay = command.envs(variables).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(relay.stderr.take().unwrap()).lines().map_while(Result::ok);
    let said: Vec<String> = lines.take_while(|line| !line.contains("\"listening\"")).collect();
    relay.kill().unwrap();
    relay.wait().unwrap();
    for warning in [
        told("bus.fence_ms (the command line)", "bus.watermark_ms"),
        told("ROOKERY_BUS_SILENT_FENCES", "ROOKERY_BUS_MISSING_WATERMARKS"),
    ] {
        let is_it = |line: &&String| line.contains(&warning) && line.contains("WARN");
        assert_eq!(said.iter().filter(is_it).count(), 1, "{warning}: {said:?}");
    }
}

#[test]
fn a_setting_has_no_two_values_by_its_two_names() {
    let file = NamedTempFile::new().unwrap();
    fs::write(file.path(), "[bus]\nfence_ms = 700\n").unwrap();
    let config = |arguments: &[&str], variables: &[(&str, &str)]| {
        let mut command = rookery(&["config"]);
        command.args(arguments).arg("--config").arg(file.path());
        let output = command.envs(variables.iter().copied()).output().unwrap();
        (output.status.code(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
    };
    let (code, said) = config(&[], &[]);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("watermark_ms = 700 # the file"), "{said}");
    assert!(said.contains("warning: bus.fence_ms (the file) is called bus.watermark_ms now"), "{said}");
    // What is stronger wins, by whichever name.
    let (_, said) = config(&["--set", "bus.watermark_ms=800"], &[]);
    assert!(said.contains("watermark_ms = 800 # the command line"), "{said}");
    let twice = "bus.fence_ms and bus.watermark_ms are one setting, which has two values";
    let (code, said) = config(&["--set", "bus.watermark_ms=800", "--set", "bus.fence_ms=800"], &[]);
    assert!(code == Some(1) && said.contains(twice), "{said}");
    let (code, said) = config(&[], &[("ROOKERY_BUS_FENCE_MS", "1000"), ("ROOKERY_BUS_WATERMARK_MS", "1000")]);
    let expected = "ROOKERY_BUS_FENCE_MS and ROOKERY_BUS_WATERMARK_MS are one setting";
    assert!(code == Some(1) && said.contains(expected), "{said}");
    fs::write(file.path(), "[bus]\nfence_ms = 700\nwatermark_ms = 700\n").unwrap();
    let (code, said) = config(&[], &[]);
    assert!(code == Some(1) && said.contains(twice), "{said}");
    fs::write(file.path(), "[bus]\nfence_ms = 7\n").unwrap();
    let (code, said) = config(&[], &[]);
    assert!(code == Some(1) && said.contains("bus.watermark_ms must be from 10"), "{said}");
}
