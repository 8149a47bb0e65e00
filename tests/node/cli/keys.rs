//! `rookery key`, and what all commands have in common: errors and help.

use std::{fs, os::unix::fs::PermissionsExt};

use tempfile::TempDir;

use crate::cli::program::{HEX, NPUB, NSEC, dump, fail, out, rookery, succeed};

#[test]
fn key_makes_and_shows() {
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("my.key");
    let name = path.to_str().unwrap();
    let made = succeed(&["key", "new", "--out", name]);
    assert!(made.contains("npub1") && !made.contains("nsec1"), "{made}");
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(succeed(&["key", "show", name]), made);
    assert!(fail(&["key", "new", "--out", name]).contains("not overwritten"));

    assert!(succeed(&["key", "new"]).contains("nsec1"));
    assert_eq!(succeed(&["key", "show", HEX]), format!("npub        {NPUB}\npublic hex  {HEX}\n"));
    assert_eq!(succeed(&["key", "show", NPUB]), succeed(&["key", "show", HEX]));
    assert!(succeed(&["key", "show", NSEC, "--secret"]).contains("67dea2ed018072d6"));
    assert!(!succeed(&["key", "show", NSEC]).contains(NSEC));
    let output = rookery(&["key", "show"]).env("ROOKERY_KEY", NSEC).output().unwrap();
    assert_eq!(out(&output), succeed(&["key", "show", NSEC]));
}

#[test]
fn errors_say_what_to_do_next() {
    let folder = TempDir::new().unwrap();
    let file = dump(&folder, &[]);
    let nobody = "ws://127.0.0.1:1";
    for (args, expected) in [
        (&["key", "show"][..], "ROOKERY_KEY"),
        (&["key", "show", "hello"], "no key and no file"),
        (&["key", "show", NPUB, "--secret"], "does not tell its secret"),
        (&["send", "hello"], "rookery key new"),
        (&["send", "hello", "--key", NPUB], "nsec1"),
        (&["send", "hello", "--key", NSEC, "--relay", nobody], "Is the relay running?"),
        (&["send", "hello", "--key", NSEC, "--relay", "https://x"], "write wss://x"),
        (&["send", "hello", "--key", NSEC, "--tag", "t"], "t=nostr"),
        (&["query", "--relay", "127.0.0.1:1"], "cannot reach ws://127.0.0.1:1"),
        (&["query", "--relay", "ws://nowhere.invalid"], "nobody knows the host nowhere.invalid"),
        (&["schema", "apply", "--listen", "7777"], "unexpected argument '--listen'"),
        (&["query", "--tag", "topic=x"], "one letter only"),
        (&["query", "--author", "me"], "npub1"),
        (&["query", "--order-by", "size"], "possible values: desc, asc"),
        (&["query", "--relay", nobody], "Is the relay running?"),
        (&["watch", "--relay", nobody], "Is the relay running?"),
        (&["import", "/nowhere/x", "--relay", nobody], "cannot open /nowhere/x"),
        (&["import", &file, "--relay", nobody], "Is the relay running?"),
        (&["import", &file, "--rejects", &file], "overwrite the input"),
        (&["export", &file, "--relay", nobody], "--resume goes on"),
        (&["export", "/nowhere/x.xz", "--relay", nobody], "cannot write .xz"),
        (&["import", &file, "--data", &file], "it is a file"),
        (&["query", "--kind", "note"], "a kind is a number"),
        (&["send", "hello", "--kind", "note"], "a kind is a number"),
        (&["bench", "idle", nobody], "no process of this machine listens there"),
        (&["export", "--resume"], "needs the name of the FILE"),
    ] {
        let error = fail(args);
        assert!(error.contains(expected), "{args:?}: {error}");
    }
    let new = folder.path().join("new.jsonl.gz");
    fail(&["export", new.to_str().unwrap(), "--relay", nobody]);
    assert!(!new.exists(), "an export that never began leaves no file");
}

#[test]
fn help_fits_a_screen() {
    for command in ["key", "key new", "key show", "send", "watch", "query", "import", "export"] {
        let args: Vec<&str> = command.split(' ').chain(["--help"]).collect();
        let help = succeed(&args);
        assert!(help.lines().count() <= 40, "{command}: {} lines", help.lines().count());
        assert!(help.lines().all(|line| line.chars().count() <= 100), "{help}");
        assert!(command == "key" || help.contains("\nExample:  rookery "), "{help}");
        // On a narrow terminal too, text is wrapped once: no line in a paragraph of it is left nearly empty.
        let output = rookery(&args).env("COLUMNS", "70").output().unwrap();
        let paragraphs =
            out(&output).split("\n\n").filter(|text| !text.contains(['<', '[']) && text.len() > 140);
        let is_prose = |text: &&str| !text.starts_with([' ', '\n']) && !text.starts_with("Example:");
        for paragraph in paragraphs.filter(is_prose) {
            let lines: Vec<&str> = paragraph.trim().lines().collect();
            assert!(lines.iter().rev().skip(1).all(|line| line.len() > 45), "{command}: {lines:#?}");
        }
    }
}
