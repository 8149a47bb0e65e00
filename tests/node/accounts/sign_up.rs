//! Who signs up: with a name and a password that fit, and one for each name.

use std::io::{Read, Write};

use common::{
    PATIENCE,
    people::{PASSWORD, ask},
};
use serde_json::json;

use super::relay;

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
