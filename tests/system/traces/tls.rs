//! A collector by TLS: whom the export trusts.

use std::{io::Read, sync::mpsc};

use common::{PATIENCE, Relay, fresh, relay_command, tls::Authority};
use rookery::protocol::sign::Keys;
use tempfile::TempDir;

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_by_tls_is_trusted_by_the_authorities_of_the_system() {
    for (protocol, begin) in [("grpc", "PRI "), ("http/protobuf", "POST")] {
        let (authority, (say, heard)) = (Authority::new("ours"), mpsc::channel());
        // How the first request begins. Who does not trust it says nothing.
        let port = authority.listen(&["h2", "http/1.1"], move |mut stream| {
            let mut begin = [0; 4];
            if stream.read_exact(&mut begin).is_ok() {
                let _ = say.send(String::from_utf8_lossy(&begin).into_owned());
            }
        });
        let data = TempDir::new().unwrap();
        let url = format!("https://localhost:{port}");
        let protocol = format!("traces.protocol={protocol}");
        let arguments = ["--otlp", &url, "--set", &protocol, "--set", "traces.ratio=1"];
        let mut command = relay_command(data.path(), &arguments);
        command.env("SSL_CERT_FILE", &authority.file).args(["--set", "traces.export_interval_ms=20"]);
        let relay = Relay::spawn(command, data);
        assert!(relay.connect().await.publish(&fresh(&Keys::generate(), "")).await.0);
        assert_eq!(heard.recv_timeout(PATIENCE).unwrap(), begin, "{protocol}");
    }
}
