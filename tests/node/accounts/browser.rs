//! What is different for browsers: cookies, pages of others, and forms without script.

use common::{
    Client,
    people::{PASSWORD, ask},
};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use super::{is, relay, signed_out};

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
