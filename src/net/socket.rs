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

use super::guard::{Guard, Oversized};
use crate::{
    protocol::Reason,
    route::RouterAddr,
    session::{Outbox, Session, Shared, Socket},
    telemetry::CloseReason,
};

/// The context in which sessions run.
pub type SocketContext = WebsocketContext<Session>;

/// Bytes handed to the connection, and written by it, at once. Its buffer grows to about this and stays.
pub(super) const PIECE: usize = 16 * 1024;

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
    shared: Arc<Shared>,
    router: RouterAddr,
    socket: Socket,
) -> Result<HttpResponse, Error> {
    let mut response = ws::handshake(request)?;
    let outbox = socket.outbox.clone();
    let max = shared.config.limits.max_message_bytes;
    let (payload, oversized) = Guard::new(payload, socket.window.clone(), max);
    let session = Session::new(shared, router, socket, Incoming { fragments: None, oversized, max });
    let frames = WebsocketContext::with_codec(session, payload, Codec::new().max_size(max));
    Ok(response.streaming(Body { frames: Box::pin(frames), outbox, ended: false }))
}

/// What has come of a message that is sent in fragments, and why the stream may have ended.
pub struct Incoming {
    fragments: Option<Fragments>,
    oversized: Oversized,
    max: usize,
}

struct Fragments {
    bytes: BytesMut,
    text: bool,
}

/// Why a connection can not go on.
enum Broken {
    TooBig,
    InvalidUtf8,
    Protocol,
}

impl Incoming {
    /// Takes up a fragment; `Some` with the whole message and whether it is text.
    fn fragment(&mut self, item: Item) -> Result<Option<(Bytes, bool)>, Broken> {
        let (bytes, last) = match item {
            Item::FirstText(bytes) => {
                self.fragments = Some(Fragments { bytes: BytesMut::new(), text: true });
                (bytes, false)
            }
            Item::FirstBinary(bytes) => {
                self.fragments = Some(Fragments { bytes: BytesMut::new(), text: false });
                (bytes, false)
            }
            Item::Continue(bytes) => (bytes, false),
            Item::Last(bytes) => (bytes, true),
        };
        let fragments = self.fragments.as_mut().ok_or(Broken::Protocol)?;
        if fragments.bytes.len() + bytes.len() > self.max {
            return Err(Broken::TooBig);
        }
        fragments.bytes.extend_from_slice(&bytes);
        if !last {
            return Ok(None);
        }
        Ok(self.fragments.take().map(|Fragments { bytes, text }| (bytes.freeze(), text)))
    }

    /// What an error of the codec means. It tells invalid UTF-8 by the text of its error alone.
    fn explain(&self, error: &ProtocolError) -> Broken {
        match error {
            ProtocolError::Overflow => Broken::TooBig,
            _ if self.oversized.is_set() => Broken::TooBig,
            ProtocolError::Io(error) if error.to_string().contains("utf-8") => Broken::InvalidUtf8,
            _ => Broken::Protocol,
        }
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
            Ok(Message::Binary(_)) => return refuse_binary(self),
            Ok(Message::Ping(data)) => return self.outbox().pong(&data),
            Ok(Message::Pong(_) | Message::Nop) => return,
            Ok(Message::Close(reason)) => {
                let code = reason.map_or(CLOSE_NORMAL, |reason| reason.code.into());
                return self.close(code, "", CloseReason::Client, ctx);
            }
            Ok(Message::Continuation(item)) => match self.incoming().fragment(item) {
                Ok(None) => return,
                Ok(Some((_, false))) => return refuse_binary(self),
                Ok(Some((bytes, true))) => match std::str::from_utf8(&bytes) {
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

fn refuse_binary(session: &Session) {
    session.notice(&Reason::invalid("binary messages are not understood; send text"));
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
