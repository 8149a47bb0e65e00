//! What a session has to send: WebSocket frames, written once into one buffer.
//!
//! Events are spliced from their shared text with the subscription's id, without a value or a copy
//! in between. The socket takes the buffer in pieces, so that it is not kept large.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
};

use bytes::{Bytes, BytesMut};

use crate::protocol::frame::{CLOSE, Header, MAX_CONTROL, MAX_HEADER, PING, PONG, TEXT};

/// Shared by a session, which fills it, and its socket, which empties it. Both on one thread.
#[derive(Clone, Default)]
pub struct Outbox(Rc<Inner>);

#[derive(Default)]
struct Inner {
    buffer: RefCell<BytesMut>,
    closed: Cell<bool>,
}

impl Outbox {
    /// A text message. Nothing is taken after [`Outbox::close`].
    pub fn text(&self, text: &str) {
        self.frame(TEXT, &[text.as_bytes()]);
    }

    /// `["EVENT",<subscription>,<event>]`; the subscription id as JSON, quotes included.
    pub fn event(&self, quoted_subscription: &str, event: &str) {
        self.frame(TEXT, &[b"[\"EVENT\",", quoted_subscription.as_bytes(), b",", event.as_bytes(), b"]"]);
    }

    pub fn ping(&self) {
        self.frame(PING, &[]);
    }

    /// Answers a ping.
    pub fn pong(&self, data: &[u8]) {
        self.frame(PONG, &[&data[..data.len().min(MAX_CONTROL as usize)]]);
    }

    /// Ends the conversation; the socket is closed when everything up to here has been taken.
    pub fn close(&self, code: u16, reason: &str) {
        self.frame(CLOSE, &[&code.to_be_bytes(), reason.as_bytes()]);
        self.0.closed.set(true);
    }

    pub fn is_closed(&self) -> bool {
        self.0.closed.get()
    }

    /// The next piece of at most `most` bytes.
    pub fn take(&self, most: usize) -> Option<Bytes> {
        let mut buffer = self.0.buffer.borrow_mut();
        if buffer.len() > most {
            return Some(buffer.split_to(most).freeze());
        }
        // Taken whole, so that its memory goes with it.
        let whole = std::mem::take(&mut *buffer);
        (!whole.is_empty()).then(|| whole.freeze())
    }

    fn frame(&self, opcode: u8, parts: &[&[u8]]) {
        if self.is_closed() {
            return;
        }
        let mut buffer = self.0.buffer.borrow_mut();
        let len: usize = parts.iter().map(|part| part.len()).sum();
        buffer.reserve(len + MAX_HEADER);
        Header::whole(opcode, len).write(&mut *buffer);
        for part in parts {
            buffer.extend_from_slice(part);
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder;
    use actix_http::ws::{Codec, Frame};

    use super::*;

    #[test]
    fn a_codec_that_we_did_not_write_reads_it() {
        let outbox = Outbox::default();
        let texts: Vec<String> = [0, 1, 125, 126, 65_535, 65_536].map(|len| "x".repeat(len)).into();
        texts.iter().for_each(|text| outbox.text(text));
        outbox.event("\"s\"", "{}");
        outbox.pong(b"abc");
        outbox.ping();
        outbox.close(1001, "bye");
        outbox.text("too late");
        let mut bytes = BytesMut::new();
        while let Some(piece) = outbox.take(1_000) {
            assert!(piece.len() <= 1_000);
            bytes.extend_from_slice(&piece);
        }
        let mut codec = Codec::new().client_mode().max_size(1 << 20);
        let mut next = || codec.decode(&mut bytes).unwrap();
        for text in &texts {
            assert!(matches!(next(), Some(Frame::Text(got)) if got == text.as_bytes()));
        }
        assert!(matches!(next(), Some(Frame::Text(got)) if got == "[\"EVENT\",\"s\",{}]".as_bytes()));
        assert!(matches!(next(), Some(Frame::Pong(got)) if got == "abc".as_bytes()));
        assert!(matches!(next(), Some(Frame::Ping(_))));
        assert!(matches!(next(), Some(Frame::Close(Some(reason))) if u16::from(reason.code) == 1001));
        assert!(next().is_none() && outbox.is_closed());
    }
}
