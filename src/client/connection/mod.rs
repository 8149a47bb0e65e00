//! An open connection to a relay: messages in and out, a heartbeat, authentication. It never reconnects.

mod authentication;

use std::{
    fmt, io,
    num::NonZeroUsize,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::{Sink, SinkExt, Stream};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::{self, Message, Utf8Bytes};

use super::{ClientError, Endpoint, handshake::Socket, shown};
use crate::protocol::{
    Event, EventId, Filter, Identity, ParsedEvent, Reply, STORE_HEADER, reply, verify::Verifier,
};

/// A relay that demanded authentication owes a challenge.
pub(super) const CHALLENGE_TIMEOUT: Duration = Duration::from_secs(5);
/// How long good manners may take at the end.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Authors whose decoded keys are kept while verifying.
const HOT_AUTHORS: NonZeroUsize = NonZeroUsize::MIN.saturating_add(999);

impl Endpoint {
    /// Connects. Authenticates only when asked to, by [`Connection::authenticate`].
    ///
    /// # Errors
    /// Nobody answers in time, or not as a relay should.
    pub async fn connect(&self) -> Result<Connection, ClientError> {
        let Ok(opened) = timeout(self.bounds.connect, self.open()).await else {
            let reason = format!("no answer within {} s", self.bounds.connect.as_secs_f32());
            return Err(self.unreachable(reason));
        };
        let (socket, answer) = opened?;
        let told = answer.headers().get(STORE_HEADER).and_then(|value| value.to_str().ok());
        Ok(Connection::new(self.clone(), socket, told.and_then(|told| told.parse().ok())))
    }

    /// Connects, and [identifies](Connection::identify) itself.
    ///
    /// # Errors
    /// Those of [`Self::connect`], and of [`Connection::identify`].
    pub async fn connect_identified(&self) -> Result<Connection, ClientError> {
        let mut connection = self.connect().await?;
        connection.identify().await?;
        Ok(connection)
    }
}

/// An open connection. Dropping it ends it.
pub struct Connection {
    socket: Socket,
    endpoint: Endpoint,
    /// Which store the relay has, where it tells.
    store: Option<Identity>,
    /// The newest one.
    challenge: Option<String>,
    /// Made when the first event comes.
    verifier: Option<Verifier>,
    notices: u32,
    /// When the relay said anything last.
    heard: Instant,
    /// When it was asked for a sign of life that has not come.
    pinged: Option<Instant>,
}

/// What a relay said of an event (`OK`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Whether the relay has the event now.
    pub accepted: bool,
    /// Its words, empty or with a prefix such as `duplicate:` (NIP-01). They may hold anything: see [`shown`].
    pub reason: String,
}

/// What [`Connection::step`] waited for.
pub enum Step {
    Text(Utf8Bytes),
    /// [`Connection::queue`] can be called once.
    Room,
}

impl Connection {
    fn new(endpoint: Endpoint, socket: Socket, store: Option<Identity>) -> Self {
        Self {
            socket,
            endpoint,
            store,
            challenge: None,
            verifier: None,
            notices: 0,
            heard: Instant::now(),
            pinged: None,
        }
    }

    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Which store the relay has, where it tells.
    pub fn store(&self) -> Option<Identity> {
        self.store
    }

    /// Publishes an event and waits for the relay's `OK`; once more after authentication where the relay demands
    /// that. Other messages that arrive meanwhile are dropped.
    ///
    /// # Errors
    /// The connection is lost, there is no answer in time, or no key to authenticate with. A refusal is none.
    pub async fn publish(&mut self, event: &Event) -> Result<Receipt, ClientError> {
        let message = format!(r#"["EVENT",{}]"#, event.json());
        self.send(message.as_str()).await?;
        let receipt = self.receipt(event.id()).await?;
        if receipt.accepted || reply::prefix(&receipt.reason) != "auth-required" {
            return Ok(receipt);
        }
        self.authenticate().await?;
        self.send(message).await?;
        self.receipt(event.id()).await
    }

    async fn receipt(&mut self, event: EventId) -> Result<Receipt, ClientError> {
        let deadline = Instant::now() + self.endpoint.bounds.answer;
        loop {
            let text = timeout_at(deadline, self.receive()).await;
            let text = text.map_err(|_| ClientError::Silent("answer an event"))??;
            if let Some(Reply::Ok { id, accepted, reason }) = self.read(&text)
                && id == Some(event)
            {
                return Ok(Receipt { accepted, reason: reason.into_owned() });
            }
        }
    }

    /// How many events match, and whether that is a guess (NIP-45); `None` where the relay does not tell.
    ///
    /// # Errors
    /// The connection is lost, or there is no answer in time.
    pub async fn count(&mut self, filter: &Filter) -> Result<Option<(u64, bool)>, ClientError> {
        let id = random_id();
        self.send(format!(r#"["COUNT","{id}",{filter}]"#)).await?;
        let deadline = Instant::now() + self.endpoint.bounds.answer;
        loop {
            let text = timeout_at(deadline, self.receive()).await;
            let text = text.map_err(|_| ClientError::Silent("count"))??;
            match self.parse(&text) {
                Some(Reply::Count { subscription, count, approximate }) if subscription == id => {
                    return Ok(Some((count, approximate)));
                }
                Some(Reply::Closed { subscription, .. }) if subscription == id => return Ok(None),
                // Relays without COUNT say so in a notice, if at all.
                Some(Reply::Notice(_)) => return Ok(None),
                _ => {}
            }
        }
    }

    /// Notes which store the relay has, where it tells.
    ///
    /// # Errors
    /// It is another than what was noted of an earlier connection: what was done over that is not there.
    pub fn note_store(&self, noted: &mut Option<Identity>) -> Result<(), ClientError> {
        match (*noted, self.store) {
            (Some(before), Some(now)) if before != now => {
                Err(ClientError::OtherStore { url: self.endpoint.shown_url(), before, now })
            }
            (before, now) => {
                *noted = now.or(before);
                Ok(())
            }
        }
    }

    /// Sends one message, and waits until it has left.
    ///
    /// # Errors
    /// The connection is lost, or the relay does not read.
    pub async fn send(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        match timeout(self.endpoint.bounds.send, self.socket.send(Message::Text(text.into()))).await {
            Ok(sent) => sent.map_err(lost),
            Err(_) => Err(ClientError::Silent("take a message")),
        }
    }

    /// The next text message. Safe to cancel.
    ///
    /// # Errors
    /// The connection is lost: closed, broken, or without a sign of life.
    pub async fn receive(&mut self) -> Result<Utf8Bytes, ClientError> {
        loop {
            if let Step::Text(text) = self.step(false).await? {
                return Ok(text);
            }
        }
    }

    /// Waits for a message or, where asked, for room to send one; flushes where not. Safe to cancel.
    ///
    /// # Errors
    /// Those of [`Self::receive`].
    pub async fn step(&mut self, wants_room: bool) -> Result<Step, ClientError> {
        loop {
            let deadline = match self.pinged {
                Some(at) => at + self.endpoint.bounds.pong,
                None => self.heard + self.endpoint.bounds.silence,
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
    ///
    /// # Errors
    /// The connection is lost.
    pub fn queue(&mut self, text: impl Into<Utf8Bytes>) -> Result<(), ClientError> {
        self.queue_message(Message::Text(text.into()))
    }

    fn queue_message(&mut self, message: Message) -> Result<(), ClientError> {
        Pin::new(&mut self.socket).start_send(message).map_err(lost)
    }

    /// Reads a message; `None` where it is dealt with here: challenges are kept, the observer is told of notices,
    /// and what cannot be understood is skipped.
    pub fn read<'a>(&mut self, text: &'a str) -> Option<Reply<'a>> {
        match self.parse(text)? {
            Reply::Auth { challenge } => self.challenge = Some(challenge.into_owned()),
            Reply::Notice(text) => {
                if self.notices < self.endpoint.bounds.notices {
                    self.notices += 1;
                    self.endpoint.observer.notice(&text);
                }
            }
            Reply::Unknown(_) => {}
            reply => return Some(reply),
        }
        None
    }

    fn parse<'a>(&self, text: &'a str) -> Option<Reply<'a>> {
        let reply = Reply::parse(text).ok();
        self.endpoint.observer.heard(reply.as_ref());
        reply
    }

    /// The event, if its id and signature are valid; unchecked where the endpoint says so.
    pub(super) fn check(&mut self, parsed: ParsedEvent<'_>) -> Option<Event> {
        if !self.endpoint.verify {
            return Some(parsed.trust());
        }
        self.verifier.get_or_insert_with(|| Verifier::new(HOT_AUTHORS)).verify(parsed).ok()
    }

    /// Says goodbye, for a moment; what was queued goes out first.
    pub async fn close(mut self) {
        let _ = timeout(CLOSE_TIMEOUT, self.socket.close(None)).await;
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("url", &self.endpoint.shown_url()).finish_non_exhaustive()
    }
}

/// An id that no earlier subscription had, on this connection or another, and that nobody can guess.
pub(super) fn random_id() -> String {
    format!("{:016x}", rand::random::<u64>())
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
