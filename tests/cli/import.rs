//! `rookery import`.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;

use crate::program::{NSEC, dump, err, events, fail, rookery, run, sorted_ids, succeed};
use crate::relay::{Do, Relay, accept_all, event_id, ok, say};

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
fn import_goes_on_where_it_was_cut_short() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &events(1..=100));
    // It answers 30 events, and then nothing until the program is killed.
    let answered = AtomicUsize::new(0);
    let relay = Relay::start(move |_, message| match event_id(message) {
        Some(id) if answered.fetch_add(1, Ordering::Relaxed) < 30 => ok(&id, true, ""),
        _ => Vec::new(),
    });
    let url = relay.url.clone();
    let mut child = rookery(&["import", &file, "--window", "8", "--relay", &url]).spawn().unwrap();
    let progress = format!("{file}.rookery-progress");
    while !fs::read_to_string(&progress).is_ok_and(|text| text.contains(r#""line":30,"#)) {
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let other = Relay::start(|_, message| accept_all(message));
    assert!(fail(&["import", &file, "--relay", &other.url]).contains("--restart"));
    // The same relay, well again: the file says where it was.
    let text = fs::read_to_string(&progress).unwrap().replace(&url, &other.url);
    fs::write(&progress, text).unwrap();
    let output = run(&["import", &file, "--relay", &other.url]);
    assert!(err(&output).contains("going on after line 30"), "{}", err(&output));
    assert_eq!(other.count("EVENT"), 70);
    succeed(&["import", &file, "--restart", "--relay", &other.url]);
    assert_eq!(other.count("EVENT"), 170);
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
