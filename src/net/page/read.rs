//! What the page asks of the store: what a stranger may read, newest first, a bounded number of questions a second and
//! address.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    num::NonZeroUsize,
    sync::Arc,
    time::{Duration, Instant},
};

use lru::LruCache;
use parking_lot::Mutex;
use serde::Serialize;
use serde_json::value::RawValue;
use tokio::time::timeout;

use super::words::About;
use crate::{
    config::network,
    feed::{self, Span, by, nobody, tagged},
    protocol::{Event, EventId, Filter, PublicKey, filter::sorted, kind},
    store::Store,
    token_bucket::TokenBucket,
};

/// Posts of the first answer.
pub const FIRST: usize = 20;
/// Whom somebody follows, of whom the first answer asks.
const AUTHORS: usize = 1_000;
/// Replies below a post.
const REPLIES: usize = 100;
/// How long the first answer waits for the store. After that it says so, and the browser asks again.
const PATIENCE: Duration = Duration::from_secs(3);

/// Questions a second and address.
const PER_SECOND: u32 = 20;
/// Addresses of which that is known.
const ADDRESSES: usize = 10_000;

/// Why there is no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unread {
    /// The address asks too much.
    TooMuch,
    /// The store does not answer.
    Store,
}

/// Posts, and who wrote them.
#[derive(Debug, Default)]
pub struct Posts {
    pub events: Vec<Event>,
    pub people: People,
}

/// A post, with what it answers and what answers it.
pub struct Thread {
    pub above: Vec<Event>,
    pub post: Event,
    /// Each after what it answers, oldest first, and how deep it stands: 1 is an answer to the post.
    pub below: Vec<(Event, usize)>,
    pub people: People,
}

/// Puts answers to a post below what they answer. What answers something that is not here stands at the post itself.
fn nested(post: EventId, mut answers: Vec<Event>) -> Vec<(Event, usize)> {
    answers.sort_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    let here: BTreeSet<EventId> = answers.iter().map(Event::id).collect();
    let mut below: BTreeMap<EventId, Vec<Event>> = BTreeMap::new();
    for event in answers {
        let parent = super::words::answers(&event).map(|(id, _)| id).filter(|id| here.contains(id));
        below.entry(parent.unwrap_or(post)).or_default().push(event);
    }
    let (mut placed, mut next) = (Vec::new(), Vec::new());
    let mut open = |id: EventId, depth: usize, next: &mut Vec<(Event, usize)>| {
        next.extend(below.remove(&id).into_iter().flatten().map(|event| (event, depth)));
    };
    open(post, 1, &mut next);
    while let Some((event, depth)) = next.pop() {
        open(event.id(), depth + 1, &mut next);
        placed.push((event, depth));
    }
    placed
}

/// What is known of people.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub struct People(BTreeMap<String, Person>);

#[derive(Debug, Default, Clone, Serialize)]
pub struct Person {
    pub name: Option<String>,
    pub about: Option<String>,
}

impl People {
    pub fn name(&self, key: &PublicKey) -> String {
        let known = self.0.get(&key.to_hex()).and_then(|person| person.name.clone());
        known.unwrap_or_else(|| super::words::short(key))
    }

    pub fn get(&self, key: &PublicKey) -> Option<&Person> {
        self.0.get(&key.to_hex())
    }
}

/// Who is named in lists of a kind.
fn in_lists(lists: &[Event], kind: u16) -> impl Iterator<Item = PublicKey> {
    let lists = lists.iter().filter(move |list| list.kind() == kind);
    lists.flat_map(|list| list.tags().values("p")).filter_map(PublicKey::from_hex)
}

/// Whom somebody has muted, beside themselves.
fn muted(lists: &[Event], me: PublicKey) -> BTreeSet<PublicKey> {
    in_lists(lists, kind::MUTE_LIST).filter(|key| *key != me).collect()
}

/// Whose names a post shows: its author's, and theirs whom it names.
fn named(event: &Event) -> impl Iterator<Item = PublicKey> {
    /// Further ones are asked for by the script.
    const MOST: usize = 8;
    let others = event.tags().values("p").take(MOST).filter_map(PublicKey::from_hex);
    others.chain(super::words::answers(event).and_then(|(_, whom)| whom)).chain([event.pubkey()])
}

/// An event in the words in which it is sent.
pub fn raw(event: &Event) -> Option<Box<RawValue>> {
    RawValue::from_string(event.json().to_owned()).ok()
}

pub struct Reader {
    feed: feed::Reader,
    addresses: Mutex<LruCache<IpAddr, TokenBucket>>,
}

/// One request's questions.
pub struct Asking<'a> {
    reader: &'a Reader,
    address: IpAddr,
    until: Instant,
}

impl Reader {
    pub fn new(store: Arc<dyn Store>) -> Self {
        let most = NonZeroUsize::new(ADDRESSES).unwrap_or(NonZeroUsize::MIN);
        Self { feed: feed::Reader::new(store), addresses: Mutex::new(LruCache::new(most)) }
    }

    pub fn asking(&self, address: IpAddr) -> Asking<'_> {
        Asking { reader: self, address, until: Instant::now() + PATIENCE }
    }

    fn allows(&self, address: IpAddr) -> bool {
        let now = Instant::now();
        // Who sits at the machine may do as they like.
        address.to_canonical().is_loopback()
            || self
                .addresses
                .lock()
                .get_or_insert_mut(network(address), || TokenBucket::full(PER_SECOND, now))
                .take(PER_SECOND, PER_SECOND, now)
    }
}

impl Asking<'_> {
    /// The newest posts that strangers see.
    pub async fn newest(&self, filter: Filter) -> Result<Posts, Unread> {
        let mut events = self.events(filter, 2 * FIRST).await?;
        // A stranger's front page shows nothing that its author warns of.
        events.retain(|event| super::words::warning(event).is_none());
        events.truncate(FIRST);
        self.posts_with(events, []).await
    }

    /// The newest posts and reposts of somebody and of whom they follow. Activity is for their sockets.
    pub async fn home(&self, me: PublicKey) -> Result<Posts, Unread> {
        let lists = self.events(by([me], &[kind::FOLLOW_LIST, kind::MUTE_LIST]), 2).await?;
        let muted = muted(&lists, me);
        let follows = in_lists(&lists, kind::FOLLOW_LIST).filter(|key| !muted.contains(key));
        let posts = by(follows.take(AUTHORS).chain([me]), &[kind::NOTE, kind::REPOST]);
        let mut events = self.events(posts, FIRST).await?;
        let is_heard = |post: Event| !muted.contains(&post.pubkey());
        events.retain(|event| {
            event.kind() != kind::REPOST || super::words::reposted(event).is_some_and(is_heard)
        });
        let reposted: Vec<PublicKey> =
            events.iter().filter_map(super::words::reposted).map(|post| post.pubkey()).collect();
        self.posts_with(events, reposted).await
    }

    /// What somebody posted; `None`: nobody is known by this key.
    pub async fn posts_of(&self, key: PublicKey) -> Result<Option<Posts>, Unread> {
        let posts = self.posts_with(self.events(by([key], &[kind::NOTE]), FIRST).await?, [key]).await?;
        Ok((!posts.events.is_empty() || posts.people.get(&key).is_some()).then_some(posts))
    }

    /// A post and what belongs to it, as `me` wants to see it: without the answers of people whom they have muted.
    pub async fn thread(&self, id: EventId, me: Option<PublicKey>) -> Result<Option<Thread>, Unread> {
        let Some(post) = self.by_id(&[id]).await?.pop().filter(|post| post.kind() == kind::NOTE) else {
            return Ok(None);
        };
        let above: Vec<EventId> = post.tags().values("e").filter_map(EventId::from_hex).take(FIRST).collect();
        let mut above = if above.is_empty() { Vec::new() } else { self.by_id(&above).await? };
        above.retain(|event| event.kind() == kind::NOTE);
        above.sort_by_key(Event::created_at);
        let mut below = self.events(tagged(b'e', [id.to_hex()], &[kind::NOTE]), REPLIES).await?;
        let muted = match me {
            Some(me) => muted(&self.events(by([me], &[kind::MUTE_LIST]), 1).await?, me),
            None => BTreeSet::new(),
        };
        below.retain(|event| !above.contains(event) && !muted.contains(&event.pubkey()));
        let below = nested(id, below);
        let all = above.iter().chain([&post]).chain(below.iter().map(|(event, _)| event));
        let people = self.people(all.flat_map(named)).await?;
        Ok(Some(Thread { above, post, below, people }))
    }

    async fn by_id(&self, ids: &[EventId]) -> Result<Vec<Event>, Unread> {
        let filter = Filter { ids: Some(sorted(ids.to_vec())), ..Filter::default() };
        self.events(filter, ids.len()).await
    }

    async fn posts_with(
        &self,
        events: Vec<Event>,
        further: impl IntoIterator<Item = PublicKey>,
    ) -> Result<Posts, Unread> {
        let people = self.people(events.iter().flat_map(named).chain(further)).await?;
        Ok(Posts { events, people })
    }

    /// What people say of themselves.
    pub async fn people(&self, keys: impl IntoIterator<Item = PublicKey>) -> Result<People, Unread> {
        let keys: BTreeSet<PublicKey> = keys.into_iter().collect();
        if keys.is_empty() {
            return Ok(People::default());
        }
        let count = keys.len();
        let events = self.events(by(keys, &[kind::PROFILE]), count).await?;
        let person = |event: &Event| {
            let about = About::parse(&event.content());
            (event.pubkey().to_hex(), Person { name: about.name(), about: about.about() })
        };
        Ok(People(events.iter().map(person).collect()))
    }

    async fn events(&self, filter: Filter, most: usize) -> Result<Vec<Event>, Unread> {
        if !self.reader.allows(self.address) {
            return Err(Unread::TooMuch);
        }
        let viewer = nobody();
        let read = self.reader.feed.read([filter], &viewer, Span::default(), most);
        let left = self.until.saturating_duration_since(Instant::now());
        timeout(left, read).await.ok().and_then(Result::ok).ok_or(Unread::Store)
    }
}
