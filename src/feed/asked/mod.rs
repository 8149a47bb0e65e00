//! What accounts ask: everything that they say and see, by the account alone.

mod friends;
mod people;
mod seen;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::sync::mpsc;
use tracing::warn;

pub use self::{friends::Friend, seen::Counted};
use super::{
    activity::{Activity, Deed},
    door::{Door, Ways},
    error::FeedError,
    follows::{self, Bounds, Follows},
    people::introduce,
    posts::{NewPost, Posted, Posts, own},
    reading::{Place, Reader, Span, by, nobody},
    replaceable::Changes,
    warming::Warming,
};
use crate::{
    account::{self, Account, Accounts},
    clock,
    config::Live,
    ingest::Admission,
    persist,
    protocol::{Audience, Event, EventId, Filter, PublicKey, Tags, kind, nip19, sign::Keys},
    store::{Store, Viewer, circle::FollowLists},
    telemetry::Metrics,
    trace::Tracer,
};

/// What a feed is made of.
pub struct Parts {
    pub accounts: Accounts,
    pub store: Arc<dyn Store>,
    pub events: Arc<persist::Queue>,
    pub admission: Arc<Admission>,
    pub live: Arc<Live>,
    pub metrics: Arc<Metrics>,
    pub tracer: Tracer,
    /// How long the persister may take for an answer.
    pub deadline: Duration,
    /// The URL of the relay, which the relay list of a new account names.
    pub url: Option<String>,
    pub bounds: Bounds,
    /// `None`: no home feeds are kept in memory here.
    pub warming: Option<Warming>,
}

/// What accounts say and see. Cheap to clone.
#[derive(Clone)]
pub struct Feed(Arc<Inner>);

struct Inner {
    accounts: Accounts,
    store: Arc<dyn Store>,
    live: Arc<Live>,
    door: Arc<Door>,
    reader: Reader,
    changes: Changes,
    follows: Arc<Follows>,
    posts: Posts,
    activity: Activity,
    url: Option<String>,
    warming: Option<Warming>,
}

impl Feed {
    /// `told`: follow lists that are stored here.
    pub fn start(parts: Parts, told: mpsc::Receiver<Arc<Event>>) -> Self {
        let Parts {
            accounts,
            store,
            events,
            admission,
            live,
            metrics,
            tracer,
            deadline,
            url,
            bounds,
            warming,
        } = parts;
        let ways = Ways { events, admission, live: Arc::clone(&live), metrics, tracer, deadline };
        let door = Arc::new(Door::new(ways));
        let reader = Reader::new(Arc::clone(&store));
        let changes = Changes::new(Arc::clone(&door), Arc::clone(&store), bounds.changes_per_minute);
        let follows = Arc::new(Follows::new(changes.clone(), Arc::clone(&store), bounds));
        let known = accounts.clone();
        let known: follows::Known = Arc::new(move |key| {
            let accounts = known.clone();
            Box::pin(async move { Ok(accounts.get(&key).await?.is_some()) })
        });
        actix::spawn(Arc::clone(&follows).keep_all(told, known));
        Self(Arc::new(Inner {
            posts: Posts::new(Arc::clone(&door), reader.clone()),
            activity: Activity::new(Arc::clone(&door), reader.clone()),
            accounts,
            store,
            live,
            door,
            reader,
            changes,
            follows,
            url,
            warming,
        }))
    }

    /// Whether an account may ask for something now, at the rate of any client.
    ///
    /// # Errors
    /// It is too fast.
    pub fn knock(&self, account: PublicKey) -> Result<(), FeedError> {
        self.0.door.knock(account)
    }

    /// The keys of an account that wants something written.
    async fn writes(&self, account: PublicKey) -> Result<Keys, FeedError> {
        Ok(self.0.accounts.keypair(&account).await?)
    }

    /// Who somebody is: a public key, or the name of an account here, with the name of the relay or without.
    ///
    /// # Errors
    /// Nobody is called so.
    pub async fn person(&self, text: &str) -> Result<PublicKey, FeedError> {
        if let Ok(key) = nip19::read_public_key(text) {
            return Ok(key);
        }
        let name = text.split('@').next().unwrap_or_default();
        let account = self.0.accounts.named(name).await?;
        account.map(|account| account.key).ok_or(FeedError::NotFound("nobody is called so here"))
    }

    /// The eyes of an account.
    async fn viewer(&self, account: PublicKey) -> Result<Viewer, FeedError> {
        let Inner { store, accounts, live, .. } = &*self.0;
        let most = live.load().limits.max_tags;
        let circle = FollowLists { store: &**store, reciprocity: accounts }.circle(&[account], most).await?;
        Ok(Viewer::Client { keys: [account].into(), circle: Some(Arc::new(circle)) })
    }

    /// What a new account says first. That it is not said is no reason for there being no account.
    pub async fn introduce(&self, account: PublicKey, name: &str) {
        let introduced = async {
            let keys = self.0.accounts.keypair(&account).await?;
            introduce(&self.0.door, &keys, name, self.0.url.as_deref()).await
        };
        if let Err(error) = introduced.await {
            warn!(%account, "a new account could not say what it is called: {error}");
        }
    }

    /// Says it where it was not said: whoever made the account may have ended before. Not where it was taken back.
    pub async fn introduce_if_new(&self, account: PublicKey, name: &str) {
        let said = by([account], &[kind::PROFILE, kind::DELETION]);
        if let Ok(None) = self.0.reader.newest(said, &nobody()).await {
            self.introduce(account, name).await;
        }
    }

    /// Tells what an account has done, if it wants that told. That it is not told keeps nobody from doing it.
    pub async fn tell(&self, account: PublicKey, deed: Deed) {
        if let Err(error) = self.try_to_tell(account, &deed).await {
            warn!(%account, "what an account has done is not told: {error}");
        }
    }

    async fn try_to_tell(&self, account: PublicKey, deed: &Deed) -> Result<(), FeedError> {
        let Some(kept) = self.0.accounts.get(&account).await? else { return Ok(()) };
        let keys = self.0.accounts.keypair(&account).await?;
        let Some(audience) = told(&kept) else {
            // Whoever was to take it back when that was chosen may have ended before.
            return self.0.activity.take_back(&keys).await;
        };
        self.0.activity.tell(&keys, audience, deed).await?;
        // It may have chosen otherwise meanwhile, and what stood then was taken back before this came.
        if self.0.accounts.get(&account).await?.as_ref().and_then(told).is_none() {
            self.0.activity.take_back(&keys).await?;
        }
        Ok(())
    }

    /// Takes back what is told of an account that wants nothing told any more.
    ///
    /// # Errors
    /// Something of it may still stand.
    pub async fn hush(&self, account: PublicKey) -> Result<(), FeedError> {
        let keys = self.0.accounts.keypair(&account).await?;
        self.0.activity.take_back(&keys).await
    }

    /// Says something.
    ///
    /// # Errors
    /// It is not said, or not known to be.
    pub async fn post(&self, account: PublicKey, post: NewPost) -> Result<Posted, FeedError> {
        let begun = Instant::now();
        self.0.posts.publish(&self.writes(account).await?, post, begun).await
    }

    /// Takes something back that was said.
    ///
    /// # Errors
    /// It is not there, or not the account's; or it is not known to be gone.
    pub async fn delete(&self, account: PublicKey, id: EventId) -> Result<(), FeedError> {
        self.0.posts.delete(&self.writes(account).await?, id).await
    }

    /// A page of everything that an account has said, newest first; `before`: where the page before it ended.
    ///
    /// # Errors
    /// The store fails.
    pub async fn said_by(&self, account: PublicKey, before: Option<Place>) -> Result<Vec<Event>, FeedError> {
        const PAGE: usize = 500;
        let said = Filter { authors: Some([account].into()), ..Filter::default() };
        let span = Span { before, ..Span::default() };
        Ok(self.0.reader.read([said], &own(account), span, PAGE).await?)
    }

    /// Asks all relays to remove everything that an account has said (NIP-62). This one has done so when it is answered.
    ///
    /// # Errors
    /// It is not known to be stored.
    pub async fn vanish(&self, account: PublicKey) -> Result<(), FeedError> {
        let keys = self.writes(account).await?;
        let own = own(account);
        let mut at = clock::now();
        // It takes away what is as old as it, and some is dated a little ahead.
        for newest in [
            Filter { authors: Some([account].into()), ..Filter::default() },
            by([account], &[kind::ACTIVITY]),
        ] {
            at = at.max(self.0.reader.newest(newest, &own).await?.map_or(0, |event| event.created_at()));
        }
        let tags = Tags::from_iter([["relay", "ALL_RELAYS"]]);
        self.0.door.admit_in_order(keys.sign(at, kind::VANISH, tags, ""))?.enter().await?;
        Ok(())
    }
}

/// Who is told what an account does.
fn told(account: &Account) -> Option<Audience> {
    match account.activity {
        account::Activity::Nobody => None,
        account::Activity::Friends => Some(Audience::Friends),
        account::Activity::Followers => Some(Audience::Followers),
    }
}
