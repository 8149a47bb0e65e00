//! Signing in by a key: whoever has it signs what this relay asks. It is that of an account here, which is theirs then,
//! or one that this relay does not have: then there is a session, and no account.

use std::time::{Duration, Instant};

use ring::hmac;

use super::{Accounts, Client, Given, Refused, guesses::Guesses, kept};
use crate::{
    clock,
    protocol::{PublicKey, Timestamp},
    seal::MasterKey,
    store::records::RecordKind,
};

/// What challenges are signed for.
const LABEL: &str = "challenge";
/// For how many seconds a challenge is good.
pub const CHALLENGE_SECONDS: u64 = 60;

/// What is to be signed, once.
#[derive(Debug, Clone)]
pub struct Challenge {
    pub text: String,
    pub expires_at: Timestamp,
}

fn key(master: &MasterKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*master.derive(LABEL))
}

impl Accounts {
    /// Makes a challenge, for whoever has that secret: a browser has one in a cookie, and a program none. It is remembered
    /// nowhere, and good at every node.
    pub fn challenge(&self, browser: &str) -> Challenge {
        let (nonce, until) = (hex::encode(rand::random::<[u8; 16]>()), clock::now() + CHALLENGE_SECONDS);
        let said = format!("{nonce}.{until}");
        let tag = hmac::sign(&key(self.0.master.current()), format!("{said}.{browser}").as_bytes());
        Challenge { text: format!("{said}.{}", hex::encode(tag)), expires_at: until }
    }

    /// The number of a challenge that is good.
    fn read_challenge<'c>(&self, text: &'c str, browser: &str) -> Option<&'c str> {
        let (said, tag) = text.rsplit_once('.')?;
        let tag = hex::decode(tag).ok()?;
        let (nonce, until) = said.split_once('.')?;
        let until: Timestamp = until.parse().ok()?;
        let signed = format!("{said}.{browser}");
        let is_by = |master: &MasterKey| hmac::verify(&key(master), signed.as_bytes(), &tag).is_ok();
        (until > clock::now() && self.0.master.all().any(is_by)).then_some(nonce)
    }

    /// Signs in whoever has signed a challenge with a key.
    ///
    /// # Errors
    /// The challenge is not good, not for this browser, or was answered; the account is switched off; or as all others.
    pub async fn sign_in_by_key(
        &self,
        account: PublicKey,
        challenge: &str,
        browser: &str,
        client: &Client,
    ) -> Result<Given, Refused> {
        let signed_in = self.try_sign_in_by_key(account, challenge, browser, client).await;
        self.count(&signed_in);
        signed_in
    }

    async fn try_sign_in_by_key(
        &self,
        account: PublicKey,
        challenge: &str,
        browser: &str,
        client: &Client,
    ) -> Result<Given, Refused> {
        // What is right costs the store records, too, and keys are made for nothing.
        self.0.guesses.take(&[Guesses::address(client.address)], Instant::now())?;
        let nonce = self.read_challenge(challenge, browser).ok_or(Refused::Challenge)?;
        let record = self.record(&account).await?;
        if record.as_ref().is_some_and(|record| record.disabled) {
            return Err(Refused::Disabled);
        }
        // Whoever shows the same once more, at whatever node, finds it written; where it can not be, nobody signs in.
        let life = Some(Duration::from_secs(2 * CHALLENGE_SECONDS));
        let spent = kept::write(&*self.0.store, RecordKind::Spent, nonce, None, &account, life).await?;
        spent.ok_or(Refused::Challenge)?;
        self.settle_key().await?;
        let reset_at = record.as_ref().and_then(|record| record.reset_at);
        let generation = record.as_ref().map_or(0, |record| record.generation);
        let name = record.map(|record| record.name);
        Ok(Given { reset_at, ..self.begin_session(account, name, generation, client).await? })
    }
}
