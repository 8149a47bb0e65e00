//! What somebody sees: posts, reposts and activity of those whom they follow, and their own, newest first. Whom they have
//! muted is left out here, and nowhere else.

use super::{
    error::FeedError,
    mutes::Muted,
    reading::{Place, Reader, Span, by, tagged},
};
use crate::{
    protocol::{Event, EventId, Filter, PublicKey, filter::sorted, kind},
    store::{StoreError, Viewer},
};

/// Events that are read at once where some are left out.
const AT_ONCE: usize = 100;

/// Who looks: what they may see, and whom they do not want to hear of.
#[derive(Debug, Clone)]
pub struct Eyes {
    pub viewer: Viewer,
    pub muted: Muted,
}

impl Eyes {
    /// The newest events that match and are not hidden, at most so many.
    async fn read(
        &self,
        reader: &Reader,
        filter: Filter,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let authors = filter
            .authors
            .map(|authors| authors.iter().copied().filter(|key| !self.muted.has(*key)).collect());
        let filter = Filter { authors, ..filter };
        let at_once = if self.muted.is_empty() { limit } else { limit.max(AT_ONCE) };
        let wants = |event: &Event| !self.muted.hides(event);
        read_wanted(reader, filter, &self.viewer, span, limit, at_once, wants).await
    }
}

/// The newest events that match and are wanted, at most so many. They are read by so many at once.
async fn read_wanted(
    reader: &Reader,
    filter: Filter,
    viewer: &Viewer,
    mut span: Span,
    limit: usize,
    at_once: usize,
    wants: impl Fn(&Event) -> bool,
) -> Result<Vec<Event>, StoreError> {
    let mut events = Vec::new();
    loop {
        let read = reader.read([filter.clone()], viewer, span, at_once).await?;
        let is_end = read.len() < at_once;
        span.before = read.last().map(Place::of).or(span.before);
        events.extend(read.into_iter().filter(&wants));
        if is_end || events.len() >= limit {
            events.truncate(limit);
            return Ok(events);
        }
    }
}

/// A page of events.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub events: Vec<Event>,
    /// After which the next page begins; `None`: there is none.
    pub next: Option<Place>,
}

impl Page {
    /// A page of what was read, of which one more than it holds was asked for.
    fn of(mut events: Vec<Event>, limit: usize) -> Self {
        let is_more = events.len() > limit;
        events.truncate(limit);
        let next = events.last().filter(|_| is_more).map(Place::of);
        Self { events, next }
    }
}

/// What an account's feed is made of: it knows itself what it has done.
#[derive(Debug, Clone)]
pub struct Authors {
    pub account: PublicKey,
    pub followed: Vec<PublicKey>,
}

impl Authors {
    /// Those whose posts are in it.
    pub fn posting(&self) -> impl Iterator<Item = PublicKey> {
        self.followed.iter().copied().chain([self.account])
    }

    fn filters(&self) -> [Filter; 2] {
        // Two questions: that for posts alone can be answered from memory.
        [
            by(self.posting(), &[kind::NOTE, kind::REPOST]),
            by(self.followed.iter().copied(), &[kind::ACTIVITY]),
        ]
    }
}

/// A feed of these authors, with the eyes of whoever asks.
///
/// # Errors
/// The store fails.
pub async fn feed(
    reader: &Reader,
    authors: &Authors,
    eyes: &Eyes,
    span: Span,
    limit: usize,
) -> Result<Page, FeedError> {
    let mut events = Vec::new();
    for filter in authors.filters() {
        events.extend(eyes.read(reader, filter, span, limit + 1).await?);
    }
    events.sort_unstable_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    Ok(Page::of(events, limit))
}

/// How many there are of these authors in a span, at most so many.
///
/// # Errors
/// The store fails.
pub async fn count(
    reader: &Reader,
    authors: &Authors,
    eyes: &Eyes,
    span: Span,
    most: usize,
) -> Result<usize, FeedError> {
    if eyes.muted.is_empty() {
        return Ok(reader.places(authors.filters(), &eyes.viewer, span, most).await?.len());
    }
    // Whom a repost is of is told by its tags alone.
    let mut count = 0;
    for filter in authors.filters() {
        count += eyes.read(reader, filter, span, most).await?.len();
    }
    Ok(count.min(most))
}

/// What somebody has said.
///
/// # Errors
/// The store fails.
pub async fn posts_of(
    reader: &Reader,
    author: PublicKey,
    viewer: &Viewer,
    span: Span,
    limit: usize,
) -> Result<Page, FeedError> {
    let posts = by([author], &[kind::NOTE, kind::REPOST]);
    Ok(Page::of(reader.read([posts], viewer, span, limit + 1).await?, limit))
}

/// A post, what it answers and what answers it: newest first. Only notes are in it: what a tag names may be anything. The
/// post itself is there whoever wrote it, as it was asked for.
///
/// # Errors
/// There is no such post for whoever asks, or the store fails.
pub async fn thread(
    reader: &Reader,
    id: EventId,
    eyes: &Eyes,
    limit: usize,
) -> Result<Vec<Event>, FeedError> {
    /// Events that a post may say that it answers.
    const ABOVE: usize = 50;
    let notes = || Some([kind::NOTE].into());
    let of_ids = |ids: Vec<EventId>| Filter { ids: Some(sorted(ids)), kinds: notes(), ..Filter::default() };
    let post = reader.newest(of_ids(vec![id]), &eyes.viewer).await?;
    let post = post.ok_or(FeedError::NotFound("there is no such post"))?;
    let above: Vec<EventId> = post.tags().values("e").filter_map(EventId::from_hex).take(ABOVE).collect();
    // By its mark, or by its place where none has any (NIP-10).
    let marked = |mark: &str| {
        let tag = post.tags().iter().find(|tag| tag.name() == "e" && tag.iter().nth(3) == Some(mark));
        tag.and_then(|tag| EventId::from_hex(tag.value()?))
    };
    let is_marked = ["root", "reply", "mention"].iter().any(|mark| marked(mark).is_some());
    let first = above.first().copied().filter(|_| !is_marked);
    let root = marked("root").or(first).unwrap_or(id);
    let below = tagged(b'e', [id, root].map(EventId::to_hex), &[kind::NOTE]);
    let mut events = vec![post];
    events.extend(eyes.read(reader, of_ids(above), Span::default(), ABOVE).await?);
    events.extend(eyes.read(reader, below, Span::default(), limit).await?);
    events.sort_unstable_by_key(|event| (std::cmp::Reverse(event.created_at()), event.id()));
    events.dedup_by_key(|event| event.id());
    Ok(events)
}

/// What concerns somebody: who answered, quoted, reposted or reacted to them, or follows them. Their own is not in it.
///
/// # Errors
/// The store fails.
pub async fn notices(
    reader: &Reader,
    account: PublicKey,
    eyes: &Eyes,
    span: Span,
    limit: usize,
) -> Result<Page, FeedError> {
    let kinds = [kind::NOTE, kind::REPOST, kind::REACTION, kind::FOLLOW_LIST];
    let named = tagged(b'p', [account.to_hex()], &kinds);
    let wants = |event: &Event| event.pubkey() != account && !eyes.muted.hides(event);
    let events = read_wanted(reader, named, &eyes.viewer, span, limit + 1, AT_ONCE, wants).await?;
    Ok(Page::of(events, limit))
}
