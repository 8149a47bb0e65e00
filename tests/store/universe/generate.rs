//! How likely what is: which universes and which steps the comparison with the model tells of.

use proptest::{collection::vec, option::weighted, prelude::*, sample::select};
use rookery::protocol::Timestamp;

use super::{BEGINNING, Case, EVENTS, Question, Spec, Step, Tag, USERS, Wanted};

pub fn cases() -> impl Strategy<Value = Case> {
    (vec(spec(), EVENTS), vec(step(), 1..24)).prop_map(|(mut events, steps)| {
        for (place, spec) in events.iter_mut().enumerate() {
            spec.tags.retain_mut(|tag| match tag {
                Tag::Event(_) if place == 0 => false,
                Tag::Event(index) => {
                    *index %= place;
                    true
                }
                _ => true,
            });
        }
        Case { events, steps }
    })
}

fn spec() -> impl Strategy<Value = Spec> {
    let kinds = prop_oneof![
        3 => Just(1_u16), 2 => Just(0), 1 => Just(3), 1 => Just(4),
        5 => Just(5), 1 => Just(62), 2 => Just(1_059), 4 => Just(30_023),
    ];
    (0..USERS, kinds, times(), vec(tag(), 0..4), 0_u8..3).prop_map(
        |(author, kind, created_at, tags, content)| Spec { author, kind, created_at, tags, content },
    )
}

fn times() -> impl Strategy<Value = Timestamp> {
    10_u64..16
}

fn event() -> impl Strategy<Value = usize> {
    0..EVENTS
}

fn identifier() -> impl Strategy<Value = &'static str> {
    select(&["", "x"][..])
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
    let viewer = prop_oneof![1 => Just(None), 1 => vec(0..USERS, 0..3).prop_map(Some)];
    (vec(wanted(), 1..4), select(&[0_usize, 1, 3][..]), viewer)
        .prop_map(|(filters, boundary, viewer)| Question { filters, boundary, viewer })
}

fn wanted() -> impl Strategy<Value = Wanted> {
    /// Rarely empty.
    fn list<T: Strategy>(element: T) -> impl Strategy<Value = Option<Vec<T::Value>>>
    where
        T::Value: Clone,
    {
        weighted(0.25, vec((element, 0..12_u8), 1..6)).prop_map(|list| {
            list.map(|list| match &list[..] {
                [(_, 0)] => Vec::new(),
                _ => list.into_iter().map(|(element, _)| element).collect(),
            })
        })
    }
    let kinds = select(&[0_u16, 1, 3, 4, 5, 62, 1_059, 30_023][..]);
    let tags = (
        list(event().prop_map(Tag::Event)),
        list((0..USERS).prop_map(Tag::Person)),
        list(address_tag()),
        list(identifier().prop_map(Tag::Identifier)),
        list(topic()),
    )
        .prop_map(|(e, p, a, d, t)| {
            let tags = [(b'a', a), (b'd', d), (b'e', e), (b'p', p), (b't', t)];
            tags.into_iter().filter_map(|(letter, list)| Some((letter, list?))).take(2).collect()
        });
    let limit = prop_oneof![1 => Just(0_usize), 4 => 1_usize..4, 2 => Just(8), 2 => Just(100)];
    let window = (weighted(0.2, times()), weighted(0.2, times()));
    (list(event()), list(0..USERS), list(kinds), tags, window, limit).prop_map(
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
