//! Relays by TLS: whom the commands trust, and what they say of those whom they do not.

use std::{
    fs,
    net::{SocketAddr, TcpListener},
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;
use tokio_tungstenite::tungstenite::{self, Message};

use super::program::{err, rookery};

/// A relay by TLS that holds nothing, and the certificate of its authority in PEM.
fn relay() -> (SocketAddr, String) {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
    let key = KeyPair::generate().unwrap();
    let certificate = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let certificate = certificate.signed_by(&key, &authority).unwrap();
    let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
    let config = ServerConfig::builder_with_provider(rookery::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.der().clone()], key);
    let (config, listener) = (Arc::new(config.unwrap()), TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            // Who does not trust it does not stay.
            let Ok(mut socket) = tungstenite::accept(StreamOwned::new(connection, socket.unwrap())) else {
                continue;
            };
            while let Ok(message) = socket.read() {
                let Message::Text(text) = message else { continue };
                let request: serde_json::Value = serde_json::from_str(&text).unwrap();
                if request[0] == "REQ" {
                    let end = serde_json::json!(["EOSE", request[1], ["finish"]]);
                    socket.send(Message::text(end.to_string())).unwrap();
                }
            }
        }
    });
    (address, authority.pem())
}

#[test]
fn the_authorities_of_the_system_are_trusted_and_no_others() {
    let (address, authority) = relay();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("authority.pem");
    fs::write(&file, authority).unwrap();
    let url = format!("wss://localhost:{}", address.port());
    let query = ["query", "--relay", &url];
    let trusted = rookery(&query).env("SSL_CERT_FILE", &file).output().unwrap();
    assert!(trusted.status.success(), "{}", err(&trusted));
    fs::write(&file, relay().1).unwrap();
    let stranger = rookery(&query).env("SSL_CERT_FILE", &file).output().unwrap();
    assert!(!stranger.status.success() && err(&stranger).contains("SSL_CERT_FILE"), "{}", err(&stranger));
}

#[test]
fn a_port_without_tls_is_told() {
    let (_, authority) = relay();
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("authority.pem");
    fs::write(&file, authority).unwrap();
    let plain = common::Relay::start(&[]);
    let url = format!("wss://{}", plain.clients);
    let refused = rookery(&["query", "--relay", &url]).env("SSL_CERT_FILE", &file).output().unwrap();
    assert!(err(&refused).contains("it speaks no TLS there; ws:// does without"), "{}", err(&refused));
}
