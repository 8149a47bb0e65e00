//! `rookery query`.

use rookery::protocol::{ClientMessage, sign::Keys};

use crate::cli::program::{err, events, out, run, succeed, times};
use crate::cli::relay::{Do, Relay, holds, say};

#[test]
fn query_pages_until_it_has_enough() {
    let mut all = events((1..=1_200).map(|n| 1_000 + n / 7));
    all.push(Keys::generate().sign(1_001, 1, Default::default(), "Der NEEDLE im Heu"));
    let relay = Relay::start({
        let holds = holds(all, 100, false);
        move |_, message| holds(message)
    });
    let query = |args: &[&str]| succeed(&[&["query", "--relay", &relay.url], args].concat());
    assert_eq!(times(&query(&["--amount", "3"])), [1_171, 1_171, 1_171]);
    assert_eq!(relay.count("REQ"), 1);
    assert_eq!(times(&query(&["--limit", "3"])), [1_171, 1_171, 1_171]);
    assert_eq!(
        times(&query(&["--amount", "9", "--order-by", "asc"])),
        [vec![1_170; 5], vec![1_171; 4]].concat()
    );
    let newest = query(&["--amount", "400"]);
    assert_eq!(newest.lines().count(), 400);
    assert!(times(&newest).is_sorted_by(|a, b| a >= b));
    assert!(query(&["--keyword", "needle"]).contains("NEEDLE im"));
    assert_eq!(query(&["--keyword", "absent"]), "");
    assert_eq!(query(&["--until", "1001", "--since", "1001"]).lines().count(), 8);
}

#[test]
fn query_believes_the_hint_that_this_is_all() {
    let relay = Relay::start({
        let holds = holds(events([5, 4, 3]), 100, true);
        move |_, message| holds(message)
    });
    assert_eq!(times(&succeed(&["query", "--relay", &relay.url])), [5, 4, 3]);
    assert_eq!(relay.count("REQ"), 1);
}

#[test]
fn query_leaves_out_what_is_forged_or_unasked() {
    let good = events([5]).remove(0);
    let forged = good.json().replace("event 0", "event 9");
    let unasked = events([9]).remove(0);
    let relay = Relay::start(move |_, message| match ClientMessage::parse(message) {
        Ok(ClientMessage::Req { id, .. }) => [good.json(), &forged, unasked.json(), "{}"]
            .iter()
            .map(|event| Do::Say(format!(r#"["EVENT","{id}",{event}]"#)))
            .chain(say(format!(r#"["EOSE","{id}",["finish"]]"#)))
            .collect(),
        _ => Vec::new(),
    });
    let output = run(&["query", "--until", "5", "--relay", &relay.url]);
    assert_eq!(times(out(&output)), [5]);
    assert!(err(&output).contains("left out 3 events"), "{}", err(&output));
}
