//! One node.

use std::{
    io::{BufRead, BufReader},
    process::Stdio,
    time::Instant,
};

use nostr_sdk::nips::{
    nip19::{FromBech32, ToBech32},
    nip49::EncryptedSecretKey,
};
use rookery::protocol::{Tags, sign::Keys};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::traces::{collector::Collector, node};
use common::{Client, Relay, cassandra, fresh, note, now, people::PASSWORD, relay_command, rookery};

const SERVER: i32 = 2;
const CLIENT: i32 = 3;

/// A full disk: every event fails.
const FULL: &[&str] = &["--set", "lmdb.min_free_bytes=9000000000000000000"];

#[tokio::test]
async fn an_event_is_one_trace() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--node-id", "n1"]);
    let keys = Keys::generate();
    let mut follower = relay.connect().await;
    // Two subscriptions of one session: it counts once.
    follower.request("a", &[json!({ "authors": [keys.public_key()] })]).await;
    follower.request("b", &[json!({ "kinds": [1] })]).await;
    let mut publisher = relay.connect().await;
    let event = fresh(&keys, "hello");
    assert!(publisher.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "batch", "store transaction", "deliver"]);
    for (span, parent) in [
        ("admit", "message"),
        ("persist", "message"),
        ("batch", "persist"),
        ("store transaction", "batch"),
        ("deliver", "message"),
    ] {
        trace.is_below(span, parent);
    }
    let (message, persist, batch) = (trace.the("message"), trace.the("persist"), trace.the("batch"));
    assert_eq!(message.parent, "");
    assert!(trace.the("admit").ended <= persist.begun && persist.ended <= message.ended, "{trace:#?}");
    assert!(
        trace.the("store transaction").ended <= batch.ended && batch.ended <= persist.ended,
        "{trace:#?}"
    );
    assert!(trace.the("deliver").begun >= persist.ended, "{trace:#?}");
    assert_eq!(persist.links, std::slice::from_ref(&batch.id));
    assert_eq!((message.kind, trace.the("store transaction").kind), (SERVER, CLIENT));
    for (attribute, value) in [
        ("network.transport", "tcp"),
        ("network.protocol.name", "websocket"),
        ("client.address", "127.0.0.1"),
        ("messaging.system", "nostr"),
        ("messaging.operation.name", "EVENT"),
        ("nostr.event.kind", "1"),
        ("rookery.trace.reason", "sampled"),
        ("service.name", "rookery"),
        ("service.instance.id", "n1"),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ] {
        assert_eq!(message.says(attribute), value, "{attribute}");
    }
    assert_eq!(trace.the("store transaction").says("db.system.name"), "lmdb");
    assert_eq!(batch.says("messaging.batch.message_count"), "1");
    assert_eq!(trace.the("deliver").says("rookery.sessions"), "1");
}

/// What somebody with an account says by REST goes the way of an EVENT.
#[tokio::test]
async fn a_post_by_rest_is_one_trace() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let quill = relay.sign_up("quill");
    let mut follower = relay.connect().await;
    follower.request("a", &[json!({ "authors": [quill.key], "kinds": [1] })]).await;
    let posted = quill.ask(&relay, "POST", "/v1/posts", json!({ "content": "hello" })).json();
    let id = posted["event"]["id"].as_str().unwrap();
    let trace = collector.trace("message", ("messaging.message.id", id), 6).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "batch", "store transaction", "deliver"]);
    for (span, parent) in [("admit", "message"), ("persist", "message"), ("deliver", "message")] {
        trace.is_below(span, parent);
    }
    let message = trace.the("message");
    assert_eq!((&*message.parent, message.kind), ("", SERVER));
    for (attribute, value) in [("messaging.operation.name", "EVENT"), ("nostr.event.kind", "1")] {
        assert_eq!(message.says(attribute), value, "{attribute}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn on_the_cluster_store_each_group_of_statements_is_a_span() {
    let collector = Collector::grpc().await;
    let (server, keyspace) = (cassandra::server(), cassandra::new_name());
    let made = rookery(&["schema", "apply", "--scylla", server, "--keyspace", &keyspace])
        .args(["--replication", "{'class': 'SimpleStrategy', 'replication_factor': 1}"])
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let relay = node(&collector.url(), &["--scylla", server, "--keyspace", &keyspace]);
    let (keys, mut client) = (Keys::generate(), relay.connect().await);
    let event = fresh(&keys, "");
    assert!(client.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 12).await;
    let groups = ["read", "rows", "marks", "removal", "commit", "ranks", "check"]
        .map(|group| format!("store {group}"));
    for group in &groups {
        trace.is_below(group, "batch");
        assert_eq!(trace.the(group).says("db.system.name"), "cassandra");
    }
    let stored: Vec<&str> = trace.names().into_iter().filter(|name| name.starts_with("store ")).collect();
    assert_eq!(stored, groups);
    client.request("s", &[json!({ "authors": [keys.public_key()], "kinds": [1] })]).await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.the("query").says("rookery.plan"), "by_author 1");
    assert_eq!(trace.the("query").says("db.response.returned_rows"), "1");
}

#[tokio::test]
async fn a_request_is_one_trace_that_tells_its_plan() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let keys = Keys::generate();
    let mut client = relay.connect().await;
    for n in 0..3 {
        assert!(client.publish(&note(&keys, now() - n, "")).await.0);
    }
    let other = Keys::generate();
    client
        .request(
            "s",
            &[json!({ "authors": [keys.public_key(), other.public_key()], "kinds": [1], "limit": 2 })],
        )
        .await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.names(), ["message", "subscribe", "query", "eose"]);
    for span in ["subscribe", "query", "eose"] {
        trace.is_below(span, "message");
    }
    let query = trace.the("query");
    assert!(
        trace.the("subscribe").ended <= query.begun && query.ended <= trace.the("eose").begun,
        "{trace:#?}"
    );
    assert_eq!(query.says("rookery.plan"), "author_kind 2");
    assert_eq!(query.says("db.response.returned_rows"), "2");
    assert!(query.says("rookery.rows_read").parse::<u32>().unwrap() >= 2);
    assert_eq!(trace.the("message").says("nostr.filters"), "1");
}

#[tokio::test]
async fn a_connection_is_one_trace_and_its_messages_link_to_it() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let mut client = relay.connect().await;
    client.request("s", &[json!({ "limit": 0 })]).await;
    client.socket.close(None).await.unwrap();
    let trace = collector.trace("cleanup", ("rookery.close.reason", "client"), 2).await;
    trace.is_below("cleanup", "connect");
    let message = collector.trace("message", ("messaging.operation.name", "REQ"), 1).await;
    assert_eq!(message.the("message").links, std::slice::from_ref(&trace.the("connect").id));
}

#[tokio::test]
async fn refused_events_say_why() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &[]);
    let late = Keys::generate().sign(now() + 100_000, 1, Tags::default(), "");
    assert!(!relay.connect().await.publish(&late).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &late.id().to_hex()), 2).await;
    assert_eq!(trace.names(), ["message", "admit"]);
    assert!(trace.the("message").says("rookery.refusal").starts_with("invalid: "));
    assert!(!trace.the("message").failed);
}

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

#[tokio::test]
async fn what_is_not_chosen_has_no_spans() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--set", "traces.ratio=0", "--set", "traces.slow_ms=600000"]);
    let mut client = relay.connect().await;
    for n in 0..20 {
        assert!(client.publish(&note(&Keys::generate(), now(), &n.to_string())).await.0);
    }
    // One that may ask, so that there is something to wait for.
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let mut asking = asking(&relay, parent).await;
    asking.request("s", &[json!({ "limit": 0 })]).await;
    let trace = collector.trace("message", ("rookery.trace.reason", "asked"), 4).await;
    assert_eq!(trace.0.len(), collector.spans().len());
}

#[tokio::test]
async fn a_slow_message_has_spans_though_it_was_not_chosen() {
    let collector = Collector::grpc().await;
    let relay = node(&collector.url(), &["--set", "traces.ratio=0", "--set", "traces.slow_ms=0"]);
    let mut client = relay.connect().await;
    let event = note(&Keys::generate(), now(), "");
    assert!(client.publish(&event).await.0);
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 4).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "store"]);
    trace.is_below("store", "persist");
    assert_eq!(trace.the("message").says("rookery.trace.reason"), "slow");
    client.request("s", &[json!({ "kinds": [1] })]).await;
    let trace = collector.trace("message", ("messaging.operation.name", "REQ"), 4).await;
    assert_eq!(trace.names(), ["message", "subscribe", "query", "eose"]);
    assert_eq!(trace.the("query").says("rookery.plan"), "kind 1");
}

#[tokio::test]
async fn so_many_a_second_are_traced_beyond_those_chosen() {
    let collector = Collector::grpc().await;
    let settings = ["traces.ratio=0", "traces.slow_ms=0", "traces.extra_per_second=2"];
    let relay = node(&collector.url(), &settings.map(|setting| ["--set", setting]).concat());
    let mut client = relay.connect().await;
    let begun = Instant::now();
    for n in 0..50 {
        assert!(client.publish(&note(&Keys::generate(), now(), &n.to_string())).await.0);
    }
    collector.has(8).await;
    let messages = collector.spans().iter().filter(|span| span.name == "message").count() as u64;
    assert!((2..=2 * (begun.elapsed().as_secs() + 2)).contains(&messages), "{messages}");
}

#[tokio::test]
async fn a_failed_event_has_spans_and_the_log_names_its_trace() {
    let collector = Collector::grpc().await;
    let data = tempfile::TempDir::new().unwrap();
    let traces =
        ["--otlp", &collector.url(), "--set", "traces.export_interval_ms=20", "--set", "traces.ratio=0"];
    let mut command = relay_command(data.path(), &[&traces, FULL].concat());
    let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
    let mut log = BufReader::new(process.stderr.take().unwrap()).lines().map_while(Result::ok);
    let mut entry = |message: &str| {
        let entries = log.by_ref().map(|line| serde_json::from_str::<Value>(&line).unwrap());
        entries.into_iter().find(|entry| entry["message"].as_str().unwrap().starts_with(message)).unwrap()
    };
    let listening = entry("listening");
    let address = |name: &str| listening[name].as_str().unwrap().parse().unwrap();
    let relay = Relay { clients: address("address"), operators: address("operators"), process, data };
    let event = note(&Keys::generate(), now(), "");
    let (accepted, reason) = relay.connect().await.publish(&event).await;
    assert_eq!((accepted, &*reason), (false, "error: the disk is full"));
    let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 4).await;
    assert_eq!(trace.names(), ["message", "admit", "persist", "store"]);
    assert!(trace.the("message").failed);
    assert_eq!(trace.the("message").says("rookery.trace.reason"), "failed");
    assert_eq!(entry("could not write")["trace_id"], trace.the("message").trace);
}

/// A client that says of what trace it is part.
async fn asking(relay: &Relay, traceparent: &str) -> Client {
    let mut request = relay.url().into_client_request().unwrap();
    request.headers_mut().insert("traceparent", traceparent.parse().unwrap());
    Client::connect(request).await
}

#[tokio::test]
async fn clients_may_ask_for_traces_where_they_are_trusted() {
    const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let collector = Collector::grpc().await;
    for (trusted, expected) in [("127.0.0.0/8", true), ("10.0.0.0/8", false)] {
        let trusted = format!("traces.trusted={trusted}");
        let relay = node(&collector.url(), &["--set", &trusted]);
        let event = note(&Keys::generate(), now(), "");
        assert!(asking(&relay, PARENT).await.publish(&event).await.0);
        let trace = collector.trace("message", ("messaging.message.id", &event.id().to_hex()), 6).await;
        let message = trace.the("message");
        let joined = message.trace == PARENT[3..35] && message.parent == PARENT[36..52];
        assert_eq!(joined, expected, "{message:#?}");
    }
    // Who says that it is not sampled is heard, too.
    let relay = node(&collector.url(), &[]);
    let event = note(&Keys::generate(), now(), "");
    assert!(asking(&relay, &PARENT.replace("-01", "-00")).await.publish(&event).await.0);
    let other = note(&Keys::generate(), now(), "");
    assert!(relay.connect().await.publish(&other).await.0);
    collector.trace("message", ("messaging.message.id", &other.id().to_hex()), 6).await;
    let id = event.id().to_hex();
    assert!(!collector.spans().iter().any(|span| span.attributes.get("messaging.message.id") == Some(&id)));
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
