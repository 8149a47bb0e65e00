//! Follow lists: what changes them, how often, and how earlier versions are taken back.

use common::Relay;
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};

use super::Here;

fn people(list: &Value) -> Vec<&str> {
    list["friends"].as_array().unwrap().iter().map(|friend| friend["userId"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_follow_list_is_changed_and_nothing_else_of_it() {
    let relay = Relay::start(&[]);
    let [quill, rook] = ["quill", "rook"].map(|name| Here::sign_up(&relay, name, "nobody"));
    assert_eq!(quill.get("/v1/friends"), json!({ "friends": [], "version": null }));
    let followed = quill.follow("rook");
    assert_eq!(followed["friend"]["username"], "rook");
    assert_eq!(quill.follow("rook")["version"], followed["version"]);
    assert_eq!(rook.get("/v1/users/quill")["followsYou"], true);
    let stranger = Keys::generate().public_key();
    quill.follow(&rookery::protocol::nip19::npub(&stranger));
    rook.follow(&quill.id);
    let list = quill.get("/v1/friends");
    assert_eq!(people(&list), [&*rook.id, &*stranger.to_hex()]);
    assert_eq!(
        (&list["friends"][0]["followsYou"], &list["friends"][1]["followsYou"]),
        (&json!(true), &json!(false))
    );
    quill.ask("DELETE", "/v1/friends/rook", None).ok();
    assert_eq!(people(&quill.get("/v1/friends")), [stranger.to_hex()]);
    let history = quill.get("/v1/friends/history");
    let versions: Vec<(u64, bool)> = history["versions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|version| (version["people"].as_u64().unwrap(), version["stands"].as_bool().unwrap()))
        .collect();
    assert_eq!(versions, [(1, true), (2, false), (1, false)]);
    let version = history["versions"][1]["version"].as_str().unwrap();
    let back = quill.ask("POST", &format!("/v1/friends/history/{version}"), None).ok();
    assert_eq!(people(&back), [&*rook.id, &*stranger.to_hex()]);
}

#[tokio::test]
async fn a_thousand_follows_a_second_are_thirty_a_minute() {
    let relay = Relay::start(&[]);
    let quill = Here::sign_up(&relay, "quill", "nobody");
    let mut statuses = std::collections::BTreeMap::<u16, usize>::new();
    for _ in 0..60 {
        let someone = Keys::generate().public_key().to_hex();
        let answer = quill.ask("POST", &format!("/v1/friends/{someone}"), None);
        if answer.status == 429 {
            assert!(answer.body["seconds"].as_u64().unwrap() <= 60, "{}", answer.body);
        }
        *statuses.entry(answer.status).or_default() += 1;
    }
    assert_eq!(statuses, [(200, 30), (429, 30)].into());
    assert_eq!(people(&quill.get("/v1/friends")).len(), 30);
}

#[tokio::test]
async fn a_version_that_is_a_lot_shorter_is_taken_back_when_that_is_confirmed() {
    let relay = Relay::start(&[]);
    let quill = Here::sign_up(&relay, "quill", "nobody");
    for _ in 0..8 {
        quill.follow(&Keys::generate().public_key().to_hex());
    }
    let versions = quill.get("/v1/friends/history")["versions"].take();
    let first = versions[7]["version"].as_str().unwrap();
    let refused = quill.ask("POST", &format!("/v1/friends/history/{first}"), None);
    assert_eq!(refused.problem(), (409, "shrunk"));
    assert_eq!(people(&quill.get("/v1/friends")).len(), 8);
    let confirm = refused.body["free"][0].as_str().unwrap();
    quill.ask("POST", &format!("/v1/friends/history/{first}?confirm={confirm}"), None).ok();
    assert_eq!(people(&quill.get("/v1/friends")).len(), 1);
}
