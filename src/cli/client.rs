//! A connection to a relay, as the client commands use it: bounded messages, a bound on every wait,
//! a heartbeat, authentication (NIP-42). It never reconnects by itself; who holds it knows what is
//! to be said again.

use std::{
    fmt, io,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use clap::Args;
use futures_util::{Sink, SinkExt, Stream};
use tokio::{
    net::{TcpStream, lookup_host},
    time::{Instant, timeout, timeout_at},
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream, connect_async_with_config,
    tungstenite::{
        self, Message, Utf8Bytes,
        client::IntoClientRequest,
        handshake::client::Request,
        http::{HeaderName, Uri},
        protocol::WebSocketConfig,
    },
};

use super::{terminal::shown, time::now};
use crate::{
    protocol::{Event, EventId, Reply, STORE_HEADER, Tags, kind, sign::Keys},
    store::Identity,
};

/// W3C Trace Context.
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
/// Name look-up, TCP, TLS and the WebSocket handshake together.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a relay may take to answer a question: OK, EOSE, the next event of a page.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long a message may take to leave.
const SEND_TIMEOUT: Duration = Duration::from_secs(30);
/// After this long without a word from the relay, it is asked for a sign of life …
const PING_AFTER: Duration = Duration::from_secs(30);
/// … and given this long for it.
const PONG_TIMEOUT: Duration = Duration::from_secs(20);
/// Relays that want authentication say so right away; longer than this nobody waits for it.
const EARLY_CHALLENGE: Duration = Duration::from_millis(500);
/// A relay that demanded authentication owes a challenge.
const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long good manners may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Longest message taken from a relay.
const MAX_MESSAGE_BYTES: usize = 16 << 20;
/// Most that is queued for a relay that does not read.
const MAX_WRITE_BUFFER: usize = 64 << 20;
/// Notices of a connection that are shown; some relays write one for each event.
const MAX_NOTICES: u32 = 10;

/// The flag that names the relay.
#[derive(Debug, Clone, Args)]
pub struct RelayFlag {
    /// Relay to talk to
    #[arg(
        long,
        value_name = "URL",
        env = "ROOKERY_RELAY",
        hide_env_values = true,
        default_value = "ws://127.0.0.1:7777",
        value_parser = relay_url
    )]
    pub relay: String,
}

/// A URL, or a host with a port, as it is shown by a relay that starts.
fn relay_url(text: &str) -> Result<String, String> {
    let has_port = |text: &str| text.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    if !text.contains('/') && has_port(text.trim()) {
        return relay_url(&format!("ws://{}", text.trim()));
    }
    let url: Uri = text.trim().parse().map_err(|_| "this is no URL; write ws://host:port".to_owned())?;
    match (url.scheme_str(), url.host()) {
        (Some("ws" | "wss"), Some(_)) => Ok(text.trim().to_owned()),
        (Some("http"), _) => Err(format!("write {}", text.replacen("http", "ws", 1))),
        (Some("https"), _) => Err(format!("write {}", text.replacen("https", "wss", 1))),
        _ => Err(format!("a relay's URL begins with ws:// or wss://, such as wss://{}", text.trim())),
    }
}

/// Why a relay could not be talked to.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(
        "cannot reach {url}: {reason}. Is the relay running? Start one with `rookery`, or name another with --relay"
    )]
    Unreachable { url: String, reason: String },
    #[error("cannot reach {url}: nobody knows the host {host}. Check how it is written, and the network")]
    UnknownHost { url: String, host: String },
    #[error("{url} answers, but not as a relay should: {reason}. Check the address and its path")]
    NoRelay { url: String, reason: String },
    #[error("the connection was lost: {0}")]
    Lost(String),
    #[error("the relay did not {0} in time")]
    Silent(&'static str),
    /// The relay said so itself.
    #[error("{0}")]
    Busy(String),
    #[error("{url} has another store ({now}) than before ({before})")]
    OtherStore { url: String, before: Identity, now: Identity },
    #[error("the relay wants to know who you are: name your key with --key-file FILE or ROOKERY_KEY")]
    NoKey,
    #[error("the relay refused to authenticate this key: {0}")]
    AuthRefused(String),
}

impl ClientError {
    /// Whether another connection may do better.
    pub fn is_passing(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::UnknownHost { .. }
                | Self::Lost(_)
                | Self::Silent(_)
                | Self::Busy(_)
        )
    }
}

/// Where to connect to, and as whom.
#[derive(Clone)]
pub struct Endpoint {
    pub url: String,
    pub keys: Option<Keys>,
}

impl Endpoint {
    /// Connects. Authenticates only when asked to, by [`Connection::authenticate`].
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let config = WebSocketConfig::default()
            .max_message_size(Some(MAX_MESSAGE_BYTES))
            .max_frame_size(Some(MAX_MESSAGE_BYTES))
            .max_write_buffer_size(MAX_WRITE_BUFFER);
        let connecting = connect_async_with_config(self.request()?, Some(config), true);
        let url = self.url.clone();
        let (socket, answer) = match timeout(CONNECT_TIMEOUT, connecting).await {
            Ok(Ok(opened)) => opened,
            Ok(Err(error)) => return Err(self.unknown_host().await.unwrap_or(handshake_error(url, error))),
            Err(_) => {
                let reason = format!("no answer within {} s", CONNECT_TIMEOUT.as_secs());
                return Err(ClientError::Unreachable { url, reason });
            }
        };
        let told = answer.headers().get(STORE_HEADER).and_then(|value| value.to_str().ok());
        Ok(Connection {
            socket,
            endpoint: self.clone(),
            store: told.and_then(|told| told.parse().ok()),
            challenge: None,
            notices: 0,
            heard: Instant::now(),
            pinged: None,
        })
    }

    /// The error where the host has no address, which errors of the system do not tell from others.
    async fn unknown_host(&self) -> Option<ClientError> {
        let uri: Uri = self.url.parse().ok()?;
        let host = uri.host()?.trim_matches(['[', ']']);
        let found = lookup_host((host, 0)).await.is_ok_and(|mut found| found.next().is_some());
        (!found).then(|| ClientError::UnknownHost { url: self.url.clone(), host: host.to_owned() })
    }

    /// The handshake, which tells the relay of the trace that it is part of.
    fn request(&self) -> Result<Request, ClientError> {
        let made = self.url.as_str().into_client_request();
        let mut request = made.map_err(|error| handshake_error(self.url.clone(), error))?;
        if let Some(context) = crate::trace::current() {
            // Made of hexadecimal digits.
            request.headers_mut().extend(context.traceparent().parse().map(|value| (TRACEPARENT, value)));
        }
        Ok(request)
    }

    /// Connects, and authenticates at once where there is a key and the relay offers it.
    pub async fn connect_identified(&self) -> Result<Connection, ClientError> {
        let mut connection = self.connect().await?;
        if self.keys.is_some() && connection.await_challenge(EARLY_CHALLENGE).await? {
            connection.authenticate().await?;
        }
        Ok(connection)
    }
}

fn handshake_error(url: String, error: tungstenite::Error) -> ClientError {
    match error {
        // What is wrong with a certificate comes as invalid data.
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::InvalidData => {
            ClientError::NoRelay { url, reason: error.to_string() }
        }
        tungstenite::Error::Io(error) => ClientError::Unreachable { url, reason: error.to_string() },
        tungstenite::Error::Http(answer) if answer.status().is_server_error() => {
            ClientError::Unreachable { url, reason: format!("it answered {}", answer.status()) }
        }
        tungstenite::Error::Http(answer) => {
            ClientError::NoRelay { url, reason: format!("it answered {}", answer.status()) }
        }
        error => ClientError::NoRelay { url, reason: error.to_string() },
    }
}

/// An open connection. Dropping it ends it.
pub struct Connection {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    endpoint: Endpoint,
    store: Option<Identity>,
    challenge: Option<String>,
    notices: u32,
    heard: Instant,
    pinged: Option<Instant>,
}

/// What [`Connection::step`] waited for.
pub enum Step {
    Text(Utf8Bytes),
    /// [`Connection::queue`] can be called once.
    Room,
}

impl Connection {
    /// Notes which store the relay has, where it tells.
    ///
    /// # Errors
    /// It is another than what was noted of an earlier connection: what was done over that is not there.
    pub fn note_store(&self, noted: &mut Option<Identity>) -> Result<(), ClientError> {
        match (*noted, self.store) {
            (Some(before), Some(now)) if before != now => {
                Err(ClientError::OtherStore { url: self.endpoint.url.clone(), before, now })
            }
            (before, now) => {
                *noted = now.or(before);
                Ok(())
            }
        }
    }

    /// Sends one message and flushes.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        match timeout(SEND_TIMEOUT, self.socket.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(lost),
            Err(_) => Err(ClientError::Silent("take a message")),
        }
    }

    /// The next text message. Safe to cancel.
    pub async fn receive(&mut self) -> Result<Utf8Bytes, ClientError> {
        loop {
            if let Step::Text(text) = self.step(false).await? {
                return Ok(text);
            }
        }
    }

    /// Waits for a message or, where asked, for room to send one; flushes where not. Safe to cancel.
    pub async fn step(&mut self, wants_room: bool) -> Result<Step, ClientError> {
        loop {
            let deadline = match self.pinged {
                Some(at) => at + PONG_TIMEOUT,
                None => self.heard + PING_AFTER,
            };
            let polling = std::future::poll_fn(|context| self.poll_step(context, wants_room));
            let Ok(polled) = timeout_at(deadline, polling).await else {
                if self.pinged.is_some() {
                    return Err(ClientError::Silent("show a sign of life"));
                }
                self.pinged = Some(Instant::now());
                self.queue_message(Message::Ping(Default::default()))?;
                continue;
            };
            let Some(message) = polled? else {
                return Ok(Step::Room);
            };
            (self.heard, self.pinged) = (Instant::now(), None);
            match message {
                Message::Text(text) => return Ok(Step::Text(text)),
                Message::Close(frame) => {
                    let reason = frame.map(|frame| shown(&frame.to_string()));
                    let reason = reason.unwrap_or_else(|| "the relay closed it".into());
                    return Err(ClientError::Lost(reason));
                }
                _ => {}
            }
        }
    }

    /// `None`: there is room.
    fn poll_step(
        &mut self,
        context: &mut Context<'_>,
        wants_room: bool,
    ) -> Poll<Result<Option<Message>, ClientError>> {
        let mut socket = Pin::new(&mut self.socket);
        if let Poll::Ready(next) = socket.as_mut().poll_next(context) {
            let next = next.unwrap_or(Err(tungstenite::Error::ConnectionClosed));
            return Poll::Ready(next.map(Some).map_err(lost));
        }
        if wants_room {
            return socket.poll_ready(context).map(|ready| ready.map(|()| None).map_err(lost));
        }
        match socket.poll_flush(context) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(lost(error))),
            _ => Poll::Pending,
        }
    }

    /// Queues a message after [`Step::Room`]; a later `step` sends it.
    pub fn queue(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        self.queue_message(Message::Text(text.into()))
    }

    fn queue_message(&mut self, message: Message) -> Result<(), ClientError> {
        Pin::new(&mut self.socket).start_send(message).map_err(lost)
    }

    /// Reads a message; `None` where it is dealt with here: challenges are kept, notices shown, and
    /// what cannot be understood is skipped.
    pub fn read<'a>(&mut self, text: &'a str) -> Option<Reply<'a>> {
        match Reply::parse(text) {
            Ok(Reply::Auth { challenge }) => self.challenge = Some(challenge.into_owned()),
            Ok(Reply::Notice(text)) => {
                self.notices += 1;
                if self.notices <= MAX_NOTICES {
                    eprintln!("the relay says: {}", shown(&text));
                }
            }
            Ok(Reply::Unknown(_)) | Err(_) => {}
            Ok(reply) => return Some(reply),
        }
        None
    }

    /// Whether the relay sent a challenge, now or earlier. Drops other messages: nothing may be
    /// asked yet.
    async fn await_challenge(&mut self, within: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now() + within;
        while self.challenge.is_none() {
            let Ok(text) = timeout_at(deadline, self.receive()).await else {
                return Ok(false);
            };
            self.read(&text?);
        }
        Ok(true)
    }

    /// The answer to the relay's challenge, to be sent, and its id, which the OK will name. `None`
    /// before there is a challenge.
    pub fn auth_message(&self) -> Result<Option<(EventId, String)>, ClientError> {
        let keys = self.endpoint.keys.as_ref().ok_or(ClientError::NoKey)?;
        Ok(self.challenge.as_ref().map(|challenge| {
            let event = auth_event(keys, &self.endpoint.url, challenge);
            (event.id(), format!(r#"["AUTH",{}]"#, event.json()))
        }))
    }

    /// Authenticates (NIP-42) and waits for the relay's OK. Other messages that arrive meanwhile are
    /// dropped: for moments in which nothing is open.
    pub async fn authenticate(&mut self) -> Result<(), ClientError> {
        if self.endpoint.keys.is_none() {
            return Err(ClientError::NoKey);
        }
        self.await_challenge(CHALLENGE_TIMEOUT).await?;
        let Some((auth, message)) = self.auth_message()? else {
            return Err(ClientError::Silent("send the challenge that authentication needs"));
        };
        self.send(message).await?;
        let deadline = Instant::now() + ANSWER_TIMEOUT;
        loop {
            let Ok(text) = timeout_at(deadline, self.receive()).await else {
                return Err(ClientError::Silent("answer AUTH"));
            };
            match self.read(&text?) {
                Some(Reply::Ok { id, accepted: true, .. }) if id == Some(auth) => return Ok(()),
                Some(Reply::Ok { id, reason, .. }) if id == Some(auth) => {
                    return Err(ClientError::AuthRefused(shown(&reason)));
                }
                _ => {}
            }
        }
    }

    /// Says goodbye, for a moment; what was queued goes out first.
    pub async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.socket.close(None)).await;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.endpoint.url).finish_non_exhaustive()
    }
}

fn auth_event(keys: &Keys, url: &str, challenge: &str) -> Event {
    let tags = Tags::from_iter([["relay", url], ["challenge", challenge]]);
    keys.sign(now(), kind::AUTH, tags, "")
}

fn lost(error: tungstenite::Error) -> ClientError {
    ClientError::Lost(match error {
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => "it was closed".into(),
        tungstenite::Error::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            "it ended in the middle".into()
        }
        error => error.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_that_are_none_say_what_to_write() {
        assert_eq!(relay_url("ws://127.0.0.1:7777").unwrap(), "ws://127.0.0.1:7777");
        assert_eq!(relay_url(" wss://relay.example.com/x ").unwrap(), "wss://relay.example.com/x");
        assert_eq!(relay_url("127.0.0.1:7777").unwrap(), "ws://127.0.0.1:7777");
        assert_eq!(relay_url("localhost:7777").unwrap(), "ws://localhost:7777");
        assert_eq!(relay_url("[::1]:7777").unwrap(), "ws://[::1]:7777");
        for (text, expected) in [
            ("relay.example.com", "wss://relay.example.com"),
            ("https://relay.example.com", "write wss://relay.example.com"),
            ("http://localhost:7777", "write ws://localhost:7777"),
            ("ws://", "URL"),
            ("a b", "URL"),
        ] {
            let error = relay_url(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    #[test]
    fn an_auth_event_names_relay_and_challenge() {
        let event = auth_event(&Keys::generate(), "ws://x", "c");
        assert_eq!(event.kind(), 22_242);
        assert_eq!(event.tags().first_value("relay"), Some("ws://x"));
        assert_eq!(event.tags().first_value("challenge"), Some("c"));
    }
}
