//! What operators do by `rookery accounts`: invite, switch off, reset and remove.

use common::{Relay, people::PASSWORD, rookery};
use serde_json::json;

use super::{me, relay, signed_out};

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
