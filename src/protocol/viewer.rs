//! Who asks, and what of what accounts do they may be told.

use std::{collections::BTreeSet, sync::Arc};

use super::{Audience, PublicKey};

/// Who is asking.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Viewer {
    /// A client.
    Client {
        /// The keys that it has proved (none: it is nobody).
        keys: Arc<[PublicKey]>,
        /// Whose doings it may see beside its own; `None`: that is not known, so nobody's.
        circle: Option<Arc<Circle>>,
    },
    /// The operator: sees everything.
    Operator,
}

/// The people whom somebody follows, and which of them follow back. It says what these may be told, not what they want.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Circle {
    /// Sorted by key.
    members: Box<[Member]>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    key: PublicKey,
    is_friend: bool,
}

impl Viewer {
    /// A client that has proved these keys, and knows nobody.
    pub fn client(keys: impl Into<Arc<[PublicKey]>>) -> Self {
        Self::Client { keys: keys.into(), circle: None }
    }

    /// The keys that it has proved.
    pub fn keys(&self) -> &[PublicKey] {
        match self {
            Self::Client { keys, .. } => keys,
            Self::Operator => &[],
        }
    }
}

impl Circle {
    /// `friends`: those of the followed who follow back; others are none.
    pub fn new(followed: &BTreeSet<PublicKey>, friends: &BTreeSet<PublicKey>) -> Self {
        let member = |&key| Member { key, is_friend: friends.contains(&key) };
        Self { members: followed.iter().map(member).collect() }
    }

    /// Whether what this author does for that audience may be shown.
    pub fn sees(&self, author: &PublicKey, audience: impl FnOnce() -> Option<Audience>) -> bool {
        self.member(author).is_some_and(|member| match audience() {
            Some(Audience::Followers) => true,
            Some(Audience::Friends) => member.is_friend,
            None => false,
        })
    }

    pub fn is_friend(&self, key: &PublicKey) -> bool {
        self.member(key).is_some_and(|member| member.is_friend)
    }

    pub fn follows(&self, key: &PublicKey) -> bool {
        self.member(key).is_some()
    }

    /// The same without those of whom this says that they are not followed any more.
    pub fn retain(&self, is_followed: impl Fn(&PublicKey) -> bool) -> Self {
        Self { members: self.members.iter().filter(|member| is_followed(&member.key)).copied().collect() }
    }

    /// The same, where this one follows back no more.
    pub fn without_friend(&self, key: &PublicKey) -> Self {
        let mut members = self.members.clone();
        if let Some(at) = self.place(key) {
            members[at].is_friend = false;
        }
        Self { members }
    }

    fn member(&self, key: &PublicKey) -> Option<Member> {
        self.place(key).map(|at| self.members[at])
    }

    fn place(&self, key: &PublicKey) -> Option<usize> {
        self.members.binary_search_by(|member| member.key.cmp(key)).ok()
    }
}
