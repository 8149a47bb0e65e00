//! `rookery import`.

mod bookmark;

use std::{fs, io::Write, path::Path};

use rookery::protocol::{Event, Tags, sign::Keys};
use tempfile::TempDir;

use crate::cli::program::{NSEC, dump, err, events, fail, ids, rookery, run, sorted_ids, succeed};
use crate::cli::relay::{Do, Relay, accept_all, event_id, holds, ok, say};

/// A relay that has these events and takes more.
fn relay_with(events: &[Event]) -> Relay {
    relay_with_store(None, events)
}

/// The same, and it tells that it has this store.
fn relay_with_store(store: Option<&'static str>, events: &[Event]) -> Relay {
    let holds = holds(events.to_vec(), 500, false);
    Relay::start_as(
        move |_| store,
        move |_, message| match event_id(message) {
            Some(_) => accept_all(message),
            None => holds(message),
        },
    )
}

#[test]
fn import_counts_and_keeps_what_was_refused() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=600);
    let (blocked, known) = (all[10].id().to_hex(), all[20].id().to_hex());
    let file = dump(&folder, &all);
    let mut text = fs::read_to_string(&file).unwrap();
    text.insert_str(0, "\n{\"id\":1}\n  \nnot JSON\n");
    fs::write(&file, text.trim_end()).unwrap();
    let relay = Relay::start(move |_, message| match event_id(message) {
        Some(id) if id == blocked => ok(&id, false, "blocked: not here"),
        Some(id) if id == known => ok(&id, true, "duplicate: have it"),
        _ => accept_all(message),
    });
    let rejects = folder.path().join("rejects");
    let output = run(&["import", &file, "--relay", &relay.url, "--rejects", rejects.to_str().unwrap()]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("accepted 598, known already 1, refused 3;"), "{}", err(&output));
    assert!(err(&output).contains("1 refused as blocked; the first: line 15: blocked: not here"));
    let rejects = fs::read_to_string(rejects).unwrap();
    let mut numbers: Vec<&str> = rejects.lines().map(|line| line.split('\t').next().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, ["15", "2", "4"]);
    assert!(rejects.contains(&format!("\tblocked: not here\t{}\n", all[10].json())), "{rejects}");
    assert_eq!(relay.count("EVENT"), 600);
    assert!(!Path::new(&format!("{file}.rookery-progress")).exists());
}

#[test]
fn import_into_a_full_folder_fails_and_goes_on_where_there_is_room() {
    let folder = TempDir::new().unwrap();
    let keys = Keys::generate();
    let sign = |n: u64| keys.sign(n, 1, Default::default(), &n.to_string().repeat(100));
    let all: Vec<Event> = (10_000..20_000).map(sign).collect();
    let file = dump(&folder, &all);
    let data = folder.path().join("data");
    let import = |bytes: &str| {
        let mut command = rookery(&["import", &file, "--data", data.to_str().unwrap()]);
        command.env("ROOKERY_LMDB_MAP_BYTES", bytes).env("ROOKERY_LMDB_MIN_FREE_BYTES", "1000");
        command.output().unwrap()
    };
    let full = import("8388608");
    assert_eq!(full.status.code(), Some(1), "{}", err(&full));
    assert!(err(&full).contains("the store is full"), "{}", err(&full));
    assert!(err(&full).contains("refused 0"), "{}", err(&full));
    assert!(Path::new(&format!("{file}.rookery-progress")).exists(), "{}", err(&full));
    let again = import("134217728");
    assert!(again.status.success(), "{}", err(&again));
    let stored = succeed(&["export", "-", "--data", data.to_str().unwrap()]);
    assert_eq!(stored.lines().count(), all.len());
}

#[test]
fn import_unpacks_by_the_first_bytes() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=50));
    let text = fs::read(&file).unwrap();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), Default::default());
    gzip.write_all(&text).unwrap();
    for packed in [gzip.finish().unwrap(), zstd::encode_all(&text[..], 0).unwrap()] {
        fs::write(&file, packed).unwrap();
        let relay = Relay::start(|_, message| accept_all(message));
        succeed(&["import", &file, "--relay", &relay.url]);
        assert_eq!(relay.count("EVENT"), 50);
    }
}

#[test]
fn import_sends_again_what_a_lost_connection_left_unanswered() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=40);
    let file = dump(&folder, &all);
    let mut received = 0;
    let relay = Relay::start(move |_, message| {
        received += usize::from(!message.is_empty());
        // The ninth event is taken, but the connection ends before the answer.
        if received == 9 && !message.is_empty() { vec![Do::HangUp] } else { accept_all(message) }
    });
    let output = run(&["import", &file, "--window", "4", "--relay", &relay.url]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("accepted 40, known already 0, refused 0"), "{}", err(&output));
    let mut sent: Vec<String> = relay.heard().iter().filter_map(|message| event_id(message)).collect();
    assert!((41..=44).contains(&sent.len()), "{} were sent", sent.len());
    sent.sort_unstable();
    sent.dedup();
    assert_eq!(sent, sorted_ids(&all));
}

#[test]
fn import_reads_events_in_messages_and_behind_a_byte_order_mark() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=4);
    let file = dump(&folder, &[]);
    let [a, b, c, d] = [0, 1, 2, 3].map(|n| all[n].json());
    fs::write(&file, format!("\u{feff}[\"EVENT\",{a}]\r\n[\"EVENT\",\"x\",{b}]\n {c}\n[\"EVENT\", {d}]"))
        .unwrap();
    let relay = relay_with(&[]);
    succeed(&["import", &file, "--relay", &relay.url]);
    let data = folder.path().join("data");
    succeed(&["import", &file, "--data", data.to_str().unwrap()]);
    let mut sent: Vec<String> = relay.heard().iter().filter_map(|message| event_id(message)).collect();
    sent.sort_unstable();
    assert_eq!(sent, sorted_ids(&all));
    assert_eq!(ids(&succeed(&["export", "--data", data.to_str().unwrap()])), sorted_ids(&all));
}

#[test]
fn import_waits_when_the_relay_is_busy_and_authenticates_when_asked() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=30));
    let (mut known, mut received) = (false, 0);
    let relay = Relay::start(move |_, message| {
        let Some(id) = event_id(message) else { return Vec::new() };
        if message.starts_with(r#"["AUTH""#) {
            known = true;
            return ok(&id, true, "");
        }
        received += 1;
        match received {
            _ if !known => say(r#"["AUTH","c"]"#)
                .into_iter()
                .chain(ok(&id, false, "auth-required: who are you?"))
                .collect(),
            40..45 => ok(&id, false, "rate-limited: slow down"),
            45..47 => ok(&id, false, "error: the store is away"),
            _ => ok(&id, true, ""),
        }
    });
    let output = run(&["import", &file, "--window", "16", "--key", NSEC, "--relay", &relay.url]);
    assert!(err(&output).contains("accepted 30, known already 0, refused 0"), "{}", err(&output));
    assert!(output.status.success());
    assert_eq!(relay.count("AUTH"), 1);
}

#[test]
fn import_finds_the_event_that_the_relay_stumbles_over() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=20);
    let poison = all[5].id().to_hex();
    let file = dump(&folder, &all);
    let relay = Relay::start(move |_, message| match event_id(message) {
        Some(id) if id == poison => vec![Do::HangUp],
        _ => accept_all(message),
    });
    let output = run(&["import", &file, "--relay", &relay.url]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("accepted 19, known already 0, refused 1"), "{}", err(&output));
    assert!(err(&output).contains("line 6: unanswered"), "{}", err(&output));
}

#[test]
fn import_fails_where_nothing_is_accepted() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=3));
    let relay = Relay::start(|_, message| {
        event_id(message).map_or(Vec::new(), |id| ok(&id, false, "restricted: members only"))
    });
    assert!(fail(&["import", &file, "--relay", &relay.url]).contains("3 refused as restricted"));
}

#[test]
fn a_folder_is_worked_on_with_the_settings_of_its_relay() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events([1]));
    let config = folder.path().join("rookery.toml");
    fs::write(&config, "[limits]\nmin_pow_difficulty = 60\n").unwrap();
    let import = |more: &[&str], variable: Option<&str>| {
        let data = folder.path().join("data");
        let arguments = [&["import", &file, "--data", data.to_str().unwrap()], more].concat();
        let mut command = rookery(&arguments);
        command.envs(variable.map(|value| ("ROOKERY_LIMITS_MIN_POW_DIFFICULTY", value)));
        err(&command.output().unwrap()).to_owned()
    };
    let config = config.to_str().unwrap();
    let refused = "1 refused as pow";
    assert!(import(&["--config", config], None).contains(refused));
    assert!(import(&["--set", "limits.min_pow_difficulty=60"], None).contains(refused));
    assert!(import(&[], Some("60")).contains(refused));
    assert!(
        import(&["--config", config, "--set", "limits.min_pow_difficulty=0"], Some("60"))
            .contains("accepted 1")
    );
    assert!(import(&["--set", "limits.min_pow=1"], None).contains("unknown setting"));
}

#[test]
fn import_asks_for_the_url_that_requests_to_vanish_name() {
    let (folder, keys) = (TempDir::new().unwrap(), Keys::generate());
    let vanish = keys.sign(1_000, 62, Tags::from_iter([["relay", "wss://relay.example.com"]]), "");
    let file = dump(&folder, &[vanish, Keys::generate().sign(1_000, 1, Default::default(), "")]);
    let into = |name: &str, more: &[&str]| {
        let data = folder.path().join(name);
        run(&[&["import", &file, "--restart", "--data", data.to_str().unwrap()], more].concat())
    };
    let without = into("without", &[]);
    assert!(without.status.success() && err(&without).contains("without --url"), "{}", err(&without));
    let with = into("with", &["--url", "wss://relay.example.com"]);
    assert!(with.status.success() && !err(&with).contains("--url"), "{}", err(&with));
}
