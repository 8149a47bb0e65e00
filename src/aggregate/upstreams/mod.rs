//! What operators ask of upstreams, and what they are told.

mod change;
mod view;

use std::sync::Arc;

use tokio::sync::Notify;

pub use self::{
    change::{Addition, Change},
    view::{DeadLetterPage, DeadLetterView, LastError, QueueView, View},
};
use super::{
    cursor::Cursor,
    dead::{Address, DeadLetter, DeadLetters, Replay},
    hours::{Hour, hours},
    manager::{All, Dialer, Observed},
    queue::Queue,
    registry::{Refused, Registry},
    upstream::{RelayUrl, SealedKey, Upstream, UpstreamId},
};
use crate::{
    client::{ClientError, Found},
    clock,
    protocol::{EventId, nip19, sign::Keys},
    seal::Keyring,
};

/// Upstreams that have records.
const MAX_UPSTREAMS: usize = 1_000;

/// The upstreams of a node.
pub struct Upstreams {
    registry: Registry,
    all: Arc<All>,
    queue: Arc<dyn Queue>,
    changed: Arc<Notify>,
    keyring: Arc<Keyring>,
    /// Whether a key may be used where others on the way read what is said.
    may_be_heard: bool,
    graveyard: Graveyard,
}

/// Where dead letters are, and where one is asked for that was not kept whole.
pub struct Graveyard {
    pub dead: Arc<DeadLetters>,
    pub dialer: Arc<Dialer>,
}

impl Upstreams {
    pub fn new(
        registry: Registry,
        all: Arc<All>,
        queue: Arc<dyn Queue>,
        changed: Arc<Notify>,
        keyring: Arc<Keyring>,
        may_be_heard: bool,
        graveyard: Graveyard,
    ) -> Self {
        Self { registry, all, queue, changed, keyring, may_be_heard, graveyard }
    }

    /// All of them, by their URLs.
    ///
    /// # Errors
    /// The store fails.
    pub async fn list(&self) -> Result<Vec<View>, Refused> {
        let recorded = self.registry.all().await?;
        let mut cursors = Cursor::all_written(self.registry.records()).await?;
        let mut view = |upstream: &Upstream, observed: Option<&Observed>| {
            View::of(upstream, observed, cursors.remove(&upstream.id().to_string()))
        };
        let known = self.all.list();
        let configured = known.iter().filter(|observed| observed.is_configured);
        let mut views: Vec<View> =
            configured.map(|observed| view(&observed.upstream.read(), Some(observed))).collect();
        for upstream in &recorded {
            let observed = self.all.get(upstream.id());
            if !observed.as_ref().is_some_and(|observed| observed.is_configured) {
                views.push(view(upstream, observed.as_deref()));
            }
        }
        views.sort_by(|a, b| a.url.cmp(&b.url));
        Ok(views)
    }

    /// # Errors
    /// There is none of this number, or the store fails.
    pub async fn show(&self, id: UpstreamId) -> Result<View, Refused> {
        let observed = self.all.get(id);
        let configured = observed.as_deref().filter(|observed| observed.is_configured);
        let upstream = match configured.map(|observed| observed.upstream.read().clone()) {
            Some(upstream) => upstream,
            None => self.registry.get(id).await?.ok_or(Refused::Unknown)?,
        };
        let cursor = Cursor::written(self.registry.records(), id).await?;
        Ok(View::of(&upstream, observed.as_deref(), cursor))
    }

    /// What came of one in each hour of the last month in which something came.
    ///
    /// # Errors
    /// There is none of this number, or the store fails.
    pub async fn hours(&self, id: UpstreamId) -> Result<Vec<Hour>, Refused> {
        self.show(id).await?;
        Ok(hours(self.registry.store(), id).await?)
    }

    /// Adds a relay; whether it is new. One that is there already, as this says, stays.
    ///
    /// # Errors
    /// It can not be read, there are too many, it is there otherwise, or the store fails.
    pub async fn add(&self, addition: Addition) -> Result<(View, bool), Refused> {
        let url = RelayUrl::parse(&addition.url)?;
        let id = url.id();
        let mut upstream = Upstream { added: clock::now(), ..Upstream::new(url) };
        let auth = self.auth(&addition.change, &upstream.url)?;
        addition.change.apply(&mut upstream, auth.as_ref())?;
        let is_new = match self.all.get(id).filter(|observed| observed.is_configured) {
            Some(observed) => {
                let there = observed.upstream.read().clone();
                addition.change.is_so(&there, auth.as_ref())?;
                false
            }
            None => {
                if self.registry.all().await?.len() >= MAX_UPSTREAMS {
                    return Err(Refused::Unfit(format!("there are {MAX_UPSTREAMS} upstreams already")));
                }
                match self.registry.insert(&upstream).await? {
                    Ok(()) => true,
                    // It is read for people who are followed, and from now on as this says, too.
                    Err(there) if there.is_for_followed_alone() => {
                        let take_over = |upstream: &mut Upstream| {
                            upstream.filters.clear();
                            upstream.followed.iter_mut().for_each(|followed| followed.alone = false);
                            addition.change.apply(upstream, auth.as_ref())
                        };
                        self.registry.change(id, take_over).await?;
                        true
                    }
                    Err(there) => {
                        addition.change.is_so(&there, auth.as_ref())?;
                        false
                    }
                }
            }
        };
        self.changed.notify_one();
        Ok((self.show(id).await?, is_new))
    }

    /// Changes one.
    ///
    /// # Errors
    /// There is none of this number, the change does not fit, or the store fails.
    pub async fn change(&self, id: UpstreamId, change: &Change) -> Result<View, Refused> {
        self.refuse_configured(id)?;
        let there = self.registry.get(id).await?.ok_or(Refused::Unknown)?;
        let auth = self.auth(change, &there.url)?;
        self.registry.change(id, |upstream| change.apply(upstream, auth.as_ref())).await?;
        self.changed.notify_one();
        self.show(id).await
    }

    /// Removes one, and how far it was read; what is stored of it stays.
    ///
    /// # Errors
    /// There is none of this number, or the store fails.
    pub async fn remove(&self, id: UpstreamId) -> Result<(), Refused> {
        self.refuse_configured(id)?;
        if self.registry.get(id).await?.is_some_and(|upstream| upstream.is_for_followed_alone()) {
            return Err(Refused::ForFollowed);
        }
        self.registry.remove(id).await?;
        self.changed.notify_one();
        Ok(())
    }

    /// Compares one with what is stored here again, now: whoever reads it does. What is not connected to is compared as soon
    /// as it is.
    ///
    /// # Errors
    /// There is none of this number, it is paused, the configuration names it and this node does not read it, or the store
    /// fails.
    pub async fn reconcile(&self, id: UpstreamId) -> Result<View, Refused> {
        match self.all.get(id).filter(|observed| observed.is_configured) {
            Some(observed) if observed.status.is_up() => observed.compare.notify_one(),
            Some(_) => return Err(Refused::NotRead),
            None => {
                let ask = |upstream: &mut Upstream| match upstream.paused {
                    true => Err(Refused::Paused),
                    false => {
                        upstream.compare_asked = clock::now().max(upstream.compare_asked + 1);
                        Ok(())
                    }
                };
                self.registry.change(id, ask).await?;
                self.changed.notify_one();
            }
        }
        self.show(id).await
    }

    pub fn queue(&self) -> QueueView {
        let waiting = |observed: &Arc<Observed>| {
            let waiting = observed.counts.at_this_moment().waiting;
            (waiting > 0).then(|| (observed.upstream.read().url.to_string(), waiting))
        };
        QueueView { fill: self.queue.fill(), waiting: self.all.list().iter().filter_map(waiting).collect() }
    }

    /// Dead letters of an upstream, or of all: those after this one.
    ///
    /// # Errors
    /// The store fails.
    pub async fn dead_letters(
        &self,
        upstream: Option<UpstreamId>,
        after: Option<Address>,
        limit: usize,
    ) -> Result<DeadLetterPage, Refused> {
        let (letters, next) = self.graveyard.dead.list(upstream, after, limit).await?;
        let letters = letters.into_iter().map(|(at, letter)| self.letter(at, letter)).collect();
        Ok(DeadLetterPage { letters, next: next.map(|at| at.to_string()) })
    }

    /// # Errors
    /// There is none, or the store fails.
    pub async fn dead_letter(&self, at: Address) -> Result<DeadLetterView, Refused> {
        let letter = self.graveyard.dead.get(at).await?.ok_or(Refused::NoLetter)?;
        Ok(self.letter(at, letter))
    }

    fn letter(&self, at: Address, letter: DeadLetter) -> DeadLetterView {
        let url = self.all.get(at.upstream).map(|observed| observed.name.to_string());
        DeadLetterView { upstream: at.upstream.to_string(), event: at.event.to_hex(), url, letter }
    }

    /// Tries to store one again. It is a dead letter until that is done.
    ///
    /// # Errors
    /// There is none, it is not to be had any more, too much waits, or the store fails.
    pub async fn replay(&self, at: Address) -> Result<(), Refused> {
        let counts =
            self.all.get(at.upstream).map(|observed| Arc::clone(&observed.counts)).unwrap_or_default();
        let mut why = String::new();
        let fetch = async |id| match self.fetch(at.upstream, id).await {
            Ok(text) => text,
            Err(error) => {
                why = error;
                None
            }
        };
        match self.graveyard.dead.replay(&*self.queue, at, &counts, fetch).await? {
            Replay::Queued => Ok(()),
            Replay::Unknown => Err(Refused::NoLetter),
            Replay::NoText => Err(Refused::NotSent(why)),
            Replay::Full => Err(Refused::Full),
        }
    }

    /// Asks an upstream for an event: `None` where it has sent nothing.
    async fn fetch(&self, upstream: UpstreamId, id: EventId) -> Result<Option<Box<str>>, String> {
        let observed = self.all.get(upstream).ok_or("it is no upstream any more")?;
        let upstream = observed.upstream.read().clone();
        let endpoint =
            self.graveyard.dialer.endpoint(&upstream, Arc::new(())).map_err(|error| error.to_string())?;
        let mut text = None;
        let take = async |found| {
            if let Found::Event(event) = found {
                text = Some(event.json().into());
            }
            true
        };
        let fetched = async {
            let mut connection = endpoint.connect_identified().await?;
            connection.fetch(&[id], take).await?;
            connection.close().await;
            Ok::<_, ClientError>(())
        };
        fetched.await.map_err(|error| error.to_string())?;
        Ok(text)
    }

    /// Lets go of a dead letter. Its event is not asked for again.
    ///
    /// # Errors
    /// There is none, or the store fails.
    pub async fn drop_dead_letter(&self, at: Address) -> Result<(), Refused> {
        self.graveyard.dead.remove(at).await?.then_some(()).ok_or(Refused::NoLetter)
    }

    /// The key that a change brings, sealed.
    fn auth(&self, change: &Change, url: &RelayUrl) -> Result<Option<Option<SealedKey>>, Refused> {
        let secret = match &change.auth {
            None => return Ok(None),
            Some(None) => return Ok(Some(None)),
            Some(Some(secret)) => secret,
        };
        if !url.is_private() && !self.may_be_heard {
            return Err(Refused::Unfit("a key is used by TLS only: wss://".into()));
        }
        let keys = nip19::read_secret(secret).ok().and_then(Keys::from_secret);
        let keys = keys.ok_or_else(|| Refused::Unfit("auth: this is no secret key".into()))?;
        Ok(Some(Some(SealedKey::seal(&keys, url.id(), &self.keyring)?)))
    }

    fn refuse_configured(&self, id: UpstreamId) -> Result<(), Refused> {
        match self.all.get(id) {
            Some(observed) if observed.is_configured => Err(Refused::Configured),
            _ => Ok(()),
        }
    }
}
