//! Signing in and out.

use std::{net::IpAddr, time::Instant};

use ring::hmac;

use super::{
    Accounts, ClientKind, Name, Refused, SessionKey, SessionRecord, Token,
    guesses::{Bucket, Guesses},
    kept,
    password::Password,
    session::client_line,
};
use crate::{
    clock,
    protocol::{PublicKey, Timestamp},
    seal::MasterKey,
    store::records::RecordKind,
    telemetry::SignInResult,
};

/// What the mark of a browser is signed for.
const LABEL: &str = "browser";
/// For how long a browser is known again.
const KNOWN_SECONDS: u64 = 90 * 24 * 60 * 60;

/// Who asks.
#[derive(Debug, Clone)]
pub struct Client {
    pub address: IpAddr,
    pub kind: ClientKind,
    /// What it says of itself.
    pub says: String,
    /// The mark of a browser that has signed in before: see [`Given::mark`].
    pub mark: Option<String>,
}

/// What somebody has who has signed in.
#[derive(Debug, Clone)]
pub struct Given {
    pub token: Token,
    pub account: PublicKey,
    /// `None`: they have a key of their own, and no account here.
    pub name: Option<Name>,
    /// By this a browser is known again, so that guesses of others do not count against it; and for how many seconds.
    pub mark: Option<(String, u64)>,
    /// When the password was set anew by the operator's leave, if it was.
    pub reset_at: Option<Timestamp>,
}

impl Accounts {
    /// Signs somebody in.
    ///
    /// # Errors
    /// Name and password do not match, which takes as long whatever of them is wrong; or as all others.
    pub async fn sign_in(&self, name: &str, password: Password, client: &Client) -> Result<Given, Refused> {
        let result = self.try_sign_in(name, password, client).await;
        self.count(&result);
        result
    }

    pub(super) fn count(&self, result: &Result<Given, Refused>) {
        let result = match result {
            Ok(_) => SignInResult::SignedIn,
            Err(Refused::WrongPassword | Refused::Challenge) => SignInResult::Wrong,
            Err(Refused::Wait(_)) => SignInResult::Slow,
            Err(Refused::Busy) => SignInResult::Busy,
            Err(Refused::Unavailable(_) | Refused::Contended | Refused::Sealed) => SignInResult::Failed,
            Err(_) => SignInResult::Refused,
        };
        self.0.metrics.sign_ins.of(result).inc();
    }

    async fn try_sign_in(&self, name: &str, password: Password, client: &Client) -> Result<Given, Refused> {
        let inner = &self.0;
        if !password.is_short_enough() {
            return Err(Refused::unfit("password", "a password has at most 1,024 bytes"));
        }
        let account = self.looked_up(name).await?;
        let buckets = self.buckets(name, account.as_ref().map(|(key, _)| *key), client);
        inner.guesses.take(&buckets, Instant::now())?;
        let hash = account.as_ref().map(|(_, record)| record.password.clone());
        let is_right = match inner.hashing.is_of(password, hash).await {
            Ok(is_right) => is_right,
            Err(busy) => {
                inner.guesses.give_back(&buckets);
                return Err(busy.into());
            }
        };
        let Some((key, record)) = account.filter(|_| is_right) else { return Err(Refused::WrongPassword) };
        // Not that of the address: each password costs a hash, the right one too.
        let [_, of_account] = buckets;
        inner.guesses.give_back(&[of_account]);
        if record.disabled {
            return Err(Refused::Disabled);
        }
        self.settle_key().await?;
        let mut given = self.begin_session(key, Some(record.name.clone()), record.generation, client).await?;
        given.reset_at = record.reset_at;
        Ok(given)
    }

    /// The account of a name. Where there is none, the store is asked as often.
    async fn looked_up(&self, name: &str) -> Result<Option<(PublicKey, super::AccountRecord)>, Refused> {
        let name = Name::parse(name).ok();
        let named = match &name {
            Some(name) => self.name_record(name).await?.filter(|record| !record.left),
            None => None,
        };
        let key = named.map_or_else(|| PublicKey(rand::random()), |record| record.account);
        let record = self.record(&key).await?.filter(|record| Some(&record.name) == name.as_ref());
        Ok(record.map(|record| (key, record)))
    }

    /// What a wrong password counts against.
    fn buckets(&self, name: &str, account: Option<PublicKey>, client: &Client) -> [Bucket; 2] {
        let guesses = &self.0.guesses;
        let known = account.and_then(|account| {
            let by_mark = client.mark.as_deref().and_then(|mark| self.read_mark(account, mark));
            by_mark
                .map(|id| guesses.browser(account, &id))
                .or_else(|| guesses.known_address(account, client.address))
        });
        let name = name.trim().to_ascii_lowercase();
        [Guesses::address(client.address), known.unwrap_or_else(|| guesses.stranger(&name))]
    }

    /// Begins a session.
    pub(super) async fn begin_session(
        &self,
        account: PublicKey,
        name: Option<Name>,
        generation: u32,
        client: &Client,
    ) -> Result<Given, Refused> {
        let store = &*self.0.store;
        self.make_room(account).await?;
        let (session, now) = (SessionKey::new(account), clock::now());
        let expires_at = self.expiry(client.kind, now);
        let (says, kind) = (client_line(&client.says), client.kind);
        let brought = name.is_none();
        let record =
            SessionRecord { client: says, kind, since: now, seen: now, expires_at, generation, brought };
        let (key, life) = (session.record(), std::time::Duration::from_secs(expires_at - now));
        let written = kept::write(store, RecordKind::Session, &key, None, &record, Some(life)).await?;
        written.ok_or(Refused::Contended)?;
        self.0.guesses.know(account, client.address);
        let mark = (client.kind == ClientKind::Browser).then(|| (self.mark(account), KNOWN_SECONDS));
        let token = self.0.tokens.make(&session, now, expires_at);
        Ok(Given { token, account, name, mark, reset_at: None })
    }

    /// A mark by which a browser is known again.
    fn mark(&self, account: PublicKey) -> String {
        let id = hex::encode(rand::random::<[u8; 8]>());
        let until = clock::now() + KNOWN_SECONDS;
        let said = format!("{id}.{until}");
        let key = mark_key(self.0.master.current());
        let tag = hmac::sign(&key, format!("{account}.{said}").as_bytes());
        format!("{said}.{}", hex::encode(tag))
    }

    /// Which browser it is that has such a mark for this account.
    fn read_mark(&self, account: PublicKey, mark: &str) -> Option<Vec<u8>> {
        let (said, tag) = mark.rsplit_once('.')?;
        let tag = hex::decode(tag).ok()?;
        let signed = format!("{account}.{said}");
        let is_by = |key: &MasterKey| hmac::verify(&mark_key(key), signed.as_bytes(), &tag).is_ok();
        self.0.master.all().any(is_by).then_some(())?;
        let (id, until) = said.split_once('.')?;
        let until: Timestamp = until.parse().ok()?;
        (until > clock::now()).then(|| id.as_bytes().to_vec())
    }
}

fn mark_key(master: &MasterKey) -> hmac::Key {
    hmac::Key::new(hmac::HMAC_SHA256, &*master.derive(LABEL))
}
