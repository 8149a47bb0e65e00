//! How likely what is: which universes and which steps the comparison with the model tells of.

use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use rookery::protocol::{Timestamp, kind};

use super::{BEGINNING, Case, EVENTS, Question, Spec, Step, Tag, USERS, Wanted};

pub fn cases() -> impl Strategy<Value = Case> {
    (vec(spec(), EVENTS), vec(step(), 1..40)).prop_map(|(mut events, steps)| {
        for place in 0..events.len() {
            let (earlier, later) = events.split_at_mut(place);
            aim(&mut later[0], earlier);
        }
        Case { events, steps }
    })
}

/// Lets `e` tags name earlier events, and most deletion requests what they may delete.
fn aim(spec: &mut Spec, earlier: &[Spec]) {
    let Spec { author, kind, .. } = *spec;
    let is_own = |other: &Spec| {
        let sent_to = |tag: &Tag| matches!(tag, Tag::Person(number) if *number == author);
        other.author == author || other.kind == 1_059 && other.tags.iter().any(sent_to)
    };
    let own: Vec<usize> = (0..earlier.len()).filter(|&place| is_own(&earlier[place])).collect();
    spec.tags.retain(|tag| !matches!(tag, Tag::Event(_)) || !earlier.is_empty());
    for tag in &mut spec.tags {
        match tag {
            Tag::Event(index) if kind == 5 && *index % 3 > 0 && !own.is_empty() => {
                *index = own[*index % own.len()];
            }
            Tag::Event(index) => *index %= earlier.len(),
            Tag::Address(_, number, _) if kind == 5 && *number > 0 => *number = author,
            _ => {}
        }
    }
}

fn spec() -> impl Strategy<Value = Spec> {
    let kinds = prop_oneof![
        6 => Just(1_u16), 3 => Just(0), 2 => Just(3), 2 => Just(4),
        7 => Just(5), 1 => Just(62), 3 => Just(1_059), 6 => Just(30_023),
        3 => Just(kind::ACTIVITY),
    ];
    (0..USERS, kinds, times(), tags(), 0_u8..3).prop_map(|(author, kind, created_at, tags, content)| Spec {
        author,
        kind,
        created_at,
        tags,
        content,
    })
}

/// Often several of a name, the same value or another: the first may say what an event is, and all are found.
fn tags() -> impl Strategy<Value = Vec<Tag>> {
    let again = weighted(0.3, prop_oneof![2 => identifier().prop_map(Tag::Identifier), 1 => topic()]);
    (vec(tag(), 0..4), again).prop_map(|(mut tags, again)| {
        tags.extend(again);
        tags
    })
}

fn times() -> impl Strategy<Value = Timestamp> {
    10_u64..16
}

fn event() -> impl Strategy<Value = usize> {
    0..EVENTS
}

fn identifier() -> impl Strategy<Value = &'static str> {
    select(&["", "x", "y"][..])
}

fn address_tag() -> impl Strategy<Value = Tag> {
    let kinds = prop_oneof![3 => Just(30_023_u16), 2 => Just(0), 1 => Just(3), 1 => Just(1)];
    (kinds, 0..USERS, identifier()).prop_map(|(kind, number, text)| Tag::Address(kind, number, text))
}

fn topic() -> impl Strategy<Value = Tag> {
    select(&["a", "b", ""][..]).prop_map(Tag::Topic)
}

fn tag() -> impl Strategy<Value = Tag> {
    prop_oneof![
        4 => event().prop_map(Tag::Event),
        3 => (0..USERS).prop_map(Tag::Person),
        3 => address_tag(),
        2 => identifier().prop_map(Tag::Identifier),
        2 => topic(),
        1 => (BEGINNING - 2..BEGINNING + 8).prop_map(Tag::Expiration),
        2 => select(&["friends", "followers", "others"][..]).prop_map(Tag::Audience),
    ]
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        7 => vec(event(), 1..6).prop_map(Step::Write),
        5 => (question(), 0_usize..12).prop_map(|(question, cut)| Step::Query(question, cut)),
        1 => question().prop_map(Step::Count),
        1 => Just(Step::Maintain),
        1 => (1_u64..4).prop_map(Step::Wait),
    ]
}

fn question() -> impl Strategy<Value = Question> {
    let users = || vec(0..USERS, 0..3);
    let viewer = prop_oneof![
        1 => Just(None),
        1 => (users(), users(), users()).prop_map(|(users, all, friends)| Some([users, all, friends])),
    ];
    (vec(prop_oneof![6 => wanted(), 1 => addressed()], 1..4), select(&[0_usize, 1, 3][..]), viewer)
        .prop_map(|(filters, boundary, viewer)| Question { filters, boundary, viewer })
}

/// Events by author, kind and `d`, as clients ask for what an address names.
fn addressed() -> impl Strategy<Value = Wanted> {
    (vec(0..USERS, 1..3), vec(identifier().prop_map(Tag::Identifier), 1..3), 1_usize..4).prop_map(
        |(authors, identifiers, limit)| Wanted {
            ids: None,
            authors: Some(authors),
            kinds: Some(vec![30_023]),
            tags: vec![(b'd', identifiers)],
            since: None,
            until: None,
            limit,
        },
    )
}

fn wanted() -> impl Strategy<Value = Wanted> {
    /// Rarely empty.
    fn list<T: Strategy>(often: f64, element: T) -> impl Strategy<Value = Option<Vec<T::Value>>>
    where
        T::Value: Clone,
    {
        weighted(often, vec((element, 0..12_u8), 1..6)).prop_map(|list| {
            list.map(|list| match &list[..] {
                [(_, 0)] => Vec::new(),
                _ => list.into_iter().map(|(element, _)| element).collect(),
            })
        })
    }
    let kinds = select(&[0_u16, 1, 3, 4, 5, 62, 1_059, kind::ACTIVITY, 30_023][..]);
    let tags = (
        list(0.07, event().prop_map(Tag::Event)),
        list(0.1, (0..USERS).prop_map(Tag::Person)),
        list(0.05, address_tag()),
        list(0.05, identifier().prop_map(Tag::Identifier)),
        list(0.1, topic()),
    )
        .prop_map(|(e, p, a, d, t)| {
            let tags = [(b'a', a), (b'd', d), (b'e', e), (b'p', p), (b't', t)];
            tags.into_iter().filter_map(|(letter, list)| Some((letter, list?))).take(2).collect()
        });
    let limit = prop_oneof![1 => Just(0_usize), 4 => 1_usize..4, 2 => Just(8), 2 => Just(100)];
    let window = (weighted(0.2, times()), weighted(0.2, times()));
    (list(0.1, event()), list(0.3, 0..USERS), list(0.3, kinds), tags, window, limit).prop_map(
        |(ids, authors, kinds, tags, (since, until), limit)| Wanted {
            ids,
            authors,
            kinds,
            tags,
            since,
            until,
            limit,
        },
    )
}
