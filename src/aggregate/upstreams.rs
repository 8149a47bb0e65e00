//! What operators ask of upstreams, and what they are told.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use tokio::sync::Notify;
use utoipa::ToSchema;

use super::{
    cursor::{Cursor, Lease},
    dead::{Address, DeadLetter, DeadLetters, Replay},
    hours::{Hour, hours},
    manager::{All, Dialer, Observed},
    queue::Queue,
    registry::{Refused, Registry},
    status::{CatchUp, State},
    upstream::{RelayUrl, SealedKey, Upstream, UpstreamId, UpstreamLimits},
};
use crate::{
    client::{ClientError, Found},
    clock,
    protocol::{EventId, Filter, Timestamp, nip19, sign::Keys},
    seal::Keyring,
    telemetry::ConnectResult,
};

/// Filters of an upstream.
const MAX_FILTERS: usize = 20;
/// Upstreams that have records.
const MAX_UPSTREAMS: usize = 1_000;

/// A relay to be read.
#[derive(Debug, Clone, Default, Serialize, ToSchema)]
pub struct Addition {
    /// `ws://` or `wss://`, without a user or a password.
    #[schema(example = "wss://relay.example.com")]
    pub url: String,
    #[serde(flatten)]
    #[schema(inline)]
    pub change: Change,
}

/// What of an upstream becomes another; what is left out stays as it is.
#[derive(Debug, Clone, Default, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Change {
    /// Filters of NIP-01 without `limit`: what one of them matches is read. None: everything.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Vec<Object>>)]
    pub filters: Option<Vec<Filter>>,
    /// Seconds by which what was missed is read again before it; `null`: as the configuration says.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u64>)]
    pub overlap_seconds: Option<Option<u64>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<UpstreamLimits>,
    /// Secret key, nsec or 64 hexadecimal digits, of whoever this relay is there (NIP-42); `null`: nobody. It is sealed, and
    /// never told again.
    #[serde(deserialize_with = "given", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub auth: Option<Option<String>>,
    /// Whether it is not read for now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

impl<'de> Deserialize<'de> for Addition {
    /// The fields of both parts beside each other, and no others.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut fields = Map::deserialize(deserializer)?;
        let url = fields.remove("url").ok_or_else(|| de::Error::missing_field("url"))?;
        let url = String::deserialize(url).map_err(|error| de::Error::custom(format!("url: {error}")))?;
        let change = Change::deserialize(Value::Object(fields)).map_err(de::Error::custom)?;
        Ok(Self { url, change })
    }
}

/// Tells `null` from what is left out.
fn given<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// An upstream, and how it stands with it. Its state and counts are those at the node that was asked, since that began.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct View {
    /// Its number, as it stands in paths.
    #[schema(example = "0f6c1d2e3a4b5c6d")]
    pub id: String,
    pub url: String,
    /// Whether the configuration of the node names it: then it is changed there.
    pub configured: bool,
    /// Since when it has been an upstream, in seconds since 1970; 0: the configuration names it.
    pub added: Timestamp,
    #[schema(value_type = Vec<Object>)]
    pub filters: Vec<Filter>,
    pub overlap_seconds: Option<u64>,
    pub limits: UpstreamLimits,
    /// Public key of whoever this relay is there.
    pub auth: Option<String>,
    /// For how many people it is asked who are followed.
    pub people: usize,
    /// Whether it is read for nothing else: no operator has named it.
    pub for_people_alone: bool,
    /// Which node of all reads it, and how often that has changed; `null`: none has yet.
    pub lease: Option<Lease>,
    pub state: State,
    /// Since when it has been in that state, in seconds since 1970.
    pub since: Timestamp,
    /// Up to when everything of it is finished, in seconds since 1970; 0: nothing was read to its end yet.
    pub read_through: Timestamp,
    /// Seconds between that and now.
    pub behind_seconds: Option<u64>,
    pub last_error: Option<LastError>,
    pub last_catch_up: Option<CatchUp>,
    /// Sessions that have begun.
    pub sessions: u64,
    pub received: u64,
    pub bytes: u64,
    pub stored: u64,
    pub known: u64,
    pub refused: BTreeMap<String, u64>,
    pub dead: u64,
    /// received = stored + known + refused + dead + waiting.
    pub waiting: u64,
    /// Events a second, over the last minute.
    pub rate: f64,
    /// Bytes of an event.
    pub mean_bytes: Option<f64>,
    /// By a histogram: at most 5 % off.
    pub median_bytes: Option<f64>,
    /// Part of what was received that was here before, from 0 to 1.
    pub duplicates: Option<f64>,
}

/// Why an upstream was not read when that was so last.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct LastError {
    /// In seconds since 1970.
    pub at: Timestamp,
    pub text: String,
}

/// What waits for the store at the node that was asked.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct QueueView {
    /// How much of its room is taken, from 0 to 1.
    pub fill: f64,
    /// Events by upstream, where some wait.
    pub waiting: BTreeMap<String, u64>,
}

/// An event that the store has not taken, though it took others.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterView {
    /// Number of the upstream that has sent it.
    #[schema(example = "0f6c1d2e3a4b5c6d")]
    pub upstream: String,
    /// Its id.
    pub event: String,
    /// URL of the upstream, where it is one still.
    pub url: Option<String>,
    #[serde(flatten)]
    #[schema(inline)]
    pub letter: DeadLetter,
}

/// Some of them.
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct DeadLetterPage {
    pub letters: Vec<DeadLetterView>,
    /// What `after` is to be, for those that follow; `null`: there are no more.
    pub next: Option<String>,
}

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
        let mut cursors = Cursor::all_written(self.registry.records()).await?;
        for view in &mut views {
            view.note(cursors.remove(&view.id));
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
        let mut view = view(&upstream, observed.as_deref());
        view.note(Cursor::written(self.registry.records(), id).await?);
        Ok(view)
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

impl Change {
    fn apply(&self, upstream: &mut Upstream, auth: Option<&Option<SealedKey>>) -> Result<(), Refused> {
        if let Some(filters) = &self.filters {
            if filters.len() > MAX_FILTERS {
                return Err(Refused::Unfit(format!("an upstream has at most {MAX_FILTERS} filters")));
            }
            if filters.iter().any(|filter| filter.limit.is_some()) {
                let why = "a filter of an upstream has no limit: everything that it matches is read";
                return Err(Refused::Unfit(why.into()));
            }
            upstream.filters = filters.clone();
            // From now on an operator says what is read of it.
            upstream.followed.iter_mut().for_each(|followed| followed.alone = false);
        }
        if let Some(overlap) = self.overlap_seconds {
            upstream.overlap_seconds = overlap;
        }
        if let Some(auth) = auth {
            let public = |key: &Option<SealedKey>| key.as_ref().map(|key| key.public);
            // Sealed anew, the same key looks different.
            if public(auth) != public(&upstream.auth) {
                upstream.auth.clone_from(auth);
            }
        }
        upstream.limits = self.limits.unwrap_or(upstream.limits);
        upstream.paused = self.paused.unwrap_or(upstream.paused);
        Ok(())
    }

    /// Whether nothing would change.
    fn is_so(&self, upstream: &Upstream, auth: Option<&Option<SealedKey>>) -> Result<(), Refused> {
        let mut changed = upstream.clone();
        self.apply(&mut changed, auth)?;
        if changed == *upstream { Ok(()) } else { Err(Refused::Exists(upstream.id())) }
    }
}

impl View {
    /// What is written of it, whoever reads it.
    fn note(&mut self, cursor: Option<Cursor>) {
        let Some(Cursor { lease, progress, .. }) = cursor else { return };
        self.lease = Some(lease).filter(|lease| !lease.node.is_empty());
        self.read_through = progress.through;
        let is_read = progress.through > 0;
        self.behind_seconds = is_read.then(|| clock::now().saturating_sub(progress.through));
    }
}

/// How it stands with one, as far as this node knows by itself.
fn view(upstream: &Upstream, observed: Option<&Observed>) -> View {
    let counted = observed.map(|observed| observed.counts.at_this_moment()).unwrap_or_default();
    let standing = observed.map(|observed| observed.status.at_this_moment());
    let (state, since) = match (&standing, upstream.paused) {
        (_, true) => (State::Paused, 0),
        (Some(standing), false) => (standing.state, standing.since),
        // Its reader begins in a moment.
        (None, false) => (State::Connecting, clock::now()),
    };
    let share = |part: f64| (counted.received > 0).then(|| part / counted.received as f64);
    let sizes = observed.and_then(|observed| observed.counts.median_bytes());
    View {
        id: upstream.id().to_string(),
        url: upstream.url.to_string(),
        configured: observed.is_some_and(|observed| observed.is_configured),
        added: upstream.added,
        filters: upstream.filters.clone(),
        overlap_seconds: upstream.overlap_seconds,
        limits: upstream.limits,
        auth: upstream.auth.as_ref().map(|key| nip19::npub(&key.public)),
        people: upstream.followed.as_ref().map_or(0, |followed| followed.people.len()),
        for_people_alone: upstream.is_for_followed_alone(),
        lease: None,
        state,
        since,
        read_through: 0,
        behind_seconds: None,
        last_error: standing
            .as_ref()
            .and_then(|standing| standing.error.clone())
            .map(|(at, text)| LastError { at, text }),
        last_catch_up: standing.and_then(|standing| standing.caught_up),
        sessions: observed.map_or(0, |observed| observed.counts.connects.of(ConnectResult::Subscribed).get()),
        received: counted.received,
        bytes: counted.bytes,
        stored: counted.stored,
        known: counted.known,
        refused: counted
            .refused
            .iter()
            .filter(|(_, count)| *count > 0)
            .map(|(reason, count)| ((*reason).to_owned(), *count))
            .collect(),
        dead: counted.dead,
        waiting: counted.waiting,
        rate: observed.map_or(0.0, |observed| observed.counts.rate()),
        mean_bytes: share(counted.bytes as f64),
        median_bytes: sizes,
        duplicates: share(counted.known as f64),
    }
}
