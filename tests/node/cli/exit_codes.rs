//! Exit codes are those of the table in `docs/operations.md`, which has a row for every command.

use std::{collections::BTreeSet, fs};

use common::Relay;
use tempfile::TempDir;

use crate::cli::program::{NSEC, err, events, run, succeed};

/// The commands that the document has a row for.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(common::root().join("docs/operations.md")).unwrap();
    let (_, section) = text.split_once("\n## Exit codes\n").expect("a section");
    let section = section.split("\n## ").next().unwrap();
    let command = |row: &str| Some(row.strip_prefix("| `")?.split_once('`')?.0.to_owned());
    section.lines().filter_map(command).collect()
}

/// The commands that the program has.
fn commands() -> BTreeSet<String> {
    let help = succeed(&["--help"]);
    let (_, commands) = help.split_once("\nCommands:\n").expect("a list of commands");
    let names = commands.lines().take_while(|line| !line.is_empty());
    let names =
        names.filter(|line| !line[2..].starts_with(' ')).filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).filter(|name| name != "help").collect()
}

#[test]
fn every_command_has_a_row_and_takes_no_flag_that_it_does_not_know() {
    let commands = commands();
    assert_eq!(documented(), commands);
    for command in &commands {
        // Some take a word that begins so as their first one.
        assert_eq!(run(&[command, "a-word", "--no-such-flag"]).status.code(), Some(2), "{command}");
    }
}

#[test]
fn codes_are_as_documented() {
    // Nobody listens there.
    const NOWHERE: &str = "ws://127.0.0.1:1";
    let relay = Relay::start(&[]);
    let (url, operators) = (relay.url(), relay.operators.to_string());
    let folder = TempDir::new().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let [first, second] = <[_; 2]>::try_from(events([1, 2])).unwrap();
    let broken = second.json().replace("event 1", "event 2");
    let some = file("some", &format!("{}\n{broken}\n", first.json()));
    let none = file("none", &broken);
    let key = file("key", NSEC);
    let (good, bad) = (file("good", "[limits]\nmax_tags = 3\n"), file("bad", "[limits]\nmax_tags = -1\n"));
    // A folder that can not be made, and one of a relay that has stored nothing.
    let data = format!("{key}/data");
    let empty = folder.path().join("empty").to_str().unwrap().to_owned();
    succeed(&["import", "/dev/null", "--data", &empty]);
    for (code, arguments) in [
        (1, &["relay", "--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0", "--data", &data][..]),
        (0, &["bench", "ingest", &url, "--events", "1", "--connections", "1"]),
        (1, &["bench", "ingest", NOWHERE, "--events", "1", "--connections", "1"]),
        (0, &["config", "--check", &good]),
        (1, &["config", "--check", &bad]),
        (0, &["config", "set", "limits.max_tags=3000", "--ops-listen", &operators]),
        (1, &["config", "set", "limits.max_tags=-1", "--ops-listen", &operators]),
        (1, &["config", "running", "--ops-listen", "127.0.0.1:1"]),
        (0, &["key", "show", &key]),
        (1, &["key", "show", "nonsense"]),
        (0, &["send", "hello", "--key-file", &key, "--relay", &url]),
        (1, &["send", "hello", "--key-file", &key, "--relay", &url, "--created-at", "2100-01-01"]),
        (1, &["send", "hello", "--key-file", &key, "--relay", NOWHERE]),
        (1, &["watch", "--relay", NOWHERE]),
        // Nothing is found.
        (0, &["query", "--kind", "9", "--relay", &url]),
        (1, &["query", "--relay", NOWHERE]),
        // One of two is refused; all are.
        (0, &["import", &some, "--relay", &url]),
        (1, &["import", &none, "--relay", &url]),
        (0, &["export", "--kind", "9", "--relay", &url]),
        (1, &["export", &some, "--relay", &url]),
        (0, &["sync", &url, "--up", "--data", &empty]),
        (1, &["sync", NOWHERE, "--up", "--data", &empty]),
        (0, &["upstream", "list", "--ops-listen", &operators]),
        (1, &["upstream", "show", "ws://127.0.0.1:1", "--ops-listen", &operators]),
        (1, &["upstream", "list", "--ops-listen", "127.0.0.1:1"]),
        (1, &["schema", "apply"]),
    ] {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", err(&output));
        // The last line says why.
        let last = err(&output).lines().last().unwrap_or_default().to_owned();
        assert_eq!(last.starts_with("error: "), code == 1, "{arguments:?}: {last}");
    }
}
