//! The frames in a stream of bytes from a client (RFC 6455, section 5.2), by their headers as they pass.
//!
//! The codec would gather a frame however long, if it may be that long at all; so what is longer than a message may be
//! is cut here into fragments, which the session can drop as they come. What is longer than anything that is answered
//! ends the connection before it comes, and so does what the codec lets pass though the protocol does not.

use actix_web::web::Bytes;
use bytes::BytesMut;

use crate::protocol::frame::{Announced, CLOSE, CONTINUATION, FIN, Header, MASK, MAX_CONTROL, MAX_HEADER};

/// Why no more frames are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// A frame is announced that is longer than what is answered.
    TooLong,
    /// A frame header is none.
    Malformed,
}

/// How long frames may be.
#[derive(Debug, Clone, Copy)]
pub struct FrameBounds {
    /// What the codec may gather.
    pub gathered: usize,
    /// Longer ones end the connection.
    pub passed_over: usize,
}

/// Follows the frames through a stream of bytes.
pub(super) struct Frames {
    bounds: FrameBounds,
    /// The header so far; empty inside a payload.
    header: [u8; MAX_HEADER],
    have: usize,
    /// What is left of the payload.
    payload: u64,
    /// The frame is handed on in fragments.
    cut: Option<Cut>,
}

/// A frame that is cut.
#[derive(Debug, Clone, Copy)]
struct Cut {
    /// The first byte of the next fragment, but for FIN.
    opcode: u8,
    /// FIN, where the last fragment has it.
    fin: u8,
    mask: [u8; MASK],
    /// What is left of the payload behind the current fragment.
    behind: u64,
}

/// Bytes of the current frame to hand on, and whether they end it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Piece {
    pub bytes: Bytes,
    pub whole: bool,
}

/// The least opcode of a control frame.
const CONTROL: u8 = CLOSE;
/// Longest fragment of a frame that is cut.
const MAX_FRAGMENT: usize = 16 * 1024;

impl Frames {
    pub fn new(bounds: FrameBounds) -> Self {
        Self { bounds, header: [0; MAX_HEADER], have: 0, payload: 0, cut: None }
    }

    /// Takes from the bytes what goes on to the end of the current frame, or of the bytes; `None` where they
    /// end before that can be told.
    pub fn next(&mut self, bytes: &mut Bytes) -> Result<Option<Piece>, FrameFault> {
        if self.payload > 0 {
            return Ok(self.take_payload(bytes));
        }
        if let Some(cut) = self.cut.filter(|cut| cut.behind > 0) {
            return Ok(Some(self.begin_fragment(cut)));
        }
        let begun = self.have;
        let mut seen = 0;
        let len = loop {
            if let Some(announced) = Announced::read(&self.header[..self.have]) {
                self.check(announced)?;
                if self.have == announced.header {
                    break announced.payload;
                }
            }
            let Some(&byte) = bytes.get(seen) else {
                bytes.clear();
                return Ok(None);
            };
            self.header[self.have] = byte;
            self.have += 1;
            seen += 1;
        };
        self.cut = if len > self.bounds.gathered as u64 { self.cut_up() } else { None };
        let have = std::mem::take(&mut self.have);
        if let Some(cut) = self.cut {
            *bytes = bytes.split_off(seen);
            return Ok(Some(self.begin_fragment(cut)));
        }
        self.payload = len;
        if begun > 0 {
            // The rest of it came earlier.
            *bytes = bytes.split_off(seen);
            let header = Bytes::copy_from_slice(&self.header[..have]);
            return Ok(Some(Piece { bytes: header, whole: len == 0 }));
        }
        let taken = len.min((bytes.len() - seen) as u64);
        self.payload -= taken;
        let whole = self.payload == 0;
        Ok(Some(Piece { bytes: bytes.split_to(seen + taken as usize), whole }))
    }

    /// How the frame whose header is there is cut; `None` where it can not be. What is not masked is no client's: the
    /// codec refuses it.
    fn cut_up(&self) -> Option<Cut> {
        let (header, _) = Header::read(&self.header[..self.have])?;
        let mask = header.mask.filter(|_| header.opcode() < CONTROL)?;
        Some(Cut { opcode: header.first & !FIN, fin: header.first & FIN, mask, behind: header.payload })
    }

    fn take_payload(&mut self, bytes: &mut Bytes) -> Option<Piece> {
        let taken = self.payload.min(bytes.len() as u64);
        self.payload -= taken;
        let piece = Piece { bytes: bytes.split_to(taken as usize), whole: self.payload == 0 };
        (taken > 0).then_some(piece)
    }

    /// The header of the next fragment of a frame that is cut.
    fn begin_fragment(&mut self, mut cut: Cut) -> Piece {
        let len = cut.behind.min(MAX_FRAGMENT.min(self.bounds.gathered.max(1)) as u64);
        cut.behind -= len;
        let fin = if cut.behind == 0 { cut.fin } else { 0 };
        let mut header = BytesMut::with_capacity(MAX_HEADER);
        Header { first: fin | cut.opcode, payload: len, mask: Some(cut.mask) }.write(&mut header);
        cut.mask.rotate_left(len as usize % MASK);
        cut.opcode = CONTINUATION;
        self.payload = len;
        self.cut = Some(cut);
        Piece { bytes: header.freeze(), whole: false }
    }

    fn check(&self, announced: Announced) -> Result<(), FrameFault> {
        let is_control = self.header[0] & 0x0f >= CONTROL;
        if announced.payload > self.bounds.passed_over.max(self.bounds.gathered) as u64 {
            return Err(FrameFault::TooLong);
        }
        match announced.is_shortest && (!is_control || announced.payload <= MAX_CONTROL) {
            true => Ok(()),
            false => Err(FrameFault::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use actix_codec::Decoder;
    use actix_http::ws::{Codec, Frame, Item};
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const MASKED: u8 = 0x80;

    /// What a codec may gather that has all the room it wants.
    const ANY: usize = 1 << 20;

    #[derive(Debug, PartialEq, Eq)]
    enum End {
        Whole,
        Cut,
        Broken,
    }

    /// How the length of a frame is written, 0 the shortest.
    fn frame(first: u8, len: u64, form: usize, masked: bool, payload: impl Iterator<Item = u8>) -> Vec<u8> {
        let mask = if masked { MASKED } else { 0 };
        let mut frame = vec![first];
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
        const KEY: [u8; MASK] = [1, 2, 4, 8];
        if masked {
            frame.extend(KEY);
        }
        frame.extend(payload.enumerate().map(|(at, byte)| if masked { byte ^ KEY[at % MASK] } else { byte }));
        frame
    }

    fn text(len: u64) -> Vec<u8> {
        frame(FIN | 1, len, 0, true, (0..len).map(|at| b'a' + (at % 23) as u8))
    }

    /// Sends a stream through in pieces of that size: what comes out, and why it ended.
    fn pass(bounds: FrameBounds, stream: &[u8], cut: usize) -> (Vec<u8>, Result<(), FrameFault>) {
        let mut frames = Frames::new(bounds);
        let mut out = Vec::new();
        for chunk in stream.chunks(cut) {
            let mut chunk = Bytes::copy_from_slice(chunk);
            loop {
                match frames.next(&mut chunk) {
                    Ok(Some(piece)) => out.extend_from_slice(&piece.bytes),
                    Ok(None) => break,
                    Err(fault) => return (out, Err(fault)),
                }
            }
            assert!(chunk.is_empty());
        }
        (out, Ok(()))
    }

    /// Whole messages and control frames as the codec reads them, until it finds a fault, or what is left is
    /// no whole frame.
    fn messages(bytes: &[u8], max: usize) -> (Vec<(&'static str, Vec<u8>)>, End) {
        let mut codec = Codec::new().max_size(max);
        let mut bytes = BytesMut::from(bytes);
        let (mut all, mut current) = (Vec::new(), ("", Vec::new()));
        loop {
            match codec.decode(&mut bytes) {
                Ok(Some(Frame::Text(bytes))) => all.push(("text", bytes.to_vec())),
                Ok(Some(Frame::Binary(bytes))) => all.push(("binary", bytes.to_vec())),
                Ok(Some(Frame::Ping(bytes))) => all.push(("ping", bytes.to_vec())),
                Ok(Some(Frame::Pong(bytes))) => all.push(("pong", bytes.to_vec())),
                Ok(Some(Frame::Close(_))) => all.push(("close", Vec::new())),
                Ok(Some(Frame::Continuation(item))) => match item {
                    Item::FirstText(bytes) => current = ("text", bytes.to_vec()),
                    Item::FirstBinary(bytes) => current = ("binary", bytes.to_vec()),
                    Item::Continue(bytes) => current.1.extend_from_slice(&bytes),
                    Item::Last(bytes) => {
                        current.1.extend_from_slice(&bytes);
                        all.push(std::mem::take(&mut current));
                    }
                },
                Ok(None) if bytes.is_empty() => return (all, End::Whole),
                Ok(None) => return (all, End::Cut),
                Err(_) => return (all, End::Broken),
            }
        }
    }

    #[test]
    fn passes_frames_on_however_they_come() {
        let lens = [0, 1, 125, 126, 300, 65_535, 65_536, 70_000];
        let stream: Vec<u8> = lens.iter().flat_map(|&len| text(len)).collect();
        let (whole, _) = messages(&stream, ANY);
        assert_eq!(whole.len(), lens.len());
        for cut in [1, 2, 3, 7, 1_000, stream.len()] {
            let all = FrameBounds { gathered: 70_000, passed_over: 0 };
            assert_eq!(pass(all, &stream, cut), (stream.clone(), Ok(())), "{cut}");
            let fewer = FrameBounds { gathered: 69_999, passed_over: 0 };
            assert_eq!(pass(fewer, &stream, cut).1, Err(FrameFault::TooLong), "{cut}");
            for gathered in [126, 1_001, 20_000] {
                let (out, end) = pass(FrameBounds { gathered, passed_over: 70_000 }, &stream, cut);
                assert_eq!(end, Ok(()));
                // None of it is longer than the codec may gather, and all of it is there.
                assert_eq!(messages(&out, gathered), (whole.clone(), End::Whole), "{gathered} {cut}");
            }
        }
    }

    #[test]
    fn refuses_what_is_announced_before_it_comes() {
        let bounds = FrameBounds { gathered: 1_000, passed_over: 2_000 };
        let none = || std::iter::empty();
        for (header, expected) in [
            (frame(FIN | 1, 2_001, 0, true, none()), Err(FrameFault::TooLong)),
            (frame(FIN | 1, 1 << 63, 0, true, none()), Err(FrameFault::TooLong)),
            (frame(FIN | 1, 2_000, 0, true, none()), Ok(())),
            (frame(FIN | 1, 125, 1, true, none()), Err(FrameFault::Malformed)),
            (frame(FIN | 1, 125, 2, true, none()), Err(FrameFault::Malformed)),
            (frame(FIN | 1, 0, 1, false, none()), Err(FrameFault::Malformed)),
            (frame(FIN | 1, 1_999, 2, true, none()), Err(FrameFault::Malformed)),
            (frame(FIN | 9, 126, 0, true, none()), Err(FrameFault::Malformed)),
            (frame(FIN | 9, 125, 0, true, none()), Ok(())),
        ] {
            assert_eq!(pass(bounds, &header, 1).1, expected, "{header:?}");
        }
    }

    /// Frames of a client, most of them legal.
    fn frames() -> impl Strategy<Value = Vec<u8>> {
        let opcode = prop_oneof![
            9 => select(&[0x01_u8, 0x81, 0x82, 0x00, 0x80, 0x89, 0x8a][..]),
            1 => any::<u8>(),
        ];
        let len = prop_oneof![
            8 => 0_u64..8, 4 => 120_u64..140, 4 => 195_u64..205, 2 => 900_u64..1_100, 1 => Just(65_536), 1 => any::<u64>()
        ];
        let form = prop_oneof![9 => Just(0_usize), 1 => 1_usize..3];
        let frame =
            (opcode, len, form, prop::bool::weighted(0.95)).prop_map(|(opcode, len, form, masked)| {
                frame(opcode, len, form, masked, (0..len.min(1_100)).map(|at| b'a' + (at % 23) as u8))
            });
        vec(frame, 1..12).prop_map(|frames| frames.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes, the codec reads of what is passed on the messages that it would have read of all,
        /// gathering less at a time; all of them, but for those behind a refusal.
        #[test]
        fn changes_no_message(
            bytes in frames(),
            gathered in select(&[1_usize, 7, 125, 200, 1_000][..]),
            passed_over in select(&[0_usize, 500, 100_000][..]),
            cut in select(&[1_usize, 5, 100, 100_000][..]),
        ) {
            let (expected, whole) = messages(&bytes, ANY);
            let (out, refused) = pass(FrameBounds { gathered, passed_over }, &bytes, cut);
            // Control frames are not cut; the codec gathers them whole.
            let (got, passed) = messages(&out, gathered.max(MAX_CONTROL as usize));
            prop_assert!(expected.starts_with(&got), "{got:?}, not {expected:?}");
            if refused.is_ok() {
                // A frame that can not be is found out by its first fragment, and need not have come whole.
                prop_assert!(passed == whole || (whole == End::Cut && passed == End::Broken), "{passed:?} {whole:?}");
                prop_assert!(whole == End::Broken || passed == End::Broken || got == expected);
            }
        }
    }
}
