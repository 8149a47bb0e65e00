//! Stands between the socket and the WebSocket codec. It hands on a frame at a time, and none while the
//! session's window is full. What it lets pass of a frame, [`Frames`] says.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{error::PayloadError, web::Bytes};
use futures_util::{Stream, ready};

use super::{
    Window,
    frames::{FrameBounds, FrameFault, Frames, Piece},
};

/// Wraps the payload of a connection.
pub struct Guard<S> {
    payload: S,
    window: Window,
    frames: Frames,
    stop: Stop,
    /// What has come and is not handed on yet.
    rest: Bytes,
    /// The last bytes handed on ended a frame, which is to be acted on before the next one comes.
    whole: bool,
}

/// Tells the session why its stream ended.
#[derive(Clone, Default)]
pub struct Stop(Rc<Cell<Option<FrameFault>>>);

impl Stop {
    pub fn fault(&self) -> Option<FrameFault> {
        self.0.get()
    }
}

impl<S> Guard<S> {
    pub fn new(payload: S, window: Window, bounds: FrameBounds) -> (Self, Stop) {
        let stop = Stop::default();
        let frames = Frames::new(bounds);
        let (rest, whole) = (Bytes::new(), false);
        (Self { payload, window, frames, stop: stop.clone(), rest, whole }, stop)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Guard<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.stop.fault().is_some() {
            return Poll::Ready(None);
        }
        if std::mem::take(&mut this.whole) {
            // The codec asks until there is nothing more before it decodes what it has. It has a
            // frame, and asks again after that, so nobody need be woken.
            return Poll::Pending;
        }
        if !this.window.poll_open(cx) {
            return Poll::Pending;
        }
        loop {
            match this.frames.next(&mut this.rest) {
                Ok(Some(Piece { bytes, whole })) => {
                    this.whole = whole;
                    return Poll::Ready(Some(Ok(bytes)));
                }
                Ok(None) => {}
                Err(fault) => {
                    this.stop.0.set(Some(fault));
                    return Poll::Ready(Some(Err(PayloadError::Overflow)));
                }
            }
            match ready!(Pin::new(&mut this.payload).poll_next(cx)) {
                Some(Ok(bytes)) => this.rest = bytes,
                // The client has gone without a word: an end, and no fault of the protocol.
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
    }
}
