//! Other relays that are added, changed and removed while a relay runs, by command and by REST.

use common::{Relay, eventually, note, now, rookery};
use rookery::{
    aggregate::RelayUrl,
    config,
    protocol::{Event, Tags, nip19, sign::Keys},
    store::{
        Store,
        lmdb::{Access, Lmdb},
        records::{Race, RecordKind},
    },
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{program::fail, relay::Relay as Mock};

/// Asks a node by `rookery upstream`: whether it did so, and what it said.
pub fn upstream(relay: &Relay, arguments: &[&str]) -> (bool, String) {
    let mut command = rookery(&["upstream"]);
    command.args(arguments).args(["--ops-listen", &relay.operators.to_string()]);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8([output.stdout, output.stderr].concat()).unwrap())
}

pub fn does(relay: &Relay, arguments: &[&str]) -> String {
    let (done, said) = upstream(relay, arguments);
    assert!(done, "{arguments:?}: {said}");
    said
}

/// A relay that may read others on this machine.
fn reader(settings: &[&str]) -> Relay {
    Relay::start(&[&["--set", "aggregator.allow_private=true"], settings].concat())
}

fn ids(relay: &Relay) -> Vec<String> {
    let said = crate::cli::program::succeed(&["export", "-", "--relay", &relay.url()]);
    crate::cli::program::ids(&said)
}

async fn has(relay: &Relay, id: &str) {
    eventually("an event of an upstream", || ids(relay).iter().any(|found| found == id)).await;
}

async fn state(relay: &Relay, url: &str, state: &str) {
    eventually(state, || does(relay, &["show", url]).contains(&format!(" {state} since"))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_added_changed_paused_and_removed_while_it_runs() {
    let (keys, source) = (Keys::generate(), Relay::start(&[]));
    let mut client = source.connect().await;
    let mut events = Vec::new();
    for (nth, kind) in [1, 7, 1, 1, 1].into_iter().enumerate() {
        events.push(keys.sign(now() - 100 + nth as u64, kind, Tags::default(), &format!("{nth}")));
    }
    let id = |nth: usize| events[nth].id().to_hex();
    for event in &events[..2] {
        assert!(client.publish(event).await.0);
    }
    let (relay, url) = (reader(&[]), source.url());
    assert!(does(&relay, &["list"]).contains("no relay is read"));

    let said = does(&relay, &["add", &url, "--kind", "1"]);
    assert!(said.contains(&url), "{said}");
    has(&relay, &id(0)).await;
    state(&relay, &url, "live").await;
    assert_eq!(ids(&relay), [id(0)]);
    // Once more does nothing; otherwise than it is, it is refused.
    does(&relay, &["add", &url]);
    let (done, said) = upstream(&relay, &["add", &url, "--kind", "7"]);
    assert!(!done && said.contains("change it instead"), "{said}");

    let series = format!(r#"upstream="{url}""#);
    assert!(relay.metrics().contains(&series));
    does(&relay, &["pause", &url]);
    state(&relay, &url, "paused").await;
    // Nobody is to be woken by what is not to be read.
    assert!(!relay.metrics().contains(&series));
    eventually("a connection that is closed", || source.metric("rookery_connections") == 1.0).await;
    assert!(client.publish(&events[2]).await.0);
    assert_eq!(ids(&relay), [id(0)]);
    // What came while it was not read is read now, also after a restart meanwhile.
    let relay = relay.restart_after_kill(&["--set", "aggregator.allow_private=true"]);
    assert!(does(&relay, &["list"]).contains(" paused, "));
    let (done, said) = upstream(&relay, &["reconcile", &url]);
    assert!(!done && said.contains("it is paused"), "{said}");
    does(&relay, &["resume", &url]);
    has(&relay, &id(2)).await;
    state(&relay, &url, "live").await;
    assert!(client.publish(&events[3]).await.0);
    has(&relay, &id(3)).await;

    // What it did not ask for before.
    does(&relay, &["set", &url, "--everything", "--events-per-second", "100", "--overlap-seconds", "7"]);
    has(&relay, &id(1)).await;
    let shown: Value = serde_json::from_str(&does(&relay, &["show", &url, "--json"])).unwrap();
    assert_eq!(
        (&shown["filters"], &shown["overlap_seconds"], &shown["limits"]["events_per_second"]),
        (&json!([]), &json!(7), &json!(100))
    );
    let number = shown["id"].as_str().unwrap().to_owned();
    let compared = || source.metric(r#"rookery_messages_total{verb="negentropy"}"#);
    let before = compared();
    does(&relay, &["reconcile", &number]);
    eventually("it is compared once more", || compared() > before).await;

    does(&relay, &["remove", &number]);
    let (done, said) = upstream(&relay, &["show", &url]);
    assert!(!done && said.contains("no such upstream"), "{said}");
    eventually("a connection that is closed", || source.metric("rookery_connections") == 1.0).await;
    assert!(client.publish(&events[4]).await.0);
    assert!(!ids(&relay).contains(&id(4)));
    assert!(does(&relay, &["list"]).contains("no relay is read"));
    // Nothing of it is left.
    does(&relay, &["add", &url]);
    has(&relay, &id(4)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_it_does_adds_up_and_is_told() {
    let (keys, source) = (Keys::generate(), Relay::start(&[]));
    let mut client = source.connect().await;
    let relay = reader(&["--set", "aggregator.count_seconds=1"]);
    for n in 0..20 {
        let event = note(&keys, now() - 100, &format!("{n} {}", "x".repeat(100)));
        assert!(client.publish(&event).await.0);
        if n < 5 {
            assert!(relay.connect().await.publish(&event).await.0);
        }
    }
    // As one that cannot reconcile: everything is sent.
    let mock = Mock::start(|_, _| Vec::new());
    does(&relay, &["add", &mock.url]);
    does(&relay, &["add", &source.url()]);
    state(&relay, &source.url(), "live").await;
    let view = || {
        let all = relay.ask("GET", "/v1/upstreams", "").2;
        all.as_array().unwrap().iter().find(|view| view["url"] == source.url()).unwrap().clone()
    };
    eventually("everything", || view()["stored"] == 15).await;
    let view = view();
    let number = |name: &str| view[name].as_u64().unwrap();
    let refused: u64 =
        view["refused"].as_object().unwrap().values().map(|count| count.as_u64().unwrap()).sum();
    assert_eq!(
        number("received"),
        number("stored") + number("known") + refused + number("dead") + number("waiting")
    );
    assert!(number("received") >= 15 && view["mean_bytes"].as_f64().unwrap() > 300.0, "{view}");
    let (mean, median) = (view["mean_bytes"].as_f64().unwrap(), view["median_bytes"].as_f64().unwrap());
    assert!((median / mean - 1.0).abs() < 0.1, "{view}");
    // One came live, and may have been stored before the two were compared.
    let missing = view["last_catch_up"]["events"].as_u64().unwrap();
    assert!((14..=15).contains(&missing) && view["state"] == "live", "{view}");
    let text = does(&relay, &["show", &source.url()]);
    assert!(text.contains("stored          15") && text.contains("read up to"), "{text}");
    // The other one has not said anything, and is told of as such.
    let (_, _, queue) = relay.ask("GET", "/v1/queue", "");
    assert_eq!(queue, json!({"fill": 0.0, "waiting": {}}));
    let silent = does(&relay, &["list"]);
    let silent = silent.lines().find(|line| line.contains(&mock.url)).unwrap();
    assert!(silent.contains(" connecting, nothing read to its end yet, 0 received"), "{silent}");
    // By hour it is known to the next process, too.
    let path = format!("/v1/upstreams/{}/hours", view["id"].as_str().unwrap());
    let sum = |relay: &Relay, name: &str| {
        let hours = relay.ask("GET", &path, "").2;
        hours.as_array().unwrap().iter().map(|hour| hour[name].as_u64().unwrap()).sum::<u64>()
    };
    eventually("counts of the hour", || sum(&relay, "received") == number("received")).await;
    let relay = relay.restart_after_kill(&["--set", "aggregator.allow_private=true"]);
    assert_eq!((sum(&relay, "stored"), sum(&relay, "bytes")), (15, number("bytes")));
    let said = does(&relay, &["hours", &source.url()]);
    assert!(said.contains(" 15 stored, "), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_day_brings_what_it_may_and_the_next_session_knows() {
    let (keys, source) = (Keys::generate(), Relay::start(&[]));
    let mut client = source.connect().await;
    for n in 0..10 {
        assert!(client.publish(&note(&keys, now() - 100, &format!("{n}"))).await.0);
    }
    let relay = reader(&[]);
    does(&relay, &["add", &source.url(), "--events-per-day", "4"]);
    state(&relay, &source.url(), "spent for today").await;
    // One that came twice counts twice.
    let settled = || relay.ask("GET", "/v1/queue", "").2["waiting"] == json!({});
    eventually("nothing on its way", settled).await;
    let first = ids(&relay).len();
    assert!((1..=4).contains(&first), "{first}");
    // What was taken is known when it is read anew.
    does(&relay, &["set", &source.url(), "--events-per-day", "5"]);
    eventually("nothing on its way", settled).await;
    state(&relay, &source.url(), "spent for today").await;
    let second = ids(&relay).len();
    assert!((first..=5).contains(&second), "{first} {second}");
    does(&relay, &["set", &source.url(), "--events-per-day", "0"]);
    eventually("all", || ids(&relay).len() == 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_told_in_the_words_of_rfc_9457() {
    let relay = Relay::start(&["--upstream", "ws://192.0.2.1"]);
    let refused = |method: &str, path: &str, body: &str, status: u16, kind: &str, says: &str| {
        let (found, media_type, problem) = relay.ask(method, path, body);
        assert_eq!(
            (found, &media_type[..]),
            (status, "application/problem+json"),
            "{path} {body}: {problem}"
        );
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:rookery:problem:{kind}"));
        assert!(problem["detail"].as_str().unwrap().contains(says), "{path} {body}: {problem}");
    };
    let all = "/v1/upstreams";
    for (body, says) in [
        ("", ""),
        ("[]", ""),
        ("{}", "url"),
        (r#"{"url":7}"#, "url"),
        (r#"{"url":"wss://user:secret@a.example"}"#, "a user or a password"),
        (r#"{"url":"https://a.example"}"#, "ws:// or wss://"),
        (r#"{"url":"file:///etc/passwd"}"#, "ws:// or wss://"),
        (r#"{"url":"a.example"}"#, "no URL"),
        (r#"{"url":"wss://a.example","filter":{}}"#, "unknown field `filter`"),
        (r#"{"url":"wss://a.example","filters":[{"kinds":["x"]}]}"#, ""),
        (r#"{"url":"wss://a.example","filters":[{"limit":5}]}"#, "no limit"),
        (r#"{"url":"wss://a.example","limits":{"events":5}}"#, "unknown field"),
        (r#"{"url":"wss://a.example","overlap_seconds":-1}"#, ""),
    ] {
        refused("POST", all, body, 400, "unfit", says);
    }
    let many = json!({"url": "wss://a.example", "filters": vec![json!({}); 21]}).to_string();
    refused("POST", all, &many, 400, "unfit", "at most 20 filters");
    let authors: Vec<String> = (0..2_000).map(|n| format!("{n:064x}")).collect();
    let large = json!({"url": "wss://a.example", "filters": [{"authors": authors}]}).to_string();
    refused("POST", all, &large, 400, "unfit", "a record has");
    refused("GET", "/v1/upstreams/0123456789abcdef", "", 404, "not-found", "no such upstream");
    refused("PATCH", "/v1/upstreams/0123456789abcdef", "{}", 404, "not-found", "no such upstream");
    refused("DELETE", "/v1/upstreams/0123456789abcdef", "", 404, "not-found", "no such upstream");
    refused("GET", "/v1/upstreams/x", "", 404, "not-found", "16 hexadecimal digits");
    refused("GET", "/v1/nothing", "", 404, "not-found", "nothing is here");
    // What the configuration names is changed there.
    let (_, _, listed) = relay.ask("GET", all, "");
    let configured = format!("{all}/{}", listed[0]["id"].as_str().unwrap());
    refused("DELETE", &configured, "", 409, "conflict", "aggregator.upstreams");
    refused("POST", &format!("{configured}/pause"), "", 409, "conflict", "aggregator.upstreams");
    refused("POST", &format!("{configured}/reconcile"), "", 409, "conflict", "does not read it");
    assert_eq!(relay.ask("GET", all, "").2.as_array().unwrap().len(), 1);

    // Once and twice, as it is and otherwise.
    let add = |body: Value| relay.ask("POST", all, &body.to_string());
    let paused = json!({"url": "wss://A.example:443/", "paused": true, "overlap_seconds": 9});
    let (status, _, view) = add(paused.clone());
    assert_eq!((status, &view["url"], &view["state"]), (201, &json!("wss://a.example"), &json!("paused")));
    assert_eq!(add(paused).0, 200);
    assert_eq!(add(json!({"url": "wss://a.example"})).0, 200);
    assert_eq!(add(json!({"url": "ws://192.0.2.1"})).0, 200);
    refused("POST", all, r#"{"url":"wss://a.example","paused":false}"#, 409, "conflict", "not as this says");
    let path = format!("{all}/{}", view["id"].as_str().unwrap());
    let (status, _, view) = relay.ask("PATCH", &path, r#"{"overlap_seconds":null}"#);
    assert_eq!((status, &view["overlap_seconds"], &view["state"]), (200, &Value::Null, &json!("paused")));
    assert_eq!(relay.ask("DELETE", &path, "").0, 204);
    let (status, media_type, document) = relay.ask("GET", "/v1/openapi.json", "");
    assert_eq!(
        (status, &media_type[..], &document["info"]["title"]),
        (200, "application/json", &json!("Rookery"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_may_ask() {
    let relay = Relay::start(&[]);
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic b25seS1mb3ItdGVzdHM=\r\n"] {
        for path in ["/v1/upstreams", "/v1/settings", "/v1/queue", "/v1/openapi.json", "/v1/nothing"] {
            let (status, body) = Relay::get(relay.operators, path, headers);
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &problem["type"]),
                (401, &json!("urn:rookery:problem:unauthorized")),
                "{path}"
            );
            assert!(!body.contains(common::TOKEN));
        }
    }
    for path in ["/health/live", "/metrics"] {
        assert_eq!(Relay::get(relay.operators, path, "").0, 200, "{path}");
    }
    // Not where clients are.
    let token = format!("Authorization: Bearer {}\r\n", common::TOKEN);
    assert_eq!(Relay::get(relay.clients, "/v1/upstreams", &token).0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_a_token_that_who_may_read_its_folder_has() {
    let data = TempDir::new().unwrap();
    let mut command = common::relay_command(data.path(), &[]);
    command.env_remove("ROOKERY_OPS_TOKEN_FILE");
    let relay = Relay::spawn(command, data);
    let folder = relay.data.path().join("relay");
    let ask = |data: &str| {
        let mut command = rookery(&["upstream", "list", "--data", data]);
        command.args(["--ops-listen", &relay.operators.to_string()]);
        command.env_remove("ROOKERY_OPS_TOKEN_FILE").output().unwrap()
    };
    assert!(ask(folder.to_str().unwrap()).status.success());
    let data_of_another = TempDir::new().unwrap();
    let output = ask("/nowhere");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/nowhere/ops.token"), "{said}");
    // That of another node.
    std::fs::write(data_of_another.path().join("ops.token"), "0123456789abcdef").unwrap();
    let output = ask(data_of_another.path().to_str().unwrap());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the token is another one; --data or"), "{said}");
    // A file that is named is not made.
    let folder = TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let named = ["relay", "--data", data, "--set", "ops_token_file=/nowhere/token"];
    let said = fail(&[&named[..], &ports[..]].concat());
    assert!(said.contains("cannot read the token in /nowhere/token"), "{said}");
}

/// What a relay shows to a key alone, it shows to nobody else who reads it.
#[tokio::test(flavor = "multi_thread")]
async fn a_key_reads_what_is_for_it_and_nobody_sees_it() {
    let (keys, other, source) = (Keys::generate(), Keys::generate(), Relay::start(&[]));
    let mut client = source.connect().await;
    let mail =
        other.sign(now() - 100, 1_059, Tags::from_iter([["p", &keys.public_key().to_hex()]]), "sealed");
    assert!(client.publish(&mail).await.0);
    let folder = TempDir::new().unwrap();
    let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let secret = nip19::nsec(&keys.secret());
    let named = file("mine.key");
    std::fs::write(&named, &secret).unwrap();
    let master = format!("master_key_file={}", file("of/master.key"));
    let settings = ["--set", "aggregator.allow_private=true", "--set", &master];
    let relay = Relay::start(&settings);
    does(&relay, &["add", &source.url()]);
    state(&relay, &source.url(), "live").await;
    // It is not known to be there, so it is not asked for.
    assert_eq!(relay.ask("GET", "/v1/upstreams", "").2[0]["received"], 0);

    does(&relay, &["set", &source.url(), "--auth-key-file", &named]);
    let view = || relay.ask("GET", "/v1/upstreams", "").2[0].clone();
    eventually("what is for the key", || view()["stored"] == 1).await;
    assert_eq!(view()["auth"], nip19::npub(&keys.public_key()));
    // Neither what is told nor what is stored has it.
    let hex = hex::encode(keys.secret());
    let is_secret = |text: &[u8]| [&*secret, &*hex].iter().any(|word| contains(text, word));
    assert!(!is_secret(view().to_string().as_bytes()));
    assert!(!is_secret(does(&relay, &["show", &source.url()]).as_bytes()));
    for found in std::fs::read_dir(relay.data.path().join("relay")).unwrap() {
        assert!(!is_secret(&std::fs::read(found.unwrap().path()).unwrap()));
    }

    // Under another master key it can not be used, and the relay says so.
    let relay = relay.restart_after_kill(&[
        "--set",
        "aggregator.allow_private=true",
        "--set",
        &format!("master_key_file={}", file("other/master.key")),
    ]);
    let refused = || does(&relay, &["show", &source.url()]);
    eventually("a reason", || refused().contains("its key can not be used")).await;
    // Nobody is there in its place: then nothing is for it.
    does(&relay, &["set", &source.url(), "--nobody"]);
    state(&relay, &source.url(), "live").await;
    assert_eq!(relay.ask("GET", "/v1/upstreams", "").2[0]["auth"], Value::Null);
}

fn contains(text: &[u8], word: &str) -> bool {
    text.windows(word.len()).any(|window| window == word.as_bytes())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_is_not_shown_to_who_listens_on_the_way() {
    let relay = Relay::start(&[]);
    let secret = nip19::nsec(&Keys::generate().secret());
    let add = |url: &str, auth: &str| {
        relay.ask("POST", "/v1/upstreams", &json!({"url": url, "auth": auth}).to_string())
    };
    let (status, _, problem) = add("ws://relay.example.com", &secret);
    assert_eq!((status, &problem["type"]), (400, &json!("urn:rookery:problem:unfit")));
    assert!(problem["detail"].as_str().unwrap().contains("wss://") && !problem.to_string().contains(&secret));
    let (status, _, problem) = add("wss://relay.example.com", "nsec1nonsense");
    assert!(status == 400 && !problem.to_string().contains("nonsense"), "{problem}");
}

/// Stops a relay, and makes dead letters of an upstream, with their texts or without, before it goes on.
async fn with_dead_letters(mut relay: Relay, url: &str, letters: &[(&Event, bool)]) -> Relay {
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    let folder = relay.data.path().join("relay");
    let store = Lmdb::open(&folder, &config::Lmdb::default(), Access::Exclusive).unwrap();
    let upstream = RelayUrl::parse(url).unwrap().id();
    for (event, has_text) in letters {
        let letter = json!({
            "text": has_text.then(|| event.json()), "bytes": event.json().len(), "attempts": 5,
            "first_error": "one", "first_at": 1_700_000_000, "last_error": "the last", "last_at": 1_700_000_050,
        });
        let (key, value) = (format!("{upstream}/{}", event.id().to_hex()), letter.to_string().into_bytes());
        let put = store.records().put(RecordKind::DeadLetters, &key, None, value, None);
        assert!(matches!(put.await.unwrap(), Race::Won(_)));
    }
    drop(store);
    relay.restart_after_kill(&["--set", "aggregator.allow_private=true"])
}

#[tokio::test(flavor = "multi_thread")]
async fn dead_letters_are_listed_replayed_and_let_go_of() {
    let (keys, source) = (Keys::generate(), Relay::start(&[]));
    let url = source.url();
    let [kept, long, gone, nowhere] =
        ["kept", "long", "gone", "nowhere"].map(|text| note(&keys, now(), text));
    // It is not asked for by the filter, so it is there by a replay alone.
    assert!(source.connect().await.publish(&long).await.0);
    let relay = reader(&[]);
    does(&relay, &["add", &url, "--kind", "7"]);
    let letters = [(&kept, true), (&long, false), (&gone, true), (&nowhere, false)];
    let relay = with_dead_letters(relay, &url, &letters).await;
    let name = |event: &Event| format!("{}/{}", RelayUrl::parse(&url).unwrap().id(), event.id().to_hex());
    let listed = || does(&relay, &["dead-letters", "list", "--upstream", &url]);
    eventually("its name", || listed().matches(&url).count() == 4).await;
    assert!(listed().contains("5 attempts, last") && listed().contains("the last"), "{}", listed());
    let (status, _, first) = relay.ask("GET", "/v1/dead-letters?limit=3", "");
    let next = first["next"].as_str().unwrap().to_owned();
    let (_, _, second) = relay.ask("GET", &format!("/v1/dead-letters?limit=3&after={next}"), "");
    let count = |page: &Value| page["letters"].as_array().unwrap().len();
    assert_eq!((status, count(&first), count(&second), &second["next"]), (200, 3, 1, &Value::Null));
    let shown: Value = serde_json::from_str(&does(&relay, &["dead-letters", "show", &name(&kept)])).unwrap();
    assert_eq!((&shown["text"], &shown["url"]), (&json!(kept.json()), &json!(url)));

    for event in [&kept, &long] {
        does(&relay, &["dead-letters", "replay", &name(event)]);
        has(&relay, &event.id().to_hex()).await;
        eventually("it is no dead letter", || !listed().contains(&name(event))).await;
    }
    let (done, said) = upstream(&relay, &["dead-letters", "replay", &name(&nowhere)]);
    assert!(!done && said.contains("the upstream does not send it"), "{said}");
    does(&relay, &["dead-letters", "drop", &name(&gone)]);
    let (done, said) = upstream(&relay, &["dead-letters", "show", &name(&gone)]);
    assert!(!done && said.contains("no such dead letter"), "{said}");
    assert_eq!(relay.ask("DELETE", "/v1/dead-letters/x/y", "").0, 404);
    assert!(!ids(&relay).contains(&gone.id().to_hex()));
    let view = relay.ask("GET", "/v1/upstreams", "").2[0].clone();
    assert_eq!((&view["received"], &view["stored"], &view["waiting"]), (&json!(2), &json!(2), &json!(0)));
}
