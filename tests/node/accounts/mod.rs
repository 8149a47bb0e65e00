//! Accounts, as programs and browsers see them: signing up, in and out, who is let in by what, and what is never told.

mod browser;
mod guesses;
mod master_key;
mod operators;
mod own_key;
mod secrets;
mod sessions;
mod sign_up;

use std::{collections::BTreeSet, process::Command};

use common::{
    Client, Relay,
    people::{Answer, PASSWORD},
};
use nostr_sdk::nips::{nip19::FromBech32, nip49::EncryptedSecretKey};
use rookery::protocol::{kind, nip19};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::Error;

/// A relay that lets its tests sign up as often as they like.
fn relay(settings: &[&str]) -> Relay {
    let usual = ["--set", "accounts.address_sign_ups=1000", "--set", "accounts.open=everybody"];
    Relay::start(&[&usual, settings].concat())
}

fn me(relay: &Relay, token: &str) -> Answer {
    relay.program("GET", "/v1/me", &[("Authorization", &format!("Bearer {token}"))], Value::Null)
}

fn signed_out() -> (u16, String) {
    (401, "signed-out".to_owned())
}

/// Whether the socket proves to be that account's: it may ask for what concerns it alone.
async fn is(client: &mut Client, key: &str) -> bool {
    client.say(json!(["REQ", "own", { "kinds": [4], "#p": [key] }])).await;
    let heard = client.hear().await;
    if heard[0] == "EOSE" {
        client.say(json!(["CLOSE", "own"])).await;
    }
    heard[0] == "EOSE"
}

#[tokio::test]
async fn somebody_signs_up_in_and_out() {
    let relay = relay(&[]);
    let said =
        json!({ "username": "Quill", "password": PASSWORD, "passwordConfirm": PASSWORD, "gender": "?" });
    let up = relay.program("POST", "/v1/auth/sign-up", &[], said.clone());
    let view = up.json();
    let key = view["userId"].as_str().unwrap();
    assert_eq!((up.status, &view["object"], &view["username"]), (201, &json!("token"), &json!("quill")));
    let public = rookery::protocol::PublicKey::from_hex(key).unwrap();
    assert_eq!(view["npub"], nip19::npub(&public));
    assert!(view["expires_at"].as_u64().unwrap() > common::now() + 3_000, "{view}");
    assert_eq!(up.header("cache-control").as_deref(), Some("no-store"));
    assert!(up.header("set-cookie").is_none(), "{up:?}");

    let taken = relay.program("POST", "/v1/auth/sign-up", &[], said);
    assert_eq!(taken.problem(), (409, "taken".into()));
    assert_eq!(taken.json()["free"][0], "quill2", "{taken:?}");

    for (name, password) in
        [("quill", "another password"), ("nobody-here", PASSWORD), ("<&\u{202e}", PASSWORD)]
    {
        let answer = relay.try_sign_in(name, password);
        assert_eq!(answer.problem(), (401, "wrong-password".into()), "{name}");
    }
    let quill = relay.sign_in(" QUILL ");
    assert_eq!((&*quill.key, &*quill.name), (key, "quill"));
    let answer = me(&relay, &quill.token).json();
    assert_eq!(
        (&answer["userId"], &answer["activity"], &answer["listed"]),
        (&json!(key), &json!("nobody"), &json!(false))
    );
    let chosen =
        quill.ask(&relay, "PUT", "/v1/settings", json!({ "activity": "friends", "listed": true })).json();
    assert_eq!((&chosen["activity"], &chosen["listed"]), (&json!("friends"), &json!(true)));
    assert_eq!(me(&relay, &quill.token).json(), chosen);

    let mut socket = quill.connect(&relay).await;
    assert!(is(&mut socket, key).await);
    assert_eq!(quill.ask(&relay, "POST", "/v1/auth/sign-out", Value::Null).status, 204);
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());
    let refused = tokio_tungstenite::connect_async(quill.handshake(&relay)).await;
    assert!(matches!(refused, Err(Error::Http(answer)) if answer.status() == 401));
    // The other session goes on.
    assert_eq!(me(&relay, view["token"].as_str().unwrap()).status, 200);
}

/// Kill, and start again: all of it is in the store.
#[tokio::test]
async fn accounts_outlive_the_process() {
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let relay = relay.restart_after_kill(&["--set", "accounts.open=closed"]);
    assert_eq!(me(&relay, &quill.token).status, 200);
    assert_eq!(relay.sign_in("quill").key, quill.key);
    let more = json!({ "username": "nettle", "password": PASSWORD });
    assert_eq!(relay.program("POST", "/v1/auth/sign-up", &[], more).problem(), (403, "closed".into()));
}

#[test]
fn a_name_leads_to_a_key() {
    let relay = relay(&["--url", "wss://relay.example.com"]);
    let quill = relay.sign_up("quill");
    let ask = |name: &str| relay.program("GET", &format!("/.well-known/nostr.json{name}"), &[], Value::Null);
    let found = ask("?name=quill");
    assert_eq!((found.status, found.header("access-control-allow-origin").as_deref()), (200, Some("*")));
    assert_eq!(found.json()["names"], json!({ "quill": quill.key }));
    assert_eq!(found.json()["relays"][&quill.key], json!(["wss://relay.example.com/"]));
    for name in ["?name=nobody", "?name=_", "", "?name=%00", "?name=quill%40relay.example.com"] {
        assert_eq!(ask(name).json(), json!({ "names": {} }), "{name}");
    }
}

#[test]
fn without_accounts_there_is_nothing() {
    let relay = Relay::start(&["--set", "accounts.enabled=false"]);
    assert_eq!(relay.program("GET", "/v1/me", &[], Value::Null).status, 404);
    assert_eq!(relay.program("GET", "/.well-known/nostr.json?name=quill", &[], Value::Null).status, 404);
    assert_eq!(relay.ask("GET", "/v1/accounts", "").0, 404);
    // The master key would be with what it protects.
    let data = TempDir::new().unwrap();
    let master = format!("master_key_file={}", data.path().join("relay/keys/master.key").display());
    let relay = Relay::start_on(data, &["--set", &master]);
    assert_eq!(relay.program("GET", "/v1/me", &[], Value::Null).status, 404);
    assert!(!relay.data.path().join("relay/keys").exists());
}

/// What is asked by a method that is not one of the path's is told which are; `HEAD` is `GET` without a body.
#[test]
fn the_methods_of_a_path_are_told() {
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let refused = relay.program("PATCH", "/v1/friends/quill", &[], Value::Null);
    assert_eq!(refused.problem(), (405, "method-not-allowed".into()));
    assert_eq!(refused.header("Allow").as_deref(), Some("DELETE, POST"));
    assert_eq!(
        relay.program("PUT", "/v1/me", &[], Value::Null).header("Allow").as_deref(),
        Some("GET, HEAD")
    );
    assert_eq!(relay.program("GET", "/v1/friends/quill/nothing", &[], Value::Null).status, 404);
    let [got, headed] = ["GET", "HEAD"].map(|method| quill.ask(&relay, method, "/v1/me", Value::Null));
    assert_eq!((headed.status, &headed.body[..]), (200, ""));
    assert_eq!(headed.header("Content-Length"), Some(got.body.len().to_string()));
    let (status, _, _) = relay.ask("PATCH", "/v1/settings", "");
    assert_eq!(status, 405);
    for document in [
        relay.program("GET", "/v1/openapi.json", &[], Value::Null).json(),
        relay.ask("GET", "/v1/openapi.json", "").2,
    ] {
        let mut names = BTreeSet::new();
        for (path, methods) in document["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                assert!(names.insert(operation["operationId"].to_string()), "{method} {path}");
                for parameter in operation["parameters"].as_array().into_iter().flatten() {
                    let is_in_path = path.contains(&format!("{{{}}}", parameter["name"].as_str().unwrap()));
                    assert_eq!(parameter["in"] == "path", is_in_path, "{method} {path}: {parameter}");
                }
                for (status, answer) in operation["responses"].as_object().unwrap() {
                    assert!(!answer["description"].as_str().unwrap().is_empty(), "{method} {path} {status}");
                }
            }
        }
    }
}

/// Whoever goes takes their key along and what they have said, and leaves as much behind as they choose.
#[tokio::test]
async fn who_leaves_takes_along_what_is_theirs() {
    const KEY_PASSWORD: &str = "a longer one for the key";
    let relay = relay(&[]);
    for vanish in [false, true] {
        let name = format!("quill-{vanish}");
        let quill = relay.sign_up_with(&name, json!({ "activity": "followers" }));
        let posted = quill.ask(&relay, "POST", "/v1/posts", json!({ "content": "hello" })).json();
        let ask = |path: &str, body: Value| quill.ask(&relay, "POST", path, body);

        let wrong = json!({ "password": "another one", "keyPassword": KEY_PASSWORD });
        let wrong = ask("/v1/me/key", wrong);
        assert_eq!(
            (wrong.problem(), &wrong.json()["field"]),
            ((401, "wrong-password".into()), &json!("password"))
        );
        let short = ask("/v1/me/key", json!({ "password": PASSWORD, "keyPassword": "short" }));
        assert_eq!((short.status, &short.json()["field"]), (400, &json!("keyPassword")));
        let taken = ask("/v1/me/key", json!({ "password": PASSWORD, "keyPassword": KEY_PASSWORD })).json();
        let key = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
        let secret = key.decrypt(KEY_PASSWORD).unwrap();
        assert_eq!(nostr_sdk::Keys::new(secret).public_key().to_hex(), quill.key);

        let said = Command::new("curl")
            .args(["--fail", "--silent", "--header"])
            .arg(format!("Authorization: Bearer {}", quill.token))
            .arg(format!("http://{}/v1/me/export", relay.clients))
            .output()
            .unwrap();
        let said = String::from_utf8(said.stdout).unwrap();
        let said: Vec<Value> = said.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert!(said.iter().all(|event| event["pubkey"] == *quill.key && event["kind"] != kind::ACTIVITY));
        assert!(said.contains(&posted["event"]) && said.iter().any(|event| event["kind"] == 0), "{said:?}");

        let mut socket = quill.connect(&relay).await;
        let leave = |password: &str| ask("/v1/me/leave", json!({ "password": password, "vanish": vanish }));
        assert_eq!(leave("another one").problem(), (401, "wrong-password".into()));
        assert_eq!(leave(PASSWORD).status, 204);
        assert_eq!(socket.hear_close().await, 4401);
        assert_eq!(relay.try_sign_in(&name, PASSWORD).status, 401);
        assert_eq!(quill.ask(&relay, "GET", "/v1/me", Value::Null).status, 401);
        let again = json!({ "username": name, "password": PASSWORD, "passwordConfirm": PASSWORD });
        assert_eq!(relay.program("POST", "/v1/auth/sign-up", &[], again).problem(), (409, "taken".into()));
        let mut stranger = relay.connect().await;
        let found = stranger.find(json!({ "authors": [quill.key], "kinds": [0, 1] })).await;
        assert_eq!(found.is_empty(), vanish, "{found:?}");
    }
}
