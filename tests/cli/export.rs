//! `rookery export`.

use std::{fs, io::Write, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use crate::program::{events, fail, ids, sorted_ids, succeed, times};
use crate::relay::{Do, Relay, holds};

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
fn export_goes_on_after_a_lost_connection_and_after_being_cut_short() {
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
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("out.jsonl");
    let name = path.to_str().unwrap();
    succeed(&["export", name, "--limit", "100", "--relay", &relay.url]);
    // Private events may be in it.
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
    // A torn last line, as a crash leaves it.
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"id\":\"ab").unwrap();
    succeed(&["export", name, "--resume", "--relay", &relay.url]);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(ids(&text), sorted_ids(&all));
    assert!(times(&text).is_sorted_by(|a, b| a >= b));
}
