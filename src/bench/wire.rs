//! The client's side of a WebSocket (RFC 6455) over plain TCP, no more than a load generator needs.
//!
//! Ours and not a library's, because the generator has one core and opens thousands of sockets: all
//! of them read into one buffer, messages are handed out where they lie in it, and an idle connection
//! holds no buffer at all.

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::protocol::frame::{self, CLOSE, CONTINUATION, Header, MASK, MAX_HEADER, PING, PONG, TEXT};

/// Longest message that is read; no relay has a reason to send one of that size here.
const MAX_MESSAGE: usize = 4 << 20;
/// What one read takes at most, unless a message is longer.
const READ_BUFFER: usize = 256 << 10;
/// Clients must mask (RFC 6455, 5.3). What the mask protects from, proxies, is not on the way.
const KEY: [u8; MASK] = *b"Rook";

thread_local! {
    static SCRATCH: RefCell<Vec<u8>> = RefCell::new(vec![0; READ_BUFFER]);
}

/// Why a connection is no more.
#[derive(Debug, thiserror::Error)]
pub enum Lost {
    #[error("the relay ended the connection")]
    Ended,
    #[error("the relay closed with code {0}: {1}")]
    Closed(u16, String),
    #[error("the relay broke the WebSocket protocol: {0}")]
    Protocol(&'static str),
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// An open WebSocket.
pub struct Wire {
    stream: TcpStream,
    /// The start of a frame whose end has not come yet.
    partial: Vec<u8>,
    /// The fragments so far of a message in several frames.
    fragments: Option<Vec<u8>>,
    outgoing: Vec<u8>,
    /// How much of `outgoing` is written.
    written: usize,
}

impl Wire {
    /// Takes over a stream after the opening handshake; `received` came after the answer to it.
    pub(super) fn new(stream: TcpStream, received: Vec<u8>) -> Self {
        Self { stream, partial: received, fragments: None, outgoing: Vec::new(), written: 0 }
    }

    /// Queues a text message; [`Self::exchange`] writes it.
    pub fn queue(&mut self, parts: &[&str]) {
        self.queue_frame(TEXT, parts.iter().map(|part| part.as_bytes()));
    }

    fn queue_frame<'a>(&mut self, opcode: u8, parts: impl Iterator<Item = &'a [u8]> + Clone) {
        let length: usize = parts.clone().map(<[u8]>::len).sum();
        let out = &mut self.outgoing;
        out.reserve(length + MAX_HEADER);
        Header { mask: Some(KEY), ..Header::whole(opcode, length) }.write(out);
        let payload = out.len();
        parts.for_each(|part| out.extend_from_slice(part));
        frame::mask(&mut out[payload..], KEY);
    }

    /// Writes what is queued and waits until the relay says something; `on` is called for each
    /// message that one read brought. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// The connection is gone.
    pub async fn exchange(&mut self, mut on: impl FnMut(&[u8])) -> Result<(), Lost> {
        std::future::poll_fn(|cx| self.poll_exchange(cx, &mut on)).await
    }

    fn poll_exchange(&mut self, cx: &mut Context<'_>, on: &mut impl FnMut(&[u8])) -> Poll<Result<(), Lost>> {
        // Reading goes on while writing stalls: a relay may not read before its answers are taken.
        let _ = self.poll_flush(cx)?;
        ready!(self.poll_read(cx, on))?;
        // Pongs; what stays is written by the next call.
        let _ = self.poll_flush(cx)?;
        Poll::Ready(Ok(()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Lost>> {
        while self.written < self.outgoing.len() {
            let rest = &self.outgoing[self.written..];
            self.written += ready!(Pin::new(&mut self.stream).poll_write(cx, rest))?;
        }
        self.outgoing.clear();
        self.written = 0;
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, cx: &mut Context<'_>, on: &mut impl FnMut(&[u8])) -> Poll<Result<(), Lost>> {
        SCRATCH.with_borrow_mut(|scratch| {
            let held = self.partial.len();
            if scratch.len() < 2 * held {
                scratch.resize(2 * held, 0);
            }
            let mut buffer = ReadBuf::new(&mut scratch[held..]);
            ready!(Pin::new(&mut self.stream).poll_read(cx, &mut buffer))?;
            let received = buffer.filled().len();
            if received == 0 {
                return Poll::Ready(Err(Lost::Ended));
            }
            scratch[..held].copy_from_slice(&self.partial);
            let used = self.read_frames(&scratch[..held + received], on)?;
            self.partial.clear();
            if used < held + received {
                self.partial.extend_from_slice(&scratch[used..held + received]);
            } else if self.partial.capacity() > 0 {
                self.partial = Vec::new();
            }
            Poll::Ready(Ok(()))
        })
    }

    /// Handles the complete frames at the start of `bytes`; how many bytes they are.
    fn read_frames(&mut self, bytes: &[u8], on: &mut impl FnMut(&[u8])) -> Result<usize, Lost> {
        let mut used = 0;
        while let Some(frame) = Frame::read(&bytes[used..])? {
            used += frame.size;
            match (frame.opcode, frame.last) {
                (TEXT, true) => on(frame.payload),
                (TEXT, false) => self.fragments = Some(frame.payload.to_vec()),
                (CONTINUATION, last) => {
                    let mut message =
                        self.fragments.take().ok_or(Lost::Protocol("a continuation of nothing"))?;
                    message.extend_from_slice(frame.payload);
                    if last {
                        on(&message);
                    } else if message.len() <= MAX_MESSAGE {
                        self.fragments = Some(message);
                    } else {
                        return Err(Lost::Protocol("a message above 4 MiB"));
                    }
                }
                (PING, _) => self.queue_frame(PONG, std::iter::once(frame.payload)),
                (CLOSE, _) => return Err(closed(frame.payload)),
                _ => {}
            }
        }
        Ok(used)
    }
}

fn closed(payload: &[u8]) -> Lost {
    match payload {
        [high, low, reason @ ..] => {
            Lost::Closed(u16::from_be_bytes([*high, *low]), String::from_utf8_lossy(reason).into_owned())
        }
        _ => Lost::Closed(1005, String::new()),
    }
}

struct Frame<'a> {
    opcode: u8,
    last: bool,
    payload: &'a [u8],
    /// Bytes of header and payload.
    size: usize,
}

impl<'a> Frame<'a> {
    /// The frame that `bytes` begins with, once it is all there.
    fn read(bytes: &'a [u8]) -> Result<Option<Self>, Lost> {
        let Some((header, len)) = Header::read(bytes) else { return Ok(None) };
        if header.mask.is_some() {
            return Err(Lost::Protocol("a masked frame"));
        }
        if header.payload > MAX_MESSAGE as u64 {
            return Err(Lost::Protocol("a frame above 4 MiB"));
        }
        let size = len + header.payload as usize;
        let Some(payload) = bytes.get(len..size) else { return Ok(None) };
        Ok(Some(Self { opcode: header.opcode(), last: header.is_last(), payload, size }))
    }
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::*;

    #[tokio::test]
    async fn speaks_with_frames_in_any_pieces() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let long = "x".repeat(70_000);
        let mut wire = vec![0x01, 1, b'a', 0x80, 1, b'b', 0x81, 127];
        wire.extend_from_slice(&(long.len() as u64).to_be_bytes());
        wire.extend_from_slice(long.as_bytes());
        wire.extend_from_slice(&[0x88, 5, 0x03, 0xf1, b'b', b'y', b'e']);
        let relay = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            stream.write_all(&[0x81, 2, b'h', b'i', 0x89, 1, b'p']).await.unwrap();
            let mut received = vec![0; 2 + 4 + 5 + 2 + 4 + 1];
            stream.read_exact(&mut received).await.unwrap();
            for piece in wire.chunks(7_001) {
                stream.write_all(piece).await.unwrap();
            }
            received
        });
        let mut connection = Wire::new(TcpStream::connect(address).await.unwrap(), Vec::new());
        connection.queue(&["he", "llo"]);
        let mut messages = Vec::new();
        let lost = loop {
            if let Err(lost) = connection.exchange(|text| messages.push(text.len())).await {
                break lost;
            }
        };
        assert_eq!(messages, [2, 2, 70_000]);
        assert_eq!(lost.to_string(), "the relay closed with code 1009: bye");
        let received = relay.await.unwrap();
        assert_eq!(received[..2], [0x81, 0x85]);
        let hello: Vec<u8> = received[6..11].iter().zip(KEY.iter().cycle()).map(|(a, b)| a ^ b).collect();
        assert_eq!(hello, b"hello");
        assert_eq!(received[11..13], [0x8a, 0x81]);
    }
}
