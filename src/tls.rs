//! Links by TLS: the one provider of cryptography of the whole program, and a link's configuration from PEM files.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer, ServerName, UnixTime,
        pem::{self, PemObject},
    },
};

/// What all links by TLS compute with. The first call, at the top of `main`, decides it for libraries too, which ask
/// rustls for that of the process. The CQL driver has a second one compiled in, and of two rustls takes none by itself
/// but panics.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub fn provider() -> Arc<CryptoProvider> {
    if let Some(decided) = CryptoProvider::get_default() {
        return Arc::clone(decided);
    }
    let ring = ring::default_provider();
    // Another thread may have come first, with the same.
    let _ = ring.clone().install_default();
    Arc::new(ring)
}

/// A file, and the setting that names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    setting: &'static str,
    path: PathBuf,
}

impl File {
    /// None where the setting is empty.
    pub fn named(setting: &'static str, path: &Path) -> Option<Self> {
        (!path.as_os_str().is_empty()).then(|| Self { setting, path: path.to_owned() })
    }

    fn read(&self) -> Result<Vec<u8>, TlsError> {
        std::fs::read(&self.path).map_err(|error| TlsError::Unreadable { file: self.clone(), error })
    }

    fn certificates(&self) -> Result<Vec<CertificateDer<'static>>, TlsError> {
        let found = CertificateDer::pem_slice_iter(&self.read()?).collect::<Result<Vec<_>, _>>();
        let found = found.map_err(|error| TlsError::Pem { file: self.clone(), error })?;
        match found.is_empty() {
            true => Err(TlsError::Empty { file: self.clone(), wanted: "certificate" }),
            false => Ok(found),
        }
    }

    fn key(&self) -> Result<PrivateKeyDer<'static>, TlsError> {
        PrivateKeyDer::from_pem_slice(&self.read()?).map_err(|error| match error {
            pem::Error::NoItemsFound => {
                TlsError::Empty { file: self.clone(), wanted: "private key that is not encrypted" }
            }
            error => TlsError::Pem { file: self.clone(), error },
        })
    }
}

impl fmt::Display for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.path.display(), self.setting)
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    #[error("cannot read {file}: {error}")]
    Unreadable { file: File, error: io::Error },
    #[error("{file} is not valid PEM: {error}")]
    Pem { file: File, error: pem::Error },
    #[error("{file} has no {wanted} in PEM")]
    Empty { file: File, wanted: &'static str },
    #[error("{file} has a certificate that cannot be read: {error}")]
    Authority { file: File, error: Box<rustls::Error> },
    #[error("cannot use {certificate} with {key}: {error}")]
    Identity { certificate: File, key: File, error: Box<rustls::Error> },
    #[error("{given} is set, and {missing} is not: they go together")]
    Half { given: &'static str, missing: &'static str },
    #[error("{setting} {name:?} is no name of a server")]
    Name { setting: &'static str, name: String },
    #[error("cannot read the authorities of this system: {0}")]
    System(rustls_native_certs::Error),
    #[error(
        "this system has no authorities that certificates could be checked with; install them (ca-certificates), or \
         name a file of them in SSL_CERT_FILE"
    )]
    NoAuthorities,
    #[error("{0}")]
    Library(Box<dyn std::error::Error + Send + Sync>),
}

/// What a link trusts, and what it shows.
#[derive(Debug, Default)]
pub struct TlsSettings {
    /// The authorities, instead of those of the system.
    pub authorities: Option<File>,
    /// Our certificate, and its key.
    pub identity: Option<(File, File)>,
    /// The setting and the name that every server's certificate must have, instead of the host that was asked for.
    pub name: Option<(&'static str, String)>,
}

impl TlsSettings {
    /// Reads the files. They are not read again later.
    ///
    /// # Errors
    /// Names the setting and the file.
    pub fn configuration(&self) -> Result<ClientConfig, TlsError> {
        let library = |error: rustls::Error| TlsError::Library(error.into());
        let provider = provider();
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(self.roots()?), Arc::clone(&provider))
                .build()
                .map_err(|error| TlsError::Library(error.into()))?;
        let versions = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = versions.map_err(library)?;
        let builder = match &self.name {
            None => builder.with_webpki_verifier(verifier),
            Some((setting, name)) => {
                let is_none = |_| TlsError::Name { setting, name: name.clone() };
                let name = ServerName::try_from(name.clone()).map_err(is_none)?;
                builder.dangerous().with_custom_certificate_verifier(Arc::new(ByName { name, verifier }))
            }
        };
        match &self.identity {
            None => Ok(builder.with_no_client_auth()),
            Some((certificate, key)) => {
                let made = builder.with_client_auth_cert(certificate.certificates()?, key.key()?);
                made.map_err(|error| TlsError::Identity {
                    certificate: certificate.clone(),
                    key: key.clone(),
                    error: Box::new(error),
                })
            }
        }
    }

    fn roots(&self) -> Result<RootCertStore, TlsError> {
        let Some(file) = &self.authorities else { return system_authorities() };
        let mut roots = RootCertStore::empty();
        for certificate in file.certificates()? {
            let added = roots.add(certificate);
            added.map_err(|error| TlsError::Authority { file: file.clone(), error: Box::new(error) })?;
        }
        Ok(roots)
    }
}

/// Whom this system trusts, as the link to Redis does, which asks by itself: SSL_CERT_FILE and SSL_CERT_DIR count.
///
/// # Errors
/// There are none, or they can not be read.
pub fn system_authorities() -> Result<RootCertStore, TlsError> {
    let found = rustls_native_certs::load_native_certs();
    if let Some(error) = found.errors.into_iter().next() {
        return Err(TlsError::System(error));
    }
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(found.certs);
    if roots.is_empty() { Err(TlsError::NoAuthorities) } else { Ok(roots) }
}

/// What a link trusts that has no settings of its own, and shows nothing. Read once.
///
/// # Errors
/// Those of [`system_authorities`].
pub fn system() -> Result<Arc<ClientConfig>, TlsError> {
    static READ: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    if let Some(read) = READ.get() {
        return Ok(Arc::clone(read));
    }
    let read = Arc::new(TlsSettings::default().configuration()?);
    Ok(Arc::clone(READ.get_or_init(|| read)))
}

/// Wants one name in every certificate, wherever the server is. All else is checked as ever.
#[derive(Debug)]
struct ByName {
    name: ServerName<'static>,
    verifier: Arc<WebPkiServerVerifier>,
}

impl ServerCertVerifier for ByName {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        self.verifier.verify_server_cert(certificate, intermediates, &self.name, ocsp, now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.verifier.verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.verifier.supported_verify_schemes()
    }
}
