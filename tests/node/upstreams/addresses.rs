//! Addresses that are not connected to, or lead back here.

use common::{Relay, eventually, free_port};
use tempfile::TempDir;

use super::reader;
use crate::cli::relay::Relay as Mock;

#[tokio::test(flavor = "multi_thread")]
async fn addresses_that_are_not_public_are_not_connected_to() {
    let port = free_port();
    let mock = Mock::start(|_, _| Vec::new());
    let itself = format!("ws://127.0.0.1:{port}");
    let relay = Relay::start(&["--upstream", &format!("{},{itself}", mock.url)]);
    let log = relay.log();
    log.says("is not on the public Internet").await;
    assert_eq!(mock.heard(), [""; 0]);
    for (url, says) in [
        ("wss://user:secret@relay.example.com", "it holds a user or a password"),
        ("https://relay.example.com", "begins with ws:// or wss://"),
        ("file:///etc/passwd", "begins with ws:// or wss://"),
        ("relay.example.com", "it is no URL"),
        ("wss://a.example,wss://A.example:443/", "twice"),
    ] {
        let folder = TempDir::new().unwrap();
        let data = folder.path().to_str().unwrap();
        let ports = ["--listen", "127.0.0.1:0", "--ops-listen", "127.0.0.1:0"];
        let error =
            crate::cli::program::fail(&[&["relay", "--data", data, "--upstream", url], &ports[..]].concat());
        assert!(error.contains(says) && !error.contains("secret"), "{url}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_relay_does_not_read_itself() {
    // A way that leads to it, though it is none of its addresses.
    let way = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}", way.local_addr().unwrap());
    let here = reader(&[&url], &[]);
    let itself = here.clients;
    tokio::spawn(async move {
        while let Ok((mut from, _)) = way.accept().await {
            let mut to = tokio::net::TcpStream::connect(itself).await.unwrap();
            tokio::spawn(async move { tokio::io::copy_bidirectional(&mut from, &mut to).await });
        }
    });
    let forbidden = format!(r#"rookery_upstream_connects_total{{upstream="{url}",result="forbidden"}}"#);
    eventually("it is recognised", || here.metric(&forbidden) == 1.0).await;
    here.log().says("it is this relay itself, or a node of its cluster").await;
    assert_eq!(here.metric(r#"rookery_messages_total{verb="req"}"#), 0.0);
    assert_eq!(here.metric(&format!(r#"rookery_upstream_up{{upstream="{url}"}}"#)), 0.0);
}
