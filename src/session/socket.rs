//! From an upgraded request to a session. The only file that knows `actix-web-actors`.

use std::{
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix::{ActorContext, StreamHandler};
use actix_http::ws::{Codec, Item};
use actix_web::{
    Error, HttpRequest, HttpResponse,
    web::{Bytes, BytesMut, Payload},
};
use actix_web_actors::ws::{self, Message, ProtocolError, WebsocketContext};
use futures_util::Stream;

use super::{
    Outbox, Session, SessionParts, Socket,
    frames::{FrameBounds, FrameFault},
    guard::{Guard, Stop},
};
use crate::{
    protocol::{Reason, STORE_HEADER, addressee::Addressee},
    route::RouterAddr,
    telemetry::CloseReason,
};

/// The context in which sessions run.
pub type SocketContext = WebsocketContext<Session>;

/// Bytes handed to the connection, and written by it, at once. Its buffer grows to about this and stays.
pub const PIECE: usize = 16 * 1024;

const CLOSE_NORMAL: u16 = 1000;
const CLOSE_PROTOCOL: u16 = 1002;
const CLOSE_INVALID_DATA: u16 = 1007;
const CLOSE_TOO_BIG: u16 = 1009;

/// Answers the handshake and starts the session.
///
/// # Errors
/// When the request is no valid handshake.
pub fn upgrade(
    request: &HttpRequest,
    payload: Payload,
    shared: Arc<SessionParts>,
    router: RouterAddr,
    socket: Socket,
) -> Result<HttpResponse, Error> {
    let mut response = ws::handshake(request)?;
    response.insert_header((STORE_HEADER, shared.store.identity().to_string()));
    let outbox = socket.outbox.clone();
    let bounds = {
        // For as long as the connection lives: its frames are cut by them.
        let limits = &shared.live.load().limits;
        FrameBounds { gathered: limits.max_message_bytes, passed_over: limits.max_refused_bytes }
    };
    let (payload, stop) = Guard::new(payload, socket.window.clone(), bounds);
    let session = Session::new(shared, router, socket, Reassembly::new(stop, bounds));
    let frames = WebsocketContext::with_codec(session, payload, Codec::new().max_size(bounds.gathered));
    Ok(response.streaming(Body { frames: Box::pin(frames), outbox, ended: false }))
}

/// What has come of a message that is sent in fragments, and why the stream may have ended.
pub struct Reassembly {
    message: Option<Gathering>,
    stop: Stop,
    bounds: FrameBounds,
}

/// A message of which not all has come.
struct Gathering {
    is_text: bool,
    /// Bytes that have come.
    len: usize,
    content: Content,
}

enum Content {
    Kept(BytesMut),
    /// It is too long: the rest passes, and only whom it is about is found out.
    PassedOver(Addressee),
}

/// A message of which all has come.
enum Whole {
    Text(Bytes),
    Binary(Bytes),
    TooLong(Addressee),
}

/// Why a connection can not go on.
enum Broken {
    TooBig,
    InvalidUtf8,
    Protocol,
}

impl Reassembly {
    pub fn new(stop: Stop, bounds: FrameBounds) -> Self {
        Self { message: None, stop, bounds }
    }

    /// The longest message that is taken.
    pub fn max_message_bytes(&self) -> usize {
        self.bounds.gathered
    }

    /// Takes up a fragment; `Some` with the last one.
    fn fragment(&mut self, item: Item) -> Result<Option<Whole>, Broken> {
        let begin = |is_text| Some(Gathering { is_text, len: 0, content: Content::Kept(BytesMut::new()) });
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.message = begin(true);
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.message = begin(false);
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let message = self.message.as_mut().ok_or(Broken::Protocol)?;
        message.take(&bytes, self.bounds)?;
        if !last {
            return Ok(None);
        }
        Ok(self.message.take().map(|Gathering { is_text, content, .. }| match content {
            Content::Kept(bytes) if is_text => Whole::Text(bytes.freeze()),
            Content::Kept(bytes) => Whole::Binary(bytes.freeze()),
            Content::PassedOver(addressee) => Whole::TooLong(addressee),
        }))
    }

    /// What an error of the codec means. It tells invalid UTF-8 by the text of its error alone.
    fn explain(&self, error: &ProtocolError) -> Broken {
        match error {
            _ if self.stop.fault() == Some(FrameFault::TooLong) => Broken::TooBig,
            _ if self.stop.fault() == Some(FrameFault::Malformed) => Broken::Protocol,
            ProtocolError::Overflow => Broken::TooBig,
            ProtocolError::Io(error) if error.to_string().contains("utf-8") => Broken::InvalidUtf8,
            _ => Broken::Protocol,
        }
    }
}

impl Gathering {
    fn take(&mut self, bytes: &[u8], bounds: FrameBounds) -> Result<(), Broken> {
        self.len += bytes.len();
        if self.len > bounds.passed_over.max(bounds.gathered) {
            return Err(Broken::TooBig);
        }
        match &mut self.content {
            Content::PassedOver(addressee) => addressee.see(bytes),
            Content::Kept(kept) if self.len <= bounds.gathered => kept.extend_from_slice(bytes),
            Content::Kept(kept) => {
                let mut addressee = Addressee::default();
                addressee.see(kept);
                addressee.see(bytes);
                self.content = Content::PassedOver(addressee);
            }
        }
        Ok(())
    }
}

impl StreamHandler<Result<Message, ProtocolError>> for Session {
    fn handle(&mut self, message: Result<Message, ProtocolError>, ctx: &mut SocketContext) {
        if self.outbox().is_closed() {
            return;
        }
        self.hear();
        let broken = match message {
            Ok(Message::Text(text)) => return self.receive(&text, ctx),
            Ok(Message::Binary(bytes)) => return receive_binary(self, &bytes, ctx),
            Ok(Message::Ping(data)) => return self.outbox().pong(&data),
            Ok(Message::Pong(_) | Message::Nop) => return,
            Ok(Message::Close(reason)) => {
                let code = reason.map_or(CLOSE_NORMAL, |reason| reason.code.into());
                return self.say_goodbye(code, ctx);
            }
            Ok(Message::Continuation(item)) => match self.incoming().fragment(item) {
                Ok(None) => return,
                Ok(Some(Whole::Binary(bytes))) => return receive_binary(self, &bytes, ctx),
                Ok(Some(Whole::TooLong(addressee))) => return self.refuse_too_long(addressee),
                Ok(Some(Whole::Text(bytes))) => match std::str::from_utf8(&bytes) {
                    Ok(text) => return self.receive(text, ctx),
                    Err(_) => Broken::InvalidUtf8,
                },
                Err(broken) => broken,
            },
            Err(error) => self.incoming().explain(&error),
        };
        let (code, text) = match broken {
            Broken::TooBig => (CLOSE_TOO_BIG, "the message is too large"),
            Broken::InvalidUtf8 => (CLOSE_INVALID_DATA, "the message is not valid UTF-8"),
            Broken::Protocol => (CLOSE_PROTOCOL, "the WebSocket protocol was broken"),
        };
        self.notice(&Reason::invalid(text));
        self.close(code, text, CloseReason::Protocol, ctx);
    }

    fn finished(&mut self, ctx: &mut SocketContext) {
        ctx.stop();
    }
}

/// Some clients send their text in binary frames.
fn receive_binary(session: &mut Session, bytes: &[u8], ctx: &mut SocketContext) {
    match std::str::from_utf8(bytes) {
        Ok(text) => session.receive(text, ctx),
        Err(_) => session.notice(&Reason::invalid("a binary message must be UTF-8 text, too")),
    }
}

/// The body of the upgraded response: runs the session, and hands on what it has to send.
struct Body<S> {
    frames: Pin<Box<S>>,
    outbox: Outbox,
    ended: bool,
}

impl<S: Stream<Item = Result<Bytes, Error>>> Stream for Body<S> {
    type Item = Result<Bytes, Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        // What is there goes first: the session runs again when its words are on their way.
        if let Some(piece) = self.outbox.take(PIECE) {
            return Poll::Ready(Some(Ok(piece)));
        }
        if !self.ended {
            // The context's own frames are not used; errors of its codec end the session too.
            self.ended = matches!(self.frames.as_mut().poll_next(cx), Poll::Ready(None | Some(Err(_))));
        }
        match self.outbox.take(PIECE) {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if self.ended => Poll::Ready(None),
            None => Poll::Pending,
        }
    }
}
