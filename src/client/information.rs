//! Asks a relay what it says of itself (NIP-11): one request by HTTP, to the address that was looked at.

use std::time::Duration;

use http_body_util::{BodyExt, Empty, Limited};
use hyper::{
    Request, StatusCode, Uri,
    body::Bytes,
    client::conn::http1,
    header::{ACCEPT, HOST, USER_AGENT},
};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    select,
    time::timeout,
};
use tokio_rustls::TlsConnector;

use super::{ClientError, Endpoint, Manners};
use crate::tls;

/// Longest document that is taken.
const MAX_BYTES: usize = 64 * 1024;
/// For all of it. Nothing depends on it.
const PATIENCE: Duration = Duration::from_secs(5);

impl Endpoint {
    /// Asks the relay how much may be asked of it.
    ///
    /// # Errors
    /// It does not say. That need not mean anything: not every relay does.
    pub async fn ask_manners(&self) -> Result<Manners, ClientError> {
        let asked = timeout(PATIENCE.min(self.bounds.connect), self.information()).await;
        let document = asked.map_err(|_| ClientError::Silent("say what it is"))??;
        Ok(Manners::told(&document))
    }

    async fn information(&self) -> Result<Value, ClientError> {
        let uri: Uri = self.url.parse().map_err(|error| self.no_information(error))?;
        let stream = self.reach(&uri).await?;
        if uri.scheme_str() != Some("wss") {
            return self.exchange(&uri, stream).await;
        }
        let host = uri.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
        let name = ServerName::try_from(host).map_err(|error| self.no_information(error))?;
        let config = tls::system().map_err(|error| self.no_information(error))?;
        let stream = TlsConnector::from(config).connect(name, stream).await;
        self.exchange(&uri, stream.map_err(|error| self.no_information(error))?).await
    }

    /// One request, and its answer. No redirect is followed.
    async fn exchange(
        &self,
        uri: &Uri,
        stream: impl AsyncRead + AsyncWrite + Unpin,
    ) -> Result<Value, ClientError> {
        let (mut sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|error| self.no_information(error))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        let request = Request::get(path)
            .header(HOST, uri.authority().map_or("", |authority| authority.as_str()))
            .header(ACCEPT, "application/nostr+json")
            .header(USER_AGENT, &self.user_agent)
            .body(Empty::<Bytes>::new())
            .map_err(|error| self.no_information(error))?;
        let answer = async {
            let answer = sender.send_request(request).await.map_err(|error| self.no_information(error))?;
            if answer.status() != StatusCode::OK {
                return Err(self.no_information(format!("it answered {}", answer.status())));
            }
            let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await;
            let body = body.map_err(|error| self.no_information(error))?.to_bytes();
            serde_json::from_slice(&body).map_err(|error| self.no_information(error))
        };
        let broken = || self.no_information("the connection ended");
        tokio::pin!(answer);
        select! {
            answer = &mut answer => answer,
            // It may have ended with the answer.
            _ = connection => timeout(Duration::ZERO, answer).await.unwrap_or_else(|_| Err(broken())),
        }
    }

    fn no_information(&self, reason: impl ToString) -> ClientError {
        ClientError::NoRelay { url: self.shown_url(), reason: reason.to_string() }
    }
}
