//! What is told to nobody, and written down nowhere.

use std::{fs, path::Path, process::Command};

use common::{
    people::{Person, ask},
    rookery,
};
use nostr_sdk::nips::{
    nip19::{FromBech32, ToBech32},
    nip49::EncryptedSecretKey,
};
use serde_json::{Value, json};

use super::{is, me, relay};

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
