//! What is read for an account, as a client reads it: the same questions to the same store, seen with the eyes of
//! whoever asks.

use std::{cmp::Reverse, fmt, sync::Arc};

use crate::{
    clock,
    protocol::{Event, EventId, Filter, ParsedEvent, PublicKey, TagFilter, Timestamp, filter::sorted},
    store::{Content, Cursor, Limit, Query, Store, StoreError, Viewer},
};

/// Where an event stands in the order of all answers: newest first, ties by lowest id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub at: Timestamp,
    pub id: EventId,
}

impl Place {
    pub fn of(event: &Event) -> Self {
        Self { at: event.created_at(), id: event.id() }
    }

    /// Reads `<seconds>:<id>`.
    pub fn parse(text: &str) -> Option<Self> {
        let (at, id) = text.split_once(':')?;
        let is_number = !at.is_empty() && at.bytes().all(|byte| byte.is_ascii_digit());
        Some(Self { at: at.parse().ok().filter(|_| is_number)?, id: EventId::from_hex(id)? })
    }

    /// Its rank in the order of answers: the lower one comes first.
    fn rank(self) -> (Reverse<Timestamp>, EventId) {
        (Reverse(self.at), self.id)
    }

    /// Whether the replaceable event of this place need not be looked for any more, where that is the newest one: it
    /// stands, or another one has taken its place.
    pub fn is_settled(self, newest: Option<&Event>) -> bool {
        newest.is_some_and(|newest| !self.is_before(Self::of(newest)))
    }

    /// Whether it is newer than another one, or as new and before it.
    pub fn is_before(self, other: Self) -> bool {
        self.rank() < other.rank()
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.at, self.id)
    }
}

/// What a page goes from and to, both left out.
#[derive(Debug, Clone, Copy, Default)]
pub struct Span {
    /// Those that come after it, so older ones.
    pub before: Option<Place>,
    /// Those that come before it, so newer ones.
    pub after: Option<Place>,
}

/// Reads a store.
#[derive(Clone)]
pub struct Reader {
    store: Arc<dyn Store>,
}

impl Reader {
    pub fn new(store: Arc<dyn Store>) -> Self {
        Self { store }
    }

    pub fn store(&self) -> &dyn Store {
        &*self.store
    }

    /// The newest events that match one of the filters, at most so many, and that stand in that span.
    ///
    /// # Errors
    /// The store fails.
    pub async fn read(
        &self,
        filters: impl IntoIterator<Item = Filter>,
        viewer: &Viewer,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Event>, StoreError> {
        let mut events = Vec::new();
        let push = |_, json: &str| {
            // The store has it, so it is one.
            if let Ok(parsed) = serde_json::from_str::<ParsedEvent<'_>>(json) {
                events.push(parsed.trust());
            }
        };
        self.walk(filters, viewer, span, limit, Content::Events, push).await?;
        Ok(events)
    }

    async fn walk(
        &self,
        filters: impl IntoIterator<Item = Filter>,
        viewer: &Viewer,
        span: Span,
        limit: usize,
        content: Content,
        mut take: impl FnMut(Place, &str),
    ) -> Result<(), StoreError> {
        let until = span.before.map(|place| place.at);
        let since = span.after.map(|place| place.at);
        // Of the second that the span begins at, some may be left out.
        let filters = filters.into_iter().map(|filter| {
            let until = [filter.until, until].into_iter().flatten().min();
            let since = [filter.since, since].into_iter().flatten().max();
            (Filter { until, since, ..filter }, Limit::exactly(limit))
        });
        let filters: Vec<(Filter, Limit)> = filters.filter(|(filter, _)| !filter.is_never()).collect();
        if filters.is_empty() || limit == 0 {
            return Ok(());
        }
        let query = Query { filters, viewer: viewer.clone(), now: clock::now(), content };
        let query = Arc::new(query);
        let mut cursor = Cursor::start(&query);
        cursor.after = span.before.map(|Place { at, id }| (at, id));
        let mut taken = 0;
        loop {
            let page = self.store.query(Arc::clone(&query), cursor).await?;
            for entry in page.iter() {
                let place = Place { at: entry.created_at, id: entry.id };
                if taken == limit || span.after.is_some_and(|after| !place.is_before(after)) {
                    return Ok(());
                }
                take(place, entry.json);
                taken += 1;
            }
            match page.next {
                Some(next) => cursor = next,
                None => return Ok(()),
            }
        }
    }

    /// Where those stand that match.
    ///
    /// # Errors
    /// The store fails.
    pub async fn places(
        &self,
        filters: impl IntoIterator<Item = Filter>,
        viewer: &Viewer,
        span: Span,
        limit: usize,
    ) -> Result<Vec<Place>, StoreError> {
        let mut places = Vec::new();
        // Not their keys alone: activity is in no set of keys.
        self.walk(filters, viewer, span, limit, Content::Authors, |place, _| places.push(place)).await?;
        Ok(places)
    }

    /// The newest event that matches.
    ///
    /// # Errors
    /// The store fails.
    pub async fn newest(&self, filter: Filter, viewer: &Viewer) -> Result<Option<Event>, StoreError> {
        Ok(self.read([filter], viewer, Span::default(), 1).await?.pop())
    }

    /// The event of that id, if the viewer may see it.
    ///
    /// # Errors
    /// The store fails.
    pub async fn event(&self, id: EventId, viewer: &Viewer) -> Result<Option<Event>, StoreError> {
        self.newest(Filter { ids: Some([id].into()), ..Filter::default() }, viewer).await
    }
}

/// Whoever asks about public things only.
pub fn nobody() -> Viewer {
    Viewer::client([])
}

/// What these authors say of these kinds.
pub fn by(authors: impl IntoIterator<Item = PublicKey>, kinds: &[u16]) -> Filter {
    Filter {
        authors: Some(sorted(authors.into_iter().collect())),
        kinds: Some(sorted(kinds.to_vec())),
        ..Filter::default()
    }
}

/// What of these kinds has a tag of that letter with one of these values.
pub fn tagged(letter: u8, values: impl IntoIterator<Item = String>, kinds: &[u16]) -> Filter {
    let tags = [TagFilter::new(letter, values)].into();
    Filter { tags, kinds: Some(sorted(kinds.to_vec())), ..Filter::default() }
}
