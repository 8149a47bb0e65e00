//! Signing in by a key: one of their own, or that of an account.

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::people::{Answer, PASSWORD, Person, ask};
use nostr_sdk::nips::{nip19::FromBech32, nip49::EncryptedSecretKey};
use rookery::protocol::{Tags, sign::Keys};
use serde_json::{Value, json};

use super::{is, relay, signed_out};

/// The event that answers a challenge, with some tags as somebody wants them.
fn answer_of(keys: &Keys, asked: &Value, other: &[(&str, &str)]) -> (&'static str, String) {
    let text = |name: &str| asked[name].as_str().unwrap().to_owned();
    let mut tags = vec![
        ["u".to_owned(), text("url")],
        ["method".to_owned(), text("method")],
        ["challenge".to_owned(), text("challenge")],
    ];
    for tag in &mut tags {
        if let Some((_, value)) = other.iter().find(|(name, _)| *name == tag[0]) {
            tag[1] = (*value).to_owned();
        }
    }
    let event = keys.sign(common::now(), 27_235, tags.into_iter().collect::<Tags>(), "");
    ("Authorization", format!("Nostr {}", BASE64.encode(event.json())))
}

/// Whoever has a key of their own reads with it, and signs what they say themselves.
#[tokio::test]
async fn somebody_signs_in_by_a_key_of_their_own() {
    let relay = relay(&[]);
    let (keys, nettle) = (Keys::generate(), relay.sign_up("nettle"));
    let challenge = || relay.program("POST", "/v1/auth/challenge", &[], Value::Null).json();
    let sign_in = |header: (&str, String)| {
        relay.program("POST", "/v1/auth/sign-in", &[(header.0, &header.1)], Value::Null)
    };
    // What was signed for somebody else, or not at all, is of no use.
    let asked = challenge();
    assert_eq!(asked["url"], format!("http://{}/v1/auth/sign-in", relay.clients));
    for other in [
        [("u", "https://evil.example.com/v1/auth/sign-in")],
        [("method", "GET")],
        [("challenge", "nonsense")],
        [("challenge", "")],
    ] {
        assert_eq!(
            sign_in(answer_of(&keys, &asked, &other)).problem(),
            (401, "unproved".into()),
            "{other:?}"
        );
    }
    assert_eq!(sign_in(("Authorization", "Nostr nonsense".into())).problem(), (401, "unproved".into()));
    // Of many that show the same one signs in.
    let shown = answer_of(&keys, &asked, &[]);
    let answers: Vec<Answer> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..8).map(|_| scope.spawn(|| sign_in(shown.clone()))).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (good, bad): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 200);
    assert_eq!((good.len(), bad.len()), (1, 7));
    assert!(bad.iter().all(|answer| answer.problem() == (401, "unproved".into())), "{bad:?}");
    let view = good[0].json();
    assert_eq!((&view["userId"], &view["username"]), (&json!(keys.public_key().to_hex()), &Value::Null));
    let me = Person {
        name: String::new(),
        key: keys.public_key().to_hex(),
        token: view["token"].as_str().unwrap().to_owned(),
    };
    // They follow and mute by events of their own, and see what they follow.
    let mut socket = me.connect(&relay).await;
    assert!(is(&mut socket, &me.key).await);
    let list = keys.sign(common::now(), 3, Tags::from_iter([["p", &*nettle.key]]), "");
    assert!(socket.publish(&list).await.0);
    let said = json!({ "content": "hello", "tags": [["p", me.key]] });
    assert_eq!(nettle.ask(&relay, "POST", "/v1/posts", said).status, 201);
    let get = |path: &str| me.ask(&relay, "GET", path, Value::Null);
    assert_eq!(get("/v1/feed").json()["events"][0]["content"], "hello");
    assert_eq!(get("/v1/friends").json()["friends"][0]["username"], "nettle");
    let notices = get("/v1/notifications").json();
    let read =
        format!("{}:{}", notices["events"][0]["created_at"], notices["events"][0]["id"].as_str().unwrap());
    assert_eq!(me.ask(&relay, "POST", "/v1/notifications/read", json!({ "read": read })).status, 200);
    assert_eq!(get("/v1/mutes").json(), json!({ "mutes": [] }));
    assert_eq!(get("/v1/me").json()["username"], Value::Null);
    let password = json!({ "password": PASSWORD, "newPassword": PASSWORD, "keyPassword": "x".repeat(20) });
    for (method, path, body) in [
        ("POST", "/v1/posts", json!({ "content": "x" })),
        ("POST", "/v1/friends/nettle", Value::Null),
        ("POST", "/v1/mutes/nettle", Value::Null),
        ("PUT", "/v1/profile", json!({ "name": "x" })),
        ("PUT", "/v1/settings", json!({ "listed": true })),
        ("POST", "/v1/auth/socket", json!({ "challenge": "x" })),
        ("PUT", "/v1/auth/password", password.clone()),
        ("POST", "/v1/me/key", password.clone()),
        ("POST", "/v1/me/leave", password),
    ] {
        assert_eq!(me.ask(&relay, method, path, body).problem(), (403, "own-key".into()), "{path}");
    }
    // The session ends as any other.
    let sessions = get("/v1/auth/sessions").json();
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 1, "{sessions}");
    let path = format!("/v1/auth/sessions/{}", sessions["sessions"][0]["id"].as_str().unwrap());
    assert_eq!(me.ask(&relay, "DELETE", &path, Value::Null).status, 204);
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(get("/v1/feed").problem(), signed_out());
}

/// The key of an account signs into it, wherever it was taken along to; and a browser with what it has asked for itself.
#[test]
fn the_key_of_an_account_signs_into_it() {
    const KEY_PASSWORD: &str = "a longer one for the key";
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let wanted = json!({ "password": PASSWORD, "keyPassword": KEY_PASSWORD });
    let taken = quill.ask(&relay, "POST", "/v1/me/key", wanted).json();
    let taken = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
    let keys = Keys::from_secret(taken.decrypt(KEY_PASSWORD).unwrap().to_secret_bytes()).unwrap();

    let asked = relay.page("POST", "/v1/auth/challenge", "", Value::Null);
    let secret = asked.cookie("rookery-challenge").unwrap();
    let answer = answer_of(&keys, &asked.json(), &[]);
    let origin = format!("http://{}", relay.clients);
    let sign_in = |cookie: Option<&str>| {
        let cookie = cookie.map(|secret| format!("rookery-challenge={secret}")).unwrap_or_default();
        let mut headers =
            vec![("Sec-Fetch-Site", "same-origin"), ("Origin", &*origin), (answer.0, &*answer.1)];
        headers.extend((!cookie.is_empty()).then_some(("Cookie", &*cookie)));
        ask(relay.clients, "POST", "/v1/auth/sign-in", &headers, b"")
    };
    // Not one that somebody else's page has had signed, nor as a program.
    for cookie in [None, Some("00")] {
        assert_eq!(sign_in(cookie).problem(), (401, "unproved".into()));
    }
    let as_program = relay.program("POST", "/v1/auth/sign-in", &[(answer.0, &answer.1)], Value::Null);
    assert_eq!(as_program.problem(), (401, "unproved".into()));
    let signed_in = sign_in(Some(&secret));
    assert_eq!((signed_in.status, &signed_in.json()["username"]), (200, &json!("quill")), "{signed_in:?}");
    assert!(signed_in.json()["token"].is_null() && signed_in.cookie("rookery").is_some());

    assert_eq!(relay.ask("POST", "/v1/accounts/quill/disable", "").0, 200);
    let asked = relay.program("POST", "/v1/auth/challenge", &[], Value::Null).json();
    let (name, value) = answer_of(&keys, &asked, &[]);
    let refused = relay.program("POST", "/v1/auth/sign-in", &[(name, &value)], Value::Null);
    assert_eq!(refused.problem(), (403, "disabled".into()));
}
