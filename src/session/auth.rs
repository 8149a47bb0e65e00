//! AUTH: who a client is (NIP-42).

use std::sync::Arc;

use url::Url;

use super::Session;
use crate::{
    clock,
    config::Limits,
    ingest::same_relay,
    protocol::{Event, ParsedEvent, PublicKey, Reason, RelayMessage, Timestamp, kind, message::ok},
};

/// Seconds by which the clock of a client may be off.
const MAX_CLOCK_SKEW: u64 = 600;

/// The state of authentication of one connection.
pub struct Auth {
    challenge: Box<str>,
    /// Where the client reached this relay, as the relay itself knows: what the `relay` tag must name
    /// where no URL is set. A Host header alone proves nothing. A relay in the middle writes its own
    /// there, passes our challenge on to its client, and what the client signs fits.
    own_host: Option<String>,
    /// The keys of which the client has proved possession.
    keys: Arc<[PublicKey]>,
}

impl Auth {
    pub fn new(own_host: Option<String>) -> Self {
        let challenge = hex::encode(rand::random::<[u8; 16]>());
        Self { challenge: challenge.into(), own_host, keys: Arc::default() }
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
        let (ours, own) = match (url, &self.own_host) {
            (Some(url), _) => (relay.is_some_and(|relay| same_relay(url, &relay)), url.to_string()),
            (None, Some(host)) => (relay.is_some_and(|relay| is_at(&relay, host)), format!("ws://{host}")),
            (None, None) => {
                return Err(Reason::error(
                    "this relay does not know its own URL, so it can not check AUTH; its operator must set \
                     `url` (--url wss://…)",
                ));
            }
        };
        match ours {
            true => Ok(()),
            false => Err(Reason::invalid(format!("the relay tag does not name this relay, {own}"))),
        }
    }
}

/// Whether the URL's host and port are those of a Host header. Without a port in the header the
/// URL must have its scheme's.
fn is_at(url: &Url, host: &str) -> bool {
    let Ok(base) = Url::parse(&format!("{}://{host}/", url.scheme())) else { return false };
    base.host_str().is_some() && base.host() == url.host() && base.port() == url.port()
}

impl Session {
    pub(super) fn authenticate(&mut self, parsed: ParsedEvent<'_>, limits: &Limits) {
        let id = parsed.id;
        let result = self.prove(parsed, limits.max_auth_keys);
        self.outbox.text(&ok(&id, result.map(|()| None)));
    }

    fn prove(&mut self, parsed: ParsedEvent<'_>, most: usize) -> Result<(), Reason> {
        let event = self.shared.admission.verify(parsed)?;
        self.auth.check(&event, self.shared.url.as_ref(), clock::now())?;
        let keys = &self.auth.keys;
        if keys.contains(&event.pubkey()) {
            return Ok(());
        }
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
    use crate::protocol::{Prefix, Tags, sign::Keys};

    #[test]
    fn each_condition_counts() {
        let auth = Auth::new(Some("127.0.0.1:7777".to_owned()));
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
        let lost = Auth::new(None);
        let event = event(1000, 22_242, &lost.challenge, "wss://relay.example.com");
        assert_eq!(lost.check(&event, None, 1000).map_err(|reason| reason.prefix), Err(Prefix::Error));
        assert!(lost.check(&event, Some(&own), 1000).is_ok());
    }
}
