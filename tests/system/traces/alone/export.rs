//! How spans get to the collector, and what is never among them.

use nostr_sdk::nips::{
    nip19::{FromBech32, ToBech32},
    nip49::EncryptedSecretKey,
};
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};

use crate::traces::{collector::Collector, node};
use common::{Relay, fresh, note, now, people::PASSWORD, relay_command, rookery};

#[tokio::test]
async fn over_http_it_is_the_same() {
    let collector = Collector::http().await;
    let relay = node(&collector.url(), &["--set", "traces.protocol=http/protobuf"]);
    let event = note(&Keys::generate(), now(), "");
    assert!(relay.connect().await.publish(&event).await.0);
    collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
}

#[tokio::test]
async fn standard_variables_do_what_they_say() {
    let collector = Collector::grpc().await;
    let data = tempfile::TempDir::new().unwrap();
    let mut command = relay_command(data.path(), &[]);
    command
        .env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url())
        .env("OTEL_SERVICE_NAME", "our-relay")
        .env("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
        .env("OTEL_TRACES_SAMPLER", "parentbased_always_on")
        .env("OTEL_BSP_SCHEDULE_DELAY", "20");
    let relay = Relay::spawn(command, data);
    let event = note(&Keys::generate(), now(), "");
    assert!(relay.connect().await.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
    assert_eq!(trace.the("message").says("service.name"), "our-relay");
    assert_eq!(trace.the("message").says("deployment.environment.name"), "test");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_takes_part() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--set", "traces.ratio=0"]);
    let url = relay.url();
    let send = |exported: bool| {
        let mut command = rookery(&["send", "hello", "--trace", "--relay", &url]);
        command.env("ROOKERY_KEY", "01".repeat(32));
        if exported {
            command.env("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url());
        }
        let output = command.output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{text} {}", String::from_utf8_lossy(&output.stderr));
        let trace = text.lines().next().unwrap().strip_prefix("trace ").unwrap().to_owned();
        assert!(text.lines().nth(1).unwrap().starts_with("accepted "), "{text}");
        trace
    };
    let printed = tokio::task::block_in_place(|| send(true));
    let trace = collector.trace("send", ("messaging.system", "nostr"), 9).await;
    assert_eq!(trace.the("send").trace, printed);
    trace.is_below("message", "send");
    trace.is_below("connect", "send");
}

#[tokio::test]
async fn a_collector_that_is_gone_costs_spans_only() {
    let gone = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    for address in [gone, silent.local_addr().unwrap()] {
        let small =
            ["--set", "traces.queue=64", "--set", "traces.export_batch=16", "--set", "traces.flush_ms=100"];
        let mut relay = node(&format!("http://{address}"), &small);
        let keys = Keys::generate();
        let mut client = relay.connect().await;
        client.request("s", &[json!({ "authors": [keys.public_key()] })]).await;
        let mut publisher = relay.connect().await;
        for n in 0..200 {
            let event = fresh(&keys, &n.to_string());
            assert!(publisher.publish(&event).await.0);
            assert_eq!(client.hear().await[2]["id"], event.id().to_hex());
        }
        let log = relay.log();
        // Not a line each time.
        assert!(log.says("spans are lost").await.contains("\"WARN\""));
        assert_eq!(log.line("opentelemetry"), None);
        drop((client, publisher));
        relay.signal("TERM");
        let status = tokio::task::spawn_blocking(move || relay.process.wait().unwrap()).await.unwrap();
        assert!(status.success(), "{status}");
    }
}

#[tokio::test]
async fn what_waits_is_exported_at_the_end() {
    let collector = Collector::grpc().await;
    let mut relay = node(&collector.url(), &["--set", "traces.export_interval_ms=3600000"]);
    let event = note(&Keys::generate(), now(), "");
    assert!(relay.connect().await.publish(&event).await.0);
    relay.signal("TERM");
    let status = tokio::task::spawn_blocking(move || relay.process.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");
    collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
}

/// What people prove by who they are is in no span, and in nothing else that is exported with them.
#[tokio::test]
async fn keys_and_passwords_are_in_no_span() {
    const KEY_PASSWORD: &str = "another particular secret gudgeon";
    let collector = Collector::grpc().await;
    let mut relay = node(&collector.url(), &["--set", "accounts.open=everybody"]);
    let quill = relay.sign_up("quill");
    assert_eq!(relay.try_sign_in("quill", &format!("{PASSWORD}!")).status, 401);
    let ask = |path: &str, body: Value| quill.ask(&relay, "POST", path, body);
    let taken = ask("/v1/me/key", json!({ "password": PASSWORD, "keyPassword": KEY_PASSWORD })).json();
    let key = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
    let key = key.decrypt(KEY_PASSWORD).unwrap();

    // Signed in by the handshake, by a message, and not at all.
    let mut by_token = quill.connect(&relay).await;
    let mut client = relay.connect().await;
    let proof = ask("/v1/auth/socket", json!({ "challenge": client.challenge })).json()["event"].take();
    client.say(json!(["AUTH", proof])).await;
    assert!(client.hear_ok(proof["id"].as_str().unwrap()).await.0);
    assert!(!client.authenticate(&Keys::generate(), "wss://elsewhere.example.com").await.0);
    for client in [&mut by_token, &mut client] {
        client.request("own", &[json!({ "kinds": [4], "#p": [quill.key] })]).await;
    }
    client.request("feed", &[json!({ "authors": [quill.key], "kinds": [1] })]).await;
    assert_eq!(ask("/v1/posts", json!({ "content": "hello" })).status, 201);
    assert_eq!(client.hear().await[2]["content"], "hello");
    for nonsense in [json!(["AUTH", quill.token]), json!([quill.token, PASSWORD])] {
        client.say(nonsense).await;
        client.hear().await;
    }
    let (id, own) = ("messaging.message.id", fresh(&Keys::generate(), ""));
    assert!(client.publish(&own).await.0);
    collector.trace("message", (id, &own.id().to_hex()), 6).await;
    relay.signal("TERM");
    let status = tokio::task::spawn_blocking(move || relay.process.wait().unwrap()).await.unwrap();
    assert!(status.success(), "{status}");

    let (bytes, master) = (collector.bytes(), std::fs::read_to_string(common::master_key_file()).unwrap());
    let is_there = |text: &[u8]| bytes.windows(text.len()).any(|window| window == text);
    assert!(is_there(b"REQ") && is_there(own.id().to_hex().as_bytes()));
    let (in_hex, as_nsec) = (key.to_secret_hex(), key.to_bech32().unwrap());
    let signature = &quill.token[quill.token.len() - 60..];
    for hidden in [PASSWORD, "gudgeon", signature, master.trim(), common::TOKEN, &in_hex, &as_nsec] {
        assert!(!is_there(hidden.as_bytes()), "{hidden}");
    }
    assert!(!is_there(&key.to_secret_bytes()));
}
