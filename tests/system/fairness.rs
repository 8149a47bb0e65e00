//! One client floods; the others do not notice more than they must. What they notice is printed.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use common::{
    Client, Relay, eventually, note, now,
    people::{PASSWORD, ask},
};
use futures_util::{SinkExt, StreamExt};
use hdrhistogram::Histogram;
use rookery::protocol::{Event, sign::Keys};
use serde_json::{Value, json};
use tokio::{
    task::JoinHandle,
    time::{interval, timeout},
};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

/// Events of the author whom the others follow, at this pace.
const PACED: usize = 100;
const PACE: Duration = Duration::from_millis(10);
const READERS: usize = 5;
/// Events that the flooders have signed before, together.
const SIGNED: usize = 20_000;
/// Longest that one may hear nothing while others flood: this is no test of speed.
const SILENCE: Duration = Duration::from_secs(60);

fn message(event: &Event) -> Message {
    Message::text(format!(r#"["EVENT",{}]"#, event.json()))
}

/// Sends what is signed already as fast as the relay takes it, until told to stop; hears every OK.
/// How many were accepted.
async fn flood(url: String, messages: Vec<Message>, stop: Arc<AtomicBool>) -> (usize, usize) {
    let client = Client::connect(url.into_client_request().unwrap()).await;
    let (mut sink, mut stream) = client.socket.split();
    let sending = async move {
        let mut sent = 0;
        for some in messages.chunks(64) {
            if stop.load(Ordering::Relaxed) {
                break;
            }
            for message in some {
                sink.feed(message.clone()).await.expect("a flood is held back, and not cut off");
            }
            sink.flush().await.unwrap();
            sent += some.len();
        }
        sent
    };
    let sending = tokio::spawn(sending);
    let (mut accepted, mut heard, mut sent) = (0, 0, None);
    let mut sending = sending;
    loop {
        if sent.is_some_and(|sent| heard >= sent) {
            return (accepted, heard);
        }
        tokio::select! {
            done = &mut sending, if sent.is_none() => sent = Some(done.unwrap()),
            next = timeout(SILENCE, stream.next()) => {
                let text = match next {
                    Ok(Some(Ok(Message::Text(text)))) => text,
                    Ok(Some(Ok(Message::Ping(_)))) => continue,
                    other => panic!("the flood was cut off: {other:?}"),
                };
                let ok: Value = serde_json::from_str(&text).unwrap();
                assert_eq!(ok[0], "OK");
                accepted += usize::from(ok[2] == true);
                heard += 1;
            }
        }
    }
}

/// The next message, however long the others keep the relay busy.
async fn hear(client: &mut Client) -> Value {
    loop {
        let next = timeout(SILENCE, client.socket.next()).await.expect("the relay says nothing");
        if let Message::Text(text) = next.unwrap().unwrap() {
            return serde_json::from_str(&text).unwrap();
        }
    }
}

/// Follows an author: when each of the events came, in their order; each exactly once.
async fn follow(mut client: Client, ids: Vec<String>) -> Vec<Instant> {
    let mut times = Vec::new();
    for id in &ids {
        let live = hear(&mut client).await;
        assert_eq!((&live[0], &live[1], &live[2]["id"]), (&json!("EVENT"), &json!("feed"), &json!(id)));
        times.push(Instant::now());
    }
    // Nothing more is on its way: the answer to this is the next that comes.
    client.say(json!(["REQ", "end", { "kinds": [] }])).await;
    assert_eq!(hear(&mut client).await, json!(["EOSE", "end", ["finish"]]));
    times
}

/// Publishes at a pace, whatever the answers do: when each event was sent, and when its OK came.
async fn publish_paced(client: Client, events: &[Event]) -> Vec<(Instant, Instant)> {
    let (mut sink, mut stream) = client.socket.split();
    let sending = async {
        let mut ticks = interval(PACE);
        let mut times = Vec::new();
        for event in events {
            ticks.tick().await;
            times.push(Instant::now());
            sink.send(message(event)).await.unwrap();
        }
        times
    };
    let hearing = async {
        let mut times = Vec::new();
        while times.len() < events.len() {
            let next = timeout(SILENCE, stream.next()).await.expect("no OK comes");
            if let Message::Text(text) = next.unwrap().unwrap() {
                let id = events[times.len()].id();
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), json!(["OK", id, true, ""]));
                times.push(Instant::now());
            }
        }
        times
    };
    let (sent, answered) = tokio::join!(sending, hearing);
    sent.into_iter().zip(answered).collect()
}

/// Milliseconds at the median, at the 99th percentile and at the most.
fn quantiles(durations: impl IntoIterator<Item = Duration>) -> [f64; 3] {
    let mut histogram = Histogram::<u64>::new(3).unwrap();
    durations.into_iter().for_each(|duration| histogram.record(duration.as_micros() as u64).unwrap());
    [0.5, 0.99, 1.0].map(|quantile| histogram.value_at_quantile(quantile) as f64 / 1000.0)
}

fn told(what: &str, [p50, p99, most]: [f64; 3]) -> String {
    format!("{what}: p50 {p50:.1} ms, p99 {p99:.1} ms, max {most:.1} ms")
}

/// Notes of an author, each of a second of its own.
fn paced(keys: &Keys, count: usize) -> Vec<Event> {
    let latest = now();
    (0..count).map(|n| note(keys, latest - count as u64 + n as u64, "followed")).collect()
}

/// Those who follow an author and wait for these events.
async fn followers(relay: &Relay, keys: &Keys, paced: &[Event]) -> Vec<JoinHandle<Vec<Instant>>> {
    let ids: Vec<String> = paced.iter().map(|event| event.id().to_hex()).collect();
    let mut followers = Vec::new();
    for _ in 0..READERS {
        let mut client = relay.connect().await;
        client.request("feed", &[json!({ "authors": [keys.public_key()] })]).await;
        followers.push(tokio::spawn(follow(client, ids.clone())));
    }
    followers
}

/// How long each event took to each of them.
async fn delays(followers: Vec<JoinHandle<Vec<Instant>>>, published: &[(Instant, Instant)]) -> Vec<Duration> {
    let mut delays = Vec::new();
    for follower in followers {
        let times = follower.await.unwrap();
        let ways = times.iter().zip(published);
        delays.extend(ways.map(|(came, (sent, _))| came.saturating_duration_since(*sent)));
    }
    delays
}

async fn run(flooders: usize) {
    let relay = Relay::start(&["--workers", "1"]);
    let keys = Keys::generate();
    let (latest, paced) = (now(), paced(&keys, PACED));
    // A flooder only sends. One who runs out of events begins again with copies.
    let floods: Vec<Vec<Message>> = (0..flooders)
        .map(|_| {
            let keys = Keys::generate();
            let signed: Vec<Message> =
                (0..SIGNED / flooders).map(|n| message(&note(&keys, latest - n as u64, "flood"))).collect();
            signed.iter().cycle().take(1_000_000).cloned().collect()
        })
        .collect();
    let followers = followers(&relay, &keys, &paced).await;
    let stop = Arc::new(AtomicBool::new(false));
    let floods: Vec<_> = floods
        .into_iter()
        .map(|flood_of| tokio::spawn(flood(relay.url(), flood_of, Arc::clone(&stop))))
        .collect();
    if flooders > 0 {
        let stored = "rookery_events_total{result=\"stored\"}";
        eventually("the flood has begun", || relay.metric(stored) > 100.0).await;
    }
    let begun = Instant::now();
    let published = publish_paced(relay.connect().await, &paced).await;
    let took = begun.elapsed();
    stop.store(true, Ordering::Relaxed);
    let delays = delays(followers, &published).await;
    let mut answered = 0;
    for flood in floods {
        let (accepted, heard) = flood.await.unwrap();
        assert!(accepted > 0, "a flood is served too");
        answered += heard;
    }
    assert_eq!(relay.metric("rookery_evictions_total"), 0.0);
    assert_eq!(relay.metric("rookery_connections_closed_total{reason=\"protocol\"}"), 0.0);
    println!(
        "{flooders} flooding ({answered} events answered, {PACED} paced ones in {:.1} s): {}; {}",
        took.as_secs_f64(),
        told("live", quantiles(delays)),
        told("OK", quantiles(published.iter().map(|(sent, ok)| ok.duration_since(*sent)))),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn live_events_flow_while_others_flood() {
    for flooders in [0, 1, 3] {
        run(flooders).await;
    }
}

/// People who sign in again and again, each on a thread of their own.
struct SigningIn {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<usize>>,
}

impl SigningIn {
    fn begin(relay: &Relay, names: &[String]) -> Self {
        let (stop, address) = (Arc::new(AtomicBool::new(false)), relay.clients);
        let sign_in = |name: &String| {
            let stop = Arc::clone(&stop);
            let said = json!({ "username": name, "password": PASSWORD }).to_string();
            thread::spawn(move || {
                let mut count = 0;
                while !stop.load(Ordering::Relaxed) {
                    let headers = [("Content-Type", "application/json")];
                    let answer = ask(address, "POST", "/v1/auth/sign-in", &headers, said.as_bytes());
                    assert_eq!(answer.status, 200, "{answer:?}");
                    count += 1;
                }
                count
            })
        };
        let threads = names.iter().map(sign_in).collect();
        Self { stop, threads }
    }

    /// How many there were.
    fn end(self) -> usize {
        self.stop.store(true, Ordering::Relaxed);
        self.threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    }
}

/// Live delivery while fifty sign in all the time, and while nobody does, in turn.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "times that a machine with other work does not keep"]
async fn live_events_flow_while_fifty_sign_in() {
    const SIGN_INS: usize = 50;
    const ROUNDS: usize = 7;
    const EVENTS: usize = 300;
    // All of them come from one address.
    let settings =
        ["accounts.open=everybody", "accounts.address_sign_ups=1000", "accounts.address_guesses=1000000"];
    let settings: Vec<&str> = settings.into_iter().flat_map(|setting| ["--set", setting]).collect();
    let relay = Relay::start(&settings);
    let names: Vec<String> = (0..SIGN_INS).map(|nth| format!("person-{nth}")).collect();
    tokio::task::block_in_place(|| names.iter().for_each(|name| drop(relay.sign_up(name))));
    let hashed = || relay.metric("rookery_passwords_hashed_total");
    let (mut without, mut with, mut signed_in) = (Vec::new(), Vec::new(), 0);
    for round in 0..2 * ROUNDS {
        let keys = Keys::generate();
        let paced = paced(&keys, EVENTS);
        let followers = followers(&relay, &keys, &paced).await;
        let crowd = (round % 2 == 1).then(|| SigningIn::begin(&relay, &names));
        if crowd.is_some() {
            let before = hashed();
            eventually("sign-ins", || hashed() > before).await;
        }
        let published = publish_paced(relay.connect().await, &paced).await;
        let times = quantiles(delays(followers, &published).await);
        let list = if crowd.is_some() { &mut with } else { &mut without };
        list.push(times);
        signed_in += crowd.map_or(0, |crowd| tokio::task::block_in_place(|| crowd.end()));
    }
    let medians = |rounds: &[[f64; 3]]| {
        std::array::from_fn(|which| {
            let mut values: Vec<f64> = rounds.iter().map(|times| times[which]).collect();
            values.sort_unstable_by(f64::total_cmp);
            values[ROUNDS / 2]
        })
    };
    let (without, with): ([f64; 3], [f64; 3]) = (medians(&without), medians(&with));
    println!(
        "{signed_in} sign-ins, {SIGN_INS} at once; medians of {ROUNDS} rounds: {}; {}; ratio of p99: {:.2}",
        told("nobody signs in", without),
        told("while they do", with),
        with[1] / without[1],
    );
    assert!(with[1] <= 2.0 * without[1], "the 99th percentile is more than twice as late");
}

/// Large questions of many clients at once: what can not be read in time is refused in words of its own, and who
/// asks for little or publishes meanwhile is refused nothing.
#[tokio::test(flavor = "multi_thread")]
async fn large_questions_cost_others_nothing() {
    const CLIENTS: usize = 100;
    // As little at once, and as little patience, as can be.
    let settings = ["lmdb.readers=1", "lmdb.question_ranges=40", "lmdb.question_wait_ms=1"];
    let settings = settings.iter().flat_map(|setting| ["--set", setting]);
    let relay = Relay::start(&settings.collect::<Vec<_>>());
    let keys = Keys::generate();
    let mut bystander = relay.connect().await;
    let first = note(&keys, now(), "first");
    for n in 0..500 {
        assert!(bystander.publish(&note(&keys, now(), &n.to_string())).await.0);
    }
    assert!(bystander.publish(&first).await.0);
    let filters: Vec<Value> =
        (1_000..1_020).map(|kind| json!({ "kinds": [1, kind], "limit": 500 })).collect();
    let question = json!([vec![json!("REQ"), json!("s")], filters].concat());
    let mut clients = Vec::new();
    for _ in 0..CLIENTS {
        clients.push(relay.connect().await);
    }
    for client in &mut clients {
        client.say(question.clone()).await;
    }
    for n in 0..50 {
        assert!(bystander.publish(&note(&keys, now(), &format!("beside {n}"))).await.0);
        let (found, _) = bystander.request("one", &[json!({ "ids": [first.id()] })]).await;
        assert_eq!(found, [first.id().to_hex()]);
    }
    let mut refused = 0;
    for client in &mut clients {
        loop {
            let heard = hear(client).await;
            match heard[0].as_str() {
                Some("EVENT") => {}
                Some("EOSE") => break,
                _ => {
                    assert_eq!(heard, json!(["CLOSED", "s", "error: overloaded, try again later"]));
                    refused += 1;
                    break;
                }
            }
        }
    }
    assert!((1..CLIENTS).contains(&refused), "{refused} were refused");
}
