//! A WebSocket client that sends what no library would: frames made by hand on a plain socket.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    time::Instant,
};

use rookery::protocol::frame::{self, Header};
pub use rookery::protocol::frame::{BINARY, CLOSE, CONTINUATION as CONTINUE, FIN, PING, PONG, TEXT};
use serde_json::Value;

use crate::{PATIENCE, watch};

/// A socket of which every byte is ours.
pub struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// A connection on which nothing has been said.
    pub fn open(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    pub fn over(stream: TcpStream) -> Self {
        watch::begin();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream }
    }

    /// An upgraded connection; its AUTH challenge is heard.
    pub fn connect(address: SocketAddr) -> Self {
        let mut raw = Self::open(address);
        raw.send(upgrade_request(address).as_bytes());
        let head = raw.read_head();
        assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
        assert_eq!(raw.hear()[0], "AUTH");
        raw
    }

    pub fn stream(&self) -> &TcpStream {
        &self.stream
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).unwrap();
    }

    /// Sends as far as the other side takes it: it may close while we are still talking.
    pub fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Sends a masked frame; `first` is its first byte (FIN, RSV, opcode).
    pub fn send_frame(&mut self, first: u8, payload: &[u8]) {
        self.send(&frame(first, payload));
    }

    pub fn say(&mut self, text: &str) {
        self.send_frame(FIN | TEXT, text.as_bytes());
    }

    /// Which store a relay says that it has, when it is connected to.
    pub fn store_of(address: SocketAddr) -> String {
        let mut raw = Self::open(address);
        raw.send(upgrade_request(address).as_bytes());
        let head = raw.read_head();
        let told = head.lines().find_map(|line| line.strip_prefix("rookery-store: "));
        told.unwrap_or_else(|| panic!("{head}")).to_owned()
    }

    /// The head of an HTTP answer, its empty line included.
    pub fn read_head(&mut self) -> String {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let mut byte = [0];
            self.stream.read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    /// Whether the other side has not closed yet. What it has said and nobody has read counts as open.
    pub fn is_open(&self) -> bool {
        self.stream.set_nonblocking(true).unwrap();
        let seen = self.stream.peek(&mut [0]);
        self.stream.set_nonblocking(false).unwrap();
        match seen {
            Ok(len) => len > 0,
            Err(error) => error.kind() == ErrorKind::WouldBlock,
        }
    }

    /// Everything until the other side closes.
    pub fn read_to_end(&mut self) -> Vec<u8> {
        let mut bytes = Vec::new();
        match self.stream.read_to_end(&mut bytes) {
            Err(error) if error.kind() != ErrorKind::ConnectionReset => panic!("not closed: {error}"),
            _ => bytes,
        }
    }

    /// The next frame: its opcode and payload; `None` once the connection is closed.
    pub fn read_frame(&mut self) -> Option<(u8, Vec<u8>)> {
        let mut bytes = Vec::new();
        let header = loop {
            bytes.extend(self.read_exact(1)?);
            if let Some((header, _)) = Header::read(&bytes) {
                break header;
            }
        };
        assert_eq!(header.mask, None, "a relay sends unmasked frames");
        Some((header.opcode(), self.read_exact(header.payload as usize)?))
    }

    fn read_exact(&mut self, len: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; len];
        match self.stream.read_exact(&mut bytes) {
            Ok(()) => Some(bytes),
            Err(error) if matches!(error.kind(), ErrorKind::UnexpectedEof | ErrorKind::ConnectionReset) => {
                None
            }
            Err(error) => panic!("the relay says nothing: {error}"),
        }
    }

    /// The next text message.
    pub fn hear(&mut self) -> Value {
        let begun = Instant::now();
        loop {
            match self.read_frame() {
                Some((TEXT, text)) => return serde_json::from_slice(&text).unwrap(),
                Some((PING | PONG, _)) => assert!(begun.elapsed() < PATIENCE, "only pings come"),
                other => panic!("a text message was expected, not {other:?}"),
            }
        }
    }

    /// The close frame, whatever is said before; then the connection must end. Its status code
    /// (1005, as in RFC 6455, for a frame without one), and the last text before it.
    pub fn hear_close(&mut self) -> (u16, Option<Value>) {
        let mut last = None;
        let begun = Instant::now();
        loop {
            match self.read_frame() {
                Some((TEXT, text)) => last = Some(serde_json::from_slice(&text).unwrap()),
                Some((CLOSE, payload)) => {
                    // A client that has heard it ends its side. Where the relay closed first, it would wait for
                    // that a second.
                    let _ = self.stream.shutdown(Shutdown::Write);
                    assert_eq!(self.read_frame(), None, "nothing comes after a close frame");
                    let code = payload.get(..2).map_or(1005, |code| u16::from_be_bytes([code[0], code[1]]));
                    return (code, last);
                }
                Some(_) => assert!(begun.elapsed() < PATIENCE, "it is not closed"),
                None => panic!("closed without a close frame; said last: {last:?}"),
            }
        }
    }
}

const MASK: [u8; frame::MASK] = [0x37, 0xfa, 0x21, 0x3d];

/// A masked frame; `first` is its first byte.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = header(first, payload.len() as u64);
    frame.extend(MASK);
    let begin = frame.len();
    frame.extend(payload);
    frame::mask(&mut frame[begin..], MASK);
    frame
}

/// The header of a masked frame, without the mask.
pub fn header(first: u8, payload: u64) -> Vec<u8> {
    let mut header = Vec::new();
    Header { first, payload, mask: Some(MASK) }.write(&mut header);
    header.truncate(header.len() - MASK.len());
    header
}

pub fn upgrade_request(address: SocketAddr) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: {address}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
}

/// A line of `/proc/<pid>/status` in bytes, such as `VmRSS` (resident now) or `VmHWM` (at most so far).
pub fn memory(pid: u32, name: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
