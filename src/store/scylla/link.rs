//! The link to the servers: whether it is TLS, what it trusts and shows, and in words why there is none.

use std::{io, net::IpAddr, sync::Arc};

use rustls::{AlertDescription as Alert, CertificateError, ClientConfig};
use scylla::errors::{
    BrokenConnectionError, BrokenConnectionErrorKind, ConnectionError, ConnectionPoolError,
    ConnectionSetupRequestErrorKind, FrameHeaderParseError, MetadataError, NewSessionError,
};
use tracing::warn;

use crate::{
    config,
    tls::{File, TlsError, TlsSettings},
};

const CERTIFICATE: &str = "scylla.tls_cert";
const KEY: &str = "scylla.tls_key";

/// How TLS is spoken, where it is.
///
/// # Errors
/// Names the setting and the file.
pub fn configuration(config: &config::Scylla) -> Result<Option<Arc<ClientConfig>>, TlsError> {
    if !config.tls {
        return Ok(None);
    }
    let identity = match (File::named(CERTIFICATE, &config.tls_cert), File::named(KEY, &config.tls_key)) {
        (Some(certificate), Some(key)) => Some((certificate, key)),
        (None, None) => None,
        (Some(_), None) => return Err(TlsError::Half { given: CERTIFICATE, missing: KEY }),
        (None, Some(_)) => return Err(TlsError::Half { given: KEY, missing: CERTIFICATE }),
    };
    let link = TlsSettings {
        authorities: authorities(config),
        identity,
        name: (!config.tls_name.is_empty()).then(|| ("scylla.tls_name", config.tls_name.clone())),
    };
    Ok(Some(Arc::new(link.configuration()?)))
}

fn authorities(config: &config::Scylla) -> Option<File> {
    File::named("scylla.tls_ca", &config.tls_ca)
}

/// Warns where a password goes over a network as it is.
pub fn warn_of_plain_password(config: &config::Scylla) {
    if !config.tls && !config.password.is_empty() && !config.nodes.iter().all(|node| is_here(node)) {
        warn!(
            "the password goes to the CQL servers as it is, and so does every event: set scylla.tls = true, unless \
             something else encrypts that network"
        );
    }
}

/// Whether a node's address, with or without a port, is of this machine.
fn is_here(node: &str) -> bool {
    let is_loopback = |host: &str| host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    let host = node.rsplit_once(':').map_or(node, |(host, _)| host).trim_matches(['[', ']']);
    host == "localhost" || is_loopback(host) || is_loopback(node)
}

/// Why servers can not be reached, where TLS has to do with it.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    #[error("their certificate is of an authority that is not in {file}")]
    Authority { file: File },
    #[error(
        "their certificate is of an authority that this system does not know; name a file with its certificate in scylla.tls_ca"
    )]
    UnknownAuthority,
    #[error(
        "their certificate is not for {wanted} (its names: {names}); it must be for each address at which the server is reached, or scylla.tls_name be a name that all of them have"
    )]
    Name { wanted: String, names: String },
    #[error("their certificate is not accepted: {0}")]
    Certificate(CertificateError),
    #[error("they end TLS ({why}); do they want a certificate of us (scylla.tls_cert and scylla.tls_key)?")]
    Unnamed { why: String },
    #[error("they end TLS ({why}); do they accept our certificate {file}?")]
    NotAccepted { file: File, why: String },
    #[error("they speak no TLS there, which scylla.tls asks for; it may have a port of its own")]
    Plain,
    #[error("TLS fails: {0}")]
    Other(rustls::Error),
    #[error("they end the connection before they have said anything; do they want TLS (scylla.tls)?")]
    Ended,
}

impl Refusal {
    /// The refusal behind an error; `None` where TLS has nothing to do with it.
    pub fn of(error: &NewSessionError, config: &config::Scylla) -> Option<Self> {
        let error = last(error)?;
        match io_error(error).and_then(|error| error.get_ref()?.downcast_ref::<rustls::Error>()) {
            Some(error) => Some(Self::by(error, config)),
            None if !is_ended(error) => None,
            None if !config.tls => Some(Self::Ended),
            None => Some(Self::by_them("without a word", config)),
        }
    }

    /// A refusal by the servers, which have many words for it: Cassandra calls a certificate of a wrong authority an
    /// internal error.
    fn by_them(why: &str, config: &config::Scylla) -> Self {
        let why = why.to_owned();
        match File::named(CERTIFICATE, &config.tls_cert) {
            Some(file) => Self::NotAccepted { file, why },
            None => Self::Unnamed { why },
        }
    }

    fn by(error: &rustls::Error, config: &config::Scylla) -> Self {
        use rustls::Error::{AlertReceived, InvalidCertificate, InvalidMessage};
        match error {
            // A bad signature is of another authority of the same name: one that was made anew.
            InvalidCertificate(CertificateError::UnknownIssuer | CertificateError::BadSignature) => {
                match authorities(config) {
                    Some(file) => Self::Authority { file },
                    None => Self::UnknownAuthority,
                }
            }
            InvalidCertificate(CertificateError::NotValidForNameContext { expected, presented }) => {
                let names = if presented.is_empty() { "none".to_owned() } else { presented.join(", ") };
                Self::Name { wanted: expected.to_str().into_owned(), names }
            }
            InvalidCertificate(error) => Self::Certificate(error.clone()),
            AlertReceived(alert) if *alert != Alert::ProtocolVersion => {
                Self::by_them(&format!("{alert:?}"), config)
            }
            InvalidMessage(_) => Self::Plain,
            other => Self::Other(other.clone()),
        }
    }
}

/// How the last attempt to connect failed.
fn last(error: &NewSessionError) -> Option<&ConnectionError> {
    match error {
        NewSessionError::MetadataError(MetadataError::ConnectionPoolError(ConnectionPoolError::Broken {
            last_connection_error,
        })) => Some(last_connection_error),
        _ => None,
    }
}

/// What became of a connection before the servers had said anything.
fn broken(error: &ConnectionError) -> Option<&BrokenConnectionError> {
    match error {
        ConnectionError::BrokenConnection(broken) => Some(broken),
        ConnectionError::ConnectionSetupRequestError(setup) => match &setup.error {
            ConnectionSetupRequestErrorKind::BrokenConnection(broken) => Some(broken),
            _ => None,
        },
        _ => None,
    }
}

fn io_error(error: &ConnectionError) -> Option<&io::Error> {
    if let ConnectionError::IoError(error) = error {
        return Some(error);
    }
    match broken(error)?.downcast_ref::<BrokenConnectionErrorKind>()? {
        BrokenConnectionErrorKind::WriteError(error)
        | BrokenConnectionErrorKind::FrameHeaderParseError(
            FrameHeaderParseError::HeaderIoError(error) | FrameHeaderParseError::BodyChunkIoError(_, error),
        ) => Some(error),
        _ => None,
    }
}

fn is_ended(error: &ConnectionError) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    broken(error).is_some()
        || io_error(error)
            .is_some_and(|error| matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_this_machine_are_known() {
        for node in ["127.0.0.1:9042", "127.0.0.1", "localhost:9042", "localhost", "[::1]:9042", "::1"] {
            assert!(is_here(node), "{node}");
        }
        for node in [
            "10.0.0.1:9042",
            "cql.example.com",
            "localhost.example.com:1",
            "[2001:db8::1]:9042",
            "2001:db8::1",
        ] {
            assert!(!is_here(node), "{node}");
        }
    }
}
