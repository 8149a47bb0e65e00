//! The opening handshake: name look-up, TCP, TLS, WebSocket.

use std::{io, net::SocketAddr};

use tokio::net::{TcpStream, lookup_host};
use tokio_tungstenite::{
    Connector, MaybeTlsStream, WebSocketStream, client_async_tls_with_config,
    tungstenite::{
        self,
        client::IntoClientRequest,
        handshake::client::{Request, Response},
        http::{
            HeaderName, HeaderValue, Uri,
            header::{AUTHORIZATION, USER_AGENT},
            uri::InvalidUri,
        },
        protocol::WebSocketConfig,
    },
};

use super::{ClientError, Endpoint, Token};
use crate::{tls, trace};

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// A WebSocket, over TLS or not.
pub(super) type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

impl Endpoint {
    /// An open socket, and the answer to its handshake.
    pub(super) async fn open(&self) -> Result<(Socket, Response), ClientError> {
        let request = self.request()?;
        let stream = self.reach(request.uri()).await?;
        let bounds = &self.bounds;
        let config = WebSocketConfig::default()
            .max_message_size(Some(bounds.message_bytes))
            .max_frame_size(Some(bounds.message_bytes))
            .max_write_buffer_size(bounds.queue_bytes);
        let connector = match request.uri().scheme_str() {
            Some("wss") => {
                Connector::Rustls(tls::system().map_err(|error| self.no_request(&error.to_string()))?)
            }
            _ => Connector::Plain,
        };
        client_async_tls_with_config(request, stream, Some(config), Some(connector))
            .await
            .map_err(|error| self.explain(error))
    }

    /// The handshake, which tells the relay of the trace that it is part of.
    fn request(&self) -> Result<Request, ClientError> {
        let made = self.url.as_str().into_client_request();
        let mut request = made.map_err(|error| self.no_request(&error.to_string()))?;
        let user_agent = HeaderValue::from_str(&self.user_agent);
        let user_agent = user_agent.map_err(|_| self.no_request("the name of the client is no header"))?;
        request.headers_mut().insert(USER_AGENT, user_agent);
        if let Some(Token(token)) = &self.token {
            let shown = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut shown = shown.map_err(|_| self.no_request("the token is no header"))?;
            shown.set_sensitive(true);
            request.headers_mut().insert(AUTHORIZATION, shown);
        }
        if let Some(context) = trace::current() {
            // Made of hexadecimal digits.
            request.headers_mut().extend(context.traceparent().parse().map(|value| (TRACEPARENT, value)));
        }
        Ok(request)
    }

    /// The host's addresses that may be connected to: at least one.
    ///
    /// # Errors
    /// It is no URL of a relay, the host is not known, or it is none that may be connected to.
    pub async fn addresses(&self) -> Result<Vec<SocketAddr>, ClientError> {
        let uri: Uri = self.url.parse().map_err(|error: InvalidUri| self.no_request(&error.to_string()))?;
        self.addresses_of(&uri).await
    }

    async fn addresses_of(&self, uri: &Uri) -> Result<Vec<SocketAddr>, ClientError> {
        let default_port = match uri.scheme_str() {
            Some("ws") => 80,
            Some("wss") => 443,
            _ => return Err(self.no_request("it does not begin with ws:// or wss://")),
        };
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
        let port = uri.port_u16().unwrap_or(default_port);
        let addresses: Vec<_> = lookup_host((host, port)).await.map_or(Vec::new(), Iterator::collect);
        if addresses.is_empty() {
            return Err(ClientError::UnknownHost { url: self.shown_url(), host: host.to_owned() });
        }
        let addresses = self.reach.allowed(addresses);
        if addresses.is_empty() {
            return Err(ClientError::Forbidden { url: self.shown_url() });
        }
        Ok(addresses)
    }

    /// The first of the host's addresses that takes the connection.
    pub(super) async fn reach(&self, uri: &Uri) -> Result<TcpStream, ClientError> {
        let addresses = self.addresses_of(uri).await?;
        let connect = async {
            let stream = TcpStream::connect(&addresses[..]).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        connect.await.map_err(|error: io::Error| self.unreachable(error.to_string()))
    }

    fn no_request(&self, reason: &str) -> ClientError {
        ClientError::NoRequest { url: self.shown_url(), reason: reason.to_owned() }
    }

    pub(super) fn unreachable(&self, reason: String) -> ClientError {
        ClientError::Unreachable { url: self.shown_url(), reason }
    }

    fn explain(&self, error: tungstenite::Error) -> ClientError {
        let no_relay = |reason| ClientError::NoRelay { url: self.shown_url(), reason };
        match error {
            // What is wrong with a certificate comes as invalid data.
            tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
                let by_tls = error.get_ref().and_then(|error| error.downcast_ref::<rustls::Error>());
                no_relay(by_tls.map_or_else(|| error.to_string(), explain_tls))
            }
            tungstenite::Error::Io(error) => self.unreachable(error.to_string()),
            tungstenite::Error::Http(answer) if answer.status().is_server_error() => {
                self.unreachable(format!("it answered {}", answer.status()))
            }
            tungstenite::Error::Http(answer) => no_relay(format!("it answered {}", answer.status())),
            error => no_relay(error.to_string()),
        }
    }
}

fn explain_tls(error: &rustls::Error) -> String {
    use rustls::{
        CertificateError::{BadSignature, UnknownIssuer},
        Error,
    };
    match error {
        Error::InvalidMessage(_) => "it speaks no TLS there; ws:// does without".to_owned(),
        // The latter is of another authority of the same name: one that was made anew.
        Error::InvalidCertificate(UnknownIssuer | BadSignature) => {
            "its certificate is of an authority that this system does not \
             know; SSL_CERT_FILE may name a file of others"
                .to_owned()
        }
        error => error.to_string(),
    }
}
