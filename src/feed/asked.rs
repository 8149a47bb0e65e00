//! What accounts ask: everything that they say and see, by the account alone.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::{StreamExt, future::try_join3, stream};
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tracing::warn;

use super::{
    activity::{Activity, Deed},
    door::{Door, Ways},
    error::FeedError,
    follows::{self, Bounds, Changed, Confirmed, Follows, Version, Wish},
    marks,
    mutes::{self, Muted},
    people::{self, Profile, Profiles},
    posts::{NewPost, Posted, Posts, own},
    profile::change_profile,
    reading::{Place, Reader, Span, by, nobody, tagged},
    replaceable::Changes,
    timeline::{self, Authors, Eyes, Page},
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

/// Somebody whom an account follows, or who follows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Friend {
    pub key: PublicKey,
    pub profile: Profile,
    pub follows_you: bool,
}

/// The number of a gap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counted {
    pub count: usize,
    /// Whether there are more.
    pub is_more: bool,
}

/// Most that are counted.
const MOST_COUNTED: usize = 500;
/// Most posts of a thread.
const MOST_IN_THREAD: usize = 500;

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
            people::introduce(&self.0.door, &keys, name, self.0.url.as_deref()).await
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

    /// Follows somebody.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn follow(
        &self,
        account: PublicKey,
        person: PublicKey,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        if person == account {
            return Err(FeedError::unfit("user", "nobody follows themselves"));
        }
        let keys = self.writes(account).await?;
        let changed = self.0.follows.change(&keys, Wish::Follow(person), confirm).await?;
        if changed.was_otherwise {
            let name = self.name(person).await;
            self.tell(account, Deed::Followed { person, name }).await;
        }
        Ok(changed)
    }

    /// Follows somebody no more.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn unfollow(
        &self,
        account: PublicKey,
        person: PublicKey,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        let keys = self.writes(account).await?;
        self.0.follows.change(&keys, Wish::Unfollow(person), confirm).await
    }

    /// What somebody is called in a line.
    async fn name(&self, person: PublicKey) -> String {
        match self.people(&[person]).await {
            Ok(mut profiles) => {
                let profile = profiles.remove(&person.to_hex()).unwrap_or_default();
                profile.username.or(profile.name)
            }
            Err(_) => None,
        }
        .unwrap_or_else(|| nip19::npub(&person).chars().take(12).collect())
    }

    /// Whom an account follows, and which list that is.
    ///
    /// # Errors
    /// The store fails.
    pub async fn friends(&self, account: PublicKey) -> Result<(Vec<Friend>, Option<EventId>), FeedError> {
        let list = self.0.follows.standing(account).await?;
        let friends = list.as_ref().map(|list| follows::people(list.tags())).unwrap_or_default();
        Ok((self.as_friends(account, friends).await?, list.map(|list| list.id())))
    }

    /// The follow list of an account that stands.
    ///
    /// # Errors
    /// The store fails.
    pub async fn standing(&self, account: PublicKey) -> Result<Option<EventId>, FeedError> {
        Ok(self.0.follows.standing(account).await?.map(|list| list.id()))
    }

    /// Whether an account follows somebody.
    ///
    /// # Errors
    /// The store fails.
    pub async fn is_followed(&self, account: PublicKey, person: PublicKey) -> Result<bool, FeedError> {
        let list = self.0.follows.standing(account).await?;
        Ok(list.is_some_and(|list| follows::people(list.tags()).contains(&person)))
    }

    /// People, and whether they follow an account.
    ///
    /// # Errors
    /// The store fails.
    pub async fn as_friends(
        &self,
        account: PublicKey,
        people: Vec<PublicKey>,
    ) -> Result<Vec<Friend>, FeedError> {
        let mut profiles = self.people(&people).await?;
        let back = by(people.iter().copied(), &[kind::FOLLOW_LIST]);
        let back = Filter { tags: tagged(b'p', [account.to_hex()], &[]).tags, ..back };
        let back = self.0.reader.read([back], &nobody(), Span::default(), people.len()).await?;
        let friend = |key: PublicKey| Friend {
            key,
            profile: profiles.remove(&key.to_hex()).unwrap_or_default(),
            follows_you: back.iter().any(|list| list.pubkey() == key),
        };
        Ok(people.into_iter().map(friend).collect())
    }

    /// The lists that an account has had, the newest first.
    ///
    /// # Errors
    /// The store fails.
    pub async fn versions(&self, account: PublicKey) -> Result<Vec<Version>, FeedError> {
        self.0.follows.history(account).await
    }

    /// Takes a version of the list back.
    ///
    /// # Errors
    /// There is no such version; it is not done, or not known to be.
    pub async fn take_back(
        &self,
        account: PublicKey,
        version: EventId,
        confirm: Option<Confirmed>,
    ) -> Result<Changed, FeedError> {
        self.0.follows.take_back(&self.writes(account).await?, version, confirm).await
    }

    /// The feed of an account: what those say and do whom it follows, and itself.
    ///
    /// # Errors
    /// The store fails.
    pub async fn feed(&self, account: PublicKey, span: Span, limit: usize) -> Result<Page, FeedError> {
        let (authors, eyes) = self.looks(account).await?;
        timeline::feed(&self.0.reader, &authors, &eyes, span, limit).await
    }

    /// Somebody has signed in: the first page of their feed is read ahead, where that is of use, and nobody waits for it.
    pub fn warm(&self, account: PublicKey) {
        if let Some(warming) = &self.0.warming {
            let feed = self.clone();
            warming.begin(self.0.reader.clone(), async move { feed.looks(account).await });
        }
    }

    /// How much of that is in a span.
    ///
    /// # Errors
    /// The store fails.
    pub async fn count(&self, account: PublicKey, span: Span) -> Result<Counted, FeedError> {
        let (authors, eyes) = self.looks(account).await?;
        let count = timeline::count(&self.0.reader, &authors, &eyes, span, MOST_COUNTED + 1).await?;
        Ok(Counted { count: count.min(MOST_COUNTED), is_more: count > MOST_COUNTED })
    }

    /// Whose posts an account sees in its feed, and with which eyes.
    async fn looks(&self, account: PublicKey) -> Result<(Authors, Eyes), FeedError> {
        let (authors, viewer, muted) =
            try_join3(self.authors(account), self.viewer(account), self.muted(account)).await?;
        Ok((authors, Eyes { viewer, muted }))
    }

    async fn muted(&self, account: PublicKey) -> Result<Muted, FeedError> {
        Ok(mutes::of(&self.0.changes, account).await?.into_iter().collect())
    }

    /// What an account sees of everybody's, but for whom it has muted.
    async fn eyes(&self, account: PublicKey) -> Result<Eyes, FeedError> {
        Ok(Eyes { viewer: own(account), muted: self.muted(account).await? })
    }

    /// Whom an account has muted, and how they are shown.
    ///
    /// # Errors
    /// The store fails.
    pub async fn mutes(&self, account: PublicKey) -> Result<Vec<(PublicKey, Profile)>, FeedError> {
        self.shown(mutes::of(&self.0.changes, account).await?).await
    }

    /// People, and how they are shown.
    ///
    /// # Errors
    /// The store fails.
    pub async fn shown(&self, people: Vec<PublicKey>) -> Result<Vec<(PublicKey, Profile)>, FeedError> {
        let mut profiles = self.people(&people).await?;
        let shown = |key: PublicKey| (key, profiles.remove(&key.to_hex()).unwrap_or_default());
        Ok(people.into_iter().map(shown).collect())
    }

    /// Mutes somebody, or hears of them again.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn mute(&self, account: PublicKey, wish: mutes::Wish) -> Result<(), FeedError> {
        if wish == mutes::Wish::Mute(account) {
            return Err(FeedError::unfit("user", "nobody mutes themselves"));
        }
        mutes::change(&self.0.changes, &self.writes(account).await?, wish).await
    }

    async fn authors(&self, account: PublicKey) -> Result<Authors, FeedError> {
        let list = self.0.follows.standing(account).await?;
        let mut followed = list.map(|list| follows::people(list.tags())).unwrap_or_default();
        followed.retain(|person| *person != account);
        Ok(Authors { account, followed })
    }

    /// What somebody has said, as an account sees it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn posts_of(
        &self,
        account: PublicKey,
        author: PublicKey,
        span: Span,
        limit: usize,
    ) -> Result<Page, FeedError> {
        timeline::posts_of(&self.0.reader, author, &own(account), span, limit).await
    }

    /// A post, what it answers and what answers it, as an account sees it.
    ///
    /// # Errors
    /// There is no such post for it, or the store fails.
    pub async fn thread(&self, account: PublicKey, id: EventId) -> Result<Vec<Event>, FeedError> {
        timeline::thread(&self.0.reader, id, &self.eyes(account).await?, MOST_IN_THREAD).await
    }

    /// What concerns an account.
    ///
    /// # Errors
    /// The store fails.
    pub async fn notices(&self, account: PublicKey, span: Span, limit: usize) -> Result<Page, FeedError> {
        timeline::notices(&self.0.reader, account, &self.eyes(account).await?, span, limit).await
    }

    /// Up to where an account has read what concerns it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn read_mark(&self, account: PublicKey) -> Result<Option<Place>, FeedError> {
        marks::read_mark(self.0.reader.store(), account).await
    }

    /// An account has read everything that concerns it, up to there.
    ///
    /// # Errors
    /// The store fails.
    pub async fn have_read(&self, account: PublicKey, place: Place) -> Result<Place, FeedError> {
        marks::have_read(self.0.reader.store(), account, place).await
    }

    /// How people are shown, those with an account under its name.
    ///
    /// # Errors
    /// The store fails.
    pub async fn people(&self, people: &[PublicKey]) -> Result<Profiles, FeedError> {
        let mut profiles = people::profiles(&self.0.reader, people).await?;
        /// Records that are read at once: sign-ins read some in the same time.
        const AT_ONCE: usize = 16;
        let account = async |key: &PublicKey| (*key, self.0.accounts.get(key).await);
        let mut accounts = stream::iter(people).map(account).buffer_unordered(AT_ONCE);
        while let Some((key, account)) = accounts.next().await {
            if let Some(account) = account? {
                profiles.entry(key.to_hex()).or_default().username = Some(account.name.to_string());
            }
        }
        Ok(profiles)
    }

    /// How those are shown who are in events.
    ///
    /// # Errors
    /// The store fails.
    pub async fn people_in(&self, events: &[Event]) -> Result<Profiles, FeedError> {
        self.people(&people::of_events(events)).await
    }

    /// Accounts that want to be found and whose names begin so.
    ///
    /// # Errors
    /// The store fails.
    pub async fn find(&self, text: &str, limit: usize) -> Result<Vec<PublicKey>, FeedError> {
        /// Names that are looked at, listed or not.
        const MOST: usize = 500;
        const AT_ONCE: usize = 100;
        let text = text.trim();
        if let Ok(key) = nip19::read_public_key(text) {
            return Ok(vec![key]);
        }
        let prefix = text.split('@').next().unwrap_or_default().to_ascii_lowercase();
        let (mut found, mut after, mut looked) = (Vec::new(), None::<String>, 0);
        loop {
            let (accounts, next) = self.0.accounts.list(&prefix, after.as_deref(), AT_ONCE).await?;
            looked += AT_ONCE;
            let is_found = |account: &Account| account.listed && !account.disabled;
            found.extend(accounts.iter().filter(|account| is_found(account)).map(|account| account.key));
            if next.is_none() || looked >= MOST || found.len() >= limit {
                found.truncate(limit);
                return Ok(found);
            }
            after = next;
        }
    }

    /// What an account says of itself, whole.
    ///
    /// # Errors
    /// The store fails.
    pub async fn profile(&self, account: PublicKey) -> Result<Map<String, Value>, FeedError> {
        let said = self.0.reader.newest(by([account], &[kind::PROFILE]), &nobody()).await?;
        Ok(said.map(|event| people::whole(&event)).unwrap_or_default())
    }

    /// Changes what an account says of itself: what is `null` goes, what is not named stays.
    ///
    /// # Errors
    /// It is not done, or not known to be.
    pub async fn change_profile(
        &self,
        account: PublicKey,
        changes: &Map<String, Value>,
    ) -> Result<Map<String, Value>, FeedError> {
        change_profile(&self.0.changes, &self.writes(account).await?, changes).await
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
