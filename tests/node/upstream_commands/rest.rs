//! Who may ask by REST, and how it is told what can not be.

use common::{Relay, rookery};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::program::fail;

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_told_in_the_words_of_rfc_9457() {
    let relay = Relay::start(&["--upstream", "ws://192.0.2.1"]);
    let refused = |method: &str, path: &str, body: &str, status: u16, kind: &str, says: &str| {
        let (found, media_type, problem) = relay.ask(method, path, body);
        assert_eq!(
            (found, &media_type[..]),
            (status, "application/problem+json"),
            "{path} {body}: {problem}"
        );
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("urn:rookery:problem:{kind}"));
        assert!(problem["detail"].as_str().unwrap().contains(says), "{path} {body}: {problem}");
    };
    let all = "/v1/upstreams";
    for (body, says) in [
        ("", ""),
        ("[]", ""),
        ("{}", "url"),
        (r#"{"url":7}"#, "url"),
        (r#"{"url":"wss://user:secret@a.example"}"#, "a user or a password"),
        (r#"{"url":"https://a.example"}"#, "ws:// or wss://"),
        (r#"{"url":"file:///etc/passwd"}"#, "ws:// or wss://"),
        (r#"{"url":"a.example"}"#, "no URL"),
        (r#"{"url":"wss://a.example","filter":{}}"#, "unknown field `filter`"),
        (r#"{"url":"wss://a.example","filters":[{"kinds":["x"]}]}"#, ""),
        (r#"{"url":"wss://a.example","filters":[{"limit":5}]}"#, "no limit"),
        (r#"{"url":"wss://a.example","limits":{"events":5}}"#, "unknown field"),
        (r#"{"url":"wss://a.example","overlap_seconds":-1}"#, ""),
    ] {
        refused("POST", all, body, 400, "unfit", says);
    }
    let many = json!({"url": "wss://a.example", "filters": vec![json!({}); 21]}).to_string();
    refused("POST", all, &many, 400, "unfit", "at most 20 filters");
    let authors: Vec<String> = (0..2_000).map(|n| format!("{n:064x}")).collect();
    let large = json!({"url": "wss://a.example", "filters": [{"authors": authors}]}).to_string();
    refused("POST", all, &large, 400, "unfit", "a record has");
    refused("GET", "/v1/upstreams/0123456789abcdef", "", 404, "not-found", "no such upstream");
    refused("PATCH", "/v1/upstreams/0123456789abcdef", "{}", 404, "not-found", "no such upstream");
    refused("DELETE", "/v1/upstreams/0123456789abcdef", "", 404, "not-found", "no such upstream");
    refused("GET", "/v1/upstreams/x", "", 404, "not-found", "16 hexadecimal digits");
    refused("GET", "/v1/nothing", "", 404, "not-found", "nothing is here");
    // What the configuration names is changed there.
    let (_, _, listed) = relay.ask("GET", all, "");
    let configured = format!("{all}/{}", listed[0]["id"].as_str().unwrap());
    refused("DELETE", &configured, "", 409, "conflict", "aggregator.upstreams");
    refused("POST", &format!("{configured}/pause"), "", 409, "conflict", "aggregator.upstreams");
    refused("POST", &format!("{configured}/reconcile"), "", 409, "conflict", "does not read it");
    assert_eq!(relay.ask("GET", all, "").2.as_array().unwrap().len(), 1);

    // Once and twice, as it is and otherwise.
    let add = |body: Value| relay.ask("POST", all, &body.to_string());
    let paused = json!({"url": "wss://A.example:443/", "paused": true, "overlap_seconds": 9});
    let (status, _, view) = add(paused.clone());
    assert_eq!((status, &view["url"], &view["state"]), (201, &json!("wss://a.example"), &json!("paused")));
    assert_eq!(add(paused).0, 200);
    assert_eq!(add(json!({"url": "wss://a.example"})).0, 200);
    assert_eq!(add(json!({"url": "ws://192.0.2.1"})).0, 200);
    refused("POST", all, r#"{"url":"wss://a.example","paused":false}"#, 409, "conflict", "not as this says");
    let path = format!("{all}/{}", view["id"].as_str().unwrap());
    let (status, _, view) = relay.ask("PATCH", &path, r#"{"overlap_seconds":null}"#);
    assert_eq!((status, &view["overlap_seconds"], &view["state"]), (200, &Value::Null, &json!("paused")));
    assert_eq!(relay.ask("DELETE", &path, "").0, 204);
    let (status, media_type, document) = relay.ask("GET", "/v1/openapi.json", "");
    assert_eq!(
        (status, &media_type[..], &document["info"]["title"]),
        (200, "application/json", &json!("Rookery"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn only_who_has_the_token_may_ask() {
    let relay = Relay::start(&[]);
    for headers in ["", "Authorization: Bearer wrong\r\n", "Authorization: Basic b25seS1mb3ItdGVzdHM=\r\n"] {
        for path in ["/v1/upstreams", "/v1/settings", "/v1/queue", "/v1/openapi.json", "/v1/nothing"] {
            let (status, body) = Relay::get(relay.operators, path, headers);
            let problem: Value = serde_json::from_str(&body).unwrap();
            assert_eq!(
                (status, &problem["type"]),
                (401, &json!("urn:rookery:problem:unauthorized")),
                "{path}"
            );
            assert!(!body.contains(common::TOKEN));
        }
    }
    for path in ["/health/live", "/metrics"] {
        assert_eq!(Relay::get(relay.operators, path, "").0, 200, "{path}");
    }
    // Not where clients are.
    let token = format!("Authorization: Bearer {}\r\n", common::TOKEN);
    assert_eq!(Relay::get(relay.clients, "/v1/upstreams", &token).0, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_makes_a_token_that_who_may_read_its_folder_has() {
    let data = TempDir::new().unwrap();
    let mut command = common::relay_command(data.path(), &[]);
    command.env_remove("ROOKERY_OPS_TOKEN_FILE");
    let relay = Relay::spawn(command, data);
    let folder = relay.data.path().join("relay");
    let ask = |data: &str| {
        let mut command = rookery(&["upstream", "list", "--data", data]);
        command.args(["--ops-listen", &relay.operators.to_string()]);
        command.env_remove("ROOKERY_OPS_TOKEN_FILE").output().unwrap()
    };
    assert!(ask(folder.to_str().unwrap()).status.success());
    let data_of_another = TempDir::new().unwrap();
    let output = ask("/nowhere");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("/nowhere/ops.token"), "{said}");
    // That of another node.
    std::fs::write(data_of_another.path().join("ops.token"), "0123456789abcdef").unwrap();
    let output = ask(data_of_another.path().to_str().unwrap());
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && said.contains("the token is another one; --data or"), "{said}");
    // A file that is named is not made.
    let folder = TempDir::new().unwrap();
    let data = folder.path().to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
    let named = ["relay", "--data", data, "--set", "ops_token_file=/nowhere/token"];
    let said = fail(&[&named[..], &ports[..]].concat());
    assert!(said.contains("cannot read the token in /nowhere/token"), "{said}");
}
