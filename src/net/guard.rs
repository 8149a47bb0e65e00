//! Stands between the socket and the WebSocket codec: reads frame headers as they pass, so that an
//! oversized frame ends the connection before it is gathered, hands on a frame at a time, and none
//! while the session's window is full. It changes no byte.

use std::{
    cell::Cell,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll},
};

use actix_web::{error::PayloadError, web::Bytes};
use futures_util::{Stream, ready};

use crate::session::Window;

/// Wraps the payload of a connection.
pub struct Guard<S> {
    payload: S,
    window: Window,
    frames: Frames,
    oversized: Oversized,
    /// What has come and is not handed on yet.
    rest: Bytes,
    /// The last bytes handed on ended a frame, which is to be acted on before the next one comes.
    whole: bool,
}

/// Tells the session why its stream ended: a frame was announced that is too large.
#[derive(Clone, Default)]
pub struct Oversized(Rc<Cell<bool>>);

impl Oversized {
    pub fn is_set(&self) -> bool {
        self.0.get()
    }
}

impl<S> Guard<S> {
    pub fn new(payload: S, window: Window, max_frame: usize) -> (Self, Oversized) {
        let oversized = Oversized::default();
        let frames = Frames::new(max_frame as u64);
        let (rest, whole) = (Bytes::new(), false);
        (Self { payload, window, frames, oversized: oversized.clone(), rest, whole }, oversized)
    }
}

impl<S: Stream<Item = Result<Bytes, PayloadError>> + Unpin> Stream for Guard<S> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        if this.oversized.is_set() {
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
        if this.rest.is_empty() {
            match ready!(Pin::new(&mut this.payload).poll_next(cx)) {
                Some(Ok(bytes)) => this.rest = bytes,
                // The client has gone without a word: an end, and no fault of the protocol.
                Some(Err(_)) | None => return Poll::Ready(None),
            }
        }
        match this.frames.next(&this.rest) {
            Ok(Piece { len, whole }) => {
                this.whole = whole;
                Poll::Ready(Some(Ok(this.rest.split_to(len))))
            }
            Err(TooLong) => {
                this.oversized.0.set(true);
                Poll::Ready(Some(Err(PayloadError::Overflow)))
            }
        }
    }
}

/// Follows the frames through a stream of bytes (RFC 6455, section 5.2).
struct Frames {
    max: u64,
    /// The header so far; empty inside a payload.
    header: [u8; Self::HEADER],
    have: usize,
    /// What is left of the payload.
    payload: u64,
}

/// How many bytes belong to the current frame, and whether they end it.
#[derive(Debug, PartialEq, Eq)]
struct Piece {
    len: usize,
    whole: bool,
}

/// A frame is announced that is longer than allowed.
#[derive(Debug, PartialEq, Eq)]
struct TooLong;

impl Frames {
    /// Two bytes, and up to eight of length. The mask is counted to the payload.
    const HEADER: usize = 10;
    const MASK: u64 = 4;

    fn new(max: u64) -> Self {
        Self { max, header: [0; Self::HEADER], have: 0, payload: 0 }
    }

    /// Goes on to the end of the current frame, or of the bytes.
    fn next(&mut self, bytes: &[u8]) -> Result<Piece, TooLong> {
        let mut len = 0;
        while self.payload == 0 {
            let Some(&byte) = bytes.get(len) else { return Ok(Piece { len, whole: false }) };
            self.header[self.have] = byte;
            self.have += 1;
            len += 1;
            if let Some(payload) = self.length() {
                if payload > self.max {
                    return Err(TooLong);
                }
                let mask = if self.header[1] & 0x80 == 0 { 0 } else { Self::MASK };
                self.payload = payload + mask;
                self.have = 0;
                if self.payload == 0 {
                    return Ok(Piece { len, whole: true });
                }
            }
        }
        let rest = bytes.len() - len;
        let taken = self.payload.min(rest as u64);
        self.payload -= taken;
        Ok(Piece { len: len + taken as usize, whole: self.payload == 0 })
    }

    /// Length of the payload, once enough of the header is there.
    fn length(&self) -> Option<u64> {
        let have = &self.header[..self.have];
        match have.get(1)? & 0x7f {
            126 => Some(u16::from_be_bytes(have.get(2..4)?.try_into().ok()?).into()),
            127 => Some(u64::from_be_bytes(have.get(2..10)?.try_into().ok()?)),
            len => Some(len.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder;
    use actix_http::ws::{Codec, ProtocolError};
    use actix_web::web::BytesMut;
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    fn frame(len: u64, masked: bool) -> Vec<u8> {
        let mask = if masked { 0x80 } else { 0 };
        let mut frame = vec![0x81];
        match len {
            0..=125 => frame.push(mask | len as u8),
            126..=0xffff => {
                frame.push(mask | 126);
                frame.extend((len as u16).to_be_bytes());
            }
            _ => {
                frame.push(mask | 127);
                frame.extend(len.to_be_bytes());
            }
        }
        frame.extend(vec![0xff; len as usize + if masked { 4 } else { 0 }]);
        frame
    }

    /// Sends a stream through in pieces of that size: the frames that came whole.
    fn pass(max: u64, stream: &[u8], cut: usize) -> Result<Vec<Vec<u8>>, TooLong> {
        let mut frames = Frames::new(max);
        let (mut all, mut current) = (Vec::new(), Vec::new());
        for mut chunk in stream.chunks(cut) {
            while !chunk.is_empty() {
                let Piece { len, whole } = frames.next(chunk)?;
                current.extend_from_slice(&chunk[..len]);
                chunk = &chunk[len..];
                if whole {
                    all.push(std::mem::take(&mut current));
                }
            }
        }
        assert!(current.is_empty());
        Ok(all)
    }

    #[test]
    fn follows_frames_however_they_are_cut() {
        let lens = [0, 1, 125, 126, 300, 65_535, 65_536, 70_000];
        let frames: Vec<Vec<u8>> = lens.iter().map(|&len| frame(len, len % 2 == 0)).collect();
        let stream = frames.concat();
        for cut in [1, 2, 3, 7, 1000, stream.len()] {
            assert_eq!(pass(70_000, &stream, cut).as_ref(), Ok(&frames), "{cut}");
            assert_eq!(pass(69_999, &stream, cut), Err(TooLong), "{cut}");
        }
        // Frames of two bytes, as only clients that break the protocol send them.
        assert_eq!(pass(1, &[0x81, 0, 0x81, 0], 4), Ok(vec![vec![0x81, 0]; 2]));
    }

    #[test]
    fn refuses_what_is_announced_before_it_comes() {
        let mut frames = Frames::new(1_000);
        let announced = [0x82, 0xff, 0, 0, 0, 16, 0, 0, 0, 0];
        assert_eq!(frames.next(&announced[..9]), Ok(Piece { len: 9, whole: false }));
        assert_eq!(frames.next(&announced[9..]), Err(TooLong));
    }

    /// Frames of a client, most of them legal, their lengths written shortly or not.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            9 => select(&[0x01_u8, 0x81, 0x82, 0x00, 0x80, 0x89, 0x8a][..]),
            1 => any::<u8>(),
        ];
        let len = prop_oneof![0_u64..8, 120_u64..140, 195_u64..205, Just(65_536), any::<u64>()];
        let frame =
            (opcode, len, 0_usize..3, prop::bool::weighted(0.95)).prop_map(|(opcode, len, form, mask)| {
                let mask = if mask { 0x80 } else { 0 };
                let mut frame = vec![opcode];
                match (len, form) {
                    (0..=125, 0) => frame.push(mask | len as u8),
                    (0..=0xffff, 0 | 1) => {
                        frame.push(mask | 126);
                        frame.extend((len as u16).to_be_bytes());
                    }
                    _ => {
                        frame.push(mask | 127);
                        frame.extend(len.to_be_bytes());
                    }
                }
                let payload = len.min(1_000) + if mask == 0 { 0 } else { Frames::MASK };
                // Text, once it is unmasked with zeros.
                frame.extend((0..payload).map(|at| if at < Frames::MASK { 0 } else { b'a' }));
                frame
            });
        vec(frame, 1..12).prop_map(|frames| frames.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Byte by byte, it stands between two frames exactly when the codec does, and refuses
        /// exactly what the codec refuses later.
        #[test]
        fn agrees_with_the_codec(bytes in frames(), max in select(&[0_usize, 7, 125, 200, 1_000][..])) {
            let mut follower = Frames::new(max as u64);
            let mut codec = Codec::new().max_size(max);
            let mut gathered = BytesMut::new();
            let mut refused = false;
            for byte in bytes {
                refused = refused || follower.next(&[byte]).is_err();
                gathered.extend_from_slice(&[byte]);
                match codec.decode(&mut gathered) {
                    Ok(Some(_)) => {
                        prop_assert!(!refused, "the codec took what was refused");
                        prop_assert_eq!((follower.have, follower.payload), (0, 0));
                    }
                    Ok(None) => {
                        let between = (follower.have, follower.payload) == (0, 0);
                        prop_assert!(refused || !between, "the codec waits for more of a frame");
                    }
                    Err(ProtocolError::Overflow) => {
                        prop_assert!(refused, "the codec refused what was passed");
                        return Ok(());
                    }
                    Err(_) => return Ok(()),
                }
            }
        }
    }
}
