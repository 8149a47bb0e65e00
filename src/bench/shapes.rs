//! The queries that clients ask most, and what each must be answered from a known set of events.

use std::cmp::Reverse;

use super::{
    message::{self, IdKey},
    workload::Dice,
};
use crate::protocol::{Event, EventId, Filter, PublicKey, TagFilter, filter::sorted};

/// Different queries of a shape; asked in turn.
const DIFFERENT: u64 = 200;
/// Length of the since/until window.
const WINDOW_SECONDS: u64 = 90 * 60;
/// One in so many authors counts as busy; answers about them reach the limit.
const BUSY: usize = 50;

/// What is asked. [`LEGEND`] explains the names.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Shape {
    Ids,
    Authors,
    Mentions,
    Thread,
    Kind,
    Window,
    Home,
    HomeNotes,
}

/// For the help; on the variants it would take three screens.
pub const LEGEND: &str = "Shapes:
  ids       20 events by id
  authors   notes of 3 busy authors, limit 100
  mentions  what mentions a busy author (#p), limit 50
  thread    what refers to a note (#e), some dozens
  kind      the newest notes, limit 500
  window    90 minutes by since and until, limit 500
  home      a home feed: 500 authors, limit 100
  home-notes  the same of notes and reposts: kinds 1 and 6";

impl Shape {
    pub const ALL: [Self; 8] = [
        Self::Ids,
        Self::Authors,
        Self::Mentions,
        Self::Thread,
        Self::Kind,
        Self::Window,
        Self::Home,
        Self::HomeNotes,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Ids => "ids",
            Self::Authors => "authors",
            Self::Mentions => "mentions",
            Self::Thread => "thread",
            Self::Kind => "kind",
            Self::Window => "window",
            Self::Home => "home",
            Self::HomeNotes => "home-notes",
        }
    }

    /// The queries of this shape over `events`, which must not be empty.
    pub fn queries(self, seed: u64, events: &[Event], authors: &[PublicKey]) -> Vec<Query> {
        let mut newest_first: Vec<&Event> = events.iter().collect();
        newest_first.sort_unstable_by_key(|event| (Reverse(event.created_at()), event.id()));
        let query = |number| {
            let mut dice = Dice::new(seed, self.name(), number);
            let filter = self.filter(&mut dice, events, authors);
            Query { expected: Expected::new(&filter, &newest_first), filter }
        };
        (0..DIFFERENT).map(query).collect()
    }

    fn filter(self, dice: &mut Dice, events: &[Event], authors: &[PublicKey]) -> Filter {
        let mut filter = Filter::default();
        let busy = (authors.len() / BUSY).max(1);
        match self {
            Self::Ids => {
                let ids = (0..20).map(|_| events[dice.below(events.len())].id());
                filter.ids = Some(sorted::<EventId>(ids.collect()));
            }
            Self::Authors => {
                let busy = dice.distinct(3, busy);
                filter.authors = Some(sorted(busy.into_iter().map(|author| authors[author]).collect()));
                filter.kinds = Some(Box::new([1]));
                filter.limit = Some(100);
            }
            Self::Mentions => {
                filter.tags = Box::new([TagFilter::new(b'p', [authors[dice.below(busy)].to_hex()])]);
                filter.limit = Some(50);
            }
            Self::Thread => filter.tags = Box::new([TagFilter::new(b'e', some_thread(dice, events))]),
            Self::Kind => {
                filter.kinds = Some(Box::new([1]));
                filter.limit = Some(500);
            }
            Self::Window => {
                let since = events[dice.below(events.len())].created_at();
                (filter.since, filter.until) = (Some(since), Some(since + WINDOW_SECONDS));
                filter.limit = Some(500);
            }
            Self::Home | Self::HomeNotes => {
                let followed = dice.distinct(500, authors.len());
                filter.authors = Some(sorted(followed.into_iter().map(|author| authors[author]).collect()));
                filter.limit = Some(100);
                filter.kinds = (self == Self::HomeNotes).then(|| [1, 6].into());
            }
        }
        filter
    }
}

/// The id that some reply refers to.
fn some_thread<'a>(dice: &mut Dice, events: &'a [Event]) -> Option<&'a str> {
    let start = dice.below(events.len());
    let replies = events[start..].iter().chain(&events[..start]).filter(|event| event.kind() == 1);
    replies.filter_map(|event| event.tags().first_value("e")).next()
}

/// One query and its answer.
pub struct Query {
    pub filter: Filter,
    pub expected: Expected,
}

/// What an answer must hold.
#[derive(Debug, PartialEq, Eq)]
pub struct Expected {
    /// How many events it holds, up to the limit.
    count: usize,
    /// How many more may be sent: those of the same second as the last one within the limit (NIP-67).
    tied: usize,
    /// The sum of the events' keys, where there are no ties.
    checksum: IdKey,
}

impl Expected {
    fn new(filter: &Filter, newest_first: &[&Event]) -> Self {
        let limit = filter.limit.unwrap_or(usize::MAX);
        let mut expected = Self { count: 0, tied: 0, checksum: 0 };
        let mut last = None;
        for event in newest_first.iter().filter(|event| filter.matches(**event)) {
            if expected.count < limit {
                expected.count += 1;
                expected.checksum = expected.checksum.wrapping_add(message::key_of(&event.id()));
                last = Some(event.created_at());
            } else if last == Some(event.created_at()) {
                expected.tied += 1;
            } else {
                break;
            }
        }
        expected
    }

    pub fn count(&self) -> usize {
        self.count
    }

    pub fn is_met(&self, answer: &Tally) -> bool {
        (self.count..=self.count + self.tied).contains(&answer.count)
            && (self.tied > 0 || answer.checksum == self.checksum)
    }
}

/// What came in answer to a query.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Tally {
    pub count: usize,
    checksum: IdKey,
}

impl Tally {
    pub fn add(&mut self, id: IdKey) {
        self.count += 1;
        self.checksum = self.checksum.wrapping_add(id);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;
    use crate::bench::workload::Authors;

    fn answer<'a>(events: impl IntoIterator<Item = &'a Event>) -> Tally {
        let mut answer = Tally::default();
        events.into_iter().for_each(|event| answer.add(message::key_of(&event.id())));
        answer
    }

    #[test]
    fn expects_what_a_naive_store_answers() {
        let authors = Authors::new(1, 60);
        let events = authors.events(0, 400, 1_700_000_000);
        for shape in Shape::ALL {
            let queries = shape.queries(1, &events, authors.public_keys());
            assert!(queries.iter().all(|query| query.expected.count() > 0), "{}", shape.name());
            for Query { filter, expected } in queries {
                let mut matching: Vec<_> = events.iter().filter(|event| filter.matches(*event)).collect();
                matching.sort_by_key(|event| (Reverse(event.created_at()), event.id()));
                matching.truncate(filter.limit.unwrap_or(usize::MAX));
                assert!(expected.is_met(&answer(matching.iter().copied())), "{}", shape.name());
                assert!(!expected.is_met(&answer(matching[1..].iter().copied())));
                let different: HashSet<_> = matching.iter().map(|event| event.id()).collect();
                assert_eq!(different.len(), expected.count());
            }
        }
    }

    #[test]
    fn tolerates_more_than_the_limit_in_the_last_second_only() {
        let authors = Authors::new(1, 1);
        let made = authors.events(0, 4, 0);
        let signed: Vec<Event> = made
            .iter()
            .zip([9, 8, 8, 7])
            .map(|(event, at)| {
                let mut parsed: crate::protocol::ParsedEvent = serde_json::from_str(event.json()).unwrap();
                parsed.created_at = at;
                parsed.trust()
            })
            .collect();
        let newest_first: Vec<&Event> = signed.iter().collect();
        let filter = Filter { limit: Some(2), ..Filter::default() };
        let expected = Expected::new(&filter, &newest_first);
        assert_eq!((expected.count, expected.tied), (2, 1));
        assert!(expected.is_met(&answer(&signed[..2])));
        assert!(expected.is_met(&answer(&signed[..3])));
        assert!(!expected.is_met(&answer(&signed[..4])));
    }
}
