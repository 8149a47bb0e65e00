//! What a store is asked, and how far an answer has come.

use std::{any::Any, borrow::Cow, fmt, sync::Arc};

use crate::protocol::{EventId, Fields, Filter, PublicKey, Timestamp, Viewer, kind};

/// A question: the events that match any of the filters. The `limit` inside a filter has no meaning
/// here; the one beside it has.
#[derive(Debug, Clone)]
pub struct Query {
    pub filters: Vec<(Filter, Limit)>,
    /// Who asks: some events are not for everybody.
    pub viewer: Viewer,
    /// Events that expire at this time or before are not served.
    pub now: Timestamp,
    pub content: Content,
}

/// What of the events is wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Content {
    /// The events as they are sent.
    #[default]
    Events,
    /// Their ids and dates: the entries of a page have no text.
    Keys,
    /// Who wrote them: the text of an entry is the key of its author, in digits.
    Authors,
}

impl Content {
    /// What of an event is the text of an entry.
    pub fn text<'a>(self, json: &'a str, author: &PublicKey) -> Cow<'a, str> {
        match self {
            Self::Events => json.into(),
            Self::Keys => "".into(),
            Self::Authors => author.to_hex().into(),
        }
    }
}

/// How much of a filter is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limit {
    /// How many of the newest events that match.
    pub events: usize,
    /// How many beyond that number complete the last second (NIP-67).
    pub boundary: usize,
}

impl Limit {
    /// So many events, whatever the last second has left.
    pub fn exactly(events: usize) -> Self {
        Self { events, boundary: 0 }
    }

    /// How many events there may be.
    pub fn most(self) -> usize {
        self.events.saturating_add(self.boundary)
    }
}

impl Query {
    /// Whether the event may be in the answer, as far as it matches: what the viewer may not see is not, nor what has
    /// expired. What accounts do is in no set of keys: sets are compared with other relays.
    pub fn may_serve(&self, event: &impl Fields) -> bool {
        event.is_visible_to(&self.viewer)
            && !event.is_expired(self.now)
            && (self.content != Content::Keys || event.kind() != kind::ACTIVITY)
    }
}

/// Where a query stands between two pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// The last event that was looked at; what follows is older, or as old with a higher id.
    pub after: Option<(Timestamp, EventId)>,
    /// How far each filter of the query has come.
    pub progress: Vec<FilterProgress>,
    /// Index entries looked at so far.
    pub scanned: usize,
    /// What the store goes on with, so as not to read it again.
    pub kept: Kept,
}

/// What a store keeps between two pages so as not to read it again. It says nothing that the rest of the cursor does not:
/// without it, or where another page has been answered meanwhile, a store looks again. It must be small.
#[derive(Clone, Default)]
pub struct Kept(Option<Arc<dyn Any + Send + Sync>>);

impl Kept {
    pub fn new<T: Any + Send + Sync>(kept: T) -> Self {
        Self(Some(Arc::new(kept)))
    }

    /// What a store of this kind has kept.
    pub fn take<T: Any + Send + Sync + Clone>(&mut self) -> Option<T> {
        self.0.take()?.downcast().ok().map(Arc::unwrap_or_clone)
    }
}

impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.is_some() { "Kept" } else { "nothing" })
    }
}

impl PartialEq for Kept {
    /// Cursors are the same, whatever is kept with them: the same page comes of either.
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Kept {}

/// How far a filter has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FilterProgress {
    /// So many events are still wanted, and then so many that complete a second.
    Wanted { left: usize, boundary: usize },
    /// The number is reached at this second; so many more may complete it.
    Boundary { second: Timestamp, left: usize },
    /// Cut off, and there is at least one more event that matches.
    More,
    /// No event was wanted, so nobody looked.
    Unknown,
}

impl Cursor {
    pub fn start(query: &Query) -> Self {
        let progress = query
            .filters
            .iter()
            .map(|&(_, Limit { events, boundary })| match events {
                0 => FilterProgress::Unknown,
                left => FilterProgress::Wanted { left, boundary },
            })
            .collect();
        Self { after: None, progress, scanned: 0, kept: Kept::default() }
    }
}

impl FilterProgress {
    /// Steps over an event that the filters numbered in `matching` match: `true` to send it. A filter
    /// that is cut off has more only where nobody else's limit sends the event either.
    pub fn offer(all: &mut [Self], matching: &[usize], created_at: Timestamp) -> bool {
        let mut wanted = false;
        for &filter in matching {
            wanted |= all[filter].take(created_at);
        }
        for &filter in matching {
            if !wanted && all[filter].is_open() {
                all[filter] = Self::More;
            }
        }
        wanted
    }

    fn take(&mut self, created_at: Timestamp) -> bool {
        match self {
            Self::Wanted { left: 1, boundary } => {
                *self = Self::Boundary { second: created_at, left: *boundary };
            }
            Self::Wanted { left, .. } => *left -= 1,
            Self::Boundary { second, left } if *second == created_at && *left > 0 => *left -= 1,
            Self::Boundary { .. } | Self::More | Self::Unknown => return false,
        }
        true
    }

    /// Whether events are still to be looked at for this filter.
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Wanted { .. } | Self::Boundary { .. })
    }
}

/// Whether the events sent for a query are all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// All were sent.
    Finish,
    /// There are more.
    More,
    /// Nobody looked that far.
    Unknown,
}

impl End {
    /// What holds when every filter has been followed as far as `progress` says, and no further
    /// events match those that are still open.
    pub fn of(progress: &[FilterProgress]) -> Self {
        if progress.contains(&FilterProgress::More) {
            Self::More
        } else if progress.contains(&FilterProgress::Unknown) {
            Self::Unknown
        } else {
            Self::Finish
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// What is sent of a query, and whether that is all, said at once of the whole answer and not step by step: no
    /// store works like that. An event is its second and the filters that match it, newest first.
    fn twin(events: &[(Timestamp, Vec<usize>)], limits: &[Limit]) -> (Vec<bool>, End) {
        let matches = |filter: usize| -> Vec<usize> {
            (0..events.len()).filter(|&event| events[event].1.contains(&filter)).collect()
        };
        let taken_by = |filter: usize| -> Vec<usize> {
            let (matching, Limit { events: limit, boundary }) = (matches(filter), limits[filter]);
            let Some(&last) = limit.checked_sub(1).and_then(|last| matching.get(last)) else {
                return if limit == 0 { Vec::new() } else { matching };
            };
            let completes = matching[limit..].iter().take_while(|&&event| events[event].0 == events[last].0);
            let count = limit + completes.count().min(boundary);
            matching[..count].to_vec()
        };
        let taken: Vec<Vec<usize>> = (0..limits.len()).map(taken_by).collect();
        let sent: Vec<bool> =
            (0..events.len()).map(|event| taken.iter().any(|taken| taken.contains(&event))).collect();
        let misses =
            |filter: usize| limits[filter].events > 0 && matches(filter).iter().any(|&event| !sent[event]);
        let end = if (0..limits.len()).any(misses) {
            End::More
        } else if limits.iter().any(|limit| limit.events == 0) {
            End::Unknown
        } else {
            End::Finish
        };
        (sent, end)
    }

    proptest! {
        #[test]
        fn progress_is_what_its_twin_says(
            limits in prop::collection::vec((0..5_usize, 0..4_usize), 1..4),
            mut events in prop::collection::vec((0..6_u64, prop::collection::btree_set(0..3_usize, 0..=3)), 0..20),
        ) {
            let limits: Vec<Limit> = limits.into_iter().map(|(events, boundary)| Limit { events, boundary }).collect();
            events.sort_by_key(|(second, _)| std::cmp::Reverse(*second));
            let count = limits.len();
            let of_these = |matching: std::collections::BTreeSet<usize>| matching.into_iter().filter(|f| *f < count).collect();
            let events: Vec<(Timestamp, Vec<usize>)> =
                events.into_iter().map(|(second, matching)| (second, of_these(matching))).collect();
            let query = Query {
                filters: limits.iter().map(|&limit| (Filter::default(), limit)).collect(),
                viewer: Viewer::Operator,
                now: 0,
                content: Content::Events,
            };
            let mut progress = Cursor::start(&query).progress;
            let offer = |(second, matching): &(Timestamp, Vec<usize>)| FilterProgress::offer(&mut progress, matching, *second);
            let sent: Vec<bool> = events.iter().map(offer).collect();
            prop_assert_eq!((sent, End::of(&progress)), twin(&events, &limits));
        }
    }
}
