//! `rookery watch`.

use std::io::{BufRead, BufReader};

use crate::cli::program::{events, fail, rookery, times};
use crate::cli::relay::{Do, Relay, say, subscription};

#[test]
fn watch_goes_on_after_a_lost_connection_without_showing_an_event_twice() {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let all = events([now, now + 1, now + 2]);
    let relay = Relay::start(move |connection, message| {
        if !message.starts_with(r#"["REQ""#) {
            return Vec::new();
        }
        let live = if connection == 1 { &all[..2] } else { &all };
        let id = subscription(message);
        let mut todo = say(format!(r#"["EOSE","{id}"]"#));
        todo.extend(live.iter().map(|event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json()))));
        todo.extend((connection == 1).then_some(Do::HangUp));
        todo
    });
    let mut child = rookery(&["watch", "--kind", "1", "--relay", &relay.url]).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    for expected in [now, now + 1, now + 2] {
        assert_eq!(times(&lines.next().unwrap().unwrap()), [expected]);
    }
    let requests = relay.heard();
    assert_eq!(requests[0], format!(r#"["REQ","{}",{{"kinds":[1],"limit":0}}]"#, subscription(&requests[0])));
    // Nobody can guess an id from another one.
    assert_ne!(subscription(&requests[0]), subscription(&requests[1]));
    assert!(requests[1].contains(r#""since":1"#) && !requests[1].contains("limit"), "{}", requests[1]);
    // Interrupted, it ends as if nothing had happened.
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).unwrap();
    assert!(child.wait().unwrap().success());
}

#[test]
fn watch_ends_when_nobody_reads() {
    let event = events([10]).remove(0);
    let relay = Relay::start(move |_, message| match message {
        "" => vec![],
        message => say(format!(r#"["EVENT","{}",{}]"#, subscription(message), event.json())),
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
    let relay = Relay::start(|_, message| match message {
        "" => vec![],
        message => say(format!(r#"["CLOSED","{}","auth-required: members only"]"#, subscription(message))),
    });
    let error = fail(&["watch", "--relay", &relay.url]);
    assert!(error.contains("--key-file"), "{error}");
}
