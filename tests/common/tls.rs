//! TLS for tests: authorities that nobody knows who is not told of them, and who listens with their certificates.

use std::{
    fs,
    net::{TcpListener, TcpStream},
    path::PathBuf,
    sync::Arc,
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::{
    ServerConfig, ServerConnection, StreamOwned,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tempfile::TempDir;

/// Signs certificates; its own is in a file, as those are.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub file: PathBuf,
    pub folder: TempDir,
}

impl Authority {
    pub fn new(name: &str) -> Self {
        let folder = TempDir::new().unwrap();
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let file = folder.path().join("authority.pem");
        fs::write(&file, params.self_signed(&key).unwrap().pem()).unwrap();
        Self { issuer: Issuer::new(params, key), file, folder }
    }

    /// A file with a key and a certificate for that host.
    pub fn identity(&self, host: &str) -> PathBuf {
        let key = KeyPair::generate().unwrap();
        let certificate =
            CertificateParams::new([host.to_owned()]).unwrap().signed_by(&key, &self.issuer).unwrap();
        let file = self.folder.path().join(format!("{host}.pem"));
        fs::write(&file, key.serialize_pem() + &certificate.pem()).unwrap();
        file
    }

    /// Listens by TLS as `localhost`, and serves one connection after the other: the port. A client that does not trust
    /// this authority is an error of the first read.
    pub fn listen(
        &self,
        protocols: &[&str],
        serve: impl Fn(StreamOwned<ServerConnection, TcpStream>) + Send + 'static,
    ) -> u16 {
        let identity = fs::read(self.identity("localhost")).unwrap();
        let (certificate, key) =
            (CertificateDer::from_pem_slice(&identity), PrivateKeyDer::from_pem_slice(&identity));
        let mut config = ServerConfig::builder_with_provider(rookery::tls::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.unwrap()], key.unwrap())
            .unwrap();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        let (config, listener) = (Arc::new(config), TcpListener::bind("127.0.0.1:0").unwrap());
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for socket in listener.incoming() {
                let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
                serve(StreamOwned::new(connection, socket.unwrap()));
            }
        });
        port
    }
}
