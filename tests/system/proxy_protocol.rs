//! Who a connection is from when a balancer says so before HTTP: the PROXY protocol, by hand and by HAProxy.
//! One connection of each address is allowed, so the bound tells which address the relay sees. Of loopback,
//! where the balancer is, it allows any number.

use std::{
    fs,
    io::Write,
    net::{IpAddr, Shutdown, SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
};

use common::{
    Relay, eventually, note, now,
    raw::{Raw, upgrade_request},
};
use rookery::protocol::sign::Keys;
use serde_json::json;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

const ONE: &str = "limits.max_connections_per_address=1";
const REFUSED: &str = "rookery_proxy_headers_refused_total";

const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";
const LOCAL: u8 = 0x20;
const PROXY: u8 = 0x21;
const INET: u8 = 0x11;
const INET6: u8 = 0x21;

/// A relay that expects headers from loopback.
fn relay(arguments: &[&str]) -> Relay {
    let expects = ["--trusted-proxy", "127.0.0.1", "--proxy-protocol", "--set", ONE];
    Relay::start(&[&expects, arguments].concat())
}

fn v1(source: &str) -> Vec<u8> {
    let (family, to) = if source.contains(':') { ("TCP6", "2001:db8::ff") } else { ("TCP4", "192.0.2.1") };
    format!("PROXY {family} {source} {to} 56324 443\r\n").into_bytes()
}

fn v2(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
    let len = u16::try_from(rest.len()).unwrap().to_be_bytes();
    [SIGNATURE, &[command, family], &len, rest].concat()
}

/// Of a client, with further fields behind its address.
fn v2_of(source: &str, fields: &[u8]) -> Vec<u8> {
    let ports = [0xdc, 0x04, 0x01, 0xbb];
    match source.parse().unwrap() {
        IpAddr::V4(ip) => v2(PROXY, INET, &[&ip.octets(), &[192, 0, 2, 1], &ports[..], fields].concat()),
        IpAddr::V6(ip) => v2(PROXY, INET6, &[&ip.octets()[..], &[0xff; 16], &ports, fields].concat()),
    }
}

/// A field to be ignored, with its header of three bytes.
fn noop(len: u16) -> Vec<u8> {
    [&[4], &len.to_be_bytes()[..], &vec![0; len.into()]].concat()
}

fn status(raw: &mut Raw) -> u16 {
    raw.read_head().split(' ').nth(1).unwrap().parse().unwrap()
}

/// Asks for a WebSocket with further headers, all in one segment: the status of the answer.
fn enter_with(relay: &Relay, header: &[u8], headers: &str) -> (u16, Raw) {
    let mut raw = Raw::open(relay.clients);
    let request = upgrade_request(relay.clients).replacen("\r\n", &format!("\r\n{headers}"), 1);
    raw.send(&[header, request.as_bytes()].concat());
    (status(&mut raw), raw)
}

fn enter(relay: &Relay, header: &[u8]) -> (u16, Raw) {
    enter_with(relay, header, "")
}

#[test]
fn the_address_in_the_header_is_the_clients() {
    let relay = relay(&[]);
    for (what, client, other) in [
        ("version 1, IPv4", v1("203.0.113.1"), v1("203.0.113.2")),
        ("version 1, IPv6", v1("2001:db8:1::1"), v1("2001:db8:2::1")),
        ("version 2, IPv4", v2_of("203.0.113.3", &[]), v2_of("203.0.113.4", &[])),
        ("version 2, IPv6", v2_of("2001:db8:3::1", &[]), v2_of("2001:db8:4::1", &[])),
        // 4,096 bytes with the 28 before it and the three of its own.
        ("as long as can be", v2_of("203.0.113.5", &noop(4_065)), v2_of("203.0.113.6", &noop(1))),
    ] {
        let (first, _open) = enter(&relay, &client);
        let (second, _) = enter(&relay, &client);
        let (third, _) = enter(&relay, &other);
        assert_eq!((first, second, third), (101, 429, 101), "{what}");
    }
    assert_eq!(relay.metric(REFUSED), 0.0);
}

#[test]
fn a_header_may_come_byte_by_byte() {
    let relay = relay(&[]);
    for header in [v1("203.0.113.1"), v2_of("203.0.113.2", &noop(20)), b"PROXY UNKNOWN\r\n".to_vec()] {
        let mut raw = Raw::open(relay.clients);
        for byte in header {
            raw.send(&[byte]);
        }
        raw.send(upgrade_request(relay.clients).as_bytes());
        assert_eq!(status(&mut raw), 101);
        assert_eq!(raw.hear()[0], "AUTH");
    }
}

#[test]
fn a_proxy_that_speaks_for_itself_has_its_own_address() {
    let relay = relay(&[]);
    let of_client = v2_of("203.0.113.1", &[]);
    for header in [
        b"PROXY UNKNOWN\r\n".to_vec(),
        b"PROXY UNKNOWN 203.0.113.1 192.0.2.1 56324 443\r\n".to_vec(),
        v2(LOCAL, 0, &[]),
        v2(LOCAL, INET, &of_client[16..]),
        v2(PROXY, 0, &[]),
    ] {
        let open: Vec<_> = (0..3).map(|_| enter(&relay, &header)).collect();
        assert!(open.iter().all(|(status, _)| *status == 101), "{}", header.escape_ascii());
    }
}

#[test]
fn forwarded_headers_count_behind_a_trusted_proxy_in_the_header_only() {
    let relay = relay(&[]);
    let forwarded = |address: &str| format!("X-Forwarded-For: {address}\r\n");
    // A proxy for HTTP, trusted as well, behind a balancer.
    let (first, _open) = enter_with(&relay, &v1("127.0.0.1"), &forwarded("203.0.113.1"));
    let (second, _) = enter_with(&relay, &v2_of("127.0.0.1", &[]), &forwarded("203.0.113.1"));
    assert_eq!((first, second), (101, 429));
    // A client that tells tales.
    let (first, _open) = enter_with(&relay, &v1("203.0.113.2"), &forwarded("203.0.113.3"));
    let (second, _) = enter_with(&relay, &v1("203.0.113.2"), &forwarded("203.0.113.4"));
    assert_eq!((first, second), (101, 429));
}

#[test]
fn what_is_no_header_ends_the_connection() {
    let relay = relay(&[]);
    let request = upgrade_request(relay.clients);
    let mut checksum = vec![3, 0, 4];
    checksum.extend([1; 4]);
    let bad = [
        ("no header", vec![]),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01".to_vec()),
        ("no protocol", b"PROXY\r\n".to_vec()),
        ("an unknown protocol", b"PROXY UDP4 203.0.113.1 192.0.2.1 1 2\r\n".to_vec()),
        ("no address", b"PROXY TCP4 203.0.113.256 192.0.2.1 1 2\r\n".to_vec()),
        ("another family", b"PROXY TCP6 203.0.113.1 192.0.2.1 1 2\r\n".to_vec()),
        ("no port", b"PROXY TCP4 203.0.113.1 192.0.2.1 1 65536\r\n".to_vec()),
        ("no end", format!("PROXY UNKNOWN {}", "x".repeat(200)).into_bytes()),
        ("a late end", format!("PROXY UNKNOWN {}\r\n", "x".repeat(92)).into_bytes()),
        ("a broken signature", [&SIGNATURE[..11], b"!"].concat()),
        ("version 3", v2(0x31, 0, &[])),
        ("an unknown command", v2(0x22, 0, &[])),
        ("an unknown family", v2(PROXY, 0x41, &[])),
        ("too short for addresses", v2(PROXY, INET, &[0; 11])),
        ("a field past the end", v2_of("203.0.113.1", &[4, 0, 1])),
        ("a wrong checksum", v2_of("203.0.113.1", &checksum)),
        ("too long", v2_of("203.0.113.1", &noop(4_066))),
        ("far too long", v2_of("203.0.113.1", &noop(60_000))),
    ];
    for (nth, (what, header)) in bad.iter().enumerate() {
        let mut raw = Raw::open(relay.clients);
        // It may have closed before everything is sent.
        raw.try_send(&[header, request.as_bytes()].concat());
        assert_eq!(raw.read_to_end(), b"", "{what}");
        assert_eq!(relay.metric(REFUSED), (nth + 1) as f64, "{what}");
    }
    let mut cut = Raw::open(relay.clients);
    cut.send(b"PROXY TCP4 203");
    cut.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(cut.read_to_end(), b"");
    assert_eq!(relay.metric(REFUSED), (bad.len() + 1) as f64);
    // Who only looks whether somebody listens has done nothing wrong.
    let mut silent = Raw::open(relay.clients);
    silent.stream().shutdown(Shutdown::Write).unwrap();
    assert_eq!(silent.read_to_end(), b"");
    assert_eq!(relay.metric(REFUSED), (bad.len() + 1) as f64);
    assert_eq!(enter(&relay, &v1("203.0.113.1")).0, 101);
}

#[test]
fn a_header_that_never_ends_is_not_waited_for() {
    let relay = relay(&["--workers", "1", "--set", "session.handshake_seconds=1"]);
    let (old, new) = (v1("203.0.113.1"), v2_of("203.0.113.1", &[]));
    let unfinished = [&b""[..], &old[..1], &old[..old.len() - 1], &new[..1], &new[..14], &new[..20]];
    let waiting: Vec<Raw> = unfinished
        .iter()
        .map(|begin| {
            let mut raw = Raw::open(relay.clients);
            raw.send(begin);
            raw
        })
        .collect();
    // Meanwhile others come in.
    assert_eq!(enter(&relay, &old).0, 101);
    for mut raw in waiting {
        assert_eq!(raw.read_to_end(), b"");
    }
    assert_eq!(relay.metric(REFUSED), unfinished.len() as f64);
    // The time for the request begins behind the header.
    let mut raw = Raw::open(relay.clients);
    raw.send(&old);
    raw.read_to_end();
    assert_eq!(relay.metric(REFUSED), unfinished.len() as f64);
}

#[test]
fn nobody_else_is_asked_for_a_header_or_believed() {
    let others = Relay::start(&["--trusted-proxy", "192.0.2.0/24", "--proxy-protocol", "--set", ONE]);
    let off = Relay::start(&["--trusted-proxy", "127.0.0.1", "--set", ONE]);
    for relay in [others, off] {
        let open: Vec<_> = (0..3).map(|_| enter(&relay, b"")).collect();
        assert!(open.iter().all(|(status, _)| *status == 101));
        for header in [v1("203.0.113.1"), v2_of("203.0.113.1", &[]), v2(LOCAL, 0, &[])] {
            assert_eq!(enter(&relay, &header).0, 400, "{}", header.escape_ascii());
        }
        assert_eq!(relay.metric(REFUSED), 0.0);
    }
}

/// A running HAProxy; killed when dropped.
struct Haproxy {
    process: Child,
    address: SocketAddr,
    _folder: TempDir,
}

impl Haproxy {
    /// In front of the relay, with our configuration and this on every server. For it, addresses of this machine are
    /// clients elsewhere: 127.0.0.x is 203.0.113.x.
    fn start(relay: &Relay, sends: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("cluster/haproxy-tcp.cfg");
        let config = fs::read_to_string(file).unwrap();
        assert!(config.contains("rise 2 send-proxy-v2\n"));
        let clients = [7, 8].map(|x| {
            format!("    tcp-request connection set-src str(203.0.113.{x}) if {{ src 127.0.0.{x} }}\n")
        });
        let config = config
            .replace("rise 2 send-proxy-v2\n", &format!("rise 2 {sends}\n"))
            .replace("    default_backend", &format!("{}    default_backend", clients.concat()));
        let folder = TempDir::new().unwrap();
        let path = folder.path().join("haproxy.cfg");
        fs::File::create(&path).unwrap().write_all(config.as_bytes()).unwrap();
        let mut command = Command::new("haproxy");
        command.arg("-f").arg(&path).env("ROOKERY_BIND", address.to_string());
        for nth in 1..=3 {
            command.env(format!("ROOKERY_NODE_{nth}"), relay.clients.to_string());
            command.env(format!("ROOKERY_OPS_{nth}"), relay.operators.port().to_string());
        }
        drop(listener);
        let started = command.stdout(Stdio::null()).spawn();
        let process = started.expect("haproxy is needed: cluster/test.sh installs it");
        Self { process, address, _folder: folder }
    }

    /// Asks for a WebSocket from 127.0.0.x.
    fn enter(&self, x: u8) -> (u16, Raw) {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from(([127, 0, 0, x], 0)).into()).unwrap();
        socket.connect(&self.address.into()).unwrap();
        let mut raw = Raw::over(TcpStream::from(socket));
        let request = upgrade_request(self.address);
        raw.send(request.replacen("\r\n", "\r\nX-Forwarded-For: 198.51.100.1\r\n", 1).as_bytes());
        (status(&mut raw), raw)
    }
}

impl Drop for Haproxy {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

async fn through_haproxy(sends: &str) {
    let relay = relay(&[]);
    let haproxy = Haproxy::start(&relay, sends);
    let address = haproxy.address;
    eventually("HAProxy", || TcpStream::connect(address).is_ok()).await;
    let (first, mut client) = haproxy.enter(7);
    let (second, _) = haproxy.enter(7);
    let (third, _) = haproxy.enter(8);
    assert_eq!((first, second, third), (101, 429, 101), "{sends}");
    assert_eq!(client.hear()[0], "AUTH");
    let event = note(&Keys::generate(), now(), "through a balancer");
    client.say(&format!(r#"["EVENT",{}]"#, event.json()));
    assert_eq!(client.hear(), json!(["OK", event.id().to_hex(), true, ""]));
    // It asks for the health of nodes without a header, at the port for that.
    assert_eq!(relay.metric(REFUSED), 0.0);
}

#[tokio::test]
async fn haproxy_says_whom_it_speaks_for() {
    for sends in ["send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"] {
        through_haproxy(sends).await;
    }
}
