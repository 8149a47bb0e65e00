//! People who are followed, wherever they write.

use std::collections::{BTreeMap, BTreeSet};

use common::{Relay, eventually, fresh, now, rookery};
use rand::{SeedableRng, rngs::StdRng, seq::IndexedRandom};
use rookery::protocol::{ClientMessage, Event, Tags, nip19, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::{
    cli::{
        program::succeed,
        relay::{Do, Relay as Mock, say},
    },
    upstream_commands::{does, upstream},
    upstreams::put,
};

/// A relay at an address of its own: relays that share one are one.
fn relay_at(number: usize, settings: &[&str]) -> Relay {
    let data = TempDir::new().unwrap();
    let address = format!("127.0.1.{number}:0");
    let mut command = rookery(&["relay", "--listen", &address, "--ops-listen", "127.0.0.1:0", "--data"]);
    command.arg(data.path().join("relay")).args(settings);
    Relay::spawn(command, data)
}

/// One that reads people who are followed.
fn reader(indexers: &[&str], settings: &[&str]) -> Relay {
    let indexers = format!("follow.indexers={}", json!(indexers));
    let anywhere = ["--set", "aggregator.allow_private=true", "--set", "follow.allow_private=true"];
    Relay::start(&[&anywhere[..], &["--set", &indexers], settings].concat())
}

/// What a relay has: ids, and by whom.
fn stored(relay: &Relay) -> BTreeMap<String, String> {
    let said = succeed(&["export", "-", "--relay", &relay.url()]);
    let events = said.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    events.map(|event| (text(&event["id"]), text(&event["pubkey"]))).collect()
}

fn relay_list(keys: &Keys, at: u64, urls: &[String]) -> Event {
    keys.sign(at, 10_002, urls.iter().map(|url| ["r", url.as_str()]).collect::<Tags>(), "")
}

fn npub(keys: &Keys) -> String {
    nip19::npub(&keys.public_key())
}

fn plan(relay: &Relay) -> Value {
    relay.ask("GET", "/v1/followed/plan", "").2
}

fn urls(found: &Value, member: &str) -> Vec<String> {
    found[member].as_array().unwrap().iter().map(|one| one["url"].as_str().unwrap().to_owned()).collect()
}

/// One that has a whole network of other people's events for whoever asks for something, and some of them forged.
fn liar(strangers: Vec<Event>) -> Mock {
    Mock::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::NegOpen { .. }) => say(r#"["NOTICE","unknown"]"#),
        Ok(ClientMessage::Req { id, .. }) => {
            let event = |event: &Event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json()));
            strangers.iter().map(event).chain([Do::Say(format!(r#"["EOSE","{id}"]"#))]).collect()
        }
        _ => Vec::new(),
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_people_are_read_where_they_write_and_nobody_else() {
    const WINDOWS: [&str; 2] = ["--set", "sync.max_open=0"];
    let mut random = StdRng::seed_from_u64(7);
    let people: Vec<Keys> = (0..200).map(|_| Keys::generate()).collect();
    let strangers: Vec<Keys> = (0..20).map(|_| Keys::generate()).collect();
    let of_strangers: Vec<Event> =
        strangers.iter().map(|keys| fresh(keys, "nobody asked for this")).collect();

    // Eight that are what they say, every other of which does not reconcile; one that has lost half; one that lies; two
    // that are not there.
    let good: Vec<Relay> = (2..10).map(|n| relay_at(n, &WINDOWS[..2 * (n % 2)])).collect();
    let forgetful = relay_at(10, &[]);
    let liar = liar(of_strangers.clone());
    let dead = ["ws://127.0.1.11:7", "ws://127.0.1.12:7"].map(str::to_owned);
    let alias = liar.url.replace("127.0.0.1", "localhost");
    let indexer = relay_at(13, &[]);

    let mut at_relay: BTreeMap<String, Vec<Event>> = BTreeMap::new();
    let (mut lists, mut expected) = (Vec::new(), BTreeSet::new());
    for (nth, keys) in people.iter().enumerate() {
        let own = good.choose(&mut random).unwrap().url();
        let doubtful = [&dead[0], &dead[1], &forgetful.url(), &liar.url, &alias][nth % 5].clone();
        // The last two have told nobody where they write.
        let places = if nth < 198 { vec![doubtful, own] } else { vec![indexer.url()] };
        for n in 0..3_u64 {
            let note = keys.sign(now() - 86_400 * n - 1, 1, Tags::default(), &format!("{nth} {n}"));
            expected.insert(note.id().to_hex());
            for place in &places {
                let is_lost = *place == forgetful.url() && n > 0;
                at_relay.entry(place.clone()).or_default().extend((!is_lost).then(|| note.clone()));
            }
        }
        if nth < 198 {
            lists.push(relay_list(keys, now() - 10, &places));
        }
    }
    let follows: Tags = people.iter().map(|keys| ["p".to_owned(), keys.public_key().to_hex()]).collect();
    let root = Keys::generate();
    lists.push(root.sign(now() - 10, 3, follows, ""));
    lists.push(relay_list(&root, now() - 10, &[good[0].url()]));
    put(&indexer, &lists);
    for relay in good.iter().chain([&forgetful, &indexer]) {
        put(relay, &of_strangers);
        put(relay, &at_relay.remove(&relay.url()).unwrap_or_default());
    }

    let here = reader(&[&indexer.url()], &["--set", "follow.silent_seconds=2"]);
    let said = does(&here, &["follow", &npub(&root), "--with-follows"]);
    assert!(said.contains("those whom they follow"), "{said}");
    eventually("everything of theirs", || {
        // Who is not there is left out when it has been silent for long enough.
        does(&here, &["plan", "--again"]);
        let found = stored(&here);
        expected.iter().all(|id| found.contains_key(id))
    })
    .await;
    let known: BTreeSet<String> =
        people.iter().chain([&root]).map(|keys| keys.public_key().to_hex()).collect();
    let others: Vec<_> = stored(&here).into_iter().filter(|(_, author)| !known.contains(author)).collect();
    assert!(others.is_empty(), "{others:?}");

    // Which relays, and why.
    let silent = || {
        let left_out = plan(&here)["left_out"].clone();
        let of = |url: &str| left_out.as_array().unwrap().iter().find(|one| one["url"] == url).cloned();
        (
            dead.each_ref().map(|url| of(url).map(|one| one["why"].clone())),
            of(&alias).or_else(|| of(&liar.url)),
        )
    };
    eventually("those that are not there", || {
        does(&here, &["plan", "--again"]);
        silent().0.iter().all(|why| *why == Some(json!("silent")))
    })
    .await;
    assert_eq!(silent().1.unwrap()["why"], "same_address");
    let planned = plan(&here);
    assert_eq!(
        (&planned["people"], &planned["without_list"], &planned["nowhere"]),
        (&json!(201), &json!(2), &json!(0))
    );
    let read = urls(&planned, "relays");
    assert!(good.iter().all(|relay| read.contains(&relay.url())) && read.len() <= 11, "{planned}");
    let asked: u64 =
        planned["relays"].as_array().unwrap().iter().map(|one| one["asked"].as_u64().unwrap()).sum();
    // At two, but for those of whose relays one is not there (80) or has the address of another one (39), the one who
    // writes at one, and the two who are read at the only indexer.
    assert_eq!(asked, 198 * 2 - 80 - 39 + 3);
    let said = does(&here, &["plan"]);
    assert!(said.contains("201 people") && said.contains("it was not reached for too long"), "{said}");

    // What comes is heard where they are read.
    let person = &people[17];
    let view: Value = serde_json::from_str(&does(&here, &["followed", &npub(person), "--json"])).unwrap();
    let read_at: Vec<&str> =
        view["read_at"].as_array().unwrap().iter().map(|url| url.as_str().unwrap()).collect();
    assert_eq!((read_at.len(), &view["followed"]), (2, &Value::Null));
    let source = good.iter().find(|relay| read_at.contains(&relay.url().as_str())).unwrap();
    let note = fresh(person, "live");
    assert!(source.connect().await.publish(&note).await.0);
    eventually("what comes", || stored(&here).contains_key(&note.id().to_hex())).await;

    // Nobody is followed, so nothing is read; what is here stays.
    does(&here, &["unfollow", &npub(&root)]);
    eventually("nothing is read", || does(&here, &["list"]).contains("no relay is read")).await;
    assert_eq!(plan(&here)["people"], 0);
    assert!(stored(&here).contains_key(&note.id().to_hex()));
}

#[tokio::test(flavor = "multi_thread")]
async fn who_moves_is_read_where_they_are_with_all_that_they_have_written() {
    // A relay that is read in windows of time for one, and to which another one moves later.
    let (first, second, indexer) =
        (relay_at(20, &["--set", "sync.max_open=0"]), relay_at(21, &[]), relay_at(22, &[]));
    let (stays, moves) = (Keys::generate(), Keys::generate());
    let old = moves.sign(now() - 100_000, 1, Tags::default(), "old");
    put(&first, &[fresh(&stays, "here"), old.clone()]);
    put(&second, &[fresh(&moves, "there")]);
    put(
        &indexer,
        &[relay_list(&stays, now() - 9, &[first.url()]), relay_list(&moves, now() - 9, &[second.url()])],
    );
    let here = reader(&[&indexer.url()], &["--set", "aggregator.overlap_seconds=1"]);
    does(&here, &["follow", &npub(&stays), &npub(&moves)]);
    eventually("a note of each", || stored(&here).len() == 2).await;
    let live = |url: String| does(&here, &["show", &url]).contains(" live since");
    eventually("windows are read", || live(first.url())).await;
    assert!(!stored(&here).contains_key(&old.id().to_hex()));

    assert!(indexer.connect().await.publish(&relay_list(&moves, now(), &[first.url()])).await.0);
    does(&here, &["plan", "--again"]);
    eventually("what was written of old", || stored(&here).contains_key(&old.id().to_hex())).await;
    eventually("the other one is read no more", || urls(&plan(&here), "relays") == [first.url()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_nobody_has_signed_moves_nobody() {
    let (keys, trap) = (Keys::generate(), Mock::start(|_, _| Vec::new()));
    let list = relay_list(&keys, now() - 5, &["wss://relay.example".to_owned()]);
    let forged = list.json().replace("wss://relay.example", &trap.url);
    let indexer = Mock::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, .. }) => {
            let event = Do::Say(format!(r#"["EVENT","{id}",{forged}]"#));
            [event].into_iter().chain(say(format!(r#"["EOSE","{id}"]"#))).collect()
        }
        _ => Vec::new(),
    });
    let here = reader(&[&indexer.url], &[]);
    does(&here, &["follow", &npub(&keys)]);
    eventually("a plan", || plan(&here)["people"] == 1).await;
    let planned = plan(&here);
    assert_eq!((&planned["without_list"], urls(&planned, "relays")), (&json!(1), vec![indexer.url.clone()]));
    assert_eq!(trap.heard(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn whom_somebody_follows_who_is_signed_in_is_fetched() {
    let (source, keys) = (relay_at(40, &[]), Keys::generate());
    let note = fresh(&keys, "elsewhere");
    put(&source, &[note.clone(), relay_list(&keys, now(), &[source.url()])]);
    let settings = ["--set", "follow.fetch=accounts", "--set", "aggregator.look_seconds=1"];
    let here = reader(&[&source.url()], &settings);
    let nettle = here.sign_up("nettle");
    let fetched = || nettle.ask(&here, "GET", "/v1/friends/fetched", Value::Null).json();
    assert_eq!(fetched(), json!({"people": 0, "relays": 0}));
    let followed = nettle.ask(&here, "POST", &format!("/v1/friends/{}", npub(&keys)), json!({}));
    assert_eq!(followed.status, 200);
    eventually("a note of theirs", || stored(&here).contains_key(&note.id().to_hex())).await;
    assert_eq!(fetched(), json!({"people": 1, "relays": 1}));
    // What nettle writes is here: nobody is asked for it.
    let planned = plan(&here);
    assert_eq!((&planned["people"], &planned["relays"][0]["asked"]), (&json!(1), &json!(1)));

    let gone = nettle.ask(&here, "DELETE", &format!("/v1/friends/{}", npub(&keys)), json!({}));
    assert_eq!(gone.status, 200);
    eventually("nobody is fetched", || plan(&here)["relays"] == json!([])).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operators_and_people_share_a_relay() {
    let source = relay_at(30, &[]);
    let (keys, stranger) = (Keys::generate(), Keys::generate());
    let (own, other) = (fresh(&keys, "own"), fresh(&stranger, "other"));
    put(&source, &[own.clone(), other.clone(), relay_list(&keys, now(), &[source.url()])]);
    let (here, url) = (reader(&[&source.url()], &[]), source.url());
    let has = |event: &Event| stored(&here).contains_key(&event.id().to_hex());

    for (arguments, why) in
        [(["follow", "npub1nobody"], "nobody's key"), (["unfollow", &npub(&keys)], "not followed")]
    {
        let (done, said) = upstream(&here, &arguments);
        assert!(!done && said.contains(why), "{said}");
    }
    does(&here, &["follow", &npub(&keys)]);
    eventually("what is followed", || has(&own)).await;
    assert!(!has(&other));
    // It is not the operator's to remove; they may pause it, or have it be read for more.
    let (done, said) = upstream(&here, &["remove", &url]);
    assert!(!done && said.contains("people who are followed"), "{said}");
    does(&here, &["add", &url]);
    eventually("everything", || has(&other)).await;
    let is_alone = || does(&here, &["show", &url]).contains("what people write who are followed");
    assert!(!is_alone());
    // It is read whole, so it is asked for nobody.
    eventually("nobody", || plan(&here)["relays"] == json!([])).await;
    let view: Value = serde_json::from_str(&does(&here, &["followed", &npub(&keys), "--json"])).unwrap();
    assert_eq!(view["read_at"], json!([url]));
    does(&here, &["remove", &url]);
    eventually("for people alone", || upstream(&here, &["show", &url]).0 && is_alone()).await;
}

/// Whoever is followed may name any address, also one of the network that this relay stands in.
#[tokio::test(flavor = "multi_thread")]
async fn what_people_name_is_not_connected_to_where_it_is_not_public() {
    let (indexer, inside) = (relay_at(50, &[]), relay_at(51, &[]));
    let keys = Keys::generate();
    put(&indexer, &[fresh(&keys, "outside"), relay_list(&keys, now(), &[inside.url()])]);
    put(&inside, &[fresh(&keys, "inside")]);
    let opened = || inside.metric("rookery_connections_opened_total");
    let before = opened();
    let indexers = format!("follow.indexers={}", json!([indexer.url()]));
    let here = Relay::start(&["--set", "aggregator.allow_private=true", "--set", &indexers]);
    does(&here, &["follow", &npub(&keys)]);
    eventually("a plan", || plan(&here)["people"] == 1).await;
    let left_out = &plan(&here)["left_out"];
    assert_eq!((&left_out[0]["url"], &left_out[0]["why"]), (&json!(inside.url()), &json!("forbidden")));
    // Whoever is read nowhere else is read where operators look.
    eventually("what is there", || stored(&here).len() == 2).await;
    assert_eq!(opened(), before);
}
