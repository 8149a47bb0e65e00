//! A collector by TLS: whom the export trusts.

use std::{
    fs,
    io::Read,
    net::TcpListener,
    sync::{Arc, mpsc},
    thread,
};

use common::{PATIENCE, Relay, fresh, relay_command};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rookery::protocol::sign::Keys;
use rustls::{ServerConfig, ServerConnection, StreamOwned, pki_types::PrivateKeyDer};
use tempfile::TempDir;

/// What listens by TLS, and says how the first request begins that it hears; and its authority in PEM.
fn listener() -> (u16, mpsc::Receiver<String>, String) {
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
    let mut config = config.unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    let (say, heard) = mpsc::channel();
    thread::spawn(move || {
        for socket in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let mut begin = [0; 4];
            // Who does not trust it says nothing.
            if StreamOwned::new(connection, socket.unwrap()).read_exact(&mut begin).is_ok() {
                let _ = say.send(String::from_utf8_lossy(&begin).into_owned());
            }
        }
    });
    (port, heard, authority.pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_by_tls_is_trusted_by_the_authorities_of_the_system() {
    for (protocol, begin) in [("grpc", "PRI "), ("http/protobuf", "POST")] {
        let (port, heard, authority) = listener();
        let data = TempDir::new().unwrap();
        let file = data.path().join("authority.pem");
        fs::write(&file, authority).unwrap();
        let url = format!("https://localhost:{port}");
        let protocol = format!("traces.protocol={protocol}");
        let arguments = ["--otlp", &url, "--set", &protocol, "--set", "traces.ratio=1"];
        let mut command = relay_command(data.path(), &arguments);
        command.env("SSL_CERT_FILE", &file).args(["--set", "traces.export_interval_ms=20"]);
        let relay = Relay::spawn(command, data);
        assert!(relay.connect().await.publish(&fresh(&Keys::generate(), "")).await.0);
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), begin, "{protocol}");
    }
}
