//! Which sessions are good.

use std::time::{Duration, Instant};

use futures_util::future::try_join;
use tokio::{sync::watch, time::sleep};
use tracing::debug;

use super::{
    AccountRecord, Accounts, NotSignedIn, Refused, SessionKey, SessionRecord, SessionView, SignedIn, Token,
    kept::{self, Kept},
};
use crate::{clock, protocol::PublicKey, store::records::RecordKind};

/// Between two looks that were asked for.
const PAUSE: Duration = Duration::from_millis(100);

/// Between two looks while the store does not answer.
const RETRY: Duration = Duration::from_secs(5);

/// How often it is looked whether a session goes on, and for how long that may remain unknown.
struct Patience {
    every: Duration,
    grace: Duration,
}

impl Patience {
    /// Looks again and again whether it goes on, and sooner where it may have ended.
    async fn until_ended(
        self,
        mut goes_on: impl AsyncFnMut() -> Result<bool, Refused>,
        mut changed: impl AsyncFnMut(),
    ) {
        let mut good = Instant::now();
        loop {
            // First at once: it may have ended since somebody looked.
            let pause = match goes_on().await {
                Ok(true) => {
                    good = Instant::now();
                    // All that come back after a break look at moments of their own.
                    self.every.mul_f64(rand::random_range(0.9..1.0))
                }
                Ok(false) => return,
                Err(_) => match self.grace.saturating_sub(good.elapsed()) {
                    Duration::ZERO => return,
                    left => RETRY.min(self.every).min(left),
                },
            };
            // Anybody on the bus may say that it has changed, as often as they like.
            sleep(PAUSE.min(pause)).await;
            tokio::select! {
                () = changed() => {}
                () = sleep(pause) => {}
            }
        }
    }
}

/// Tells when an account, or a session of it, may have changed.
pub struct Watching {
    accounts: Accounts,
    account: PublicKey,
    receiver: watch::Receiver<()>,
}

impl Watching {
    /// Resolves when it may have.
    pub async fn changed(&mut self) {
        // The sender is there for as long as this is.
        let _ = self.receiver.changed().await;
    }

    /// Whether it may have since it was last looked at.
    pub fn has_changed(&self) -> bool {
        self.receiver.has_changed().unwrap_or(true)
    }

    /// It is looked at now.
    pub fn look(&mut self) {
        self.receiver.mark_unchanged();
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        let mut watched = self.accounts.0.watched.lock();
        if watched.get(&self.account).is_some_and(|sender| sender.receiver_count() <= 1) {
            watched.remove(&self.account);
        }
    }
}

impl Accounts {
    /// Whose token it is, and whether their session is still good.
    ///
    /// # Errors
    /// It is none, the session has ended, or the store does not say.
    pub async fn check(&self, token: &str) -> Result<SignedIn, NotSignedIn> {
        let claimed = self.0.tokens.read(token, clock::now()).ok_or(NotSignedIn::Token)?;
        match self.remembered(&claimed.session) {
            Some(signed_in) => Ok(signed_in),
            None => self.check_session(&claimed.session).await,
        }
    }

    /// What was found of a session a moment ago.
    fn remembered(&self, session: &SessionKey) -> Option<SignedIn> {
        let life = Duration::from_millis(self.0.config.session_cache_ms);
        let mut found = self.0.found.lock();
        let of_account = found.get(&session.account)?;
        let (_, signed_in) =
            of_account.iter().find(|(at, found)| found.session == *session && at.elapsed() < life)?;
        Some(signed_in.clone())
    }

    fn remember(&self, at: Instant, signed_in: &SignedIn) {
        let life = Duration::from_millis(self.0.config.session_cache_ms);
        let mut found = self.0.found.lock();
        let of_account = found.get_or_insert_mut(signed_in.account, Vec::new);
        of_account.retain(|(at, found)| found.session != signed_in.session && at.elapsed() < life);
        of_account.push((at, signed_in.clone()));
    }

    /// Whether a session is still good, as the store says now.
    ///
    /// # Errors
    /// It has ended, or the store does not say.
    pub async fn check_session(&self, session: &SessionKey) -> Result<SignedIn, NotSignedIn> {
        let asked = Instant::now();
        let found = self.session(session).await.map_err(|error| {
            debug!(%error, "a session can not be looked up");
            NotSignedIn::Unavailable
        })?;
        let (_, signed_in) = found.ok_or(NotSignedIn::SignedOut)?;
        // As of when it was asked: it may have ended since, and have been forgotten before this is remembered.
        self.remember(asked, &signed_in);
        Ok(signed_in)
    }

    /// A session that is good, with its record.
    async fn session(
        &self,
        session: &SessionKey,
    ) -> Result<Option<(Kept<SessionRecord>, SignedIn)>, Refused> {
        let (store, key) = (&*self.0.store, session.record());
        let record = kept::read::<SessionRecord>(store, RecordKind::Session, &key);
        let (record, account) = try_join(record, self.record(&session.account)).await?;
        let Some(record) = record else { return Ok(None) };
        let is_good = is_good(account.as_ref(), &record.value, &session.id());
        if !is_good || record.value.expires_at <= clock::now() {
            return Ok(None);
        }
        let signed_in = SignedIn {
            account: session.account,
            session: session.clone(),
            activity: account.as_ref().map(|account| account.activity).unwrap_or_default(),
            listed: account.as_ref().is_some_and(|account| account.listed),
            reset_at: account.as_ref().and_then(|account| account.reset_at),
            name: account.map(|account| account.name),
            kind: record.value.kind,
        };
        Ok(Some((record, signed_in)))
    }

    /// Another token for a session whose own is more than half used up, which then lasts as long as a new one; `None`: not
    /// yet, or it has ended.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn renew(&self, token: &str) -> Result<Option<Token>, Refused> {
        let now = clock::now();
        let Some(claimed) = self.0.tokens.read(token, now) else { return Ok(None) };
        if now.saturating_sub(claimed.issued_at) * 2 < claimed.expires_at.saturating_sub(claimed.issued_at) {
            return Ok(None);
        }
        let expires_at = self.prolong(&claimed.session).await?;
        Ok(expires_at.map(|expires_at| self.0.tokens.make(&claimed.session, now, expires_at)))
    }

    /// Has a session last as long as a new one, if more than half of its time is over. Until when it does; `None`: it has
    /// ended.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn prolong(&self, session: &SessionKey) -> Result<Option<u64>, Refused> {
        let Some((kept, _)) = self.session(session).await? else { return Ok(None) };
        let Kept { value: mut record, version } = kept;
        let now = clock::now();
        if now.saturating_sub(record.seen) * 2 < record.expires_at.saturating_sub(record.seen) {
            return Ok(Some(record.expires_at));
        }
        (record.seen, record.expires_at) = (now, self.expiry(record.kind, now));
        let life = Some(Duration::from_secs(record.expires_at - now));
        let store = &*self.0.store;
        let key = session.record();
        // Of several that do so at once one has; and over one that has ended nobody writes.
        let written = kept::write(store, RecordKind::Session, &key, Some(version), &record, life).await?;
        match written {
            Some(_) => Ok(Some(record.expires_at)),
            None => Ok(self.session(session).await?.map(|(kept, _)| kept.value.expires_at)),
        }
    }

    /// Resolves when a session has ended, and also when the store has not said for long that it goes on. It is used
    /// meanwhile, so it lasts.
    pub async fn ended(&self, session: &SessionKey) {
        let config = &self.0.config;
        let patience = Patience {
            every: Duration::from_secs(config.socket_check_seconds),
            grace: Duration::from_secs(config.socket_grace_seconds),
        };
        let mut watching = self.watch(session.account);
        let goes_on = async || Ok(self.prolong(session).await?.is_some());
        patience.until_ended(goes_on, async || watching.changed().await).await;
    }

    /// Ends a session. `false`: it had ended.
    ///
    /// # Errors
    /// The store does not answer: it may have ended.
    pub async fn end_session(&self, session: &SessionKey) -> Result<bool, Refused> {
        let removed = kept::remove(&*self.0.store, RecordKind::Session, &session.record()).await;
        // Whatever the answer: who looks again finds out.
        self.tell(RecordKind::Session, session.record(), 0);
        removed
    }

    /// The sessions of an account that are good, those used last first.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn sessions(&self, account: PublicKey) -> Result<Vec<SessionView>, Refused> {
        let record = self.record(&account).await?;
        let all =
            kept::all::<SessionRecord>(&*self.0.store, RecordKind::Session, &format!("{account}/")).await?;
        let mut views: Vec<SessionView> = all
            .into_iter()
            .filter_map(|(key, kept)| {
                let id = key.split('/').nth(1)?;
                let session =
                    SessionKey::of(account, id).filter(|_| is_good(record.as_ref(), &kept.value, id))?;
                let SessionRecord { client, since, seen, .. } = kept.value;
                Some(SessionView { key: session, client, since, seen })
            })
            .collect();
        views.sort_by_key(|view| std::cmp::Reverse(view.seen));
        Ok(views)
    }

    /// Ends what an account has more of than it may, so that there is room for one more.
    pub(super) async fn make_room(&self, account: PublicKey) -> Result<(), Refused> {
        let prefix = format!("{account}/");
        let mut all = kept::all::<SessionRecord>(&*self.0.store, RecordKind::Session, &prefix).await?;
        let most = self.0.config.max_sessions;
        if all.len() < most {
            return Ok(());
        }
        // Those go first that would end first: those of programs, and those that nobody uses.
        all.sort_by_key(|(_, kept)| kept.value.expires_at);
        let surplus = all.len() + 1 - most;
        for (key, _) in all.into_iter().take(surplus) {
            kept::remove(&*self.0.store, RecordKind::Session, &key).await?;
            self.tell(RecordKind::Session, key, 0);
        }
        Ok(())
    }

    /// Has somebody told when an account, or a session of it, may have changed.
    pub fn watch(&self, account: PublicKey) -> Watching {
        let mut watched = self.0.watched.lock();
        let receiver = watched.entry(account).or_insert_with(|| watch::channel(()).0).subscribe();
        Watching { accounts: self.clone(), account, receiver }
    }
}

/// Whether a session is good that has not expired. One of an account ends with it, and one that has none when there is one.
fn is_good(account: Option<&AccountRecord>, session: &SessionRecord, id: &str) -> bool {
    match account {
        Some(account) => !session.brought && account.has(session, id),
        None => session.brought,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        account::{
            Client, ClientKind, NewAccount, Parts, Password,
            tests::{accounts, client, new},
        },
        seal::{MasterKey, MasterKeys},
    };

    #[tokio::test]
    async fn a_session_lasts_as_long_as_it_is_used() {
        let accounts = accounts().await;
        let given = accounts.make(new("quill"), &client()).await.unwrap();
        let session = accounts.check(&given.token.text).await.unwrap().session;
        assert!(accounts.renew(&given.token.text).await.unwrap().is_none());
        // One of which more than half is used up.
        let now = clock::now();
        let old = accounts.0.tokens.make(&session, now - 3_000, now + 600);
        let renewed = accounts.renew(&old.text).await.unwrap().unwrap();
        assert!(renewed.expires_at > now + 3_000, "{renewed:?}");
        assert!(accounts.check(&renewed.text).await.is_ok());
        let expired = accounts.0.tokens.make(&session, now - 3_000, now);
        assert!(accounts.renew(&expired.text).await.unwrap().is_none());
        assert_eq!(accounts.check(&expired.text).await.unwrap_err(), NotSignedIn::Token);
        accounts.end_session(&session).await.unwrap();
        assert!(accounts.renew(&old.text).await.unwrap().is_none());
        assert_eq!(accounts.check(&renewed.text).await.unwrap_err(), NotSignedIn::SignedOut);
        // Over one that has ended nobody writes.
        assert_eq!(accounts.prolong(&session).await.unwrap(), None);
        assert!(!accounts.end_session(&session).await.unwrap());
    }

    #[tokio::test]
    async fn whoever_waits_for_the_end_of_a_session_is_told() {
        let accounts = accounts().await;
        let given = accounts.make(new("quill"), &client()).await.unwrap();
        let session = accounts.check(&given.token.text).await.unwrap().session;
        let mut ended = Box::pin(accounts.ended(&session));
        assert!(tokio::time::timeout(Duration::from_millis(300), &mut ended).await.is_err());
        accounts.set_disabled("quill", true).await.unwrap();
        tokio::time::timeout(Duration::from_secs(30), ended).await.unwrap();
        assert!(accounts.0.watched.lock().is_empty());
        assert!(matches!(accounts.keypair(&session.account).await, Err(Refused::Unknown)));
    }

    /// While the store is away nobody is signed out at once, and nobody stays for ever.
    #[tokio::test]
    async fn what_is_not_known_to_go_on_ends() {
        let patience = || Patience { every: Duration::from_millis(20), grace: Duration::from_millis(200) };
        let begun = Instant::now();
        let mut looks = 0;
        let away = async || {
            looks += 1;
            Err(Refused::Unavailable(String::new()))
        };
        patience().until_ended(away, async || std::future::pending().await).await;
        assert!(begun.elapsed() >= patience().grace && looks > 1, "{looks}");
        // It is back in time, and has ended meanwhile.
        let mut says = [Ok(true), Err(Refused::Busy), Ok(true), Ok(false)].into_iter();
        patience().until_ended(async || says.next().unwrap(), async || std::future::pending().await).await;
        assert_eq!(says.len(), 0);
    }

    #[tokio::test]
    async fn an_account_has_so_many_sessions() {
        let accounts = accounts().await;
        accounts.make(new("quill"), &client()).await.unwrap();
        let mut tokens = Vec::new();
        for _ in 0..3 {
            let password = Password::from("three rooks on a wire".to_owned());
            tokens.push(accounts.sign_in("quill", password, &client()).await.unwrap().token.text);
        }
        // Two, as the configuration of these tests says, and never the newest ends.
        assert!(accounts.check(&tokens[2]).await.is_ok());
        let account = accounts.named("quill").await.unwrap().unwrap().key;
        assert_eq!(accounts.sessions(account).await.unwrap().len(), 2);
    }

    #[tokio::test]
    async fn accounts_of_another_master_key_do_not_open() {
        let accounts = accounts().await;
        let given = accounts.make(new("quill"), &client()).await.unwrap();
        let keys = accounts.keypair(&given.account).await.unwrap();
        assert_eq!(keys.public_key(), given.account);
        let parts = |master: u8| Parts {
            store: std::sync::Arc::clone(&accounts.0.store),
            master: std::sync::Arc::new(MasterKeys::from(MasterKey::from([master; 32]))),
            config: accounts.0.config.clone(),
            open: accounts.0.open,
            url: None,
            relay: String::new(),
            metrics: std::sync::Arc::clone(&accounts.0.metrics),
        };
        assert!(Accounts::open(parts(9)).await.is_err());
        let same = Accounts::open(parts(1)).await.unwrap();
        assert!(same.check(&given.token.text).await.is_ok());
        let stranger = NewAccount { name: "quill".into(), ..new("quill") };
        let browser = Client { kind: ClientKind::Browser, ..client() };
        assert!(matches!(same.make(stranger, &browser).await, Err(Refused::Taken { .. })));
    }
}
