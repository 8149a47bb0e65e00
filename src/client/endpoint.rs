//! Where a relay is, as whom it is talked to, and within what bounds.

use std::{fmt, sync::Arc, time::Duration};

use super::{Backoff, ClientError, Manners, Reach, shown_url};
use crate::protocol::{Reply, sign::Keys};

/// Where a relay is, and how it is talked to. All but the URL has a default: `Endpoint { keys, ..Endpoint::new(url) }`.
#[derive(Clone)]
pub struct Endpoint {
    /// `ws://` or `wss://`, a host, and whatever follows.
    pub url: String,
    /// As whom to authenticate (NIP-42) where the relay wants it. Default: as nobody.
    pub keys: Option<Keys>,
    /// The token of an account of the relay, shown when a connection is opened. Default: none.
    pub token: Option<Token>,
    /// Whether ids and signatures of events that come are checked (default), or the relay is trusted with that.
    pub verify: bool,
    pub bounds: Bounds,
    /// How much is asked of it at once; [`Endpoint::ask_manners`] asks.
    pub manners: Manners,
    /// Where the host may be. Default: anywhere.
    pub reach: Reach,
    /// What the handshake calls the client. Default: `rookery/<version>`.
    pub user_agent: String,
    /// Default: nobody.
    pub observer: Arc<dyn Observer>,
}

/// What shows that somebody is signed in. It is written nowhere.
#[derive(Clone)]
pub struct Token(pub Arc<str>);

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a token")
    }
}

/// How long a client waits for what, and how much it takes and holds, at most.
#[derive(Debug, Clone)]
pub struct Bounds {
    /// For name look-up, TCP, TLS and the WebSocket handshake together. Default: 10 s.
    pub connect: Duration,
    /// For a message to leave. Default: 30 s.
    pub send: Duration,
    /// For an answer: `OK`, or the next message up to `EOSE`. Default: 30 s.
    pub answer: Duration,
    /// Without a word from the relay, until it is asked for a sign of life (default: 30 s) …
    pub silence: Duration,
    /// … and from then on for that. Default: 20 s.
    pub pong: Duration,
    /// The first wait before connecting again, which doubles with each failure (default: 500 ms) …
    pub first_retry: Duration,
    /// … up to this one. Default: 30 s.
    pub longest_retry: Duration,
    /// Bytes of a message that is taken from the relay. Default: 16 MiB.
    pub message_bytes: usize,
    /// Bytes of events that are gathered as one page. Where one has more, fewer are asked for. Default: 256 MiB.
    pub page_bytes: usize,
    /// Bytes that wait for a relay that does not read. Default: 64 MiB.
    pub queue_bytes: usize,
    /// Notices of a connection that the observer is told; some relays write one for each event. Default: 10.
    pub notices: u32,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            send: Duration::from_secs(30),
            answer: Duration::from_secs(30),
            silence: Duration::from_secs(30),
            pong: Duration::from_secs(20),
            first_retry: Duration::from_millis(500),
            longest_retry: Duration::from_secs(30),
            message_bytes: 16 << 20,
            page_bytes: 256 << 20,
            queue_bytes: 64 << 20,
            notices: 10,
        }
    }
}

/// Is told what nobody asked for, but may want to know.
pub trait Observer: Send + Sync {
    /// The relay said this (`NOTICE`), which may hold anything: see [`super::shown`].
    fn notice(&self, _text: &str) {}

    /// The relay said something; `None`: nothing that is understood.
    fn heard(&self, _message: Option<&Reply<'_>>) {}

    /// What was asked for failed, and will be asked for again over a new connection after so long.
    fn retry(&self, _error: &ClientError, _wait: Duration) {}
}

/// Nobody.
impl Observer for () {}

impl Endpoint {
    /// The relay of this URL, as nobody in particular.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            keys: None,
            token: None,
            verify: true,
            bounds: Bounds::default(),
            manners: Manners::default(),
            reach: Reach::default(),
            user_agent: concat!("rookery/", env!("CARGO_PKG_VERSION")).to_owned(),
            observer: Arc::new(()),
        }
    }

    /// The URL for errors and logs.
    pub fn shown_url(&self) -> String {
        shown_url(&self.url).to_owned()
    }

    /// The waits between connections that fail.
    pub fn backoff(&self) -> Backoff {
        Backoff::new(self.bounds.first_retry, self.bounds.longest_retry)
    }
}
