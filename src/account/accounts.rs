//! The accounts of a store.

use std::{
    collections::HashMap,
    num::NonZeroUsize,
    sync::{Arc, OnceLock},
    time::Instant,
};

use anyhow::{Context, bail};
use lru::LruCache;
use parking_lot::Mutex;
use tokio::sync::watch;
use tracing::{error, warn};

use super::{
    Account, AccountRecord, Activity, Name, NameRecord, Refused, SignedIn, guesses::Guesses,
    hashing::Hashing, kept, token::Tokens,
};
use crate::{
    config::{self, SignUp},
    protocol::{PublicKey, Timestamp, sign::Keys},
    seal::{FOR_ACCOUNT, FOR_CHECK, MasterKeys, NotOpened, Sealed},
    store::{
        Store,
        records::{MAX_PAGE, Race, RecordKind},
    },
    telemetry::Metrics,
};

/// The record that tells whether a node has the right master key.
const CHECK: &str = FOR_CHECK;

pub(super) const DAY: u64 = 24 * 60 * 60;

/// Tells other nodes that a record has changed.
pub type Teller = Box<dyn Fn(RecordKind, String, u64) + Send + Sync>;

/// The accounts of a store. Cheap to clone.
#[derive(Clone)]
pub struct Accounts(pub(super) Arc<Inner>);

pub(super) struct Inner {
    pub store: Arc<dyn Store>,
    pub master: Arc<MasterKeys>,
    pub tokens: Tokens,
    pub hashing: Hashing,
    pub guesses: Guesses,
    pub config: config::Accounts,
    /// Who may sign up.
    pub open: SignUp,
    /// What this relay is called.
    pub relay: String,
    pub metrics: Arc<Metrics>,
    /// Sessions that were found good a moment ago, by account.
    pub found: Mutex<LruCache<PublicKey, Vec<(Instant, SignedIn)>>>,
    /// Who wants to know when a session of an account may have ended.
    pub watched: Mutex<HashMap<PublicKey, watch::Sender<()>>>,
    /// Whether the master key is known to be that of the store.
    pub is_checked: OnceLock<()>,
    teller: OnceLock<Teller>,
}

/// What accounts are made of.
pub struct Parts {
    pub store: Arc<dyn Store>,
    pub master: Arc<MasterKeys>,
    pub config: config::Accounts,
    /// Who may sign up.
    pub open: SignUp,
    /// The URL of the relay, which tokens are for.
    pub url: Option<String>,
    /// What the relay is called.
    pub relay: String,
    pub metrics: Arc<Metrics>,
}

impl Accounts {
    /// Those of a store.
    ///
    /// # Errors
    /// The store does not answer, or its accounts are sealed under another master key.
    pub async fn open(parts: Parts) -> anyhow::Result<Self> {
        let Parts { store, master, config, open, url, relay, metrics } = parts;
        let issuer = store.identity().to_string();
        let audience = url.unwrap_or_else(|| issuer.clone());
        let most = NonZeroUsize::new(config.session_cache).unwrap_or(NonZeroUsize::MIN);
        let accounts = Self(Arc::new(Inner {
            tokens: Tokens::new(&master, issuer, audience)?,
            store,
            master,
            hashing: Hashing::start(
                config.hash_threads,
                config.hash_waiting,
                metrics.passwords_hashed.clone(),
            )
            .context("no threads that hash passwords")?,
            guesses: Guesses::new(&config),
            found: Mutex::new(LruCache::new(most)),
            watched: Mutex::default(),
            config,
            open,
            relay,
            metrics,
            is_checked: OnceLock::new(),
            teller: OnceLock::new(),
        }));
        match accounts.is_right_key().await.context("cannot read whether the master key is the right one")? {
            Some(false) => bail!(
                "accounts of this store are sealed under another master key than that of this node: name its file in \
                 master_key_file, or set accounts.enabled = false"
            ),
            Some(true) | None => Ok(accounts),
        }
    }

    /// By what other nodes are told of changes.
    pub fn tell_by(&self, teller: Teller) {
        let _ = self.0.teller.set(teller);
    }

    pub fn config(&self) -> &config::Accounts {
        &self.0.config
    }

    /// Who may sign up.
    pub fn sign_up(&self) -> SignUp {
        self.0.open
    }

    /// Whether the master key opens what the check record holds; `None`: there is none.
    async fn is_right_key(&self) -> Result<Option<bool>, Refused> {
        let check = kept::read::<Sealed>(&*self.0.store, RecordKind::MasterKey, CHECK).await?;
        Ok(check.map(|check| self.0.master.open_sealed(&check.value, FOR_CHECK, CHECK).is_ok()))
    }

    /// Sees to it that the master key is that of the store, before anything is sealed under it. The first account of a
    /// store decides.
    pub(super) async fn settle_key(&self) -> Result<(), Refused> {
        if self.0.is_checked.get().is_some() {
            return Ok(());
        }
        let sealed = self.0.master.current().seal(b"rookery", FOR_CHECK, CHECK);
        if self.is_right_key().await?.is_none() {
            kept::write(&*self.0.store, RecordKind::MasterKey, CHECK, None, &sealed, None).await?;
        }
        match self.is_right_key().await? {
            Some(true) => {
                let _ = self.0.is_checked.set(());
                Ok(())
            }
            Some(false) | None => {
                error!("accounts of this store are sealed under another master key than that of this node");
                Err(Refused::Sealed)
            }
        }
    }

    /// Seals the secret key of a new account.
    pub(super) fn seal(&self, keys: &Keys) -> Sealed {
        let secret = zeroize::Zeroizing::new(keys.secret());
        self.0.master.current().seal(&*secret, FOR_ACCOUNT, &keys.public_key().to_hex())
    }

    /// The keys of an account, to sign in its name.
    ///
    /// # Errors
    /// There is none, it is switched off, or its key can not be opened here.
    pub async fn keypair(&self, account: &PublicKey) -> Result<Keys, Refused> {
        let record = self.record(account).await?.ok_or(Refused::OwnKey)?;
        if record.disabled {
            return Err(Refused::Unknown);
        }
        let of = account.to_hex();
        let opened =
            self.0.master.open_sealed(&record.secret, FOR_ACCOUNT, &of).map_err(|why: NotOpened| {
                error!(account = of, %why, "the key of an account can not be opened");
                Refused::Sealed
            })?;
        let opened = zeroize::Zeroizing::new(opened);
        let secret = <[u8; 32]>::try_from(opened.as_slice()).ok().and_then(Keys::from_secret);
        secret.filter(|keys| keys.public_key() == *account).ok_or(Refused::Sealed)
    }

    pub(super) async fn record(&self, account: &PublicKey) -> Result<Option<AccountRecord>, Refused> {
        let record = kept::read(&*self.0.store, RecordKind::Account, &account.to_hex()).await?;
        Ok(record.map(|record| record.value))
    }

    /// An account by its key.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn get(&self, account: &PublicKey) -> Result<Option<Account>, Refused> {
        Ok(self.record(account).await?.map(|record| Account::new(*account, record)))
    }

    /// Whose name it is.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn named(&self, name: &str) -> Result<Option<Account>, Refused> {
        let Ok(name) = Name::parse(name) else { return Ok(None) };
        match self.name_record(&name).await? {
            Some(NameRecord { account, left: false }) => {
                // One whose account is of another name was taken and never used.
                Ok(self.get(&account).await?.filter(|account| account.name == name))
            }
            _ => Ok(None),
        }
    }

    pub(super) async fn name_record(&self, name: &Name) -> Result<Option<NameRecord>, Refused> {
        let record = kept::read(&*self.0.store, RecordKind::Name, name.as_str()).await?;
        Ok(record.map(|record| record.value))
    }

    /// Accounts in the order of their names, whose names begin so and come after that one, and after which to go on.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<(Vec<Account>, Option<String>), Refused> {
        let records = self.0.store.records();
        let page = records.list(RecordKind::Name, prefix, after, limit.clamp(1, MAX_PAGE)).await?;
        let mut accounts = Vec::with_capacity(page.records.len());
        for record in &page.records {
            let name: NameRecord = kept::value(RecordKind::Name, record)?;
            if !name.left
                && let Some(account) = self.get(&name.account).await?
            {
                accounts.push(account);
            }
        }
        Ok((accounts, page.next))
    }

    /// Changes the record of an account.
    pub(super) async fn change(
        &self,
        account: &PublicKey,
        change: impl FnMut(&mut AccountRecord) -> Result<(), Refused>,
    ) -> Result<Account, Refused> {
        let key = account.to_hex();
        let changed = kept::change(&*self.0.store, RecordKind::Account, &key, change).await;
        // Also where it is not known whether it was written: whoever looks again finds out.
        let version = changed.as_ref().ok().and_then(Option::as_ref).map_or(0, |kept| kept.version.number);
        self.tell(RecordKind::Account, key, version);
        let changed = changed?.ok_or(Refused::Unknown)?;
        Ok(Account::new(*account, changed.value))
    }

    /// What an account chooses for itself; what is left out stays.
    ///
    /// # Errors
    /// It is gone, or the store does not answer.
    pub async fn set(
        &self,
        account: &PublicKey,
        activity: Option<Activity>,
        listed: Option<bool>,
    ) -> Result<Account, Refused> {
        self.change(account, |record| {
            record.activity = activity.unwrap_or(record.activity);
            record.listed = listed.unwrap_or(record.listed);
            Ok(())
        })
        .await
    }

    /// Switches an account off, or on again. Off, it is signed out everywhere, and nobody signs in.
    ///
    /// # Errors
    /// There is none, or the store does not answer.
    pub async fn set_disabled(&self, name: &str, disabled: bool) -> Result<Account, Refused> {
        let account = self.named(name).await?.ok_or(Refused::Unknown)?;
        self.change(&account.key, |record| {
            if record.disabled != disabled {
                record.disabled = disabled;
                record.end_sessions(None);
            }
            Ok(())
        })
        .await
    }

    /// Removes an account for good: its key, its sessions, and what is kept of its lists. Its events stay. Nobody else is
    /// given its name for a while, as others would take them for it.
    ///
    /// # Errors
    /// There is none, or the store does not answer: then it may be half done, and doing it again does the rest.
    pub async fn remove(&self, name: &str) -> Result<(), Refused> {
        let store = &*self.0.store;
        let name = Name::parse(name).map_err(|_| Refused::Unknown)?;
        let found = kept::read::<NameRecord>(store, RecordKind::Name, name.as_str()).await?;
        let Some(kept) = found else { return Err(Refused::Unknown) };
        let account = kept.value.account;
        if !kept.value.left {
            let left = NameRecord { left: true, ..kept.value };
            let life = std::time::Duration::from_secs(self.0.config.name_days * DAY);
            let key = name.as_str();
            if kept::write(store, RecordKind::Name, key, Some(kept.version), &left, Some(life))
                .await?
                .is_none()
            {
                return Err(Refused::Contended);
            }
        }
        let of_account = [RecordKind::Follows, RecordKind::Profile, RecordKind::Mutes, RecordKind::ReadMark];
        for kind in of_account {
            kept::remove(store, kind, &account.to_hex()).await?;
        }
        kept::remove_all(store, RecordKind::FollowVersion, &format!("{account}/")).await?;
        // Its sessions end with it.
        let was_there = kept::remove(store, RecordKind::Account, &account.to_hex()).await?;
        self.tell(RecordKind::Account, account.to_hex(), 0);
        kept::remove_all(store, RecordKind::Session, &format!("{account}/")).await?;
        match was_there {
            true => Ok(()),
            false => Err(Refused::Unknown),
        }
    }

    /// Until when a session is good that begins or is used now.
    pub(super) fn expiry(&self, kind: super::ClientKind, now: Timestamp) -> Timestamp {
        now + match kind {
            super::ClientKind::Browser => self.0.config.session_days * DAY,
            super::ClientKind::Program => self.0.config.token_minutes * 60,
        }
    }

    /// A record has changed here: sockets of this node look again, and other nodes are told.
    pub(super) fn tell(&self, kind: RecordKind, key: String, version: u64) {
        self.changed(kind, &key);
        if let Some(teller) = self.0.teller.get() {
            teller(kind, key, version);
        }
    }

    /// A record may have changed: what is remembered of it is forgotten, and whoever depends on it looks again. What it
    /// says now is not told, as whoever tells is not believed.
    pub fn changed(&self, kind: RecordKind, key: &str) {
        if !matches!(kind, RecordKind::Account | RecordKind::Session) {
            return;
        }
        let Some(account) = key.split('/').next().and_then(PublicKey::from_hex) else { return };
        self.0.found.lock().pop(&account);
        if let Some(watched) = self.0.watched.lock().get(&account) {
            watched.send_replace(());
        }
    }

    /// Any record may have changed.
    pub fn changed_all(&self) {
        self.0.found.lock().clear();
        self.0.watched.lock().values().for_each(|watched| {
            watched.send_replace(());
        });
    }

    /// Takes an account away again that nobody can have found.
    pub(super) async fn take_back(&self, account: &PublicKey, race: &Race) {
        let Some(version) = race.won() else { return };
        let records = self.0.store.records();
        if let Race::Unknown(error) = records.remove(RecordKind::Account, &account.to_hex(), version).await {
            warn!("an account without a name is left behind: {}", error.detail());
        }
    }
}
