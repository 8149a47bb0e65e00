//! Small universes for the comparison with the model: few users, kinds, times and tags, so that
//! events meet each other.
//!
//! Events are named by their place in the universe (`#3`), here and in what a failure prints.

mod generate;

use std::{collections::HashSet, fmt, sync::Arc};

pub use generate::cases;
use rookery::{
    protocol::{Event, EventId, Filter, TagFilter, Tags, Timestamp, filter::sorted},
    store::{Content, Limit, Query, Viewer},
};

use crate::subject::{address, follower, hex, user};

/// How many events a universe has.
const EVENTS: usize = 24;
const USERS: u8 = 3;
/// The time at which a universe begins.
pub const BEGINNING: Timestamp = 100;

/// A universe and what happens in it.
#[derive(Clone)]
pub struct Case {
    pub events: Vec<Spec>,
    pub steps: Vec<Step>,
}

#[derive(Clone)]
pub struct Spec {
    author: u8,
    kind: u16,
    created_at: Timestamp,
    tags: Vec<Tag>,
    content: u8,
}

#[derive(Clone)]
pub enum Tag {
    /// An `e` tag for an event that comes earlier in the universe.
    Event(usize),
    Person(u8),
    Address(u16, u8, &'static str),
    Identifier(&'static str),
    Topic(&'static str),
    Expiration(Timestamp),
    Audience(&'static str),
}

#[derive(Clone)]
pub enum Step {
    Write(Vec<usize>),
    Query(Question, Cut),
    Count(Question),
    Maintain,
    Wait(Timestamp),
}

/// After how many pages of the model the store takes over.
pub type Cut = usize;

#[derive(Clone)]
pub struct Question {
    filters: Vec<Wanted>,
    boundary: usize,
    /// Users, whom they follow, and who of these follows back. `None` is the operator.
    viewer: Option<[Vec<u8>; 3]>,
}

#[derive(Clone)]
struct Wanted {
    ids: Option<Vec<usize>>,
    authors: Option<Vec<u8>>,
    kinds: Option<Vec<u16>>,
    tags: Vec<(u8, Vec<Tag>)>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: usize,
}

impl Case {
    /// Signs all events of the universe.
    pub fn events(&self) -> Vec<Arc<Event>> {
        let mut events: Vec<Arc<Event>> = Vec::with_capacity(self.events.len());
        for spec in &self.events {
            let tags = spec.tags.iter().map(|tag| [tag.name().to_owned(), tag.value(&events)]);
            let tags = Tags::from_iter(tags);
            let content = spec.content.to_string();
            events.push(Arc::new(user(spec.author).sign(spec.created_at, spec.kind, tags, &content)));
        }
        events
    }
}

impl Question {
    pub fn at(&self, now: Timestamp, events: &[Arc<Event>]) -> Query {
        let filters = self.filters.iter().map(|wanted| {
            let limit = Limit { events: wanted.limit, boundary: self.boundary };
            (wanted.filter(events), limit)
        });
        let viewer = match &self.viewer {
            Some(circle) => {
                let [users, followed, friends] =
                    circle.each_ref().map(|all| all.iter().map(|&number| user(number)).collect::<Vec<_>>());
                follower(&users, &followed, &friends)
            }
            None => Viewer::Operator,
        };
        Query { filters: filters.collect(), viewer, now, content: Content::Events }
    }
}

impl Wanted {
    fn filter(&self, events: &[Arc<Event>]) -> Filter {
        let id = |&index: &usize| -> EventId { events[index].id() };
        let key = |&number: &u8| user(number).public_key();
        Filter {
            ids: self.ids.as_ref().map(|ids| sorted(ids.iter().map(id).collect())),
            authors: self.authors.as_ref().map(|authors| sorted(authors.iter().map(key).collect())),
            kinds: self.kinds.clone().map(sorted),
            tags: self
                .tags
                .iter()
                .map(|(letter, tags)| TagFilter::new(*letter, tags.iter().map(|tag| tag.value(events))))
                .collect(),
            since: self.since,
            until: self.until,
            limit: None,
        }
    }
}

impl Tag {
    fn name(&self) -> &'static str {
        match self {
            Self::Event(_) => "e",
            Self::Person(_) => "p",
            Self::Address(..) => "a",
            Self::Identifier(_) => "d",
            Self::Topic(_) => "t",
            Self::Expiration(_) => "expiration",
            Self::Audience(_) => "audience",
        }
    }

    fn value(&self, events: &[Arc<Event>]) -> String {
        match *self {
            Self::Event(index) => events[index].id().to_hex(),
            Self::Person(number) => hex(&user(number)),
            Self::Address(kind, number, identifier) => address(kind, &user(number).public_key(), identifier),
            Self::Identifier(text) | Self::Topic(text) | Self::Audience(text) => text.to_owned(),
            Self::Expiration(at) => at.to_string(),
        }
    }
}

impl fmt::Debug for Case {
    /// The events that are written or asked for by id, then the steps.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut used: HashSet<usize> = HashSet::new();
        for step in &self.steps {
            match step {
                Step::Write(batch) => used.extend(batch),
                Step::Query(question, _) | Step::Count(question) => {
                    let ids = question.filters.iter().filter_map(|wanted| wanted.ids.as_ref()).flatten();
                    used.extend(ids);
                }
                Step::Maintain | Step::Wait(_) => {}
            }
        }
        let ids = self.events();
        writeln!(f)?;
        for (index, spec) in self.events.iter().enumerate().filter(|(index, _)| used.contains(index)) {
            let id = &ids[index].id().to_hex()[..4];
            writeln!(f, "#{index} ({id}…): {spec:?}")?;
        }
        self.steps.iter().enumerate().try_for_each(|(number, step)| writeln!(f, "step {number}: {step:?}"))
    }
}

impl fmt::Debug for Spec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { author, kind, created_at, tags, content } = self;
        write!(f, "kind {kind} by {author} at {created_at} {tags:?} {content}")
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.name())?;
        match self {
            Self::Event(index) => write!(f, "#{index}"),
            Self::Person(number) => write!(f, "{number}"),
            Self::Address(kind, number, identifier) => write!(f, "{kind}:{number}:{identifier:?}"),
            Self::Identifier(text) | Self::Topic(text) | Self::Audience(text) => write!(f, "{text:?}"),
            Self::Expiration(at) => write!(f, "{at}"),
        }
    }
}

impl fmt::Debug for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Write(batch) => write!(f, "write {batch:?}"),
            Self::Query(question, cut) => write!(f, "query {question:?}, cut after page {cut}"),
            Self::Count(question) => write!(f, "count {question:?}"),
            Self::Maintain => f.write_str("maintain"),
            Self::Wait(seconds) => write!(f, "wait {seconds}"),
        }
    }
}

impl fmt::Debug for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { filters, boundary, viewer } = self;
        write!(f, "{filters:?}, boundary {boundary}, ")?;
        match viewer {
            Some([users, followed, friends]) => {
                write!(f, "as users {users:?} who follow {followed:?}, friends {friends:?}")
            }
            None => f.write_str("as operator"),
        }
    }
}

impl fmt::Debug for Wanted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ids, authors, kinds, tags, since, until, limit } = self;
        f.write_str("{")?;
        if let Some(ids) = ids {
            write!(f, "ids {ids:?} ")?;
        }
        if let Some(authors) = authors {
            write!(f, "authors {authors:?} ")?;
        }
        if let Some(kinds) = kinds {
            write!(f, "kinds {kinds:?} ")?;
        }
        for (letter, values) in tags {
            write!(f, "#{} {values:?} ", char::from(*letter))?;
        }
        if let Some(since) = since {
            write!(f, "since {since} ")?;
        }
        if let Some(until) = until {
            write!(f, "until {until} ")?;
        }
        write!(f, "limit {limit}}}")
    }
}
