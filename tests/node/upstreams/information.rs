//! What other relays say of themselves (NIP-11), and how they are asked for it.

use std::{io::Read, sync::mpsc};

use common::{PATIENCE, Relay, eventually, now, relay_command, tls::Authority};
use rookery::protocol::{Event, Tags, sign::Keys};
use serde_json::json;
use tempfile::TempDir;

use super::{adds_up, ids, put, reader, reads, stored};
use crate::cli::relay::{Relay as Mock, say};

/// The limits are those of a real relay, which refuses what is more.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_says_of_itself_is_heeded() {
    let keys = Keys::generate();
    let note = |n: u64| keys.sign(1_700_000_000 + n * 1_000, 1, Tags::default(), "");
    let notes: Vec<Event> = (0..600).map(note).collect();
    let limits = ["limits.max_subscriptions=1", "limits.max_limit=30", "limits.max_message_bytes=16384"];
    let limits = limits.map(|limit| ["--set", limit]).concat();
    for more in [&[][..], &["--set", "sync.max_open=0"]] {
        let there = Relay::start(&[]);
        put(&there, &notes);
        let there = there.restart_after_kill(&[&limits[..], more].concat());
        let here = reader(&[&there.url()], &[]);
        eventually("everything", || stored(&here) == ids(&notes)).await;
        eventually("nothing waits", || adds_up(&here, &there.url())).await;
        let refused =
            format!(r#"rookery_upstream_messages_total{{upstream="{}",type="closed"}}"#, there.url());
        assert_eq!(here.metric(&refused), 0.0);
        assert_eq!(there.metric(r#"rookery_messages_total{verb="malformed"}"#), 0.0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_says_nonsense_of_itself_is_read_all_the_same() {
    let note = Keys::generate().sign(now(), 1, Tags::default(), "");
    // Longer than anybody takes; no JSON; of another shape.
    let long = json!({ "limitation": { "auth_required": true }, "name": "x".repeat(100_000) }).to_string();
    let shapes = json!({ "limitation": { "max_limit": "7", "auth_required": 1, "max_subscriptions": -1 } });
    for information in [long, "<html>".to_owned(), shapes.to_string()] {
        let holds = crate::cli::relay::holds(vec![note.clone()], 100, false);
        let there =
            Mock::start_informing(information, move |_, message| match message.contains("NEG-OPEN") {
                true => say(r#"["NOTICE","unknown"]"#),
                false => holds(message),
            });
        let here = reader(&[&there.url], &[]);
        eventually("it", || stored(&here) == ids([&note])).await;
    }
}

/// There is no key to say it with, so nothing is asked.
#[tokio::test(flavor = "multi_thread")]
async fn one_that_wants_to_know_who_reads_is_not_asked_by_nobody() {
    let information = json!({ "limitation": { "auth_required": true } }).to_string();
    let there = Mock::start_informing(information, |_, _| Vec::new());
    let here = reader(&[&there.url], &[]);
    let refused = format!(r#"rookery_upstream_connects_total{{upstream="{}",result="refused"}}"#, there.url);
    eventually("it gives up", || here.metric(&refused) >= 1.0).await;
    here.log().says("the relay wants to know who you are").await;
    assert_eq!(there.heard(), [""; 0]);
}

/// By TLS where the relay is: the first that a relay hears.
#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_by_tls_is_asked_by_tls() {
    let (authority, (say, heard)) = (Authority::new("ours"), mpsc::channel());
    let port = authority.listen(&[], move |mut stream| {
        let mut head = [0; 4_096];
        if let Ok(length) = stream.read(&mut head) {
            let _ = say.send(String::from_utf8_lossy(&head[..length]).to_ascii_lowercase());
        }
    });
    let data = TempDir::new().unwrap();
    let flags = reads(&[&format!("wss://localhost:{port}/path?token=secret")]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let mut command = relay_command(data.path(), &flags);
    command.env("SSL_CERT_FILE", &authority.file);
    let _here = Relay::spawn(command, data);
    let asked = tokio::task::spawn_blocking(move || heard.recv_timeout(PATIENCE)).await.unwrap().unwrap();
    assert!(asked.starts_with("get /path?token=secret http/1.1"), "{asked}");
    for header in
        [&format!("host: localhost:{port}"), "accept: application/nostr+json", "user-agent: rookery"]
    {
        assert!(asked.contains(header), "{header} is not in {asked}");
    }
}
