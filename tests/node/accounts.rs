//! Accounts, as programs and browsers see them: signing up, in and out, who is let in by what, and what is never told.

use std::{
    collections::BTreeSet,
    fs,
    io::{Read, Write},
    path::Path,
    process::Command,
};

use base64::{Engine, engine::general_purpose::STANDARD as BASE64};
use common::{
    Client, PATIENCE, Relay, eventually,
    people::{Answer, PASSWORD, Person, ask},
    rookery,
};
use nostr_sdk::nips::{
    nip19::{FromBech32, ToBech32},
    nip49::EncryptedSecretKey,
};
use rookery::protocol::{Tags, kind, nip19, sign::Keys};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{Error, client::IntoClientRequest};

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

/// What `POST /v1/auth/socket` makes of the challenge of a socket.
fn proof(relay: &Relay, person: &Person, challenge: &str) -> Value {
    let answer = person.ask(relay, "POST", "/v1/auth/socket", json!({ "challenge": challenge }));
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.json()["event"].take()
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
fn a_name_and_a_password_have_to_fit() {
    let relay = relay(&[]);
    let up = |name: &str, password: &str| {
        relay.program("POST", "/v1/auth/sign-up", &[], json!({ "username": name, "password": password }))
    };
    let long = "x".repeat(31);
    for name in [
        "",
        "a",
        &long,
        "admin",
        "_",
        "root",
        "рок",
        "qu\u{200b}ill",
        "\u{202e}lliuq",
        "a b",
        "<script>",
        "a'; DROP TABLE",
        "../../x",
        "a\r\nb",
        "npub1quill",
    ] {
        let answer = up(name, PASSWORD);
        assert_eq!(
            (answer.problem(), &answer.json()["field"]),
            ((400, "unfit".into()), &json!("username")),
            "{name:?}"
        );
    }
    for password in ["", "short", "1234567890", "quill-writes", "x".repeat(1_025).as_str()] {
        let answer = up("quill-writes", password);
        assert_eq!(
            (answer.problem(), &answer.json()["field"]),
            ((400, "unfit".into()), &json!("password")),
            "{password}"
        );
        assert!(password.is_empty() || !answer.body.contains(password));
    }
    let differ = json!({ "username": "quill", "password": PASSWORD, "passwordConfirm": "another one of it" });
    let answer = relay.program("POST", "/v1/auth/sign-up", &[], differ);
    assert_eq!(answer.json()["field"], "passwordConfirm");
    for body in [
        "",
        "[]",
        "{}",
        "{\"username\": 7}",
        "nonsense",
        "{\"username\":\"quill\",\"password\":[\"hidden word\"]}",
    ] {
        let answer = ask(relay.clients, "POST", "/v1/auth/sign-up", &[], body.as_bytes());
        assert_eq!(answer.problem().0, 400, "{body}");
        assert!(!answer.body.contains("hidden"), "{answer:?}");
    }
    // Nobody has been made.
    assert_eq!(relay.ask("GET", "/v1/accounts", "").2["accounts"], json!([]));
}

/// What is longer than any password is refused before anybody hashes it; what is longer than any request, before it is
/// read.
#[test]
fn a_million_characters_are_no_password() {
    let relay = relay(&["--set", "accounts.max_body_bytes=2000000"]);
    relay.sign_up("quill");
    let long = "x".repeat(1_000_000);
    assert_eq!(relay.try_sign_in("quill", &long).problem(), (400, "unfit".into()));
    let up = json!({ "username": "nettle", "password": long });
    assert_eq!(relay.program("POST", "/v1/auth/sign-up", &[], up).problem(), (400, "unfit".into()));
    // Of what is longer than any request, not even the beginning is waited for.
    let mut stream = std::net::TcpStream::connect(relay.clients).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("Host: {}\r\nConnection: close\r\nContent-Length: 2000001", relay.clients);
    write!(stream, "POST /v1/auth/sign-in HTTP/1.1\r\n{head}\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 400 "), "{answer}");
    assert_eq!(relay.try_sign_in("quill", PASSWORD).status, 200);
}

/// The browser's session is a cookie, and no script sees a token.
#[test]
fn a_browser_has_a_cookie_and_never_a_token() {
    let relay = relay(&[]);
    let said = json!({ "username": "quill", "password": PASSWORD });
    let up = relay.page("POST", "/v1/auth/sign-up", "", said.clone());
    assert_eq!((up.status, &up.json()["token"]), (201, &Value::Null));
    let set: Vec<&str> = up.headers("set-cookie").collect();
    assert!(
        set.iter().all(|cookie| cookie.contains("; HttpOnly; SameSite=Lax") && cookie.contains("Path=/")),
        "{set:?}"
    );
    let token = up.cookie("rookery").unwrap();
    let cookie = format!("a=b; rookery={token}");
    assert_eq!(relay.page("GET", "/v1/me", &cookie, Value::Null).status, 200);
    let sessions = relay.page("GET", "/v1/auth/sessions", &cookie, Value::Null).json();
    assert_eq!(
        (sessions["sessions"].as_array().unwrap().len(), &sessions["sessions"][0]["current"]),
        (1, &json!(true))
    );
    let out = relay.page("POST", "/v1/auth/sign-out", &cookie, Value::Null);
    assert_eq!((out.status, out.cookie("rookery").as_deref()), (204, Some("")));
    assert!(out.head.contains("Max-Age=0"), "{out:?}");
    assert_eq!(relay.page("GET", "/v1/me", &cookie, Value::Null).problem(), signed_out());
    // By another name than that of this machine, it is one that only TLS carries.
    let public = self::relay(&["--url", "wss://relay.example.com"]);
    let headers = [
        ("Host", "relay.example.com"),
        ("Origin", "https://relay.example.com"),
        ("Sec-Fetch-Site", "same-origin"),
    ];
    let up = public.program("POST", "/v1/auth/sign-up", &headers, said);
    assert_eq!(up.status, 201, "{up:?}");
    assert!(
        up.headers("set-cookie").all(|cookie| cookie.starts_with("__Host-") && cookie.contains("; Secure")),
        "{up:?}"
    );
}

/// What changes something is taken from pages of this relay alone; and no name that leads here is believed.
#[tokio::test]
async fn pages_of_others_change_nothing() {
    let relay = relay(&["--url", "wss://relay.example.com"]);
    let said = json!({ "username": "quill", "password": PASSWORD });
    let own = ("Host", "relay.example.com");
    let up = |headers: &[(&str, &str)]| relay.program("POST", "/v1/auth/sign-in", headers, said.clone());
    let made = relay.program(
        "POST",
        "/v1/auth/sign-up",
        &[own, ("Origin", "https://relay.example.com"), ("Sec-Fetch-Site", "same-origin")],
        said.clone(),
    );
    let token = made.cookie("__Host-rookery").unwrap();
    let cookie = format!("__Host-rookery={token}");
    let foreign = (403, "foreign".to_owned());
    for headers in [
        &[own, ("Origin", "https://evil.example"), ("Sec-Fetch-Site", "cross-site")][..],
        &[own, ("Origin", "https://relay.example.com"), ("Sec-Fetch-Site", "same-site")],
        &[own, ("Origin", "https://sub.relay.example.com")],
        &[own, ("Origin", "http://relay.example.com")],
        &[own, ("Origin", "null")],
        &[own, ("Sec-Fetch-Site", "none")],
        &[own, ("Cookie", &cookie)],
    ] {
        assert_eq!(up(headers).problem(), foreign, "{headers:?}");
        let out = relay.program(
            "POST",
            "/v1/auth/sign-out",
            &[headers, &[("Cookie", &cookie)]].concat(),
            Value::Null,
        );
        assert_eq!(out.problem(), foreign, "{headers:?}");
    }
    // A form of another page, and JSON that calls itself text.
    for media_type in ["application/x-www-form-urlencoded", "text/plain"] {
        let headers = [own, ("Origin", "https://evil.example"), ("Content-Type", media_type)];
        let body = format!("username=quill&password={PASSWORD}");
        assert_eq!(
            ask(relay.clients, "POST", "/v1/auth/sign-in", &headers, body.as_bytes()).problem(),
            foreign
        );
    }
    assert_eq!(
        up(&[own, ("Origin", "https://relay.example.com"), ("Sec-Fetch-Site", "same-origin")]).status,
        200
    );
    assert_eq!(up(&[own, ("Origin", "https://relay.example.com")]).status, 200);
    assert_eq!(up(&[own]).status, 200);
    for host in ["evil.example", "relay.example.com.evil.example", "relay.example.com:81", ""] {
        let misdirected = up(&[("Host", host)]).problem();
        assert_eq!(misdirected, (421, "misdirected".into()), "{host}");
    }
    for host in ["localhost:7777", "127.0.0.1:1234", "192.0.2.7"] {
        assert_eq!(up(&[("Host", host)]).status, 200, "{host}");
    }
    let got = relay.program(
        "GET",
        "/v1/me",
        &[own, ("Cookie", &cookie), ("Origin", "https://evil.example")],
        Value::Null,
    );
    assert_eq!(
        (got.status, got.header("access-control-allow-origin")),
        (200, None),
        "no page of others reads it"
    );
    // A cookie opens no socket as anybody; everybody's page may open one as nobody.
    let mut request = relay.url().into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request.headers_mut().insert("origin", "https://evil.example".parse().unwrap());
    let mut socket = Client::connect(request).await;
    let key = made.json()["userId"].as_str().unwrap().to_owned();
    assert!(!is(&mut socket, &key).await);
}

#[test]
fn a_form_works_without_script() {
    let relay = relay(&[]);
    let origin = format!("http://{}", relay.clients);
    let headers = [("Origin", &*origin), ("Content-Type", "application/x-www-form-urlencoded")];
    let post = |path: &str, body: &str| ask(relay.clients, "POST", path, &headers, body.as_bytes());
    let up = post(
        "/v1/auth/sign-up",
        "username=quill&password=three+rooks+on+a+wire&listed=on&invitation=&next=%2Fsettings",
    );
    assert_eq!((up.status, up.header("location").as_deref()), (303, Some("/settings")), "{up:?}");
    let cookie = format!("rookery={}", up.cookie("rookery").unwrap());
    assert_eq!(relay.page("GET", "/v1/me", &cookie, Value::Null).json()["listed"], true);
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", ""] {
        let body = format!("username=quill&password=three+rooks+on+a+wire&next={next}");
        assert_eq!(post("/v1/auth/sign-in", &body).header("location").as_deref(), Some("/"), "{next}");
    }
    // What went wrong is told by the page again.
    let wrong = post("/v1/auth/sign-in", "username=quill&password=wrong+wrong+wrong");
    assert_eq!(
        (wrong.status, wrong.header("content-type").as_deref()),
        (401, Some("text/html; charset=utf-8"))
    );
    assert!(wrong.body.contains("Name and password don’t match."), "{wrong:?}");
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

#[test]
fn guessing_is_slowed_and_strangers_lock_nobody_out() {
    let relay = relay(&[
        "--set",
        "accounts.account_guesses=3",
        "--set",
        "accounts.guess_seconds=600",
        "--trusted-proxy",
        "127.0.0.1",
    ]);
    let from = |address: &str, name: &str, password: &str| {
        let said = json!({ "username": name, "password": password });
        relay.program("POST", "/v1/auth/sign-in", &[("X-Forwarded-For", address)], said)
    };
    relay.sign_up("quill");
    assert_eq!(from("198.51.100.1", "quill", PASSWORD).status, 200);
    // From everywhere, by everybody: the account from where nobody has signed in.
    for stranger in 1..=3 {
        let answer = from(&format!("203.0.113.{stranger}"), "quill", "wrong wrong wrong");
        assert_eq!(answer.problem(), (401, "wrong-password".into()));
    }
    let slow = from("203.0.113.9", "quill", PASSWORD);
    assert_eq!(slow.problem(), (429, "slow-down".into()));
    let seconds = slow.json()["seconds"].as_u64().unwrap();
    assert!((1..=601).contains(&seconds));
    assert_eq!(slow.header("retry-after").unwrap(), seconds.to_string());
    // Whoever has signed in before from there is not held up.
    assert_eq!(from("198.51.100.1", "quill", PASSWORD).status, 200);
    // A name that nobody has is no different.
    for _ in 0..3 {
        assert_eq!(
            from("203.0.113.20", "nobody", "wrong wrong wrong").problem(),
            (401, "wrong-password".into())
        );
    }
    assert_eq!(from("203.0.113.20", "nobody", "wrong wrong wrong").problem(), (429, "slow-down".into()));
}

/// A browser that has signed in is known again, wherever it is.
#[test]
fn a_browser_is_known_again() {
    let relay = relay(&[
        "--set",
        "accounts.account_guesses=2",
        "--set",
        "accounts.guess_seconds=600",
        "--trusted-proxy",
        "127.0.0.1",
    ]);
    let origin = format!("http://{}", relay.clients);
    let from = |address: &str, cookie: &str, password: &str| {
        let headers = [
            ("Origin", &*origin),
            ("Sec-Fetch-Site", "same-origin"),
            ("X-Forwarded-For", address),
            ("Cookie", cookie),
        ];
        let said = json!({ "username": "quill", "password": password });
        relay.program("POST", "/v1/auth/sign-in", &headers, said)
    };
    relay.sign_up("quill");
    let known = from("198.51.100.1", "", PASSWORD).cookie("rookery-known").unwrap();
    for _ in 0..2 {
        assert_eq!(from("203.0.113.1", "", "wrong wrong wrong").status, 401);
    }
    assert_eq!(from("203.0.113.1", "", PASSWORD).status, 429);
    assert_eq!(from("203.0.113.1", &format!("rookery-known={known}"), PASSWORD).status, 200);
    let (rest, last) = known.split_at(known.len() - 1);
    let forged = format!("rookery-known={rest}{}", if last == "0" { "1" } else { "0" });
    assert_eq!(from("203.0.113.2", &forged, PASSWORD).status, 429);
}

#[test]
fn an_address_makes_a_few_accounts() {
    let relay = Relay::start(&["--set", "accounts.address_sign_ups=2", "--trusted-proxy", "127.0.0.1"]);
    let from = |address: &str, name: &str| {
        let said = json!({ "username": name, "password": PASSWORD });
        relay.program("POST", "/v1/auth/sign-up", &[("X-Forwarded-For", address)], said)
    };
    assert_eq!(from("203.0.113.1", "one").status, 201);
    assert_eq!(from("203.0.113.1", "one").status, 409);
    assert_eq!(from("203.0.113.1", "two").status, 201);
    assert_eq!(from("203.0.113.1", "three").problem(), (429, "slow-down".into()));
    assert_eq!(from("203.0.113.2", "three").status, 201);
}

/// The code of a link: what stands after `#`.
fn code(output: std::process::Output, page: &str) -> String {
    let line = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{line}{}", String::from_utf8_lossy(&output.stderr));
    let (before, code) = line.trim().split_once('#').unwrap();
    assert!(before.ends_with(page), "{line}");
    code.to_owned()
}

fn operator(relay: &Relay, arguments: &[&str]) -> std::process::Output {
    let operators = relay.operators.to_string();
    rookery(&[&["accounts"], arguments, &["--ops-listen", &operators]].concat()).output().unwrap()
}

#[test]
fn an_invitation_is_for_as_many_as_it_says() {
    let relay =
        Relay::start(&["--set", "accounts.open=invitation", "--set", "accounts.address_sign_ups=100"]);
    let up = |name: &str, code: &str| {
        let said = json!({ "username": name, "password": PASSWORD, "invitation": code });
        relay.program("POST", "/v1/auth/sign-up", &[], said)
    };
    let refused = (403, "invitation".to_owned());
    let without = json!({ "username": "quill", "password": PASSWORD });
    assert_eq!(relay.program("POST", "/v1/auth/sign-up", &[], without).problem(), refused);
    let code = code(operator(&relay, &["invite", "--uses", "2"]), "/join");
    assert_eq!(up("quill", "nonsense").problem(), refused);
    assert_eq!(up("quill", &code).status, 201);
    // A name that is taken spends nothing.
    assert_eq!(up("quill", &code).problem(), (409, "taken".into()));
    // Of many that come at once, one is let in.
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4).map(|n| (n, &up, &code)).collect();
        let threads: Vec<_> = all
            .into_iter()
            .map(|(n, up, code)| scope.spawn(move || up(&format!("nettle-{n}"), code).status))
            .collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert_eq!(up("tideline", &code).problem(), refused);
}

/// One name, many who want it at once: one has it.
#[test]
fn a_name_has_one_account() {
    let relay = relay(&["--workers", "4"]);
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let up = || {
            relay
                .program(
                    "POST",
                    "/v1/auth/sign-up",
                    &[],
                    json!({ "username": "quill", "password": PASSWORD }),
                )
                .status
        };
        let threads: Vec<_> = (0..6).map(|_| scope.spawn(up)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(statuses.iter().filter(|status| **status == 201).count(), 1, "{statuses:?}");
    assert!(statuses.iter().all(|status| [201, 409].contains(status)), "{statuses:?}");
    assert_eq!(relay.ask("GET", "/v1/accounts", "").2["accounts"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn operators_switch_off_reset_and_remove() {
    let relay = relay(&[]);
    let quill = relay.sign_up("quill");
    let mut socket = quill.connect(&relay).await;
    let listed = String::from_utf8(operator(&relay, &["list"]).stdout).unwrap();
    assert!(listed.starts_with("quill npub1"), "{listed}");
    assert!(operator(&relay, &["disable", "quill"]).status.success());
    assert_eq!(socket.hear_close().await, 4401);
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());
    assert_eq!(relay.try_sign_in("quill", PASSWORD).problem(), (403, "disabled".into()));
    assert_eq!(relay.try_sign_in("quill", "wrong wrong wrong").problem(), (401, "wrong-password".into()));
    assert!(operator(&relay, &["enable", "quill"]).status.success());
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());

    let quill = relay.sign_in("quill");
    let first = code(operator(&relay, &["reset-password", "quill"]), "/reset");
    let second = code(operator(&relay, &["reset-password", "quill"]), "/reset");
    let reset = |code: &str, password: &str| {
        relay.program("POST", "/v1/auth/reset", &[], json!({ "code": code, "password": password }))
    };
    let refused = (403, "reset".to_owned());
    for code in ["", "quill", "quill~", "quill~nonsense", "nobody~x", &first] {
        assert_eq!(reset(code, "four rooks on a wire").problem(), refused, "{code}");
    }
    assert_eq!(reset(&second, "short").problem(), (400, "unfit".into()));
    assert_eq!(me(&relay, &quill.token).status, 200);
    assert_eq!(reset(&second, "four rooks on a wire").status, 204);
    assert_eq!(reset(&second, "five rooks on a wire").problem(), refused);
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());
    let again = relay.try_sign_in("quill", "four rooks on a wire").json();
    // The same key, and the person is told.
    assert_eq!(again["userId"], json!(quill.key));
    assert!(again["passwordReset"].is_u64(), "{again}");

    assert!(!operator(&relay, &["remove", "quill"]).status.success());
    assert!(operator(&relay, &["remove", "quill", "--yes"]).status.success());
    assert_eq!(me(&relay, again["token"].as_str().unwrap()).problem(), signed_out());
    assert_eq!(relay.try_sign_in("quill", "four rooks on a wire").problem(), (401, "wrong-password".into()));
    // Others would take somebody new for whoever was called so.
    let said = json!({ "username": "quill", "password": PASSWORD });
    assert_eq!(relay.program("POST", "/v1/auth/sign-up", &[], said).problem(), (409, "taken".into()));
    assert!(!operator(&relay, &["remove", "quill", "--yes"]).status.success());
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

/// A node whose master key is another one does not start on accounts that it can not open.
#[test]
fn another_master_key_opens_nothing() {
    let relay = relay(&[]);
    relay.sign_up("quill");
    let folder = TempDir::new().unwrap();
    let master = format!("master_key_file={}", folder.path().join("master.key").display());
    let data = relay.data.path().join("relay").display().to_string();
    let mut relay = relay;
    relay.process.kill().unwrap();
    relay.process.wait().unwrap();
    let listen = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let output =
        rookery(&[&["relay", "--data", &data, "--set", &master], &listen[..]].concat()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another master key"), "{said}");
}

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

/// Another master key takes the place of the first one: what that has sealed and signed is good until everything is sealed
/// anew, and then the first one is needed no more.
#[test]
fn another_master_key_takes_the_place_of_the_first() {
    let folder = TempDir::new().unwrap();
    let [first, second] = ["first", "second"].map(|name| folder.path().join(name).display().to_string());
    let sealing = |file: &str| format!("master_key_file={file}");
    let relay = relay(&["--set", &sealing(&first)]);
    let quill = relay.sign_up("quill");
    let run = |relay: &Relay, arguments: &[&str]| {
        let ops = relay.operators.to_string();
        let output = rookery(&[arguments, &["--ops-listen", &ops]].concat()).output().unwrap();
        let said = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(said).unwrap())
    };
    let url = "wss://relay.example.com";
    let upstream =
        json!({ "url": url, "auth": nip19::nsec(&Keys::generate().secret()), "paused": true }).to_string();
    assert_eq!(relay.ask("POST", "/v1/upstreams", &upstream).0, 201);

    let (new, old) = (sealing(&second), format!("old_master_key_files={first}"));
    let relay = relay.restart_after_kill(&["--set", &new, "--set", &old]);
    assert_eq!(me(&relay, &quill.token).status, 200);
    let say = |relay: &Relay, who: &Person| {
        let post = json!({ "content": relay.clients.to_string() });
        who.ask(relay, "POST", "/v1/posts", post).status
    };
    assert_eq!(say(&relay, &quill), 201);
    let (is_done, said) = run(&relay, &["accounts", "rekey", "--check"]);
    assert!(!is_done && said.contains(", 3 under others"), "{said}");
    let (is_done, said) = run(&relay, &["accounts", "rekey"]);
    assert!(is_done && said.starts_with("3 sealed anew under the master key "), "{said}");
    // Again, there is nothing to be done.
    let (is_done, said) = run(&relay, &["accounts", "rekey"]);
    assert!(is_done && said.starts_with("0 sealed anew under ") && said.contains(", 3 were"), "{said}");

    let relay = relay.restart_after_kill(&["--set", &new]);
    assert_eq!(me(&relay, &quill.token).problem(), signed_out());
    let again = relay.sign_in("quill");
    assert_eq!((&again.key, say(&relay, &again)), (&quill.key, 201));
    let (is_done, said) = run(&relay, &["accounts", "rekey", "--check"]);
    assert!(is_done && said.contains("3 are sealed under ") && said.contains(", 0 under others"), "{said}");
    assert!(!run(&relay, &["upstream", "show", url]).1.contains("can not be used"));

    // A key that nobody has at hand is told of, and which records need it.
    let relay = relay.restart_after_kill(&["--set", &sealing(&first), "--set", "accounts.enabled=false"]);
    let (is_done, said) = run(&relay, &["accounts", "rekey"]);
    assert!(!is_done && said.contains(&format!("account {}: it is sealed under", quill.key)), "{said}");
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

/// Nothing of a key, a password or a token is in the log, in answers, in what is exported, in metrics and settings, or
/// in the store.
#[tokio::test]
async fn keys_and_passwords_are_nowhere() {
    const KEY_PASSWORD: &str = "another particular secret gudgeon";
    let relay = relay(&["--set", "log=trace"]);
    let secret = "a very particular secret quernstone";
    let said = json!({ "username": "quill", "password": secret, "passwordConfirm": secret });
    let up = relay.program("POST", "/v1/auth/sign-up", &[], said);
    let token = up.json()["token"].as_str().unwrap().to_owned();
    let quill = Person {
        name: "quill".into(),
        key: up.json()["userId"].as_str().unwrap().into(),
        token: token.clone(),
    };
    // Whoever takes the key along is told what it is, and nobody else.
    let take = |password: &str, key_password: &str| {
        let said = json!({ "password": password, "keyPassword": key_password });
        quill.ask(&relay, "POST", "/v1/me/key", said)
    };
    let taken = take(secret, KEY_PASSWORD).json();
    let key = EncryptedSecretKey::from_bech32(taken["ncryptsec"].as_str().unwrap()).unwrap();
    let key = key.decrypt(KEY_PASSWORD).unwrap();
    assert_eq!(nostr_sdk::Keys::new(key.clone()).public_key().to_hex(), quill.key);

    let cookie = relay
        .page("POST", "/v1/auth/sign-in", "", json!({ "username": "quill", "password": secret }))
        .cookie("rookery")
        .unwrap();
    let form = format!("username=quill&password={}%21", secret.replace(' ', "+"));
    let origin = format!("http://{}", relay.clients);
    let of_browser = [
        ("Origin", &*origin),
        ("Sec-Fetch-Site", "same-origin"),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    let mut answers = vec![
        relay.try_sign_in("quill", secret).body,
        relay.try_sign_in("quill", &format!("{secret}!")).body,
        relay.try_sign_in(secret, secret).body,
        relay
            .program("POST", "/v1/auth/sign-in", &[], json!({ "username": "quill", "password": [secret] }))
            .body,
        relay
            .program("POST", "/v1/auth/sign-up", &[], json!({ "username": secret, "password": secret }))
            .body,
        ask(relay.clients, "POST", "/v1/auth/sign-in", &of_browser, form.as_bytes()).body,
        relay.program("POST", "/v1/auth/reset", &[], json!({ "code": secret, "password": secret })).body,
        quill.ask(&relay, "GET", "/v1/me", Value::Null).body,
        quill.ask(&relay, "GET", "/v1/auth/sessions", Value::Null).body,
        quill.ask(&relay, "PUT", "/v1/auth/password", json!({ "password": "x", "newPassword": secret })).body,
        take(&format!("{secret}!"), KEY_PASSWORD).body,
        take(secret, "gudgeon").body,
        quill.ask(&relay, "POST", "/v1/me/leave", json!({ "password": format!("{secret}!") })).body,
        me(&relay, &token[..token.len() - 1]).body,
        relay.page("GET", "/", &format!("rookery={cookie}"), Value::Null).body,
        relay.ask("GET", "/v1/accounts", "").2.to_string(),
        relay.metrics(),
        relay.settings(),
    ];
    let mut socket = quill.connect(&relay).await;
    assert!(is(&mut socket, &quill.key).await);
    // What is no message is told to nobody else.
    socket.say(json!(["AUTH", token])).await;
    socket.say(json!([token, secret])).await;
    let bearer = format!("Authorization: Bearer {token}");
    let own = format!("http://{}/v1/me/export", relay.clients);
    for output in [
        rookery(&["export", "-", "--relay", &relay.url()]).output(),
        rookery(&["config"]).output(),
        Command::new("curl").args(["--fail", "--silent", "--header", &bearer, &own]).output(),
    ] {
        let output = output.unwrap();
        assert!(output.status.success(), "{output:?}");
        answers.extend([output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap()));
    }
    let jti = quill.ask(&relay, "GET", "/v1/auth/sessions", Value::Null).json()["sessions"][0]["id"].clone();
    assert!(jti.is_string());
    assert_eq!(quill.ask(&relay, "POST", "/v1/auth/sign-out", Value::Null).status, 204);
    assert_eq!(socket.hear_close().await, 4401);

    let master = fs::read_to_string(common::master_key_file()).unwrap();
    let [in_hex, as_nsec] = [key.to_secret_hex(), key.to_bech32().unwrap()];
    let tail = |token: &str| token[token.len() - 60..].to_owned();
    let texts = [
        "quernstone",
        "gudgeon",
        &tail(&token),
        &tail(&cookie),
        master.trim(),
        common::TOKEN,
        &in_hex,
        &as_nsec,
    ];
    for hidden in texts {
        for answer in &answers {
            assert!(!answer.contains(hidden), "{hidden} is in {answer}");
        }
        assert_eq!(relay.log().line(hidden), None, "the log has {hidden}");
    }
    let data = relay.data.path().join("relay");
    let holding = |wanted: &[&[u8]]| {
        let mut found = Vec::new();
        grep(&data, wanted, &mut found);
        found
    };
    // What is no secret is found.
    assert!(!holding(&[b"quill"]).is_empty() && relay.log().line("listening").is_some());
    assert!(answers.iter().any(|answer| answer.contains(&quill.key)), "{answers:?}");
    let (raw_key, raw_master) = (key.to_secret_bytes(), hex::decode(master.trim()).unwrap());
    let bytes: Vec<&[u8]> =
        texts.iter().map(|text| text.as_bytes()).chain([&raw_key[..], &raw_master]).collect();
    assert_eq!(holding(&bytes), [""; 0]);
}

/// Which files of a folder hold any of these.
fn grep(folder: &Path, wanted: &[&[u8]], found: &mut Vec<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            grep(&path, wanted, found);
            continue;
        }
        let bytes = fs::read(&path).unwrap();
        let holds = |wanted: &[u8]| bytes.windows(wanted.len()).any(|window| window == wanted);
        if wanted.iter().any(|wanted| holds(wanted)) {
            found.push(path.display().to_string());
        }
    }
}

/// A name that nobody has takes as long as a wrong password: it is hashed too.
#[test]
fn a_name_that_nobody_has_is_hashed_too() {
    let relay = relay(&[]);
    relay.sign_up("quill");
    let hashed = || relay.metric("rookery_passwords_hashed_total");
    assert_eq!(hashed(), 1.0);
    for (number, name) in ["quill", "nobody-here", "<no name>", ""].iter().enumerate() {
        assert_eq!(relay.try_sign_in(name, "wrong wrong wrong").status, 401, "{name}");
        assert_eq!(hashed(), 2.0 + number as f64, "{name}");
    }
    // What is too long for a password is not.
    assert_eq!(relay.try_sign_in("quill", &"x".repeat(1_025)).status, 400);
    assert_eq!(hashed(), 5.0);
    assert_eq!(relay.metric("rookery_sign_ins_total{result=\"wrong\"}"), 4.0);
}

/// More passwords than may wait: some are told to come again, nobody waits for ever, and sockets are served meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn many_who_sign_in_at_once_are_bounded() {
    let relay = relay(&["--set", "accounts.hash_threads=1", "--set", "accounts.hash_waiting=2"]);
    relay.sign_up("quill");
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..24).map(|_| scope.spawn(|| relay.try_sign_in("quill", PASSWORD).status)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert!(statuses.iter().all(|status| [200, 503].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&200), "{statuses:?}");
    let mut socket = relay.connect().await;
    assert_eq!(socket.find(json!({ "kinds": [1] })).await, [""; 0]);
    eventually("room again", || relay.try_sign_in("quill", PASSWORD).status == 200).await;
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
