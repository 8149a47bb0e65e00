//! `rookery export`.

use std::{
    fs,
    io::{Read, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, Instant},
};

use flate2::read::MultiGzDecoder;
use rookery::protocol::Event;
use tempfile::TempDir;

use common::run_by;

use crate::cli::program::{
    NSEC, PATIENCE, dump, err, events, fail, ids, rookery, run, sorted_ids, succeed, times,
};
use crate::cli::relay::{Do, Relay, holds};

#[test]
fn export_writes_each_event_once_whatever_the_page() {
    // Several events a second, and seconds that straddle pages.
    let all = events((0..900).map(|n: u64| 5_000 - n / 13 - n % 3));
    for (cap, hints) in [(50, false), (50, true), (899, false), (5_000, false), (5_000, true)] {
        let relay = Relay::start({
            let holds = holds(all.clone(), cap, hints);
            move |_, message| holds(message)
        });
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("out.jsonl.zst");
        succeed(&["export", path.to_str().unwrap(), "--verify", "--relay", &relay.url]);
        let text = String::from_utf8(zstd::decode_all(fs::File::open(&path).unwrap()).unwrap()).unwrap();
        assert_eq!(ids(&text), sorted_ids(&all), "cap {cap}, hints {hints}");
        assert!(times(&text).is_sorted_by(|a, b| a >= b));
    }
}

#[test]
fn export_reaches_a_second_that_a_wider_page_holds() {
    let all = events([vec![9; 5], vec![8; 700], vec![7; 5]].concat());
    let relay = Relay::start({
        let holds = holds(all.clone(), 1_000, true);
        move |_, message| holds(message)
    });
    assert_eq!(ids(&succeed(&["export", "--relay", &relay.url])), sorted_ids(&all));
}

#[test]
fn export_never_loses_the_rest_of_a_second_silently() {
    for times in [[vec![9; 5], vec![8; 250], vec![7; 5]].concat(), [vec![9; 5], vec![8; 250]].concat()] {
        let relay = Relay::start({
            let holds = holds(events(times), 200, false);
            move |_, message| holds(message)
        });
        let error = fail(&["export", "--relay", &relay.url]);
        assert!(error.contains("created_at 8") && error.contains("--kind"), "{error}");
    }
    // As many as a page holds, but no more, where the relay is known to send more: no reason to fail.
    let all = events([vec![9; 40], vec![8; 199]].concat());
    let relay = Relay::start({
        let holds = holds(all.clone(), 200, false);
        move |_, message| holds(message)
    });
    assert_eq!(ids(&succeed(&["export", "--relay", &relay.url])), sorted_ids(&all));
}

#[test]
fn export_goes_on_after_a_lost_connection() {
    let all = events((0..400).map(|n: u64| 1_000 - n / 3));
    let relay = Relay::start({
        let holds = holds(all.clone(), 60, false);
        // Each connection ends with its third page.
        let mut pages = 0;
        move |_, message| {
            pages += usize::from(message.starts_with(r#"["REQ""#));
            if pages == 3 {
                pages = 0;
                return vec![Do::HangUp];
            }
            holds(message)
        }
    });
    assert_eq!(ids(&succeed(&["export", "--relay", &relay.url])), sorted_ids(&all));
}

/// A relay with these events of which the first connection gets a few pages, and then nothing more.
fn stalls(store: Option<&'static str>, all: &[Event]) -> Relay {
    let holds = holds(all.to_vec(), 60, false);
    let mut pages = 0;
    Relay::start_as(
        move |_| store,
        move |connection, message| {
            pages += usize::from(connection == 1 && message.starts_with(r#"["REQ""#));
            if connection == 1 && pages > 3 { Vec::new() } else { holds(message) }
        },
    )
}

/// Where an export notes what it is about.
fn bookmark(file: &Path) -> PathBuf {
    format!("{}.rookery-export", file.display()).into()
}

/// Begins an export with these arguments and kills it when three pages are in the file.
fn cut_short(file: &Path, arguments: &[&str], relay: &Relay) {
    let arguments = [&["export", file.to_str().unwrap(), "--relay", &relay.url], arguments].concat();
    let mut child = rookery(&arguments).spawn().unwrap();
    let begun = Instant::now();
    while relay.count("REQ") < 4 {
        assert!(begun.elapsed() < PATIENCE, "it asks for no fourth page");
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(bookmark(file).exists());
    // Private events may be in it.
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    // Nothing overwrites it, whatever the flags.
    assert!(fail(&arguments).contains("exists and is not overwritten"));
}

/// What is in the file, unpacked.
fn text(file: &Path) -> String {
    let bytes = fs::read(file).unwrap();
    let unpacked = match file.extension().unwrap().to_str().unwrap() {
        "zst" => zstd::decode_all(&bytes[..]).unwrap(),
        "gz" => {
            let mut unpacked = Vec::new();
            MultiGzDecoder::new(&bytes[..]).read_to_end(&mut unpacked).unwrap();
            unpacked
        }
        _ => bytes,
    };
    String::from_utf8(unpacked).unwrap()
}

#[test]
fn export_that_was_killed_goes_on_to_what_it_would_have_been() {
    let all = events((0..400).map(|n: u64| 1_000 - n / 3));
    // What was lost at the end of the file besides, as with a machine that loses its power.
    for (name, lost) in
        [("a.jsonl", 0), ("b.jsonl", 100), ("c.jsonl", 30_000), ("d.jsonl.gz", 9), ("e.jsonl.zst", 9)]
    {
        let folder = TempDir::new().unwrap();
        let file = folder.path().join(name);
        let relay = stalls(None, &all);
        // An age is another time when it goes on, and means what it meant.
        let flags = ["--kind", "1", "--since", "2000000000s"];
        cut_short(&file, &flags, &relay);
        let bytes = fs::read(&file).unwrap();
        fs::write(&file, &bytes[..bytes.len() - lost]).unwrap();
        let arguments = ["export", file.to_str().unwrap(), "--resume", "--relay", &relay.url];
        let output = run(&[&arguments[..], &flags].concat());
        assert!(output.status.success(), "{name}: {}", err(&output));
        assert!(err(&output).contains("going on after "), "{name}: {}", err(&output));
        let written = text(&file);
        assert_eq!(ids(&written), sorted_ids(&all), "{name}");
        assert!(times(&written).is_sorted_by(|a, b| a >= b));
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 1, "{name}: only the file is left");
        // It is complete, and nothing is known of it any more.
        let error = fail(&[&arguments[..], &flags].concat());
        assert!(error.contains("so it is complete, or no export"), "{error}");
    }
}

#[test]
fn export_goes_on_with_nothing_but_what_it_was() {
    const A: Option<&str> = Some("shared-000000000000000a");
    let all = events((0..400).map(|n: u64| 1_000 - n / 3));
    let others = events((0..400).map(|n: u64| 1_000 - n / 3));
    let lines =
        |events: &[Event]| events.iter().map(|event| format!("{}\n", event.json())).collect::<String>();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("out.jsonl");
    let name = file.to_str().unwrap();
    let node = |store| {
        let holds = holds(all.clone(), 60, false);
        Relay::start_as(move |_| store, move |_, message| holds(message))
    };
    type Change<'a> = &'a dyn Fn(&Path);
    let untouched: Change = &|_| {};
    let begun = ["--kind", "1", "--verify"];
    for (flags, elsewhere, change, expected) in [
        (&["--kind", "1", "--verify"][..], Some(None), untouched, "it is an export of ws://"),
        (&begun, Some(Some("shared-000000000000000b")), untouched, "(shared-000000000000000a)"),
        (&["--verify"], None, untouched, r#"it was asked for {"kinds":[1]}"#),
        (&["--kind", "1", "--verify", "--since", "1"], None, untouched, r#"it was asked for {"kinds":[1]}"#),
        (&["--kind", "1"], None, untouched, "it was begun with --verify"),
        (&["--kind", "1", "--verify", "--key", NSEC], None, untouched, "it was read without a key"),
        (
            &begun,
            None,
            &|file| fs::write(file, lines(&others[..100])).unwrap(),
            "line 1 is not what was written",
        ),
        (
            &begun,
            None,
            &|file| {
                let text = fs::read_to_string(file).unwrap();
                fs::write(file, text.replacen("event 40", "event 41", 1)).unwrap();
            },
            "or one before it is not",
        ),
        (
            &begun,
            None,
            &|file| {
                let mut file = fs::OpenOptions::new().append(true).open(file).unwrap();
                file.write_all(lines(&events([0])[..1]).replace(r#""kind":1"#, r#""kind":2"#).as_bytes())
                    .unwrap();
            },
            "was not asked for",
        ),
        (&begun, None, &|file| fs::write(file, "my diary").unwrap(), "line 1 is no event"),
        (&begun, None, &|file| fs::remove_file(bookmark(file)).unwrap(), "so it is complete, or no export"),
        (&begun, None, &|file| fs::write(bookmark(file), "{").unwrap(), "can not be read"),
    ] {
        let relay = stalls(A, &all);
        cut_short(&file, &begun, &relay);
        change(&file);
        let before = fs::read(&file).unwrap();
        let url = elsewhere.map_or(relay.url.clone(), |store| node(store).url);
        let error = fail(&[&["export", name, "--resume", "--relay", &url], flags].concat());
        assert!(error.contains(expected) && error.contains("cannot go on with "), "{expected}: {error}");
        assert_eq!(error.trim().lines().count(), 1, "{error}");
        assert_eq!(fs::read(&file).unwrap(), before, "{expected}: the file was touched");
        fs::remove_file(&file).unwrap();
        let _ = fs::remove_file(bookmark(&file));
    }
    // Another node on the same store will do.
    cut_short(&file, &begun, &stalls(A, &all));
    succeed(&[&["export", name, "--resume", "--relay", &node(A).url], &begun[..]].concat());
    assert_eq!(ids(&text(&file)), sorted_ids(&all));
}

#[test]
fn export_of_a_folder_goes_on_where_the_disk_was_full() {
    let folder = TempDir::new().unwrap();
    let all = events((0..600).map(|n: u64| 1_000 - n / 3));
    let [data, other] = ["data", "other"].map(|name| folder.path().join(name));
    for (data, events) in [(&data, &all[..]), (&other, &events([5]))] {
        succeed(&["import", &dump(&folder, events), "--data", data.to_str().unwrap()]);
    }
    let file = folder.path().join("out.jsonl");
    let name = file.to_str().unwrap();
    let arguments = ["export", name, "--data", data.to_str().unwrap()];
    // The file may have so many blocks; what is written beyond is an error, in the middle of a line.
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap '' XFSZ; ulimit -f 101; exec "$0" "$@""#]);
    let full = run_by(shell, &rookery(&arguments)).output().unwrap();
    assert_eq!(full.status.code(), Some(1), "{}", err(&full));
    assert!(err(&full).contains("the same command with --resume goes on"), "{}", err(&full));
    assert!(!fs::read_to_string(&file).unwrap().ends_with('\n'));
    let resume = |data: &Path| run(&["export", name, "--resume", "--data", data.to_str().unwrap()]);
    let refused = resume(&other);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("it is an export of "), "{}", err(&refused));
    // It is the same folder at another place.
    let moved = folder.path().join("moved");
    fs::rename(&data, &moved).unwrap();
    let output = resume(&moved);
    assert!(output.status.success(), "{}", err(&output));
    assert_eq!(ids(&text(&file)), sorted_ids(&all));
    assert!(!bookmark(&file).exists());
}
