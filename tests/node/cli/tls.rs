//! Relays by TLS: whom the commands trust, and what they say of those whom they do not.

use std::{net::TcpStream, path::Path, process::Output};

use common::{Relay, tls::Authority};
use rustls::{ServerConnection, StreamOwned};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{self, Message};

use super::program::{err, rookery};

/// A relay that holds nothing, for a client that stays.
fn serve(stream: StreamOwned<ServerConnection, TcpStream>) {
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    while let Ok(message) = socket.read() {
        let Message::Text(text) = message else { continue };
        let request: Value = serde_json::from_str(&text).unwrap();
        if request[0] == "REQ" {
            let end = json!(["EOSE", request[1], ["finish"]]);
            socket.send(Message::text(end.to_string())).unwrap();
        }
    }
}

/// A query by TLS, where the authorities of that file are those of the system.
fn query(port: u16, authorities: &Path) -> Output {
    let mut command = rookery(&["query", "--relay", &format!("wss://localhost:{port}")]);
    command.env("SSL_CERT_FILE", authorities).output().unwrap()
}

#[test]
fn the_authorities_of_the_system_are_trusted_and_no_others() {
    let (authority, other) = (Authority::new("ours"), Authority::new("theirs"));
    let port = authority.listen(&[], serve);
    let trusted = query(port, &authority.file);
    assert!(trusted.status.success(), "{}", err(&trusted));
    let stranger = query(port, &other.file);
    assert!(!stranger.status.success() && err(&stranger).contains("SSL_CERT_FILE"), "{}", err(&stranger));
}

#[test]
fn a_port_without_tls_is_told() {
    let plain = Relay::start(&[]);
    let refused = query(plain.clients.port(), &Authority::new("ours").file);
    assert!(err(&refused).contains("it speaks no TLS there; ws:// does without"), "{}", err(&refused));
}
