//! Signing up.

use std::time::Instant;

use super::{
    AccountRecord, Accounts, Activity, Client, Given, Name, NameRecord, Refused,
    guesses::{Bucket, Guesses},
    kept,
    password::{Password, PasswordHash},
};
use crate::{
    clock,
    config::SignUp,
    protocol::{PublicKey, sign::Keys},
    store::records::{Race, RecordKind},
};

/// Names that are offered in place of one that is taken.
const OFFERED: usize = 3;

/// Somebody who wants an account.
#[derive(Debug, Clone)]
pub struct NewAccount {
    pub name: String,
    pub password: Password,
    pub activity: Activity,
    pub listed: bool,
    pub invitation: Option<String>,
}

impl Accounts {
    /// Makes an account, and signs it in.
    ///
    /// # Errors
    /// The name is taken, something does not fit, nobody may, or as all others.
    pub async fn make(&self, new: NewAccount, client: &Client) -> Result<Given, Refused> {
        let inner = &self.0;
        let invitation = match inner.open {
            SignUp::Closed => return Err(Refused::Closed),
            SignUp::Everybody => None,
            SignUp::Invitation | SignUp::Auto => Some(new.invitation.as_deref().ok_or(Refused::Invitation)?),
        };
        let name = Name::for_new(&new.name, &inner.relay).map_err(|why| Refused::unfit("username", why))?;
        new.password.check(&name, inner.config.weak).map_err(|why| Refused::unfit("password", why))?;
        // What was no sign-up is no guess, but a name that is taken: that tells who is here.
        let (guess, sign_up) =
            ([Guesses::address(client.address)], [Guesses::sign_ups(client.address), Bucket::AllSignUps]);
        inner.guesses.take(&guess, Instant::now())?;
        self.free(&name).await?;
        if let Some(code) = invitation {
            // Before a password is hashed for it: one that was made up is a guess.
            self.find_invitation(code).await?;
        }
        inner.guesses.give_back(&guess);
        inner.guesses.take(&sign_up, Instant::now())?;
        let made = self.make_free(name, &new, invitation, client).await;
        if made.is_err() {
            inner.guesses.give_back(&sign_up);
        }
        made
    }

    /// The same, for a name that was free a moment ago.
    async fn make_free(
        &self,
        name: Name,
        new: &NewAccount,
        invitation: Option<&str>,
        client: &Client,
    ) -> Result<Given, Refused> {
        let hash = self.0.hashing.hash(new.password.clone()).await?;
        self.settle_key().await?;
        let keys = Keys::generate();
        let account = keys.public_key();
        if let Some(code) = invitation {
            self.spend(code, account).await?;
        }
        let taken = self.take_name(&name, &keys, hash, new).await;
        if let (Some(code), Err(Refused::Taken { .. })) = (invitation, &taken) {
            self.unspend(code, account).await?;
        }
        taken?;
        self.begin_session(account, Some(name), 0, client).await
    }

    /// Writes the account, and then its name, which is what makes it one. Of several that take the same name one has it.
    /// Where the second write is not known to be made, the account stays: it may be somebody's.
    async fn take_name(
        &self,
        name: &Name,
        keys: &Keys,
        password: PasswordHash,
        new: &NewAccount,
    ) -> Result<(), Refused> {
        let (store, account) = (&*self.0.store, keys.public_key());
        let record = AccountRecord {
            name: name.clone(),
            secret: self.seal(keys),
            password,
            created: clock::now(),
            activity: new.activity,
            listed: new.listed,
            disabled: false,
            generation: 0,
            kept: None,
            reset: None,
            reset_at: None,
        };
        let value = serde_json::to_vec(&record).map_err(|error| Refused::Unavailable(error.to_string()))?;
        let race = store.records().put(RecordKind::Account, &account.to_hex(), None, value, None).await?;
        match &race {
            Race::Won(_) => {}
            Race::Overtaken(_) => return Err(Refused::Contended),
            Race::Unknown(error) => return Err(error.clone().into()),
        }
        let named = NameRecord { account, left: false };
        match kept::write(store, RecordKind::Name, name.as_str(), None, &named, None).await? {
            Some(_) => Ok(()),
            None => {
                self.take_back(&account, &race).await;
                Err(self.taken(name).await)
            }
        }
    }

    /// Whether a name is free.
    async fn free(&self, name: &Name) -> Result<(), Refused> {
        match self.name_record(name).await? {
            None => Ok(()),
            Some(_) => Err(self.taken(name).await),
        }
    }

    /// That a name is taken, and what is not.
    async fn taken(&self, name: &Name) -> Refused {
        let mut free = Vec::new();
        for alike in name.alike() {
            let may_be = Name::for_new(alike.as_str(), &self.0.relay).is_ok();
            if may_be && free.len() < OFFERED && matches!(self.name_record(&alike).await, Ok(None)) {
                free.push(alike);
            }
        }
        Refused::Taken { name: name.clone(), free }
    }

    /// The name of an account, if it has one here.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn name_of(&self, account: &PublicKey) -> Result<Option<Name>, Refused> {
        Ok(self.get(account).await?.map(|account| account.name))
    }
}
