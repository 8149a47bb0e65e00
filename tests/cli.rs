//! The client commands as users meet them: the built program against a relay that follows a script.

mod scripted;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output, Stdio},
    sync::atomic::{AtomicUsize, Ordering},
};

use rookery::protocol::{ClientMessage, Event, ParsedEvent, sign::Keys};
use scripted::{Do, Relay, accept_all, event_id, holds, ok, say};
use tempfile::TempDir;

const NSEC: &str = "nsec1vl029mgpspedva04g90vltkh6fvh240zqtv9k0t9af8935ke9laqsnlfe5";
const NPUB: &str = "npub10elfcs4fr0l0r8af98jlmgdh9c8tcxjvz9qkw038js35mp4dma8qzvjptg";
const HEX: &str = "7e7e9c42a91bfef19fa929e5fda1b72e0ebc1a4c1141673e2794234d86addf4e";

/// The program, with nothing of the environment that could change what it does.
fn rookery(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_rookery"));
    for name in ["KEY", "RELAY", "CONFIG", "DATA"] {
        command.env_remove(format!("ROOKERY_{name}"));
    }
    command.args(args).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(args: &[&str]) -> Output {
    rookery(args).output().unwrap()
}

fn out(output: &Output) -> &str {
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// Succeeds, and gives the standard output.
fn succeed(args: &[&str]) -> String {
    let output = run(args);
    assert!(output.status.success(), "{args:?}: {}", err(&output));
    out(&output).to_owned()
}

/// Fails with exit code 1 or 2, and gives the standard error.
fn fail(args: &[&str]) -> String {
    let output = run(args);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{args:?}: {output:?}");
    err(&output).to_owned()
}

/// Events with these times, with distinct ids.
fn events(times: impl IntoIterator<Item = u64>) -> Vec<Event> {
    let keys = Keys::generate();
    let sign = |(index, at): (usize, u64)| keys.sign(at, 1, Default::default(), &format!("event {index}"));
    times.into_iter().enumerate().map(sign).collect()
}

fn times(lines: &str) -> Vec<u64> {
    lines.lines().map(|line| serde_json::from_str::<ParsedEvent>(line).unwrap().created_at).collect()
}

fn ids(lines: &str) -> Vec<String> {
    let id = |line| serde_json::from_str::<ParsedEvent>(line).unwrap().id.to_hex();
    let mut ids: Vec<String> = lines.lines().map(id).collect();
    ids.sort_unstable();
    ids
}

fn sorted_ids(events: &[Event]) -> Vec<String> {
    let mut ids: Vec<String> = events.iter().map(|event| event.id().to_hex()).collect();
    ids.sort_unstable();
    ids
}

/// A file of events, and its path.
fn dump(folder: &TempDir, events: &[Event]) -> String {
    let path = folder.path().join("events.jsonl");
    let text: String = events.iter().map(|event| format!("{}\n", event.json())).collect();
    fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_owned()
}

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
        (&["query", "--tag", "topic=x"], "one letter only"),
        (&["query", "--author", "me"], "npub1"),
        (&["query", "--order-by", "size"], "possible values: desc, asc"),
        (&["query", "--relay", nobody], "Is the relay running?"),
        (&["watch", "--relay", nobody], "Is the relay running?"),
        (&["import", "/nowhere/x", "--relay", nobody], "cannot open /nowhere/x"),
        (&["import", &file, "--relay", nobody], "Is the relay running?"),
        (&["import", &file, "--rejects", &file], "overwrite the input"),
        (&["export", &file, "--relay", nobody], "--resume goes on"),
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
    }
}

#[test]
fn send_tells_the_answer() {
    let relay = Relay::start(|_, message| match event_id(message) {
        Some(id) if message.contains("spam") => ok(&id, false, "blocked: no\\u001b[31m spam"),
        Some(id) => ok(&id, true, ""),
        None => say("not even JSON"),
    });
    let send = |text: &str, more: &[&str]| {
        run(&[&["send", text, "--key", NSEC, "--relay", &relay.url], more].concat())
    };
    let output =
        send("hello", &["--kind", "7", "--tag", "t=a,b", "--tag", &format!("p={NPUB}"), "--pow", "8"]);
    assert!(output.status.success(), "{}", err(&output));
    let heard = relay.heard().pop().unwrap();
    let Ok(ClientMessage::Event(event)) = ClientMessage::parse(&heard) else { panic!("{heard}") };
    assert_eq!(out(&output), format!("accepted {}\n", event.id));
    assert_eq!((event.kind, &*event.content, event.id.as_bytes()[0]), (7, "hello", 0));
    let tags = format!("{:?}", event.tags);
    assert!(tags.starts_with(&format!(r#"[["t", "a", "b"], ["p", "{HEX}"], ["nonce", "#)), "{tags}");

    let output = send("spam", &["--created-at", "2026-01-01"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(err(&output).contains(": blocked: no [31m spam"), "{}", err(&output));
    assert!(relay.heard().pop().unwrap().contains("1767225600"));
}

#[test]
fn send_reads_standard_input() {
    let relay = Relay::start(|_, message| accept_all(message));
    let mut child = rookery(&["send", "-", "--relay", &relay.url])
        .env("ROOKERY_KEY", NSEC)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"two\nlines\n").unwrap();
    assert!(child.wait().unwrap().success());
    assert!(relay.heard()[0].contains(r#""content":"two\nlines""#));
}

#[test]
fn send_authenticates_when_asked() {
    let mut known = false;
    let relay = Relay::start(move |_, message| match event_id(message) {
        None => say(r#"["AUTH","challenge"]"#),
        Some(id) if message.starts_with(r#"["AUTH""#) => {
            known = true;
            ok(&id, true, "")
        }
        Some(id) if known => ok(&id, true, ""),
        Some(id) => ok(&id, false, "auth-required: who are you?"),
    });
    succeed(&["send", "hello", "--key", NSEC, "--relay", &relay.url]);
    let heard = relay.heard();
    let [first, auth, again] = &heard[..] else { panic!("{heard:?}") };
    assert_eq!(first, again);
    let url = &relay.url;
    assert!(auth.contains(r#"["challenge","challenge"]"#) && auth.contains(&format!(r#"["relay","{url}"]"#)));
}

#[test]
fn query_pages_until_it_has_enough() {
    let mut all = events((1..=1_200).map(|n| 1_000 + n / 7));
    all.push(Keys::generate().sign(1_001, 1, Default::default(), "Der NEEDLE im Heu"));
    let relay = Relay::start({
        let holds = holds(all, 100, false);
        move |_, message| holds(message)
    });
    let query = |args: &[&str]| succeed(&[&["query", "--relay", &relay.url], args].concat());
    assert_eq!(times(&query(&["--amount", "3"])), [1_171, 1_171, 1_171]);
    assert_eq!(relay.count("REQ"), 1);
    assert_eq!(
        times(&query(&["--amount", "9", "--order-by", "asc"])),
        [vec![1_170; 5], vec![1_171; 4]].concat()
    );
    let newest = query(&["--amount", "400"]);
    assert_eq!(newest.lines().count(), 400);
    assert!(times(&newest).is_sorted_by(|a, b| a >= b));
    assert!(query(&["--keyword", "needle"]).contains("NEEDLE im"));
    assert_eq!(query(&["--keyword", "absent"]), "");
    assert_eq!(query(&["--until", "1001", "--since", "1001"]).lines().count(), 8);
}

#[test]
fn query_believes_the_hint_that_this_is_all() {
    let relay = Relay::start({
        let holds = holds(events([5, 4, 3]), 100, true);
        move |_, message| holds(message)
    });
    assert_eq!(times(&succeed(&["query", "--relay", &relay.url])), [5, 4, 3]);
    assert_eq!(relay.count("REQ"), 1);
}

#[test]
fn query_leaves_out_what_is_forged_or_unasked() {
    let good = events([5]).remove(0);
    let forged = good.json().replace("event 0", "event 9");
    let unasked = events([9]).remove(0);
    let relay = Relay::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, .. }) => [good.json(), &forged, unasked.json(), "{}"]
            .iter()
            .map(|event| Do::Say(format!(r#"["EVENT","{id}",{event}]"#)))
            .chain(say(format!(r#"["EOSE","{id}",["finish"]]"#)))
            .collect(),
        _ => Vec::new(),
    });
    let output = run(&["query", "--until", "5", "--relay", &relay.url]);
    assert_eq!(times(out(&output)), [5]);
    assert!(err(&output).contains("left out 3 events"), "{}", err(&output));
}

#[test]
fn watch_goes_on_after_a_lost_connection_without_showing_an_event_twice() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let all = events([now, now + 1, now + 2]);
    let relay = Relay::start(move |connection, message| {
        if !message.starts_with(r#"["REQ""#) {
            return Vec::new();
        }
        let live = if connection == 1 { &all[..2] } else { &all };
        let mut todo = say(r#"["EOSE","watch"]"#);
        todo.extend(live.iter().map(|event| Do::Say(format!(r#"["EVENT","watch",{}]"#, event.json()))));
        todo.extend((connection == 1).then_some(Do::HangUp));
        todo
    });
    let mut child = rookery(&["watch", "--kind", "1", "--relay", &relay.url]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for expected in [now, now + 1, now + 2] {
        assert_eq!(times(&lines.next().unwrap().unwrap()), [expected]);
    }
    let requests = relay.heard();
    assert_eq!(requests[0], r#"["REQ","watch",{"kinds":[1],"limit":0}]"#);
    assert!(requests[1].contains(r#""since":1"#) && !requests[1].contains("limit"), "{}", requests[1]);
    // Interrupted, it ends as if nothing had happened.
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn watch_ends_when_nobody_reads() {
    let event = events([10]).remove(0);
    let relay = Relay::start(move |_, message| {
        if message.is_empty() { vec![] } else { say(format!(r#"["EVENT","watch",{}]"#, event.json())) }
    });
    let mut child = rookery(&["watch", "--relay", &relay.url]).spawn().unwrap();
    let mut first = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut first).unwrap();
    assert_eq!(times(&first), [10]);
    // Nothing more is published, and still it notices that its reader is gone.
    assert!(child.wait().unwrap().success());
}

#[test]
fn watch_says_why_the_relay_refuses() {
    let relay = Relay::start(|_, message| {
        if message.is_empty() { vec![] } else { say(r#"["CLOSED","watch","auth-required: members only"]"#) }
    });
    let error = fail(&["watch", "--relay", &relay.url]);
    assert!(error.contains("--key-file"), "{error}");
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
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 100);
    // A torn last line, as a crash leaves it.
    let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
    file.write_all(b"{\"id\":\"ab").unwrap();
    succeed(&["export", name, "--resume", "--relay", &relay.url]);
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(ids(&text), sorted_ids(&all));
    assert!(times(&text).is_sorted_by(|a, b| a >= b));
}
