//! What Redis lets a node do, and what nodes believe of what comes through it.

use std::time::{Duration, Instant};

use redis::Commands as _;
use rookery::{
    bus::{channel::Channel, envelope::Envelope, redis::names},
    protocol::{Event, EventId, Tags, sign::Keys},
    route::key::RoutingKey,
    store::Identity,
};

use crate::{follow, hears};
use common::redis::{Redis, RedisCluster};
use common::{Client, Relay, eventually, note, now};

/// The prefix of the channels in these tests.
const PREFIX: &str = "tests";

/// What `docs/operations.md` says that the user of a node needs.
fn documented() -> Vec<String> {
    rights("ACL SETUSER rookery on ")
}

/// And what one needs beside it that has its queue of other relays' events there.
fn documented_of_the_queue() -> Vec<String> {
    rights("ACL SETUSER rookery ~")
}

fn rights(beginning: &str) -> Vec<String> {
    let text = include_str!("../../docs/operations.md");
    let line = text.lines().find(|line| line.starts_with(beginning)).expect("it is documented");
    let rights = line.split(' ').filter(|word| word.starts_with(['+', '&', '~']));
    rights.map(|word| word.replace("rookery:", &format!("{PREFIX}:"))).collect()
}

fn node(redis: &str, more: &[&str]) -> Relay {
    let prefix = format!("bus.prefix={PREFIX}");
    let usual = ["--redis", redis, "--workers", "1", "--set", &prefix, "--set", "bus.watermark_ms=100"];
    Relay::start(&[&usual[..], &["--set", "bus.missing_watermarks=100"], more].concat())
}

/// Whether it wants clients, and why not.
fn health(node: &Relay) -> (u16, String) {
    Relay::get(node.operators, "/health/ready", "")
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough_and_no_other_is_asked_for() {
    let (one, cluster) = (Redis::start(), RedisCluster::start().await);
    let rights = documented();
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    assert!(rights.len() > 6, "{rights:?}");
    let of_cluster: Vec<String> =
        cluster.nodes().iter().map(|server| server.url_as("rookery", &rights)).collect();
    let servers = [std::slice::from_ref(&one), cluster.nodes()];
    for (urls, servers) in [one.url_as("rookery", &rights), of_cluster[..2].join(",")].iter().zip(servers) {
        let nodes = [node(urls, &[]), node(urls, &[])];
        for node in &nodes {
            eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
            assert_eq!(health(node).0, 200);
        }
        let keys = Keys::generate();
        let mut client = follow(&nodes[1], &keys).await;
        // Under its keys, and to everybody.
        let mut tags = Tags::default();
        (0..100).for_each(|nth| tags.push(["t", &nth.to_string()]));
        for event in [note(&keys, now(), "short"), keys.sign(now(), 1, tags, "")] {
            assert!(nodes[0].connect().await.publish(&event).await.0);
            hears(&mut client, &event).await;
        }
        client.say(serde_json::json!(["CLOSE", "s"])).await;
        eventually("its key to be given back", || nodes[1].metric("rookery_bus_channels") == 0.0).await;
        for server in servers {
            assert_eq!(server.ask(&["acl", "log"]).trim(), "", "something was denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documented_rights_are_enough_for_events_of_other_relays() {
    let (one, cluster, source) = (Redis::start(), RedisCluster::start().await, Relay::start(&[]));
    let rights = [documented(), documented_of_the_queue()].concat();
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let of_cluster: Vec<String> =
        cluster.nodes().iter().map(|server| server.url_as("rookery", &rights)).collect();
    let servers = [std::slice::from_ref(&one), cluster.nodes()];
    let settings = ["allow_private=true", "queue=redis", "beat_ms=100", "partitions=16"];
    let settings = settings.map(|setting| format!("aggregator.{setting}"));
    let (source_url, mut published) = (source.url(), 0.0);
    for (urls, servers) in [one.url_as("rookery", &rights), of_cluster[..2].join(",")].iter().zip(servers) {
        let mut more = vec!["--upstream", &*source_url];
        more.extend(settings.iter().flat_map(|setting| ["--set", &**setting]));
        let reads = node(urls, &more);
        let keys = Keys::generate();
        for nth in 0..40 {
            let event = note(&keys, now(), &nth.to_string());
            assert!(source.connect().await.publish(&event).await.0);
        }
        let stored = format!(r#"rookery_upstream_events_total{{upstream="{source_url}",outcome="stored"}}"#);
        published += 40.0;
        eventually("all of them", || reads.metric(&stored) == published).await;
        for server in servers {
            assert_eq!(server.ask(&["acl", "log"]).trim(), "", "something was denied");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_carries_nothing_is_none_and_attempts_become_rare() {
    let redis = Redis::start();
    let rights: Vec<String> = documented().into_iter().filter(|right| right != "+spublish").collect();
    let rights: Vec<&str> = rights.iter().map(String::as_str).collect();
    let url = redis.url_as("rookery", &rights);
    let begun = Instant::now();
    let [once, always] =
        ["once", "always"].map(|ready| node(&url, &["--set", &format!("bus.ready={ready}")]));
    // Each attempt comes so far that the link ends when nothing can be published.
    eventually("six attempts", || once.metric("rookery_bus_gaps_total") >= 6.0).await;
    // At least half of 100, 200, 400, 800 and 1,600 ms.
    assert!(begun.elapsed() > Duration::from_millis(1_550), "{:?}", begun.elapsed());
    assert_eq!(once.metric("rookery_bus_connected"), 0.0);
    assert_eq!(health(&once), (503, "not ready: the bus carries nothing (bus.ready)\n".into()));
    assert_eq!(health(&always).0, 200);
    redis.ask(&["acl", "setuser", "rookery", "+spublish"]);
    eventually("the bus", || once.metric("rookery_bus_connected") == 1.0).await;
    assert_eq!(health(&once), (200, "ready\n".into()));
    // What is missed from then on is made good, or told.
    let during = node(&url, &["--set", "bus.ready=while"]);
    eventually("the bus", || during.metric("rookery_bus_connected") == 1.0).await;
    redis.ask(&["acl", "setuser", "rookery", "-spublish"]);
    eventually("the end of the link", || during.metric("rookery_bus_connected") == 0.0).await;
    assert_eq!((health(&once).0, health(&during).0), (200, 503));
}

/// What Redis is made to say to a node in the name of an author.
fn publish(redis: &Redis, keys: &Keys, payload: &[u8]) {
    let channel = names::name(PREFIX, &Channel::of(RoutingKey::By(keys.public_key()), &EventId([0; 32])));
    let mut connection = ::redis::Client::open(redis.url()).unwrap().get_connection().unwrap();
    let receivers: usize = connection.spublish(channel, payload).unwrap();
    assert_eq!(receivers, 1);
}

fn envelope(event: &Event, body: &str) -> Vec<u8> {
    Envelope {
        origin: 7,
        sequence: 0,
        published_at: 0,
        id: event.id(),
        ephemeral: false,
        trace: "".into(),
        store: Some(Identity::Own(7)),
        body: Some(body),
    }
    .encode()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_signed_is_not_delivered_where_it_is_verified() {
    let redis = Redis::start();
    let keys = Keys::generate();
    let signed = note(&keys, now(), "signed");
    let forged = signed.json().replace("signed", "nobody signed this");
    let fresh = note(&keys, now(), "signed too");
    for verify in [true, false] {
        let node = node(&redis.url(), &["--set", &format!("bus.verify={verify}")]);
        eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
        let mut client = follow(&node, &keys).await;
        publish(&redis, &keys, &envelope(&signed, &forged));
        if !verify {
            // As docs/operations.md says.
            assert_eq!(client.hear().await[2]["content"], "nobody signed this");
        }
        publish(&redis, &keys, &envelope(&fresh, fresh.json()));
        hears(&mut client, &fresh).await;
        assert_eq!(node.metric("rookery_bus_forged_total"), f64::from(u8::from(verify)));
    }
}

/// A later version may send what this one does not understand. Who has a log reads it there; who has none is told.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_understood_is_never_passed_over_in_silence() {
    let redis = Redis::start();
    let node = node(&redis.url(), &[]);
    eventually("the bus", || node.metric("rookery_bus_connected") == 1.0).await;
    let keys = Keys::generate();
    let mut client: Client = follow(&node, &keys).await;
    let mut later = envelope(&note(&keys, now(), ""), "");
    later[0] = 2;
    (0..3).for_each(|_| publish(&redis, &keys, &later));
    crate::hears_of_the_gap(&mut client).await;
    assert_eq!(node.metric("rookery_bus_malformed_total"), 3.0);
}
