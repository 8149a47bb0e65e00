//! Who the client is (NIP-42).

use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{CHALLENGE_TIMEOUT, Connection};
use crate::{
    client::ClientError,
    clock,
    protocol::{Event, EventId, Reply, Tags, kind, sign::Keys},
};

/// Relays that want authentication say so right away; longer than this nobody waits for it.
const EARLY_CHALLENGE: Duration = Duration::from_millis(500);

impl Connection {
    /// Authenticates where there is a key and the relay asks for it within half a second, or has said before that it
    /// wants that ([`crate::client::Manners`]).
    ///
    /// # Errors
    /// Those of [`Self::authenticate`].
    pub async fn identify(&mut self) -> Result<(), ClientError> {
        let must = self.endpoint.manners.authenticates;
        if must || (self.endpoint.keys.is_some() && self.await_challenge(EARLY_CHALLENGE).await?) {
            self.authenticate().await?;
        }
        Ok(())
    }

    /// Whether the relay sent a challenge, earlier or within this time. Drops other messages: nothing may be
    /// asked yet.
    async fn await_challenge(&mut self, within: Duration) -> Result<bool, ClientError> {
        let deadline = Instant::now() + within;
        while self.challenge.is_none() {
            let Ok(text) = timeout_at(deadline, self.receive()).await else {
                return Ok(false);
            };
            self.read(&text?);
        }
        Ok(true)
    }

    /// The answer to the relay's challenge, to be sent, and its id, which the OK will name. `None`
    /// before there is a challenge.
    ///
    /// # Errors
    /// The endpoint has no key.
    pub fn auth_message(&self) -> Result<Option<(EventId, String)>, ClientError> {
        let keys = self.endpoint.keys.as_ref().ok_or(ClientError::NoKey)?;
        Ok(self.challenge.as_ref().map(|challenge| {
            let event = auth_event(keys, &self.endpoint.url, challenge);
            (event.id(), format!(r#"["AUTH",{}]"#, event.json()))
        }))
    }

    /// Authenticates (NIP-42) and waits for the relay's OK. Other messages that arrive meanwhile are
    /// dropped: for moments in which no answer is awaited.
    ///
    /// # Errors
    /// The endpoint has no key, the relay does not take it, or says nothing in time.
    pub async fn authenticate(&mut self) -> Result<(), ClientError> {
        if self.endpoint.keys.is_none() {
            return Err(ClientError::NoKey);
        }
        self.await_challenge(CHALLENGE_TIMEOUT).await?;
        let Some((auth, message)) = self.auth_message()? else {
            return Err(ClientError::Silent("send the challenge that authentication needs"));
        };
        self.send(message).await?;
        let deadline = Instant::now() + self.endpoint.bounds.answer;
        loop {
            let Ok(text) = timeout_at(deadline, self.receive()).await else {
                return Err(ClientError::Silent("answer AUTH"));
            };
            match self.read(&text?) {
                Some(Reply::Ok { id, accepted: true, .. }) if id == Some(auth) => return Ok(()),
                Some(Reply::Ok { id, reason, .. }) if id == Some(auth) => {
                    return Err(ClientError::AuthRefused(reason.into_owned()));
                }
                _ => {}
            }
        }
    }
}

fn auth_event(keys: &Keys, url: &str, challenge: &str) -> Event {
    let tags = Tags::from_iter([["relay", url], ["challenge", challenge]]);
    keys.sign(clock::now(), kind::AUTH, tags, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_auth_event_names_relay_and_challenge() {
        let event = auth_event(&Keys::generate(), "ws://x", "c");
        assert_eq!(event.kind(), 22_242);
        assert_eq!(event.tags().first_value("relay"), Some("ws://x"));
        assert_eq!(event.tags().first_value("challenge"), Some("c"));
    }
}
