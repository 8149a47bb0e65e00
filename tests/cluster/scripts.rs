//! The files with which a cluster is run.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rookery::protocol::sign::Keys;
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

use crate::common::{Client, binary, eventually, fresh};

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn succeeded(output: Output) -> String {
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Stops what was started, whatever became of the test.
struct Down(TempDir);

impl Drop for Down {
    fn drop(&mut self) {
        let _ = Command::new(file("cluster/down.sh")).arg(self.0.path()).output();
    }
}

#[tokio::test]
async fn a_whole_cluster_comes_up_behind_a_proxy_and_goes_down() {
    let folder = Down(TempDir::new().unwrap());
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port() - 20_000;
    let up = Command::new(file("cluster/up.sh"))
        .arg(folder.0.path())
        .env("ROOKERY_BINARY", binary())
        .env("ROOKERY_PORT", port.to_string())
        .env("ROOKERY_BASE_PORT", (port + 1).to_string())
        .output();
    let said = succeeded(up.unwrap());
    assert!(said.contains(&format!("ws://127.0.0.1:{port}")), "{said}");
    let prometheus = format!("http://127.0.0.1:{}", port + 1 + 23);
    assert!(said.contains(&prometheus), "{said}");
    // It looks for them some seconds after its start.
    eventually("the nodes in Prometheus", || {
        let targets = format!("{prometheus}/api/v1/targets");
        let found = Command::new("curl").args(["--fail", "--silent", &targets]).output().unwrap();
        let found = succeeded(found);
        (1..=3).all(|node| found.contains(&format!("127.0.0.1:{}", port + 1 + 10 + node)))
    })
    .await;
    // One socket after the other, so that each is at another node.
    let request = || format!("ws://127.0.0.1:{port}").into_client_request().unwrap();
    let keys = Keys::generate();
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(request()).await;
        client.request("s", &[serde_json::json!({ "authors": [keys.public_key()] })]).await;
        clients.push(client);
    }
    let event = fresh(&keys, "to all");
    assert!(Client::connect(request()).await.publish(&event).await.0);
    for client in &mut clients {
        assert_eq!(client.hear().await[2]["id"], event.id().to_hex());
    }
    succeeded(Command::new(file("cluster/down.sh")).arg(folder.0.path()).output().unwrap());
    assert!(clients[0].hear_frame().await.is_none_or(|frame| frame.is_close()));
}

#[test]
fn haproxy_accepts_its_configuration() {
    let mut check = Command::new("haproxy");
    check.arg("-c").arg("-f").arg(file("cluster/haproxy.cfg")).env("ROOKERY_BIND", "127.0.0.1:7777");
    for node in 1..=3 {
        check.env(format!("ROOKERY_NODE_{node}"), format!("127.0.0.1:{}", 7777 + node));
        check.env(format!("ROOKERY_OPS_{node}"), (9777 + node).to_string());
    }
    succeeded(check.output().expect("haproxy is needed: cluster/test.sh installs it"));
}
