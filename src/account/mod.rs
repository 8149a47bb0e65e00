//! Accounts: people whose keys this relay keeps, how they show who they are, and for how long that holds.
//!
//! No events and no HTTP: what an account publishes and how it is asked are others' matter. Everything that lasts is in
//! records, so any node of a store can be asked, and none knows what another has to know. How several writes stand to
//! each other, and what is left where a node dies between two of them: `docs/design/accounts.md`.

mod accounts;
mod code;
mod credentials;
mod guesses;
mod hashing;
mod invitation;
mod kept;
mod name;
mod own_key;
mod password;
mod refused;
mod session;
mod sessions;
mod sharing;
mod sign_in;
mod sign_up;
mod taken_along;
mod token;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

pub use self::{
    accounts::{Accounts, Parts, Teller},
    invitation::Invitation,
    name::{Name, NoName},
    own_key::{CHALLENGE_SECONDS, Challenge},
    password::{MAX_BYTES as MAX_PASSWORD_BYTES, Password},
    refused::Refused,
    session::{ClientKind, NotSignedIn, SessionKey, SessionView, SignedIn, whose_session},
    sessions::Watching,
    sign_in::{Client, Given},
    sign_up::NewAccount,
    token::Token,
};
use self::{password::PasswordHash, session::SessionRecord};
use crate::{
    protocol::{PublicKey, Timestamp},
    seal::Sealed,
};

/// Who sees what an account does.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Activity {
    #[default]
    Nobody,
    /// Whom it follows, and who follow it.
    Friends,
    /// Who follow it.
    Followers,
}

/// The record of an account. Its key is the account's public key.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct AccountRecord {
    name: Name,
    /// Its secret key.
    secret: Sealed,
    password: PasswordHash,
    created: Timestamp,
    activity: Activity,
    listed: bool,
    disabled: bool,
    /// Which sessions are good: those of this generation, and one more.
    generation: u32,
    /// The session that goes on though its generation has ended: its id.
    kept: Option<String>,
    /// A link by which the password may be set anew.
    reset: Option<ResetRecord>,
    /// When that was made last.
    reset_at: Option<Timestamp>,
}

#[derive(Debug, Clone, Serialize, Deserialize)]
struct ResetRecord {
    /// SHA-256 of its code.
    digest: String,
    until: Timestamp,
}

impl AccountRecord {
    /// Whether a session of the account is still good.
    fn has(&self, session: &SessionRecord, id: &str) -> bool {
        !self.disabled && (session.generation == self.generation || self.kept.as_deref() == Some(id))
    }

    /// Ends all sessions but one.
    fn end_sessions(&mut self, but: Option<String>) {
        self.generation = self.generation.wrapping_add(1);
        self.kept = but;
    }
}

/// The record of a name. Its key is the name.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct NameRecord {
    account: PublicKey,
    /// The account is gone: until the record expires, nobody else is called so.
    #[serde(default)]
    left: bool,
}

/// An account as others may know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub key: PublicKey,
    pub name: Name,
    pub created: Timestamp,
    pub activity: Activity,
    pub listed: bool,
    pub disabled: bool,
    pub reset_at: Option<Timestamp>,
}

impl Account {
    fn new(key: PublicKey, record: AccountRecord) -> Self {
        let AccountRecord { name, created, activity, listed, disabled, reset_at, .. } = record;
        Self { key, name, created, activity, listed, disabled, reset_at }
    }
}

#[cfg(test)]
mod tests {
    use std::{net::Ipv4Addr, sync::Arc};

    use super::*;
    use crate::{
        config::{self, SignUp},
        seal::{MasterKey, MasterKeys},
        store::memory::Memory,
        telemetry::Metrics,
    };

    /// The accounts of a store in memory.
    pub async fn accounts() -> Accounts {
        let config = config::Accounts { max_sessions: 2, ..config::Accounts::default() };
        let (store, master) = (Arc::new(Memory::new()), Arc::new(MasterKeys::from(MasterKey::from([1; 32]))));
        let metrics = Arc::new(Metrics::new("test"));
        let parts = Parts {
            store,
            master,
            config,
            open: SignUp::Everybody,
            url: None,
            relay: "Elmwood".to_owned(),
            metrics,
        };
        Accounts::open(parts).await.unwrap()
    }

    pub fn client() -> Client {
        let address = Ipv4Addr::LOCALHOST.into();
        Client { address, kind: ClientKind::Program, says: "test".to_owned(), mark: None }
    }

    pub fn new(name: &str) -> NewAccount {
        let password = Password::from("three rooks on a wire".to_owned());
        let (activity, listed) = (Activity::Nobody, false);
        NewAccount { name: name.to_owned(), password, activity, listed, invitation: None }
    }

    /// Nothing that is shown for people who debug, and nothing that is stored, has a secret in it.
    #[tokio::test]
    async fn records_tell_no_secret() {
        let accounts = accounts().await;
        let given = accounts.make(new("quill"), &client()).await.unwrap();
        let record = accounts.record(&given.account).await.unwrap().unwrap();
        let secret = accounts.keypair(&given.account).await.unwrap().secret();
        let stored = serde_json::to_string(&record).unwrap();
        let shown = format!("{record:?} {given:?} {:?}", new("quill"));
        for text in [&stored, &shown] {
            for hidden in [&hex::encode(secret), "three rooks", &given.token.text] {
                assert!(!text.contains(hidden), "{text}");
            }
        }
    }
}
