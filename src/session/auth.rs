//! AUTH: who a client is (NIP-42).

use std::sync::Arc;

use actix::{ActorFutureExt, AsyncContext, WrapFuture};
use url::Url;

use super::{Context, Session};
use crate::{
    account::{NotSignedIn, SessionKey, SignedIn},
    clock,
    config::Limits,
    ingest::same_relay,
    protocol::{
        Circle, Event, EventId, ParsedEvent, PublicKey, Reason, RelayMessage, Timestamp, Viewer, kind,
        message::ok,
    },
    telemetry::CloseReason,
};

/// The tag of an AUTH event that says by which session of an account it was made: it is good for as long as that.
const SESSION: &str = "session";

/// The code of a close frame that says that the session has ended.
const SIGNED_OUT: u16 = 4401;

/// Seconds by which the clock of a client may be off.
const MAX_CLOCK_SKEW: u64 = 600;

/// The state of authentication of one connection.
pub struct Auth {
    challenge: Box<str>,
    /// Where the client reached this relay, as the relay itself knows: what the `relay` tag must name
    /// where no URL is set. A Host header alone proves nothing. A relay in the middle writes its own
    /// there, passes our challenge on to its client, and what the client signs fits.
    own_host: Option<String>,
    /// The keys of which the client has proved possession, and whose doings these may see.
    viewer: Viewer,
    /// Sessions of accounts with which the connection ends, each watched once.
    sessions: Vec<SessionKey>,
    /// Sessions that are being looked up.
    looked_up: usize,
}

impl Auth {
    pub fn new(own_host: Option<String>, signed_in: Option<PublicKey>) -> Self {
        let challenge = hex::encode(rand::random::<[u8; 16]>());
        let viewer = Viewer::client(signed_in.into_iter().collect::<Vec<_>>());
        Self { challenge: challenge.into(), own_host, viewer, sessions: Vec::new(), looked_up: 0 }
    }

    pub fn keys(&self) -> &[PublicKey] {
        self.viewer.keys()
    }

    pub fn viewer(&self) -> &Viewer {
        &self.viewer
    }

    /// It is known whose doings the keys may see; `None`: it is not any more.
    pub fn know(&mut self, of: Option<Arc<Circle>>) {
        if let Viewer::Client { circle, .. } = &mut self.viewer {
            *circle = of;
        }
    }

    fn add(&mut self, key: PublicKey) {
        if let Viewer::Client { keys, .. } = &mut self.viewer {
            *keys = keys.iter().copied().chain([key]).collect();
        }
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
    pub(super) fn authenticate(&mut self, parsed: ParsedEvent<'_>, limits: &Limits, ctx: &mut Context) {
        let id = parsed.id;
        let event = match self.prove(parsed) {
            Ok(event) => event,
            Err(reason) => return self.answer_auth(&id, Err(reason)),
        };
        if let Some(session) = event.tags().first_value(SESSION) {
            return self.look_up(id, event.pubkey(), session, ctx);
        }
        let added = self.add_key(event.pubkey(), limits.max_auth_keys, ctx);
        self.answer_auth(&id, added);
    }

    fn answer_auth(&self, id: &EventId, result: Result<(), Reason>) {
        self.outbox.text(&ok(id, result.map(|()| None)));
    }

    /// An AUTH event that is right, here and now.
    fn prove(&self, parsed: ParsedEvent<'_>) -> Result<Event, Reason> {
        let event = self.shared.admission.verify(parsed)?;
        self.auth.check(&event, self.shared.url.as_ref(), clock::now())?;
        Ok(event)
    }

    fn add_key(&mut self, key: PublicKey, most: usize, ctx: &mut Context) -> Result<(), Reason> {
        let keys = self.auth.keys();
        if keys.contains(&key) {
            return Ok(());
        }
        if keys.len() >= most {
            return Err(Reason::restricted(format!("a connection authenticates as at most {most} keys")));
        }
        self.auth.add(key);
        if self.subscriptions.iter().any(|subscription| subscription.wants_activity) {
            self.want_circle();
            self.read_next(ctx);
        }
        Ok(())
    }

    /// The client is signed in as an account, by a session that is looked up first.
    fn look_up(&mut self, id: EventId, key: PublicKey, session: &str, ctx: &mut Context) {
        let Some(accounts) = self.shared.accounts.clone() else {
            let reason = Reason::restricted("this node keeps no accounts");
            return self.answer_auth(&id, Err(reason));
        };
        let Some(session) = SessionKey::of(key, session) else {
            let reason = Reason::invalid("the session tag names no session");
            return self.answer_auth(&id, Err(reason));
        };
        // The same event is good for as long as its date is: it is shown once more for nothing.
        if self.auth.sessions.contains(&session) {
            return self.answer_auth(&id, Ok(()));
        }
        let most = self.shared.live.load().limits.max_auth_keys;
        if self.auth.sessions.len() + self.auth.looked_up >= most {
            let reason = Reason::restricted(format!("a connection is signed in by at most {most} sessions"));
            return self.answer_auth(&id, Err(reason));
        }
        self.auth.looked_up += 1;
        let found = async move { accounts.check_session(&session).await };
        ctx.spawn(found.into_actor(self).map(move |found, this, ctx| {
            this.auth.looked_up -= 1;
            let most = this.shared.live.load().limits.max_auth_keys;
            let added = match found {
                Ok(signed_in) => this.add_key(key, most, ctx).map(|()| this.keep_signed_in(&signed_in, ctx)),
                Err(why @ NotSignedIn::Unavailable) => Err(Reason::error(why.to_string())),
                Err(why) => Err(Reason::restricted(why.to_string())),
            };
            this.answer_auth(&id, added);
        }));
    }

    /// The connection ends with the session by which its client is signed in.
    pub(super) fn keep_signed_in(&mut self, signed_in: &SignedIn, ctx: &mut Context) {
        let Some(accounts) = self.shared.accounts.clone() else { return };
        let session = signed_in.session.clone();
        if self.auth.sessions.contains(&session) {
            return;
        }
        self.auth.sessions.push(session.clone());
        let ended = async move { accounts.ended(&session).await };
        ctx.spawn(ended.into_actor(self).map(|(), this, ctx| {
            this.notice(&Reason::restricted("you were signed out"));
            this.close(SIGNED_OUT, "signed out", CloseReason::SignedOut, ctx);
        }));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Prefix, Tags, sign::Keys};

    #[test]
    fn each_condition_counts() {
        let auth = Auth::new(Some("127.0.0.1:7777".to_owned()), None);
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
        let lost = Auth::new(None, None);
        let event = event(1000, 22_242, &lost.challenge, "wss://relay.example.com");
        assert_eq!(lost.check(&event, None, 1000).map_err(|reason| reason.prefix), Err(Prefix::Error));
        assert!(lost.check(&event, Some(&own), 1000).is_ok());
    }
}
