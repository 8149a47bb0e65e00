//! What `query`, `watch` and `export` show on a terminal, and what they do not: a terminal of util-linux's `script`.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

use rookery::protocol::{Event, ParsedEvent, Tags, sign::Keys};

use crate::cli::program::{rookery, succeed};
use crate::cli::relay::{Do, Relay, holds, say, subscription};

/// Sets the title, clears the screen, colours, turns the direction of writing, goes back, and begins a line; in the
/// ways of 7 and of 8 bits.
const HOSTILE: &str =
    "\u{1b}]0;owned\u{7}\u{1b}[2J\u{9b}31m\u{9d}0;x\u{9c}\u{202e}live\r\u{8}\u{7f}\n\u{2028}\u{2066}end";
const WIDE: &str =
    "日本語のとても長い文章です 👩‍👩‍👧 ❤️ 🇩🇪 👍🏽 and some words that a terminal has no room for in one line";

/// The program on a terminal of so many columns, for a minute at most.
fn on_terminal(columns: usize, arguments: &[&str]) -> Child {
    let program = rookery(arguments);
    let typed: Vec<&str> = [program.get_program()]
        .into_iter()
        .chain(program.get_args())
        .map(|word| word.to_str().filter(|word| !word.contains('\'')).unwrap())
        .collect();
    let typed =
        format!("stty columns {columns} -onlcr && exec timeout --foreground 60 '{}'", typed.join("' '"));
    let mut command = Command::new("script");
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.args(["--quiet", "--flush", "--return", "--command", &typed, "/dev/null"]);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// All that it shows until its end.
fn shown(columns: usize, arguments: &[&str]) -> String {
    let output = on_terminal(columns, arguments).wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    text
}

/// Whether a terminal may take nothing of it for an order, but for the ends of lines.
#[track_caller]
fn orders_nothing(text: &str) {
    let order = text.chars().find(|&c| {
        c != '\n' && c.is_control() || matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
    });
    assert_eq!(order, None, "{text:?}");
}

/// Columns of a line of the texts above, none of whose characters that are joined to others counts less than alone.
fn cells(line: &str) -> usize {
    let cells = |c| match c {
        '\u{200d}' => 0,
        '\u{fe0f}' | '\u{1f1e6}'..='\u{1f1ff}' => 1,
        '\u{1100}'.. if c != '…' && c != '❤' => 2,
        _ => 1,
    };
    line.chars().map(cells).sum()
}

fn words(text: &str) -> String {
    text.split_whitespace().collect()
}

/// A profile, and two notes.
fn written() -> Vec<Event> {
    let keys = Keys::generate();
    let profile = serde_json::json!({ "name": format!("日本日本{HOSTILE}") }).to_string();
    let sign = |at, kind, content: &str| keys.sign(at, kind, Tags::default(), content);
    vec![sign(1, 0, &profile), sign(1_769_862_600, 1, WIDE), sign(1_769_862_601, 1, HOSTILE)]
}

fn relay(events: &[Event]) -> Relay {
    let holds = holds(events.to_vec(), 500, true);
    Relay::start(move |_, message| holds(message))
}

#[test]
fn query_shows_people_time_name_and_text_in_the_width_of_their_terminal() {
    let relay = relay(&written());
    for columns in [20, 47, 60, 80, 300] {
        let text = shown(columns, &["query", "--kind", "1", "--relay", &relay.url]);
        orders_nothing(&text);
        let widest = text.lines().map(cells).max().unwrap();
        assert!(widest <= columns, "{widest} of {columns}:\n{text}");
        let events: Vec<&str> = text.split("2026-01-31").collect();
        let ["", hostile, wide] = events[..] else { panic!("two events: {text}") };
        assert!(words(hostile).starts_with("12:30:01日本日本]0;owne…"), "{text}");
        assert!(words(hostile).ends_with("[2J31m0;xliveend"), "{text}");
        assert!(words(wide).starts_with("12:30:00日本日本]0;owne…"), "{text}");
        assert!(words(wide).ends_with(&words(WIDE)), "{text}");
    }
    // Wide names do not move the texts.
    let text = shown(300, &["query", "--kind", "1", "--relay", &relay.url]);
    let column = |begin| text.lines().find_map(|line| Some(cells(&line[..line.find(begin)?])));
    assert_eq!((column("]0;owned"), column("日本語")), (Some(46), Some(45)), "{text}");
}

#[test]
fn json_on_a_terminal_says_the_same_and_orders_nothing() {
    let events = written();
    let relay = relay(&events);
    for command in [&["query", "--json"][..], &["export"]] {
        let arguments = [command, &["--relay", &relay.url]].concat();
        let text = shown(80, &arguments);
        let read = |line: &str| serde_json::from_str::<ParsedEvent>(line).unwrap().trust();
        let lines: Vec<&str> = text.lines().filter(|line| line.starts_with('{')).collect();
        lines.iter().for_each(|line| orders_nothing(line));
        let same: Vec<String> = lines.iter().map(|line| read(line).json().to_owned()).collect();
        assert!(same.iter().eq(events.iter().rev().map(Event::json)), "{text}");
        // A program that reads gets it as the relay gave it.
        let piped = succeed(&arguments);
        assert!(piped.lines().eq(events.iter().rev().map(Event::json)), "{piped}");
    }
}

#[test]
fn watch_shows_people_time_name_and_text() {
    let events = written();
    let (profile, live) = (events[..1].to_vec(), events[1..].to_vec());
    let holds = holds(profile, 500, true);
    let relay = Relay::start(move |_, message| {
        // Names are asked for by author, over connections of their own.
        if !message.starts_with(r#"["REQ""#) || message.contains("authors") {
            return holds(message);
        }
        let id = subscription(message);
        let mut todo = say(format!(r#"["EOSE","{id}"]"#));
        todo.extend(live.iter().map(|event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json()))));
        todo
    });
    let mut child = on_terminal(60, &["watch", "--kind", "1", "--relay", &relay.url]);
    let mut text = String::new();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    while !text.ends_with("end\n") {
        assert_ne!(output.read_line(&mut text).unwrap(), 0, "{text}");
    }
    // Its terminal goes, and it with that.
    child.kill().unwrap();
    child.wait().unwrap();
    orders_nothing(&text);
    assert!(text.lines().all(|line| cells(line) <= 60), "{text}");
    assert!(text.starts_with("2026-01-31 12:30:00  日本日本 ]0;owne …"), "{text}");
    assert!(words(&text).contains(&words(WIDE)), "{text}");
}

#[test]
fn import_does_not_wait_for_what_nobody_types() {
    let ended = on_terminal(80, &["import", "--relay", "ws://127.0.0.1:1"]).wait_with_output().unwrap();
    let text = String::from_utf8(ended.stdout).unwrap();
    assert!(ended.status.code() == Some(1) && text.contains("name a FILE"), "{text}");
}
