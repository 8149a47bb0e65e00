//! `rookery send`.

use std::{io::Write, process::Stdio};

use rookery::protocol::ClientMessage;

use crate::cli::program::{HEX, NPUB, NSEC, err, out, rookery, run, succeed};
use crate::cli::relay::{Relay, accept_all, event_id, ok, say};

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
