//! Other relays that are added, changed and removed while a relay runs, by command and by REST.

mod dead_letters;
mod keys;
mod rest;

use common::{Relay, eventually, note, now, rookery};
use rookery::protocol::{Tags, sign::Keys};
use serde_json::{Value, json};

use crate::cli::relay::Relay as Mock;

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
