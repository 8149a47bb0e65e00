//! The bookmark of an import: where it goes on, and where it begins anew.

use std::{
    fs,
    io::Write,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use tempfile::TempDir;

use super::{relay_with, relay_with_store};
use crate::cli::program::{dump, err, events, rookery, run, succeed};
use crate::cli::relay::{Do, Relay, accept_all, event_id, ok, say, subscription};

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
