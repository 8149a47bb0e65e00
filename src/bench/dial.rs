//! Finds a relay and opens WebSockets to it: address, handshake, many at a time, room for their
//! descriptors.

use std::{
    net::{SocketAddr, ToSocketAddrs},
    rc::Rc,
    time::Duration,
};

use anyhow::{Context, bail, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
    time::timeout,
};
use tokio_tungstenite::tungstenite::{
    handshake::{client::generate_key, derive_accept_key},
    http::Uri,
};

use super::wire::Wire;

/// How long a relay may take to accept and upgrade one connection.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Handshakes that run at a time: enough to keep a core busy, fewer than the shortest accept queue.
const AT_A_TIME: usize = 64;
/// Longest answer to a handshake.
const MAX_ANSWER: usize = 16 << 10;
/// Descriptors beside the sockets: standard streams, epoll, timers.
const OTHER_DESCRIPTORS: u64 = 256;

/// Where a relay listens.
pub struct Relay {
    address: SocketAddr,
    authority: String,
    path: String,
}

impl Relay {
    /// Reads a `ws://` URL and looks its host up.
    ///
    /// # Errors
    /// It is no such URL, or the host is unknown.
    pub fn find(url: &str) -> anyhow::Result<Self> {
        let uri: Uri =
            url.parse().with_context(|| format!("{url:?} is no URL; one is ws://127.0.0.1:7777"))?;
        match uri.scheme_str() {
            Some("ws") => {}
            Some("wss") => {
                bail!("TLS would be measured, not the relay; name its port without TLS, as ws://…")
            }
            _ => bail!("{url:?} does not begin with ws://"),
        }
        let host = uri.host().with_context(|| format!("{url:?} names no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let address = (host.trim_matches(['[', ']']), port)
            .to_socket_addrs()
            .with_context(|| format!("the host of {url:?} is unknown"))?
            .next()
            .with_context(|| format!("the host of {url:?} has no address"))?;
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self { address, authority: format!("{host}:{port}"), path })
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens `count` connections.
    ///
    /// # Errors
    /// One of them can not be opened, or this process may not hold so many.
    pub async fn connect_all(self: &Rc<Self>, count: usize) -> anyhow::Result<Vec<Wire>> {
        raise_descriptor_limit(count)?;
        let mut connections = Vec::with_capacity(count);
        let mut opening = JoinSet::new();
        let mut started = 0;
        while connections.len() < count {
            while started < count && opening.len() < AT_A_TIME {
                let relay = Rc::clone(self);
                opening.spawn_local(async move { relay.connect().await });
                started += 1;
            }
            if let Some(opened) = opening.join_next().await {
                let opened = opened?.with_context(|| {
                    format!("connection {} of {count} to {} failed", connections.len() + 1, self.address)
                });
                connections.push(opened?);
            }
        }
        Ok(connections)
    }

    /// Opens one connection.
    ///
    /// # Errors
    /// The relay is away, slow, or answers with anything but an upgrade.
    pub async fn connect(&self) -> anyhow::Result<Wire> {
        timeout(HANDSHAKE_TIMEOUT, self.handshake())
            .await
            .context("no answer to the handshake within 10 s: is the relay running and not at its limit?")?
    }

    async fn handshake(&self) -> anyhow::Result<Wire> {
        let mut stream = TcpStream::connect(self.address).await.context("is the relay running?")?;
        stream.set_nodelay(true)?;
        let key = generate_key();
        let request = format!(
            "GET {} HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\nUser-Agent: rookery-bench\r\n\r\n",
            self.path, self.authority
        );
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::with_capacity(1024);
        let end = loop {
            ensure!(answer.len() < MAX_ANSWER, "the answer to the handshake is above 16 KiB");
            ensure!(
                stream.read_buf(&mut answer).await? > 0,
                "the relay ended the connection in the handshake"
            );
            if let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") {
                break end;
            }
        };
        let head = String::from_utf8_lossy(&answer[..end]);
        let status = head.lines().next().unwrap_or_default();
        ensure!(status.split(' ').nth(1) == Some("101"), "the relay answered {status:?} to the handshake");
        let proof = head
            .lines()
            .filter_map(|line| line.split_once(':'))
            .find(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-accept"))
            .map(|(_, value)| value.trim());
        ensure!(
            proof == Some(&derive_accept_key(key.as_bytes())),
            "the answer to the handshake is not a WebSocket's"
        );
        let received = answer.split_off(end + 4);
        Ok(Wire::new(stream, received))
    }
}

fn raise_descriptor_limit(connections: usize) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    let needed = connections as u64 + OTHER_DESCRIPTORS;
    if limit.current.is_none_or(|current| current >= needed) {
        return Ok(());
    }
    ensure!(
        limit.maximum.is_none_or(|maximum| maximum >= needed),
        "{connections} connections need {needed} file descriptors, above the hard limit; raise it \
         (ulimit -Hn) or ask for fewer"
    );
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum.or(Some(needed)), maximum: limit.maximum })
        .context("the limit of file descriptors can not be raised (ulimit -n)")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_urls() {
        let relay = Relay::find("ws://127.0.0.1:7777/path?x=1").unwrap();
        assert_eq!((relay.address.to_string(), &*relay.path), ("127.0.0.1:7777".into(), "/path?x=1"));
        assert_eq!(Relay::find("ws://[::1]:80").unwrap().address.port(), 80);
        for bad in ["wss://127.0.0.1", "http://127.0.0.1", "127.0.0.1:7777", "ws://", "nonsense"] {
            assert!(Relay::find(bad).is_err(), "{bad}");
        }
    }
}
