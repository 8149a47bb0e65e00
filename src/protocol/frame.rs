//! Headers of WebSocket frames (RFC 6455, section 5.2), read and written. The one place that knows them, for both sides
//! of a connection.

use bytes::BufMut;

/// The bit of the first byte that says that the frame is the last (or only) one of its message.
pub const FIN: u8 = 0x80;

pub const CONTINUATION: u8 = 0x0;
pub const TEXT: u8 = 0x1;
pub const BINARY: u8 = 0x2;
pub const CLOSE: u8 = 0x8;
pub const PING: u8 = 0x9;
pub const PONG: u8 = 0xa;

/// Most bytes that the payload of a control frame has.
pub const MAX_CONTROL: u64 = 125;
/// Bytes of a mask.
pub const MASK: usize = 4;
/// Bytes of the longest header: two, eight of length, and the mask.
pub const MAX_HEADER: usize = 2 + 8 + MASK;

/// The bit of the second byte that says that there is a mask.
const MASKED: u8 = 0x80;
/// What the second byte says where two bytes of length follow, and where eight do.
const TWO: u8 = 126;
const EIGHT: u8 = 127;

/// The header of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// FIN, three reserved bits and the opcode.
    pub first: u8,
    /// Bytes of the payload.
    pub payload: u64,
    /// Clients mask what they send, servers do not.
    pub mask: Option<[u8; MASK]>,
}

/// What the first bytes of a header tell, before its mask is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Bytes of the payload.
    pub payload: u64,
    /// Bytes of the header, its mask included.
    pub header: usize,
    /// Whether the length is written in as few bytes as it can be, as it must.
    pub is_shortest: bool,
}

impl Announced {
    /// Reads the first bytes of a frame; `None` until its length is there.
    #[inline]
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let second = *bytes.get(1)?;
        let after = &bytes[2..];
        let (payload, header, is_shortest) = match second & !MASKED {
            TWO => {
                let payload = u16::from_be_bytes(*after.first_chunk()?).into();
                (payload, 4, payload > MAX_CONTROL)
            }
            EIGHT => {
                let payload = u64::from_be_bytes(*after.first_chunk()?);
                (payload, 10, payload > u16::MAX.into())
            }
            payload => (payload.into(), 2, true),
        };
        let mask = if second & MASKED == 0 { 0 } else { MASK };
        Some(Self { payload, header: header + mask, is_shortest })
    }
}

impl Header {
    /// The header of the only frame of a message, or of a control frame, as a server sends it.
    pub fn whole(opcode: u8, payload: usize) -> Self {
        Self { first: FIN | opcode, payload: payload as u64, mask: None }
    }

    /// Reads the header that these bytes begin with, and how many of them it is; `None` until it is all there.
    pub fn read(bytes: &[u8]) -> Option<(Self, usize)> {
        let Announced { payload, header, .. } = Announced::read(bytes)?;
        let whole = bytes.get(..header)?;
        let mask = if whole[1] & MASKED == 0 { None } else { whole.last_chunk().copied() };
        Some((Self { first: whole[0], payload, mask }, header))
    }

    /// Writes it, the length in as few bytes as it can be.
    #[inline]
    pub fn write(&self, out: &mut impl BufMut) {
        let masked = if self.mask.is_some() { MASKED } else { 0 };
        out.put_u8(self.first);
        match self.payload {
            0..=MAX_CONTROL => out.put_u8(masked | self.payload as u8),
            126..=0xffff => {
                out.put_u8(masked | TWO);
                out.put_u16(self.payload as u16);
            }
            _ => {
                out.put_u8(masked | EIGHT);
                out.put_u64(self.payload);
            }
        }
        if let Some(mask) = self.mask {
            out.put_slice(&mask);
        }
    }

    pub fn opcode(&self) -> u8 {
        self.first & 0x0f
    }

    pub fn is_last(&self) -> bool {
        self.first & FIN != 0
    }
}

/// Masks a payload, or takes its mask away.
pub fn mask(payload: &mut [u8], mask: [u8; MASK]) {
    for four in payload.chunks_mut(MASK) {
        four.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comes_back_as_it_was_written_and_not_before_it_is_all_there() {
        for payload in [0, 1, 125, 126, 0xffff, 0x1_0000, u64::MAX] {
            for mask in [None, Some([1, 2, 3, 4])] {
                let header = Header { first: FIN | TEXT, payload, mask };
                let mut bytes = Vec::new();
                header.write(&mut bytes);
                assert!(bytes.len() <= MAX_HEADER);
                assert_eq!(Header::read(&bytes), Some((header, bytes.len())));
                assert!((0..bytes.len()).all(|cut| Header::read(&bytes[..cut]).is_none()));
                assert!(Announced::read(&bytes).unwrap().is_shortest);
            }
        }
    }

    #[test]
    fn a_length_that_is_longer_than_it_need_be_is_noticed() {
        for bytes in [&[0x81, 126, 0, 125][..], &[0x81, 127, 0, 0, 0, 0, 0, 0, 0xff, 0xff]] {
            assert!(!Announced::read(bytes).unwrap().is_shortest, "{bytes:?}");
        }
    }

    #[test]
    fn examples_of_the_protocol_text() {
        // RFC 6455, section 5.7: "Hello", not masked and masked.
        let mut bytes = Vec::new();
        Header::whole(TEXT, 5).write(&mut bytes);
        assert_eq!(bytes, [0x81, 0x05]);
        let masked = [0x81, 0x85, 0x37, 0xfa, 0x21, 0x3d, 0x7f, 0x9f, 0x4d, 0x51, 0x58];
        let (header, len) = Header::read(&masked).unwrap();
        let mut payload = masked[len..].to_vec();
        mask(&mut payload, header.mask.unwrap());
        assert_eq!(payload, b"Hello");
    }
}
