//! AUTH: who a client is (NIP-42).

use std::sync::Arc;

use url::Url;

use super::Session;
use crate::{
    clock,
    ingest::same_relay,
    protocol::{Event, ParsedEvent, PublicKey, Reason, RelayMessage, Timestamp, kind, message::ok},
};

/// Seconds by which the clock of a client may be off.
const MAX_CLOCK_SKEW: u64 = 600;

/// The state of authentication of one connection.
pub struct Auth {
    challenge: Box<str>,
    /// The Host header, against which the `relay` tag is checked where this relay knows no URL.
    host: Box<str>,
    /// The keys of which the client has proved possession.
    keys: Arc<[PublicKey]>,
}

impl Auth {
    pub fn new(host: &str) -> Self {
        let challenge = hex::encode(rand::random::<[u8; 16]>());
        Self { challenge: challenge.into(), host: host.into(), keys: Arc::default() }
    }

    pub fn keys(&self) -> &Arc<[PublicKey]> {
        &self.keys
    }

    /// What is sent when a client connects.
    pub fn message(&self) -> String {
        RelayMessage::Auth { challenge: &self.challenge }.to_string()
    }

    /// Whether the event, whose signature is right, proves its author here and now.
    fn check(&self, event: &Event, url: Option<&Url>, now: Timestamp) -> Result<(), Reason> {
        if event.kind() != kind::AUTH {
            return Err(Reason::invalid("an AUTH event is of kind 22242"));
        }
        if event.created_at().abs_diff(now) > MAX_CLOCK_SKEW {
            return Err(Reason::invalid("created_at is more than ten minutes from now"));
        }
        if event.tags().first_value("challenge") != Some(&self.challenge) {
            return Err(Reason::invalid("the challenge is not the one of this connection"));
        }
        let relay = event.tags().first_value("relay").and_then(|relay| Url::parse(relay).ok());
        let ours = relay.is_some_and(|relay| match url {
            Some(url) => same_relay(url, &relay),
            None => is_at(&relay, &self.host),
        });
        if ours { Ok(()) } else { Err(Reason::invalid("the relay tag does not name this relay")) }
    }
}

/// Whether the URL's host and port are those of a Host header. Without a port in the header the
/// URL must have its scheme's.
fn is_at(url: &Url, host: &str) -> bool {
    let Ok(base) = Url::parse(&format!("{}://{host}/", url.scheme())) else { return false };
    base.host_str().is_some() && base.host() == url.host() && base.port() == url.port()
}

impl Session {
    pub(super) fn authenticate(&mut self, parsed: ParsedEvent<'_>) {
        let id = parsed.id;
        let result = self.prove(parsed);
        self.outbox.text(&ok(&id, result.map(|()| None)));
    }

    fn prove(&mut self, parsed: ParsedEvent<'_>) -> Result<(), Reason> {
        let event = self.shared.admission.verify(parsed)?;
        self.auth.check(&event, self.shared.url.as_ref(), clock::now())?;
        let keys = &self.auth.keys;
        if keys.contains(&event.pubkey()) {
            return Ok(());
        }
        let most = self.shared.config.limits.max_auth_keys;
        if keys.len() >= most {
            return Err(Reason::restricted(format!("a connection authenticates as at most {most} keys")));
        }
        self.auth.keys = keys.iter().copied().chain([event.pubkey()]).collect();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    #[test]
    fn each_condition_counts() {
        let auth = Auth::new("127.0.0.1:7777");
        let keys = Keys::generate();
        let own = Url::parse("wss://relay.example.com").unwrap();
        let event = |at, kind, challenge: &str, relay: &str| {
            keys.sign(at, kind, Tags::from_iter([["challenge", challenge], ["relay", relay]]), "")
        };
        let challenge = &*auth.challenge;
        for (event, url, expected) in [
            (event(1000, 22_242, challenge, "ws://127.0.0.1:7777/"), None, true),
            (event(1600, 22_242, challenge, "ws://127.0.0.1:7777"), None, true),
            (event(1601, 22_242, challenge, "ws://127.0.0.1:7777"), None, false),
            (event(399, 22_242, challenge, "ws://127.0.0.1:7777"), None, false),
            (event(1000, 1, challenge, "ws://127.0.0.1:7777"), None, false),
            (event(1000, 22_242, "other", "ws://127.0.0.1:7777"), None, false),
            (event(1000, 22_242, challenge, "ws://127.0.0.1:7778"), None, false),
            (event(1000, 22_242, challenge, "ws://127.0.0.1"), None, false),
            (event(1000, 22_242, challenge, "ws://evil.example.com:7777"), None, false),
            (event(1000, 22_242, challenge, "nonsense"), None, false),
            (event(1000, 22_242, challenge, "wss://relay.example.com/"), Some(&own), true),
            (event(1000, 22_242, challenge, "wss://RELAY.example.com"), Some(&own), true),
            (event(1000, 22_242, challenge, "wss://relay.example.com:444"), Some(&own), false),
            (event(1000, 22_242, challenge, "ws://127.0.0.1:7777"), Some(&own), false),
        ] {
            assert_eq!(auth.check(&event, url, 1000).is_ok(), expected, "{event:?} {url:?}");
        }
        assert!(is_at(&own, "relay.example.com"));
        assert!(!is_at(&own, ""));
    }
}
