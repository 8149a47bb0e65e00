//! What whoever knows the password of an account may do with it, and who has lost it.

use std::{net::IpAddr, time::Instant};

use super::{
    Account, AccountRecord, Accounts, Refused, ResetRecord, SignedIn,
    accounts::DAY,
    code::{digest, secret_code},
    guesses::Guesses,
    password::Password,
    taken_along,
};
use crate::clock;

impl Accounts {
    /// Whether somebody who is signed in knows the password, too: what the record of the account said then.
    ///
    /// # Errors
    /// It is another one; or as all others.
    async fn prove(&self, who: &SignedIn, password: Password) -> Result<AccountRecord, Refused> {
        let inner = &self.0;
        who.kept()?;
        if !password.is_short_enough() {
            return Err(Refused::AnotherPassword);
        }
        let guess = [inner.guesses.browser(who.account, &who.session.number)];
        inner.guesses.take(&guess, Instant::now())?;
        let record = self.record(&who.account).await?.ok_or(Refused::Unknown)?;
        if !inner.hashing.is_of(password, Some(record.password.clone())).await? {
            return Err(Refused::AnotherPassword);
        }
        inner.guesses.give_back(&guess);
        Ok(record)
    }

    /// The key of whoever knows the password, encrypted under another one: `ncryptsec1…` (NIP-49).
    ///
    /// # Errors
    /// The password is wrong, the other one does not fit, or as all others.
    pub async fn take_along(
        &self,
        who: &SignedIn,
        password: Password,
        under: Password,
    ) -> Result<String, Refused> {
        under.check_for_key().map_err(|why| Refused::unfit("keyPassword", why))?;
        self.prove(who, password).await?;
        let keys = self.keypair(&who.account).await?;
        let work = move || taken_along::encrypt(&keys.secret(), under.as_str());
        self.0.hashing.run(work).await?.ok_or(Refused::Busy)
    }

    /// Removes the account of whoever knows its password, for good. `before` is done in between: nothing is left then to do
    /// it with.
    ///
    /// # Errors
    /// The password is wrong; or as [`Self::remove`].
    pub async fn leave<E: From<Refused>>(
        &self,
        who: &SignedIn,
        password: Password,
        before: impl Future<Output = Result<(), E>>,
    ) -> Result<(), E> {
        self.prove(who, password).await?;
        before.await?;
        Ok(self.remove(who.kept()?.as_str()).await?)
    }

    /// Sets another password for whoever knows the old one. All other sessions end.
    ///
    /// # Errors
    /// The old one is wrong, the new one does not fit, or as all others.
    pub async fn change_password(&self, who: &SignedIn, old: Password, new: Password) -> Result<(), Refused> {
        let inner = &self.0;
        new.check(who.kept()?, inner.config.weak).map_err(|why| Refused::unfit("newPassword", why))?;
        let record = self.prove(who, old).await?;
        let hash = inner.hashing.hash(new).await?;
        self.change(&who.account, |now| {
            // What was right a moment ago may be another one's by now.
            if now.password != record.password {
                return Err(Refused::AnotherPassword);
            }
            now.password = hash.clone();
            now.reset = None;
            now.end_sessions(Some(who.session.id()));
            Ok(())
        })
        .await?;
        Ok(())
    }

    /// Makes a code by which the password of an account may be set anew, once, within a day. The last one is not good any
    /// more. It is told here and nowhere else.
    ///
    /// # Errors
    /// There is none, or the store does not answer.
    pub async fn reset_code(&self, name: &str) -> Result<String, Refused> {
        let account = self.named(name).await?.ok_or(Refused::Unknown)?;
        let (code, now) = (secret_code(), clock::now());
        self.change(&account.key, |record| {
            record.reset = Some(ResetRecord { digest: digest(&code), until: now + DAY });
            Ok(())
        })
        .await?;
        Ok(format!("{}~{code}", account.name))
    }

    /// Sets another password for whoever has such a code. All sessions end, and the key stays the same.
    ///
    /// # Errors
    /// The code is not good, the password does not fit, or as all others.
    pub async fn reset_password(
        &self,
        code: &str,
        password: Password,
        address: IpAddr,
    ) -> Result<Account, Refused> {
        let inner = &self.0;
        let guess = [Guesses::address(address)];
        inner.guesses.take(&guess, Instant::now())?;
        let (name, code) = code.split_once('~').ok_or(Refused::Reset)?;
        let account = self.named(name).await?.ok_or(Refused::Reset)?;
        let (digest, now) = (digest(code), clock::now());
        let is_good = |record: &AccountRecord| {
            record.reset.as_ref().is_some_and(|reset| reset.digest == digest && reset.until > now)
        };
        let record = self.record(&account.key).await?.ok_or(Refused::Reset)?;
        if !is_good(&record) {
            return Err(Refused::Reset);
        }
        inner.guesses.give_back(&guess);
        password.check(&account.name, inner.config.weak).map_err(|why| Refused::unfit("password", why))?;
        let hash = inner.hashing.hash(password).await?;
        self.change(&account.key, |record| {
            if !is_good(record) {
                return Err(Refused::Reset);
            }
            record.password = hash.clone();
            (record.reset, record.reset_at) = (None, Some(now));
            record.end_sessions(None);
            Ok(())
        })
        .await
    }
}
