//! `rookery sync`: against our relay, and against relays that do not what they should.

use std::{cmp::Reverse, collections::HashMap, fs};

use common::Relay as Real;
use rookery::protocol::{
    ClientMessage, Event, EventId,
    negentropy::{Key, KeySet, MIN_FRAME_BYTES},
    sign::Keys,
};
use tempfile::TempDir;

use crate::cli::program::{dump, err, events, fail, ids, out, run, sorted_ids, succeed};
use crate::cli::relay::{Do, Relay, accept_all, say};

/// A real relay that has these events.
fn real(events: &[Event], settings: &[&str]) -> Real {
    let relay = Real::start(settings);
    let folder = TempDir::new().unwrap();
    succeed(&["import", &dump(&folder, events), "--relay", &relay.url()]);
    relay
}

fn stored(relay: &str) -> Vec<String> {
    ids(&succeed(&["export", "-", "--relay", relay]))
}

fn set(events: &[Event]) -> KeySet {
    let mut keys: Vec<Key> =
        events.iter().map(|event| Key { created_at: event.created_at(), id: event.id() }).collect();
    keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
    keys.into_iter().collect()
}

#[test]
fn two_relays_come_to_the_same() {
    // Many in each second.
    let all = events((0..900).map(|n| 1_700_000_000 + n / 7));
    let (here, there) = (real(&all[..600], &[]), real(&all[300..], &[]));
    let sync = |flags: &[&str]| run(&[&["sync", &there.url(), "--relay", &here.url()], flags].concat());
    let dry = sync(&["--both", "--dry-run", "--print-missing"]);
    assert!(dry.status.success(), "{}", err(&dry));
    assert!(err(&dry).contains("600 known here, 300 missing here, 300 missing there"), "{}", err(&dry));
    let missing = |side: &str| {
        let lines = out(&dry).lines().filter_map(|line| line.strip_prefix(side)?.strip_prefix('\t'));
        let mut ids: Vec<String> = lines.map(str::to_owned).collect();
        ids.sort_unstable();
        ids
    };
    assert_eq!(missing("here"), sorted_ids(&all[600..]));
    assert_eq!(missing("there"), sorted_ids(&all[..300]));
    assert_eq!(
        (stored(&here.url()), stored(&there.url())),
        (sorted_ids(&all[..600]), sorted_ids(&all[300..]))
    );
    // A part, by a filter; then what is missing here; then all.
    let until = all[149].created_at();
    let older: Vec<Event> = all[..300].iter().filter(|event| event.created_at() <= until).cloned().collect();
    let part = sync(&["--up", "--until", &until.to_string()]);
    assert!(err(&part).contains(&format!("sent {}, refused 0", older.len())), "{}", err(&part));
    let down = sync(&["--down"]);
    assert!(err(&down).contains("fetched 300, sent 0, refused 0"), "{}", err(&down));
    let rest = sync(&["--both"]);
    assert!(err(&rest).contains(&format!("fetched 0, sent {},", 300 - older.len())), "{}", err(&rest));
    assert_eq!((stored(&here.url()), stored(&there.url())), (sorted_ids(&all), sorted_ids(&all)));
    let again = sync(&["--both"]);
    assert!(err(&again).contains("0 missing here, 0 missing there"), "{}", err(&again));
}

#[test]
fn a_folder_is_filled_and_emptied_into_relays() {
    let all = events(1_700_000_000..1_700_000_300);
    let (full, empty) = (real(&all, &[]), real(&[], &[]));
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("relay").to_str().unwrap().to_owned();
    let down = run(&["sync", &full.url(), "--down", "--data", &data]);
    assert!(err(&down).contains("0 known here, 300 missing here"), "{}", err(&down));
    assert!(err(&down).contains("fetched 300, sent 0"), "{}", err(&down));
    // While a relay runs on it, it can be read.
    let _running = Real::start_on(folder, &[]);
    assert!(fail(&["sync", &full.url(), "--down", "--data", &data]).contains("in use"));
    let up = run(&["sync", &empty.url(), "--up", "--data", &data]);
    assert!(err(&up).contains("fetched 0, sent 300"), "{}", err(&up));
    assert_eq!(stored(&empty.url()), sorted_ids(&all));
}

#[test]
fn a_relay_that_compares_few_at_once_is_taken_in_parts() {
    // Some dates are far from the others, and a second holds nearly as many as are compared.
    let dates = [0, 1, 4_000_000].into_iter().chain((0..300).map(|n| 1_700_000_000 + n * 977));
    let all = events(dates.chain([1_700_500_000; 40]));
    let (here, there) = (real(&all[..200], &[]), real(&all, &["--set", "sync.max_events=50"]));
    let done = run(&["sync", &there.url(), "--down", "--relay", &here.url()]);
    assert!(err(&done).contains("143 missing here"), "{}", err(&done));
    assert_eq!(stored(&here.url()), sorted_ids(&all));
    // A second that holds more can not be halved. It is told, and the rest is moved.
    let dates = [1_700_000_000; 60].into_iter().chain(1_690_000_000..1_690_000_040);
    let crowded = events(dates);
    let there = real(&crowded, &["--set", "sync.max_events=50"]);
    let empty = real(&[], &[]);
    let error = fail(&["sync", &there.url(), "--down", "--relay", &empty.url()]);
    assert!(error.contains("too many query results") && error.contains("second 1700000000"), "{error}");
    assert_eq!(stored(&empty.url()), sorted_ids(&crowded[60..]));
}

#[test]
fn a_relay_that_sends_few_at_once_is_asked_again() {
    let all = events(1_700_000_000..1_700_000_700);
    let there = real(&all, &["--set", "limits.max_limit=100"]);
    let here = real(&[], &[]);
    let done = run(&["sync", &there.url(), "--down", "--relay", &here.url()]);
    assert!(err(&done).contains("fetched 700, sent 0, refused 0"), "{}", err(&done));
    assert_eq!(stored(&here.url()), sorted_ids(&all));
}

#[test]
fn what_one_side_refuses_is_told_and_ends_nothing() {
    let keys = Keys::generate();
    let note = |at: u64, text: &str| keys.sign(at, 1, Default::default(), text);
    let gone = note(1_700_000_000, "gone");
    let others: Vec<Event> = (1..50).map(|n| note(1_700_000_000 + n, "stays")).collect();
    let deletion =
        keys.sign(1_700_000_100, 5, rookery::protocol::Tags::from_iter([["e", &gone.id().to_hex()]]), "");
    let (here, there) = (real(&[deletion], &[]), real(&[&[gone][..], &others].concat(), &[]));
    let done = run(&["sync", &there.url(), "--down", "--relay", &here.url()]);
    assert!(done.status.success(), "{}", err(&done));
    assert!(err(&done).contains("fetched 49, sent 0, refused 1"), "{}", err(&done));
    assert!(err(&done).contains("refused as blocked"), "{}", err(&done));
}

/// A relay that reconciles about these events, and sends what `sends` says of those that are asked for.
fn liar(has: &[Event], sends: impl Fn(&EventId) -> Option<String> + Send + 'static) -> Relay {
    let set = set(has);
    let neg = move |id: &str, message: &[u8]| {
        let answer = set.answer(message, MIN_FRAME_BYTES).unwrap();
        say(format!(r#"["NEG-MSG","{id}","{}"]"#, hex::encode(answer)))
    };
    Relay::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::NegOpen { id, message, .. } | ClientMessage::NegMsg { id, message }) => {
            neg(&id, &message)
        }
        Ok(ClientMessage::Req { id, filters }) => {
            let ids = filters[0].ids.iter().flatten();
            let texts = ids.filter_map(&sends).map(|event| Do::Say(format!(r#"["EVENT","{id}",{event}]"#)));
            texts.chain(say(format!(r#"["EOSE","{id}"]"#))).collect()
        }
        _ => accept_all(message),
    })
}

#[test]
fn a_relay_that_lies_costs_little_and_puts_nothing_in() {
    let all = events(1_700_000_000..1_700_000_700);
    let texts: HashMap<EventId, String> =
        all.iter().map(|event| (event.id(), event.json().to_owned())).collect();
    let forged: HashMap<EventId, String> =
        texts.iter().map(|(id, text)| (*id, text.replace("event ", "forged "))).collect();
    let other = events([1])[0].json().to_owned();
    let (good, of_all) = (texts.clone(), all[..350].iter().map(Event::id).collect::<Vec<_>>());
    for (relay, says, count) in [
        // What it names it does not have.
        (liar(&all, |_| None), "700 were named by the other relay, and not sent by it", 0),
        // It sends half of it.
        (liar(&all, move |id| of_all.contains(id).then(|| good[id].clone())), "350 were named", 350),
        // What it sends is not what it names, or not what was asked for.
        (liar(&all, move |id| Some(forged[id].clone())), "700 refused as invalid", 0),
        (liar(&all, move |_| Some(other.clone())), "700 were named", 0),
    ] {
        let folder = TempDir::new().unwrap();
        let data = folder.path().join("data").to_str().unwrap().to_owned();
        let done = run(&["sync", &relay.url, "--down", "--data", &data]);
        assert!(done.status.success(), "{}", err(&done));
        assert!(err(&done).contains(says), "{}", err(&done));
        assert_eq!(succeed(&["export", "-", "--data", &data]).lines().count(), count);
        // Asked once, and once more where something came.
        assert!(relay.count("NEG-OPEN") <= 2, "{:?}", relay.count("NEG-OPEN"));
    }
}

#[test]
fn a_relay_that_does_not_reconcile_is_told_apart_from_one_that_is_away() {
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let sync = |relay: &Relay| fail(&["sync", &relay.url, "--down", "--data", &data]);
    let neg_id = |message: &str| match ClientMessage::parse(message) {
        Ok(ClientMessage::NegOpen { id, .. } | ClientMessage::NegMsg { id, .. }) => Some(id.to_string()),
        _ => None,
    };
    let answers = move |what: &'static str| {
        Relay::start(move |_, message| match neg_id(message) {
            Some(id) => say(what.replace("ID", &id)),
            None => Vec::new(),
        })
    };
    for (says, told) in [
        (
            r#"["NOTICE","ERROR: bad msg: unknown cmd"]"#,
            "does not reconcile (NIP-77): ERROR: bad msg: unknown cmd",
        ),
        (r#"["NEG-ERR","ID","error: negentropy is not supported"]"#, "does not reconcile"),
        (r#"["NEG-ERR","ID","restricted: members only"]"#, "refused to reconcile: restricted: members only"),
        (r#"["NEG-ERR","ID","auth-required: who are you"]"#, "there is no key"),
        (r#"["NEG-MSG","ID","61000003"]"#, "reconciles as nobody should"),
        (r#"["NEG-MSG","ID","xx"]"#, "reconciles as nobody should"),
        (r#"["NEG-MSG","ID","62"]"#, "reconciles as nobody should"),
    ] {
        let error = sync(&answers(says));
        assert!(error.contains(told), "{says}: {error}");
    }
    let none = fail(&["sync", "ws://127.0.0.1:1", "--down", "--data", &data]);
    assert!(none.contains("cannot reach") && !none.contains("trying again"), "{none}");
    // Before anything is opened.
    let relay = Real::start(&[]);
    assert!(fail(&["sync", &relay.url(), "--both", "--relay", &relay.url()]).contains("both sides are"));
    assert!(fail(&["sync", &relay.url()]).contains("--down|--up|--both"));
    assert!(fs::metadata(&data).is_ok());
}

#[test]
fn a_connection_that_is_lost_is_made_anew() {
    let all = events(1_700_000_000..1_700_000_700);
    let (set, texts) = (set(&all), all.clone());
    // The first three end in the middle of an answer.
    let relay = Relay::start(move |number, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::NegOpen { id, message, .. } | ClientMessage::NegMsg { id, message }) => {
            let answer = set.answer(&message, MIN_FRAME_BYTES).unwrap();
            say(format!(r#"["NEG-MSG","{id}","{}"]"#, hex::encode(answer)))
        }
        Ok(ClientMessage::Req { id, filters }) => {
            let wanted = texts.iter().filter(|event| filters[0].matches(*event));
            let event = |event: &Event| Do::Say(format!(r#"["EVENT","{id}",{}]"#, event.json()));
            match number {
                1..=3 => wanted.take(100).map(event).chain([Do::HangUp]).collect(),
                _ => wanted.map(event).chain(say(format!(r#"["EOSE","{id}"]"#))).collect(),
            }
        }
        _ => Vec::new(),
    });
    let folder = TempDir::new().unwrap();
    let data = folder.path().join("data").to_str().unwrap().to_owned();
    let done = run(&["sync", &relay.url, "--down", "--data", &data]);
    assert!(done.status.success(), "{}", err(&done));
    assert_eq!(ids(&succeed(&["export", "-", "--data", &data])), sorted_ids(&all));
}
