//! What other relays send or name that is not taken, and what becomes of those that lie.

use std::{
    cmp::Reverse,
    collections::{BTreeSet, HashMap},
    sync::{Arc, Mutex},
};

use common::{
    Relay, eventually, now,
    proxy::{Flow, Proxy},
};
use rookery::protocol::{
    ClientMessage, Event, EventId, ParsedEvent, Tags,
    negentropy::{Key, KeySet},
    sign::Keys,
};

use super::{adds_up, ids, reader, reads, stored, upstream};
use crate::cli::relay::{Do, Relay as Mock, say};

#[tokio::test(flavor = "multi_thread")]
async fn what_a_liar_sends_is_refused_by_reason_and_the_rest_is_taken() {
    let keys = Keys::generate();
    let good: Vec<Event> = (0..5).map(|n| keys.sign(now() - n, 1, Tags::default(), "good")).collect();
    let texts: Vec<String> = good.iter().map(|event| event.json().to_owned()).collect();
    let forged = good[0].json().replace("good", "evil");
    let late = keys.sign(now() + 100_000, 1, Tags::default(), "ahead").json().to_owned();
    let relay = Mock::start(move |_, message| {
        let Ok(ClientMessage::Req { id, filters }) = ClientMessage::parse(message) else {
            return match ClientMessage::parse(message) {
                Ok(ClientMessage::NegOpen { .. }) => say(r#"["NOTICE","unknown"]"#),
                _ => Vec::new(),
            };
        };
        if filters[0].since.is_some() {
            return say(format!(r#"["EOSE","{id}"]"#));
        }
        let events = texts.iter().chain([&forged, &late]).map(|text| format!(r#"["EVENT","{id}",{text}]"#));
        let others = [
            r#"["EVENT","another",{}]"#.to_owned(),
            format!(r#"["EVENT","{id}",{{"id":1}}]"#),
            format!(r#"["EVENT","{id}",7]"#),
            "nothing of the kind".to_owned(),
            r#"["OK"]"#.to_owned(),
            format!(r#"["EOSE","{id}"]"#),
            // Once more, when it is live.
            format!(r#"["EVENT","{id}",{}]"#, texts[0]),
        ];
        events.chain(others).map(Do::Say).collect()
    });
    let here = reader(&[&relay.url], &[]);
    eventually("the good ones", || stored(&here) == ids(&good)).await;
    eventually("nothing waits", || adds_up(&here, &relay.url)).await;
    let count = |outcome: &str| {
        here.metric(&format!(
            r#"rookery_upstream_events_total{{upstream="{}",outcome="{outcome}"}}"#,
            relay.url
        ))
    };
    assert_eq!((count("stored"), count("shape"), count("known")), (5.0, 2.0, 1.0));
    assert_eq!((count("forged"), count("ahead")), (1.0, 1.0));
}

/// A relay that reconciles. It has these events, whatever they are, and has others by their names alone.
fn reconciles(events: &Arc<Mutex<Vec<Event>>>, names: Vec<Key>) -> Mock {
    let events = Arc::clone(events);
    let mut open: HashMap<(usize, String), KeySet> = HashMap::new();
    let answer = |set: &KeySet, id: &str, message: &[u8]| {
        say(format!(r#"["NEG-MSG","{id}","{}"]"#, hex::encode(set.answer(message, 60_000).unwrap())))
    };
    Mock::start(move |number, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, filters }) => {
            let (events, filter) = (events.lock().unwrap(), &filters[0]);
            let found = events.iter().filter(|event| filter.ids.is_some() && filter.matches(*event));
            let found = found.map(|event| format!(r#"["EVENT","{id}",{}]"#, event.json()));
            found.chain([format!(r#"["EOSE","{id}"]"#)]).map(Do::Say).collect()
        }
        Ok(ClientMessage::NegOpen { id, filter, message }) => {
            let events = events.lock().unwrap();
            let matching = events.iter().filter(|event| filter.matches(*event));
            let of_events = matching.map(|event| Key { created_at: event.created_at(), id: event.id() });
            let mut keys: Vec<Key> = of_events.chain(names.iter().copied()).collect();
            keys.sort_by_key(|key| (Reverse(key.created_at), key.id));
            let set = open.entry((number, id.to_string())).or_insert(keys.into_iter().collect());
            answer(set, &id, &message)
        }
        Ok(ClientMessage::NegMsg { id, message }) => answer(&open[&(number, id.to_string())], &id, &message),
        _ => Vec::new(),
    })
}

/// The ids that it was asked for.
fn asked_for(relay: &Mock) -> Vec<EventId> {
    let ids = |message: &String| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { filters, .. }) => filters[0].ids.clone().unwrap_or_default().into_vec(),
        _ => Vec::new(),
    };
    relay.heard().iter().flat_map(ids).collect()
}

/// An event as its text says, whether that is right or not.
fn as_told(text: &str) -> Event {
    serde_json::from_str::<ParsedEvent<'_>>(text).unwrap().trust()
}

fn tagged(keys: &Keys, kind: u16, tags: &[[&str; 2]]) -> Event {
    keys.sign(now() - 100, kind, Tags::from_iter(tags.iter()), &rand::random::<u64>().to_string())
}

/// Events that a relay does not take, each for a reason of its own, where these others are stored.
fn not_taken(keys: &Keys) -> (Vec<Event>, Vec<Event>) {
    let superseded = tagged(keys, 0, &[]);
    let newer = keys.sign(now() - 10, 0, Tags::default(), "newer");
    let deleted = tagged(keys, 1, &[]);
    let deletion = keys.sign(now() - 10, 5, Tags::from_iter([["e", &deleted.id().to_hex()]]), "");
    let wrong_id = as_told(&tagged(keys, 1, &[]).json().replace(r#""kind":1"#, r#""kind":7"#));
    let (one, other) = (tagged(keys, 1, &[]), tagged(keys, 1, &[]));
    let signature = |event: &Event| event.json().split_once(r#""sig":""#).unwrap().1[..128].to_owned();
    let wrong_signature = as_told(&one.json().replace(&signature(&one), &signature(&other)));
    let there = vec![
        superseded,
        deleted,
        tagged(keys, 1, &[["expiration", "1700000000"]]),
        tagged(keys, 1, &[["-", ""]]),
        tagged(keys, 20_001, &[]),
        wrong_id,
        wrong_signature,
    ];
    (there, vec![newer, deletion])
}

/// Also after a restart: it is written down.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_taken_is_fetched_once_and_not_whenever_everything_is_compared() {
    let keys = Keys::generate();
    let (there, here_already) = not_taken(&keys);
    let there = Arc::new(Mutex::new(there));
    let mock = reconciles(&there, Vec::new());
    let proxy = Proxy::start(mock.url.strip_prefix("ws://").unwrap().to_owned()).await;
    let url = format!("ws://{}", proxy.address);
    let flags = reads(&[&url]);
    let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
    let begun = now() as f64;
    let mut here = upstream(&here_already, &[]).restart_after_kill(&flags);
    let mut expected: BTreeSet<EventId> = there.lock().unwrap().iter().map(Event::id).collect();
    let is_noted = |here: &Relay| {
        let cursor = format!(r#"rookery_upstream_cursor_timestamp_seconds{{upstream="{url}"}}"#);
        here.metric(&cursor) >= begun - 3_600.0
    };
    eventually("nothing waits", || adds_up(&here, &url)).await;
    eventually("it is noted", || is_noted(&here)).await;
    for is_restart in [false, true] {
        // By this one it is seen that everything was compared.
        let good = tagged(&keys, 1, &[]);
        there.lock().unwrap().push(good.clone());
        expected.insert(good.id());
        if is_restart {
            here = here.restart_after_kill(&flags);
        } else {
            proxy.set(Flow::Cut);
            let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
            eventually("it is cut", || here.metric(&up) == 0.0).await;
            proxy.set(Flow::Open);
        }
        eventually("the new one", || stored(&here).contains(&good.id().to_hex())).await;
        let asked = asked_for(&mock);
        assert_eq!(asked.len(), expected.len(), "restart: {is_restart}");
        assert_eq!(asked.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_of_nothing_are_not_asked_for_again() {
    let keys = Keys::generate();
    let there = Arc::new(Mutex::new(vec![tagged(&keys, 1, &[])]));
    let made_up = |n: u64| Key { created_at: now() - n, id: EventId(rand::random()) };
    let mock = reconciles(&there, (0..1_700).map(made_up).collect());
    let proxy = Proxy::start(mock.url.strip_prefix("ws://").unwrap().to_owned()).await;
    let url = format!("ws://{}", proxy.address);
    let here = reader(&[&url], &[]);
    here.log().says("it names events and does not send them").await;
    // The rest is asked for by the next session, and then everything is compared.
    let cursor = format!(r#"rookery_upstream_cursor_timestamp_seconds{{upstream="{url}"}}"#);
    eventually("all is compared", || here.metric(&cursor) > 0.0).await;
    let asked = asked_for(&mock).len();
    there.lock().unwrap().push(tagged(&keys, 1, &[]));
    proxy.set(Flow::Cut);
    let up = format!(r#"rookery_upstream_up{{upstream="{url}"}}"#);
    eventually("it is cut", || here.metric(&up) == 0.0).await;
    proxy.set(Flow::Open);
    eventually("both", || stored(&here) == ids(&*there.lock().unwrap())).await;
    assert_eq!(asked_for(&mock).len(), asked + 1);
    assert_eq!(here.metric(&format!(r#"rookery_upstream_phantoms_total{{upstream="{url}"}}"#)), 1_700.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_sends_what_is_forged_is_not_read_for_an_hour() {
    let keys = Keys::generate();
    let good = tagged(&keys, 1, &[]);
    let forged: Vec<String> =
        (0..50).map(|n| good.json().replace(r#""kind":1"#, &format!(r#""kind":{}"#, 100 + n))).collect();
    let text = good.json().to_owned();
    let mock = Mock::start(move |_, message| {
        let Ok(ClientMessage::Req { id, .. }) = ClientMessage::parse(message) else { return Vec::new() };
        let events = forged.iter().chain([&text]).map(|text| format!(r#"["EVENT","{id}",{text}]"#));
        [format!(r#"["EOSE","{id}"]"#)].into_iter().chain(events).map(Do::Say).collect()
    });
    let here = reader(&[&mock.url], &[]);
    here.log().says("over 1 % of its last 1,000 events are forged, or over half are nothing").await;
    let of = |name: &str| here.metric(&format!(r#"rookery_upstream_{name}{{upstream="{}"}}"#, mock.url));
    assert_eq!((of("up"), of("distrusted_total")), (0.0, 1.0));
    // What it has sent besides is what anybody may send.
    eventually("nothing waits", || adds_up(&here, &mock.url)).await;
    assert_eq!(stored(&here), ids([&good]));
}
