//! The master key: nothing is opened without it, and another one takes its place.

use common::{Relay, people::Person, rookery};
use rookery::protocol::{nip19, sign::Keys};
use serde_json::json;
use tempfile::TempDir;

use super::{me, relay, signed_out};

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
