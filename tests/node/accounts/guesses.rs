//! What is done about many attempts: passwords that are guessed, accounts that are made, and hashes all at once.

use common::{Relay, eventually, people::PASSWORD};
use serde_json::json;

use super::relay;

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
