//! `rookery import`.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use rookery::protocol::{Event, Tags, sign::Keys};
use tempfile::TempDir;

use crate::cli::program::{NSEC, dump, err, events, fail, ids, rookery, run, sorted_ids, succeed};
use crate::cli::relay::{Do, Relay, accept_all, event_id, holds, ok, say, subscription};

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

/// The bookmark of an import of this file, with another target than it had.
fn retarget(file: &str, from: &str, to: &str) {
    let path = format!("{file}.rookery-progress");
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains(from), "{text}");
    fs::write(&path, text.replace(from, to)).unwrap();
}

/// Imports into a relay that answers this many events and then nothing more, until the program is killed.
/// Gives the URL of that relay.
fn cut_short(file: &str, after: usize) -> String {
    cut_short_at(None, file, after)
}

/// The same, and the relay tells that it has this store.
fn cut_short_at(store: Option<&'static str>, file: &str, after: usize) -> String {
    let answered = AtomicUsize::new(0);
    let relay = Relay::start_as(
        move |_| store,
        move |_, message| match event_id(message) {
            Some(id) if answered.fetch_add(1, Ordering::Relaxed) < after => ok(&id, true, ""),
            _ => Vec::new(),
        },
    );
    let mut child = rookery(&["import", file, "--window", "8", "--relay", &relay.url]).spawn().unwrap();
    let (progress, line) = (format!("{file}.rookery-progress"), format!(r#""line":{after},"#));
    while !fs::read_to_string(&progress).is_ok_and(|text| text.contains(&line)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    relay.url
}

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
fn import_goes_on_where_it_was_cut_short() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=100);
    let file = dump(&folder, &all);
    let first = cut_short(&file, 30);
    // The same relay, well again. That the file has grown since is no harm.
    let more = events(101..=105);
    let mut text = fs::read_to_string(&file).unwrap();
    text.extend(more.iter().map(|event| format!("{}\n", event.json())));
    fs::write(&file, text).unwrap();
    let relay = relay_with(&all[..30]);
    retarget(&file, &first, &relay.url);
    let output = run(&["import", &file, "--relay", &relay.url]);
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("going on after line 30"), "{}", err(&output));
    assert_eq!(relay.count("EVENT"), 75);
    succeed(&["import", &file, "--restart", "--relay", &relay.url]);
    assert_eq!(relay.count("EVENT"), 180);
}

#[test]
fn import_begins_anew_where_something_else_was_imported_or_forgotten() {
    let folder = TempDir::new().unwrap();
    let all = events(1..=100);
    let file = dump(&folder, &all);
    let packed = fs::read(&file).unwrap();
    // Of the same size, with the same beginning and end, and the same around the place of the bookmark.
    let (other, changed) = (events(1..=100), 15);
    let lines =
        all.iter().enumerate().map(|(n, event)| if n == changed { other[n].json() } else { event.json() });
    let other: String = lines.map(|line| format!("{line}\n")).collect();
    assert_eq!(packed.len(), other.len());
    let refuses = || {
        Relay::start(|_, message| match event_id(message) {
            Some(_) => accept_all(message),
            None if message.starts_with(r#"["REQ""#) => {
                say(format!(r#"["CLOSED","{}","restricted: write only"]"#, subscription(message)))
            }
            None => Vec::new(),
        })
    };
    for (text, relay, is_same, why) in [
        (&packed[..], relay_with(&all), false, "it is about an import into ws://"),
        (other.as_bytes(), relay_with(&all), true, "the file is not the one that it was"),
        (b"", relay_with(&all), true, "the file is not the one that it was"),
        (&packed, relay_with(&[]), true, "does not have what it took then"),
        (&packed, relay_with(&all[..10]), true, "does not have what it took then"),
        (&packed, refuses(), true, "does not have what it took then"),
    ] {
        fs::write(&file, &packed).unwrap();
        let first = cut_short(&file, 30);
        if is_same {
            retarget(&file, &first, &relay.url);
        }
        fs::write(&file, text).unwrap();
        let output = run(&["import", &file, "--relay", &relay.url]);
        assert!(output.status.success(), "{}", err(&output));
        assert!(
            err(&output).contains("begins at the first line: ") && err(&output).contains(why),
            "{}",
            err(&output)
        );
        assert_eq!(relay.count("EVENT"), if text.is_empty() { 0 } else { 100 }, "{why}");
        assert!(!Path::new(&format!("{file}.rookery-progress")).exists());
    }
}

#[test]
fn import_knows_a_relay_by_its_store() {
    const A: Option<&str> = Some("shared-000000000000000a");
    const B: Option<&str> = Some("shared-000000000000000b");
    let folder = TempDir::new().unwrap();
    let all = events(1..=100);
    let file = dump(&folder, &all);
    for (then, now, is_same_address, goes_on) in [
        // Another node on the same store.
        (A, A, false, true),
        (A, A, true, true),
        // Another store behind the same address, which has got the same events otherwise.
        (A, B, true, false),
        (A, None, true, false),
        // A relay that is a Rookery of this version since then.
        (None, A, true, true),
        (None, A, false, false),
    ] {
        let first = cut_short_at(then, &file, 30);
        let relay = relay_with_store(now, &all[..30]);
        if is_same_address {
            retarget(&file, &first, &relay.url);
        }
        let output = run(&["import", &file, "--relay", &relay.url]);
        assert!(output.status.success(), "{}", err(&output));
        let case = format!("{then:?} {now:?} {is_same_address}: {}", err(&output));
        assert_eq!(err(&output).contains("going on after line 30"), goes_on, "{case}");
        assert_eq!(err(&output).contains("it is about an import into ws://"), !goes_on, "{case}");
        assert_eq!(relay.count("EVENT"), if goes_on { 70 } else { 100 }, "{case}");
    }
}

#[test]
fn import_ends_where_the_relay_has_another_store_all_of_a_sudden() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=100));
    let mut taken = 0;
    let relay = Relay::start_as(
        |connection| Some(if connection == 1 { "own-000000000000000a" } else { "own-000000000000000b" }),
        move |_, message| {
            let is_event = event_id(message).is_some();
            taken += usize::from(is_event);
            // The machine is lost, and begins anew with an empty disk.
            if is_event && taken == 50 { vec![Do::HangUp] } else { accept_all(message) }
        },
    );
    let import = || run(&["import", &file, "--window", "8", "--relay", &relay.url]);
    let output = import();
    assert_eq!(output.status.code(), Some(1), "{}", err(&output));
    assert!(err(&output).contains("has another store (own-000000000000000b)"), "{}", err(&output));
    let taken_before = relay.count("EVENT");
    let output = import();
    assert!(output.status.success() && err(&output).contains("begins at the first line"), "{}", err(&output));
    assert_eq!(relay.count("EVENT"), taken_before + 100);
}

#[test]
fn import_into_a_folder_goes_on_only_where_it_is_the_one_that_it_was() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=600));
    let text = fs::read(&file).unwrap();
    let whole = zstd::encode_all(&text[..], 0).unwrap();
    let mut torn = zstd::stream::Encoder::new(Vec::new(), 0).unwrap();
    torn.write_all(&text[..text.len() / 2]).unwrap();
    torn.flush().unwrap();
    let torn = torn.get_ref().clone();
    let data = folder.path().join("data");
    let import = || run(&["import", &file, "--data", data.to_str().unwrap()]);
    let stored = || succeed(&["export", "--data", data.to_str().unwrap()]).lines().count();

    // A download that is not complete; and then it is.
    fs::write(&file, &torn).unwrap();
    assert_eq!(import().status.code(), Some(1));
    assert!(stored() < 600);
    fs::write(&file, &whole).unwrap();
    let output = import();
    assert!(err(&output).contains("going on after line"), "{}", err(&output));
    assert_eq!(stored(), 600);

    fs::remove_dir_all(&data).unwrap();
    fs::write(&file, &torn).unwrap();
    assert_eq!(import().status.code(), Some(1));
    fs::remove_dir_all(&data).unwrap();
    fs::write(&file, &whole).unwrap();
    let output = import();
    assert!(output.status.success(), "{}", err(&output));
    assert!(err(&output).contains("it is about an import into"), "{}", err(&output));
    assert_eq!(stored(), 600);
}

#[test]
fn import_needs_no_place_for_its_bookmark() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=3));
    // Nobody can write a file of this name.
    fs::create_dir(format!("{file}.rookery-progress.new")).unwrap();
    let relay = relay_with(&[]);
    let output = run(&["import", &file, "--relay", &relay.url]);
    assert_eq!(output.status.code(), Some(0), "{}", err(&output));
    assert_eq!(relay.count("EVENT"), 3);
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
