//! Who follows whom and says what, and who must hear it.

use std::collections::BTreeSet;

use rand::{SeedableRng, rngs::StdRng, seq::index};

use super::{FEED, NOTICES, Size};

/// Of posts, one in so many mentions somebody, and one in so many is by somebody whom nobody follows.
const MENTIONING: usize = 5;
const UNHEARD: usize = 10;
pub(super) const STRANGERS: usize = 3;

/// Who follows whom and says what, so that it is known who must hear what.
pub(super) struct Plan {
    /// Nodes that people are at, in turn.
    nodes: usize,
    /// Whom each follows.
    friends: Vec<BTreeSet<usize>>,
    pub(super) posts: Vec<Post>,
}

pub(super) struct Post {
    /// Those beyond the people are strangers: nobody follows them, and they listen to nobody.
    pub(super) author: usize,
    pub(super) mentioned: Option<usize>,
}

impl Plan {
    pub(super) fn new(size: &Size, nodes: usize) -> Self {
        let mut random = StdRng::seed_from_u64(7);
        let friends = |person: usize| -> BTreeSet<usize> {
            let others = index::sample(&mut random, size.people - 1, size.friends);
            others.iter().map(|other| other + usize::from(other >= person)).collect()
        };
        let post = |nth: usize| match nth % UNHEARD {
            0 => Post { author: size.people + nth / UNHEARD % STRANGERS, mentioned: None },
            _ => Post {
                author: nth % size.people,
                mentioned: (nth % MENTIONING == 1).then_some(nth * 7 % size.people),
            },
        };
        Self {
            nodes,
            friends: (0..size.people).map(friends).collect(),
            posts: (0..size.posts).map(post).collect(),
        }
    }

    /// The node of somebody; that of strangers comes after the others.
    pub(super) fn node_of(&self, person: usize) -> usize {
        if person < self.friends.len() { person % self.nodes } else { self.nodes }
    }

    /// Whom somebody's feed is made of.
    pub(super) fn authors(&self, person: usize) -> impl Iterator<Item = usize> {
        self.friends[person].iter().copied().chain([person])
    }

    /// What somebody must hear: in which subscription, and which post.
    pub(super) fn due(&self, person: usize) -> BTreeSet<(&'static str, usize)> {
        let is_of_feed = |author: usize| author == person || self.friends[person].contains(&author);
        let posts = self.posts.iter().enumerate();
        posts
            .flat_map(|(nth, post)| {
                let in_feed = is_of_feed(post.author).then_some((FEED, nth));
                in_feed.into_iter().chain((post.mentioned == Some(person)).then_some((NOTICES, nth)))
            })
            .collect()
    }

    /// What a node must be told of posts of other nodes: how often, as a post is told under the key of its author and
    /// that of who is mentioned, if somebody there wants it; and how often it was told that before.
    pub(super) fn told(&self, node: usize) -> (usize, usize) {
        let people = (0..self.friends.len()).filter(|person| self.node_of(*person) == node);
        let authors: BTreeSet<usize> = people.flat_map(|person| self.authors(person)).collect();
        let of_others = self.posts.iter().filter(|post| self.node_of(post.author) != node);
        of_others.fold((0, 0), |(told, again), post| {
            let is_named = post.mentioned.is_some_and(|person| self.node_of(person) == node);
            let keys = usize::from(authors.contains(&post.author)) + usize::from(is_named);
            (told + keys, again + keys.saturating_sub(1))
        })
    }
}
