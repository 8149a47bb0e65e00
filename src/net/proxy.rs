//! The PROXY protocol, versions 1 and 2: what a balancer on TCP level says of a connection before its
//! first byte.

use std::{io, net::SocketAddr};

use proxyproto::{Command, ParseError, v1, v2};
use thiserror::Error;
use tokio::{io::AsyncReadExt, net::TcpStream};

/// Longest header of version 2. Addresses take 52 bytes of it; the rest is for what balancers add (names,
/// certificates).
const MAX_V2: usize = 4_096;
/// What every header of version 2 begins with; its last two bytes say how much follows.
const FIXED_V2: usize = 16;

/// Why there is no header.
#[derive(Debug, Error)]
pub enum ProxyFault {
    /// The connection ended before anything was said: somebody looked whether there is a listener.
    #[error("nothing was said")]
    Silence,
    #[error("the PROXY header is too long")]
    TooLong,
    #[error("no PROXY header: {0}")]
    Malformed(ParseError),
    #[error("the PROXY header did not come in time")]
    Late,
    #[error("the connection ended within the PROXY header")]
    Cut,
    #[error("the connection failed: {0}")]
    Io(#[from] io::Error),
}

/// A whole header.
#[derive(Debug)]
struct ProxyHeader {
    len: usize,
    /// `None` where the proxy speaks for itself, or does not know for whom.
    source: Option<SocketAddr>,
}

/// Takes the header off the connection, and not a byte more: the address that it tells, if it tells one.
///
/// # Errors
/// When there is none.
pub async fn read_header(stream: &mut TcpStream) -> Result<Option<SocketAddr>, ProxyFault> {
    let mut bytes = vec![0; MAX_V2];
    let mut taken = 0;
    loop {
        // What is only looked at stays for the HTTP that may follow in the same segment.
        let seen = taken + stream.peek(&mut bytes[taken..]).await?;
        if seen == taken {
            return Err(if taken == 0 { ProxyFault::Silence } else { ProxyFault::Cut });
        }
        let header = parse(&bytes[..seen])?;
        // Without the end in sight, all of it is header. Taken, it is not seen again and again.
        let len = header.as_ref().map_or(seen, |header| header.len);
        stream.read_exact(&mut bytes[taken..len]).await?;
        match header {
            Some(header) => return Ok(header.source),
            None => taken = len,
        }
    }
}

/// The header that this begins with; `None` if more of it is to come.
fn parse(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    let begin = &bytes[..bytes.len().min(v2::SIGNATURE.len())];
    match v2::SIGNATURE.starts_with(begin) {
        true => parse_v2(bytes),
        false => parse_v1(bytes),
    }
}

fn parse_v1(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    match v1::Header::try_from_bytes(bytes) {
        Ok((rest, header)) => {
            Ok(Some(ProxyHeader { len: bytes.len() - rest.len(), source: header.source_addr() }))
        }
        Err(error) if error.is_incomplete() && bytes.len() < v1::MAX_HEADER_SIZE => Ok(None),
        Err(error) if error.is_incomplete() => Err(ProxyFault::TooLong),
        Err(_) => Err(ProxyFault::Malformed(ParseError::invalid("neither version 1 nor version 2"))),
    }
}

fn parse_v2(bytes: &[u8]) -> Result<Option<ProxyHeader>, ProxyFault> {
    let Some(&[high, low]) = bytes.get(FIXED_V2 - 2..FIXED_V2) else { return Ok(None) };
    let len = FIXED_V2 + usize::from(u16::from_be_bytes([high, low]));
    if len > MAX_V2 {
        return Err(ProxyFault::TooLong);
    }
    let Some(bytes) = bytes.get(..len) else { return Ok(None) };
    let (_, header) = v2::Header::try_from_bytes(bytes).map_err(ProxyFault::Malformed)?;
    if header.validate_crc32c_tlv() == Some(false) {
        return Err(ProxyFault::Malformed(ParseError::invalid("wrong checksum")));
    }
    let source = match header.command() {
        Command::Proxy => header.source_addr(),
        Command::Local => None,
    };
    Ok(Some(ProxyHeader { len, source }))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};
    use proxyproto::TransportProtocol;

    use super::*;

    /// Headers as balancers write them, with what they tell.
    fn headers() -> Vec<(Vec<u8>, Option<SocketAddr>)> {
        let (v4, v6) = (SocketAddr::from(([203, 0, 113, 1], 4_711)), "[2001:db8::1]:4711".parse().unwrap());
        let mut checked = v2::Header::new_tcp_ipv4_proxy(v4, v4);
        checked.add_tlv(0x02, "relay.example.com");
        checked.add_crc32c_checksum();
        vec![
            (v1::Header::new_inet(v4, v4).to_string().into(), Some(v4)),
            (v1::Header::new_inet6(v6, v6).to_string().into(), Some(v6)),
            (v1::Header::unknown().to_string().into(), None),
            (v2::Header::new_tcp_ipv4_proxy(v4, v4).to_vec(), Some(v4)),
            (v2::Header::new_tcp_ipv6_proxy(v6, v6).to_vec(), Some(v6)),
            (checked.to_vec(), Some(v4)),
            (
                v2::Header::new_unix(Command::Proxy, TransportProtocol::Stream, [1; 108], [0; 108]).to_vec(),
                None,
            ),
            (v2::Header::new_unspecified(Command::Local).to_vec(), None),
        ]
    }

    #[test]
    fn a_header_is_whole_at_its_last_byte() {
        for (bytes, source) in headers() {
            for seen in 1..bytes.len() {
                assert!(matches!(parse(&bytes[..seen]), Ok(None)), "{}", bytes[..seen].escape_ascii());
            }
            for behind in [&b""[..], b"G", b"GET / HTTP/1.1\r\n\r\n"] {
                let header = parse(&[&bytes, behind].concat()).unwrap().unwrap();
                assert_eq!((header.len, header.source), (bytes.len(), source));
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever comes: there is an end to waiting, and nothing is taken that did not come.
        #[test]
        fn a_header_has_bounds(
            begin in prop_oneof![Just(&b"PROXY "[..]), Just(&b"PROXY TCP4 "[..]), Just(&v2::SIGNATURE[..]),
                Just(&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x40"[..])],
            rest in vec(any::<u8>(), 0..200),
            flips in vec((0_usize..100, any::<u8>()), 0..3),
        ) {
            let mut bytes = [begin, &rest].concat();
            for (at, byte) in flips {
                if let Some(flipped) = bytes.get_mut(at) {
                    *flipped = byte;
                }
            }
            match parse(&bytes) {
                Ok(Some(header)) => prop_assert!(header.len <= bytes.len()),
                Ok(None) => {
                    bytes.resize(MAX_V2, 0);
                    prop_assert!(!matches!(parse(&bytes), Ok(None)));
                }
                Err(_) => {}
            }
        }
    }
}
