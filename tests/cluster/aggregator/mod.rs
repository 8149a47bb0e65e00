//! Readers and consumers as processes of their own, with a queue in Redis between them.

mod courtesy;
mod deadly;
mod faults;

use std::collections::{BTreeSet, HashSet};

use common::{Client, Relay, cassandra, eventually, fresh, note, now, redis::Redis, start_aggregator};
use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};

use crate::stored::Keyspace;

/// What a stage is set on: a keyspace, Redis, and relays that are read.
struct Stage {
    redis: Redis,
    keyspace: Keyspace,
    sources: Vec<Relay>,
    /// The CQL servers.
    servers: String,
    more: Vec<String>,
}

impl Stage {
    fn new(sources: usize, more: &[&str]) -> Self {
        Self::set(Redis::start(), sources, more, cassandra::server())
    }

    fn set(redis: Redis, sources: usize, more: &[&str], servers: &str) -> Self {
        let sources = (0..sources).map(|_| Relay::start(&[])).collect();
        let more = more.iter().map(|&setting| setting.to_owned()).collect();
        let keyspace = Keyspace::make_on(servers, 1);
        Self { redis, keyspace, sources, servers: servers.to_owned(), more }
    }

    fn arguments(&self) -> Vec<String> {
        let settings = [
            "queue=redis",
            "allow_private=true",
            "look_seconds=1",
            "beat_ms=500",
            "redeliver_seconds=5",
            "partitions=4",
        ];
        let settings = settings.iter().copied().chain(self.more.iter().map(|setting| &**setting));
        let path = |setting: &str| match setting.contains('.') {
            true => setting.to_owned(),
            false => format!("aggregator.{setting}"),
        };
        let settings = settings.flat_map(|setting| ["--set".into(), path(setting)]);
        let named =
            ["--redis", &self.redis.url(), "--scylla", &self.servers, "--keyspace", &self.keyspace.name];
        named.iter().map(|&argument| argument.to_owned()).chain(settings).collect()
    }

    /// The streams, one for each partition.
    fn streams() -> impl Iterator<Item = String> {
        (0..4).map(|partition| format!("rookery:{{{partition}}}:~upstreams"))
    }

    /// Entries that are in them.
    fn waiting(&self) -> usize {
        Self::streams().map(|key| self.redis.ask(&["XLEN", &key]).trim().parse::<usize>().unwrap()).sum()
    }

    fn start(&self, role: &str) -> Relay {
        let mut arguments = vec!["--role".to_owned(), role.to_owned()];
        arguments.extend(self.arguments());
        start_aggregator(&arguments.iter().map(|argument| &**argument).collect::<Vec<_>>())
    }

    /// A node for clients that leaves other relays to others.
    fn relay(&self) -> Relay {
        let mut arguments = self.arguments();
        arguments.extend(["--set", "aggregator.role=none", "--workers", "1"].map(str::to_owned));
        Relay::start(&arguments.iter().map(|argument| &**argument).collect::<Vec<_>>())
    }

    /// Has all sources read.
    fn add_all(&self, node: &Relay) {
        for source in &self.sources {
            let (status, _, problem) =
                node.ask("POST", "/v1/upstreams", &json!({"url": source.url()}).to_string());
            assert_eq!(status, 201, "{problem}");
        }
    }
}

/// Each partition is taken from by a consumer.
async fn is_taken_from(consumer: &Relay) {
    let has = |partition| {
        consumer.metrics().contains(&format!(r#"rookery_upstream_queue_entries{{partition="{partition}"}}"#))
    };
    eventually("each stream to be taken from", || (0..4).all(has)).await;
}

fn states(node: &Relay) -> Vec<String> {
    let views = node.ask("GET", "/v1/upstreams", "").2;
    let state = |view: &Value| view["state"].as_str().unwrap_or_default().to_owned();
    views.as_array().map(|views| views.iter().map(state).collect()).unwrap_or_default()
}

/// Each of so many upstreams is read by one of these.
async fn all_read(readers: &[&Relay], upstreams: usize) {
    eventually("each upstream is read by one", || {
        let of_each: Vec<Vec<String>> = readers.iter().map(|reader| states(reader)).collect();
        of_each.iter().all(|states| states.len() == upstreams)
            && (0..upstreams).all(|nth| of_each.iter().filter(|states| states[nth] == "live").count() == 1)
    })
    .await;
}

/// What comes live to a client until it has had all of these: each once.
async fn hears_each_once(client: &mut Client, events: &[Event]) {
    let mut missing: HashSet<String> = events.iter().map(|event| event.id().to_hex()).collect();
    let mut heard = HashSet::new();
    while !missing.is_empty() {
        let message = client.hear().await;
        assert_eq!(message[0], "EVENT", "{message}");
        let id = message[2]["id"].as_str().unwrap().to_owned();
        assert!(heard.insert(id.clone()), "{id} came twice");
        missing.remove(&id);
    }
}

async fn publish(source: &Relay, keys: &Keys, what: &str, count: usize) -> Vec<Event> {
    let mut client = source.connect().await;
    let mut events = Vec::new();
    for nth in 0..count {
        // Some of them are old, and belong into no window that is read again.
        let content = format!("{what} {nth}");
        let event = match nth % 5 {
            0 => note(keys, now() - 100_000 - nth as u64, &content),
            _ => fresh(keys, &content),
        };
        assert!(client.publish(&event).await.0);
        events.push(event);
    }
    events
}

async fn stored(relay: &Relay, events: &[Event]) {
    let mut client = relay.connect().await;
    let ids: BTreeSet<String> = events.iter().map(|event| event.id().to_hex()).collect();
    let (found, _) = client.request("stored", &[json!({"ids": ids, "limit": 500})]).await;
    assert_eq!(found.into_iter().collect::<BTreeSet<_>>(), ids);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_process_reads_another_stores_and_clients_of_a_third_hear() {
    let stage = Stage::new(3, &[]);
    let (relay, consumer, readers) =
        (stage.relay(), stage.start("consume"), [stage.start("read"), stage.start("read")]);
    stage.add_all(&relay);
    all_read(&[&readers[0], &readers[1]], 3).await;
    assert_eq!(states(&relay), ["elsewhere"; 3]);
    assert_eq!(states(&consumer), ["elsewhere"; 3]);
    let mut client = relay.connect().await;
    client.watch("s", json!({"kinds": [1]})).await;
    let keys = Keys::generate();
    let mut events = Vec::new();
    for source in &stage.sources {
        events.extend(publish(source, &keys, &source.url(), 40).await);
    }
    // The same event of all three is one.
    let shared = fresh(&keys, "everywhere");
    for source in &stage.sources {
        assert!(source.connect().await.publish(&shared).await.0);
    }
    events.push(shared);
    hears_each_once(&mut client, &events).await;
    stored(&relay, &events).await;
    // Nothing is left in the streams, and nothing is in flight.
    let of_all = |member: &str| -> u64 {
        let views: Vec<Value> =
            readers.iter().map(|reader| reader.ask("GET", "/v1/upstreams", "").2).collect();
        let of_each = views.iter().flat_map(|views| views.as_array().unwrap());
        of_each.map(|view| view[member].as_u64().unwrap()).sum()
    };
    eventually("nothing waits", || of_all("waiting") == 0).await;
    assert_eq!((of_all("received"), of_all("stored"), of_all("known")), (123, 121, 2));
    assert_eq!(stage.waiting(), 0);
}

/// ```text
/// reader 1   reads ─────── killed ‖
/// reader 2                          reads what that one had
/// consumer 1 takes ─────────────────────── killed ‖
/// consumer 2                                         takes what that one had, finished or not
/// ```
#[tokio::test(flavor = "multi_thread")]
async fn the_work_of_a_process_that_is_gone_is_others() {
    let stage = Stage::new(4, &[]);
    let relay = stage.relay();
    let mut readers = vec![stage.start("read"), stage.start("read")];
    let mut consumers = vec![stage.start("consume"), stage.start("consume")];
    stage.add_all(&relay);
    all_read(&readers.iter().collect::<Vec<_>>(), 4).await;
    let mut client = relay.connect().await;
    client.watch("s", json!({"kinds": [1]})).await;
    let (keys, mut events) = (Keys::generate(), Vec::new());
    for source in &stage.sources {
        events.extend(publish(source, &keys, &source.url(), 25).await);
    }
    drop(readers.remove(0));
    drop(consumers.remove(0));
    let mut later = Vec::new();
    for source in &stage.sources {
        later.extend(publish(source, &keys, "later", 25).await);
    }
    events.extend(later);
    hears_each_once(&mut client, &events).await;
    all_read(&[&readers[0]], 4).await;
    stored(&relay, &events[..100]).await;
    stored(&relay, &events[100..]).await;
}

/// Who reads each upstream, and how often that has changed.
fn leases(node: &Relay) -> Vec<(String, u64)> {
    let views = node.ask("GET", "/v1/upstreams", "").2;
    let lease = |view: &Value| {
        let lease = &view["lease"];
        (lease["node"].as_str().unwrap_or_default().to_owned(), lease["epoch"].as_u64().unwrap_or_default())
    };
    views.as_array().map(|views| views.iter().map(lease).collect()).unwrap_or_default()
}

/// ```text
/// reader 1   reads ─ paused ···················· 30 s ── would write what it had: is overtaken ── has its share again
/// reader 2           reads all of them within 10 s
/// ```
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes a minute: cluster/test.sh --long"]
async fn one_that_was_paused_for_half_a_minute_moves_no_cursor() {
    // Beats as they are by default.
    let stage = Stage::new(4, &["beat_ms=2000"]);
    let start = |name: &str, role: &str| {
        let own = ["--role", role, "--node-id", name].map(str::to_owned);
        let arguments: Vec<String> = own.into_iter().chain(stage.arguments()).collect();
        start_aggregator(&arguments.iter().map(|argument| &**argument).collect::<Vec<_>>())
    };
    let relay = stage.relay();
    let (first, second, _consumer) = (start("first", "read"), start("second", "read"), start("c", "consume"));
    stage.add_all(&relay);
    all_read(&[&first, &second], 4).await;
    let mut client = relay.connect().await;
    client.watch("s", json!({"kinds": [1]})).await;
    let (keys, mut events) = (Keys::generate(), Vec::new());
    for source in &stage.sources {
        events.extend(publish(source, &keys, "before", 25).await);
    }
    // Whoever reads most of them.
    let had = |name: &str| leases(&relay).iter().filter(|(node, _)| node == name).count();
    let (paused, name, other, other_name) = match had("first") >= 2 {
        true => (&first, "first", &second, "second"),
        false => (&second, "second", &first, "first"),
    };
    let had = had(name);
    paused.signal("STOP");
    let begun = std::time::Instant::now();
    all_read(&[other], 4).await;
    let taken = begun.elapsed();
    for source in &stage.sources {
        events.extend(publish(source, &keys, "meanwhile", 25).await);
    }
    tokio::time::sleep(std::time::Duration::from_secs(30).saturating_sub(begun.elapsed())).await;
    let before = leases(&relay);
    assert!(before.iter().all(|(node, _)| node == other_name), "{before:?}");
    paused.signal("CONT");
    for source in &stage.sources {
        events.extend(publish(source, &keys, "after", 25).await);
    }
    // What it writes over is what it has read anew.
    let mut last = before.clone();
    while begun.elapsed().as_secs() < 45 {
        let now = leases(&relay);
        for (was, is) in last.iter().zip(&now) {
            assert!(is == was || is.1 > was.1, "{was:?} {is:?}");
        }
        last = now;
    }
    hears_each_once(&mut client, &events).await;
    all_read(&[&first, &second], 4).await;
    println!(
        "it had {had}; the other read them after {:.1} s; {before:?}, then {last:?}",
        taken.as_secs_f64()
    );
    assert!(taken.as_secs() < 10, "{taken:?}");
}

/// What takes events out of it, and says so, needs memory too.
#[tokio::test(flavor = "multi_thread")]
async fn a_redis_without_memory_lets_out_what_is_in_it() {
    let stage = Stage::new(1, &[]);
    let (relay, reader, consumer) = (stage.relay(), stage.start("read"), stage.start("consume"));
    stage.add_all(&relay);
    all_read(&[&reader], 1).await;
    let keys = Keys::generate();
    let stored = |count: f64| {
        let (name, consumer) = (r#"rookery_consumer_events_total{outcome="stored"}"#, &consumer);
        move || consumer.metric(name) == count
    };
    is_taken_from(&consumer).await;
    consumer.signal("STOP");
    let mut events = publish(&stage.sources[0], &keys, "before", 20).await;
    eventually("all of them in Redis", || stage.waiting() == 20).await;
    assert_eq!(stage.redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).trim(), "OK");
    consumer.signal("CONT");
    eventually("all of them out again", || stage.waiting() == 0).await;
    eventually("all of them stored", stored(20.0)).await;
    events.extend(publish(&stage.sources[0], &keys, "after", 10).await);
    assert_eq!(stage.redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).trim(), "OK");
    eventually("the others, too", stored(30.0)).await;
    self::stored(&relay, &events).await;
}

/// By upstream, what one of them sends is stored in the order in which it came, whoever else takes from the streams.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_upstream_sends_keeps_its_order_where_it_is_asked_to() {
    // What a slow machine takes too long for is tried again, and passed by others.
    let stage =
        Stage::new(2, &["partition_by=upstream", "persister.deadline_ms=20000", "scylla.deadline_ms=20000"]);
    let (relay, reader) = (stage.relay(), stage.start("read"));
    let _consumers = [stage.start("consume"), stage.start("consume")];
    stage.add_all(&relay);
    all_read(&[&reader], 2).await;
    let mut client = relay.connect().await;
    client.watch("s", json!({"kinds": [1]})).await;
    let of_each = [Keys::generate(), Keys::generate()];
    let (first, second) = tokio::join!(
        publish(&stage.sources[0], &of_each[0], "first", 60),
        publish(&stage.sources[1], &of_each[1], "second", 60)
    );
    let mut heard = Vec::new();
    for _ in 0..120 {
        heard.push(client.hear().await[2].take());
    }
    for sent in [first, second] {
        let ids: Vec<String> = sent.iter().map(|event| event.id().to_hex()).collect();
        let author = sent[0].pubkey().to_hex();
        let of_this = heard.iter().filter(|event| event["pubkey"] == author.as_str());
        assert_eq!(of_this.map(|event| event["id"].as_str().unwrap().to_owned()).collect::<Vec<_>>(), ids);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_that_starts_again_empty_stalls_nobody() {
    let mut stage = Stage::new(1, &[]);
    let (relay, reader, consumer) = (stage.relay(), stage.start("read"), stage.start("consume"));
    stage.add_all(&relay);
    all_read(&[&reader], 1).await;
    let keys = Keys::generate();
    let mut events = publish(&stage.sources[0], &keys, "before", 20).await;
    // Nobody takes anything, so all of it is lost with Redis.
    consumer.signal("STOP");
    events.extend(publish(&stage.sources[0], &keys, "lost", 20).await);
    stage.redis.stop();
    stage.redis.start_again();
    consumer.signal("CONT");
    events.extend(publish(&stage.sources[0], &keys, "after", 20).await);
    let found = async || {
        let mut client = relay.connect().await;
        client.request("found", &[json!({"kinds": [1], "limit": 500})]).await.0.len()
    };
    let mut count = 0;
    for _ in 0..300 {
        count = found().await;
        if count == events.len() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    assert_eq!(count, events.len());
}
