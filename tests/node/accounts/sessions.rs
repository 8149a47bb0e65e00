//! Sessions: which token is good, what a socket is signed in by, and what ends them.

use common::{
    Relay,
    people::{PASSWORD, Person},
};
use rookery::protocol::sign::Keys;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{is, me, relay, signed_out};

/// What `POST /v1/auth/socket` makes of the challenge of a socket.
fn proof(relay: &Relay, person: &Person, challenge: &str) -> Value {
    let answer = person.ask(relay, "POST", "/v1/auth/socket", json!({ "challenge": challenge }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["event"].take()
}

/// Tokens that nobody made here, or not for here, or not for now.
#[test]
fn no_other_token_is_good() {
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let other_key = TempDir::new().unwrap();
    let file = other_key.path().join("master.key");
    let master = format!("master_key_file={}", file.display());
    // Another cluster, even with the same URL; and another store with the same key.
    let others = self::relay(&["--set", &master]);
    let stranger = others.sign_up("quill");
    let neighbour = self::relay(&[]).sign_up("quill");
    let parts: Vec<&str> = quill.token.split('.').collect();
    let [head, claims, signature] = parts[..] else { panic!("{}", quill.token) };
    // {"alg":"none","typ":"JWT"}, {"alg":"HS256","typ":"JWT"}
    let [none, hs256] = ["eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0", "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9"];
    let [_, stranger_claims, stranger_signature] = stranger.token.split('.').collect::<Vec<_>>()[..] else {
        panic!()
    };
    for token in [
        "",
        "nonsense",
        &stranger.token,
        &neighbour.token,
        &format!("{none}.{claims}."),
        &format!("{none}.{claims}.{signature}"),
        &format!("{hs256}.{claims}.{signature}"),
        &format!("{head}.{claims}."),
        &format!("{head}.{claims}"),
        &format!("{head}.{stranger_claims}.{stranger_signature}"),
        &format!("{head}.{stranger_claims}.{signature}"),
        &"x".repeat(8_000),
    ] {
        assert_eq!(me(&relay, token).problem(), signed_out(), "{token}");
    }
    assert_eq!(relay.program("GET", "/v1/me", &[], Value::Null).problem(), signed_out());
    assert_eq!(me(&relay, &quill.token).status, 200);
}

/// The NIP-42 event that a browser gets for its socket is good once, here, and for as long as its session.
#[tokio::test]
async fn a_socket_is_signed_in_by_its_own_challenge() {
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let mut socket = relay.connect().await;
    assert!(!is(&mut socket, &quill.key).await);
    let event = proof(&relay, &quill, &socket.challenge);
    let named: Vec<&str> =
        event["tags"].as_array().unwrap().iter().map(|tag| tag[0].as_str().unwrap()).collect();
    assert_eq!(named, ["relay", "challenge", "session"]);
    let id = event["id"].as_str().unwrap().to_owned();
    socket.say(json!(["AUTH", event])).await;
    assert_eq!(socket.hear_ok(&id).await, (true, String::new()));
    assert!(is(&mut socket, &quill.key).await);
    // The challenge of one connection is that of no other.
    let mut another = relay.connect().await;
    another.say(json!(["AUTH", event])).await;
    assert!(!another.hear_ok(&id).await.0);
    assert_eq!(quill.ask(&relay, "POST", "/v1/auth/socket", json!({ "challenge": "a b" })).status, 400);
    // A session that is none, of a key that somebody has themselves.
    let keys = Keys::generate();
    let tags = [["relay", &relay.url()], ["challenge", &another.challenge], ["session", &"0f".repeat(16)]];
    let forged = keys.sign(common::now(), 22_242, rookery::protocol::Tags::from_iter(tags), "");
    another.say_text(format!(r#"["AUTH",{}]"#, forged.json())).await;
    assert!(!another.hear_ok(&forged.id().to_hex()).await.0);
    // It ends with the session, from wherever that is ended.
    let elsewhere = relay.sign_in("quill");
    let sessions = elsewhere.ask(&relay, "GET", "/v1/auth/sessions", Value::Null).json();
    let other =
        sessions["sessions"].as_array().unwrap().iter().find(|session| session["current"] == false).unwrap();
    let path = format!("/v1/auth/sessions/{}", other["id"].as_str().unwrap());
    assert_eq!(elsewhere.ask(&relay, "DELETE", &path, Value::Null).status, 204);
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(elsewhere.ask(&relay, "DELETE", &path, Value::Null).status, 404);
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());
    // Those of others are nobody's business.
    let nettle = relay.sign_up("nettle");
    let of_nettle = nettle.ask(&relay, "GET", "/v1/auth/sessions", Value::Null).json();
    let path = format!("/v1/auth/sessions/{}", of_nettle["sessions"][0]["id"].as_str().unwrap());
    assert_eq!(elsewhere.ask(&relay, "DELETE", &path, Value::Null).status, 404);
    assert_eq!(me(&relay, &nettle.token).status, 200);
}

#[tokio::test]
async fn another_password_ends_all_other_sessions() {
    let relay = relay(&[]);
    let (quill, elsewhere) = (relay.sign_up("quill"), relay.sign_in("quill"));
    let mut socket = elsewhere.connect(&relay).await;
    let change = |old: &str, new: &str| {
        quill.ask(&relay, "PUT", "/v1/auth/password", json!({ "password": old, "newPassword": new }))
    };
    // Who says that is signed in all the same, and told so.
    let wrong = change("wrong wrong wrong", "four rooks on a wire");
    assert_eq!(wrong.problem(), (401, "wrong-password".into()));
    assert_eq!(
        (&wrong.json()["title"], &wrong.json()["field"]),
        (&json!("wrong password"), &json!("password"))
    );
    assert!(wrong.json()["detail"].as_str().unwrap().contains("you are still signed in"), "{wrong:?}");
    assert_eq!(change(PASSWORD, "short").problem(), (400, "unfit".into()));
    assert_eq!(me(&relay, &elsewhere.token).status, 200);
    assert_eq!(change(PASSWORD, "four rooks on a wire").status, 204);
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(me(&relay, &elsewhere.token).problem(), signed_out());
    assert_eq!(me(&relay, &quill.token).status, 200);
    assert_eq!(relay.try_sign_in("quill", PASSWORD).problem(), (401, "wrong-password".into()));
    assert_eq!(relay.try_sign_in("quill", "four rooks on a wire").status, 200);
}
