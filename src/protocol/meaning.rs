//! What of an event decides who gets it and what takes it away, and the one place that says how.

use std::sync::Arc;

use super::{
    Audience, Circle, Event, EventId, ParsedEvent, PublicKey, TagFilter, Tags, Timestamp, Viewer,
    event::expiration, kind,
};

/// The fields of an event by which is decided who gets it, and what takes it away. Implemented by events and by the
/// records of a store, so that both go through [`Filter::matches`](super::Filter::matches) and the meanings below.
pub trait Fields {
    fn id(&self) -> &EventId;
    fn pubkey(&self) -> &PublicKey;
    fn created_at(&self) -> Timestamp;
    fn kind(&self) -> u16;
    /// Whether a tag of that letter has one of those values as its first.
    fn has_tag(&self, tag: &TagFilter) -> bool;
    /// Whether one of these keys is `p`-tagged.
    fn mentions(&self, keys: &[PublicKey]) -> bool;
    /// When it expires (NIP-40).
    fn expiration(&self) -> Option<Timestamp>;

    /// For whom it is, where it tells what its author has done.
    fn audience(&self) -> Option<Audience>;

    /// Whether the viewer may see the event: private kinds are for their author and the `p`-tagged only (NIP-17, NIP-59),
    /// activity is for its author and those whom the author has chosen. Nobody else asks this.
    fn is_visible_to(&self, viewer: &Viewer) -> bool {
        let Viewer::Client { keys, circle } = viewer else { return true };
        match self.kind() {
            kind::ACTIVITY => {
                let sees = |circle: &Arc<Circle>| circle.sees(self.pubkey(), || self.audience());
                keys.contains(self.pubkey()) || circle.as_ref().is_some_and(sees)
            }
            kind if kind::is_private(kind) => keys.contains(self.pubkey()) || self.mentions(keys),
            _ => true,
        }
    }

    /// Whether its time is over (NIP-40).
    fn is_expired(&self, now: Timestamp) -> bool {
        self.expiration().is_some_and(|at| at <= now)
    }

    /// Whether a deletion request by `author` (NIP-09) that names the event takes it away: the author's own, and gift
    /// wraps sent to them (NIP-59). Requests to delete or to vanish are never deleted.
    fn is_deletable_by(&self, author: &PublicKey) -> bool {
        !matches!(self.kind(), kind::DELETION | kind::VANISH) && self.belongs_to(author)
    }

    /// Whether a request of `author` to vanish (NIP-62), made at that time, takes the event away: as for deletion, but
    /// requests to delete go, too.
    fn vanishes_with(&self, author: &PublicKey, until: Timestamp) -> bool {
        self.created_at() <= until && self.kind() != kind::VANISH && self.belongs_to(author)
    }

    /// Whether `author` may take the event away: it is theirs, or a gift wrap sent to them.
    fn belongs_to(&self, author: &PublicKey) -> bool {
        self.pubkey() == author
            || self.kind() == kind::GIFT_WRAP && self.mentions(std::slice::from_ref(author))
    }
}

impl Fields for Event {
    fn id(&self) -> &EventId {
        self.id_ref()
    }

    fn pubkey(&self) -> &PublicKey {
        self.pubkey_ref()
    }

    fn created_at(&self) -> Timestamp {
        Event::created_at(self)
    }

    fn kind(&self) -> u16 {
        Event::kind(self)
    }

    fn has_tag(&self, tag: &TagFilter) -> bool {
        has_tag(self.tags(), tag)
    }

    fn mentions(&self, keys: &[PublicKey]) -> bool {
        mentions(self.tags(), keys)
    }

    fn expiration(&self) -> Option<Timestamp> {
        Event::expiration(self)
    }

    fn audience(&self) -> Option<Audience> {
        Audience::of(self.tags())
    }
}

impl Fields for ParsedEvent<'_> {
    fn id(&self) -> &EventId {
        &self.id
    }

    fn pubkey(&self) -> &PublicKey {
        &self.pubkey
    }

    fn created_at(&self) -> Timestamp {
        self.created_at
    }

    fn kind(&self) -> u16 {
        self.kind
    }

    fn has_tag(&self, tag: &TagFilter) -> bool {
        has_tag(&self.tags, tag)
    }

    fn mentions(&self, keys: &[PublicKey]) -> bool {
        mentions(&self.tags, keys)
    }

    fn expiration(&self) -> Option<Timestamp> {
        expiration(&self.tags)
    }

    fn audience(&self) -> Option<Audience> {
        Audience::of(&self.tags)
    }
}

fn has_tag(tags: &Tags, tag: &TagFilter) -> bool {
    tags.indexed().any(|(letter, value)| letter == tag.letter() && tag.contains(value))
}

fn mentions(tags: &Tags, keys: &[PublicKey]) -> bool {
    let mut tagged = tags.values("p").filter_map(PublicKey::from_hex);
    !keys.is_empty() && tagged.any(|key| keys.contains(&key))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Tags, sign::Keys};

    /// Who sees an event, and whose requests take it away: its author, somebody it mentions, a stranger.
    #[test]
    fn kinds_say_who_sees_an_event_and_who_takes_it_away() {
        let [author, mentioned, stranger] = [(); 3].map(|()| Keys::generate());
        let tags = || Tags::from_iter([["p", "none"], ["p", &mentioned.public_key().to_hex()]]);
        let everybody = [&author, &mentioned, &stranger].map(|keys| keys.public_key());
        for (kind, seen, deleted, vanished) in [
            (1, [true; 3], [true, false, false], [true, false, false]),
            (kind::DELETION, [true; 3], [false; 3], [true, false, false]),
            (kind::VANISH, [true; 3], [false; 3], [false; 3]),
            (kind::DIRECT_MESSAGE, [true, true, false], [true, false, false], [true, false, false]),
            (kind::GIFT_WRAP, [true, true, false], [true, true, false], [true, true, false]),
        ] {
            let event = author.sign(100, kind, tags(), "");
            assert_eq!(
                everybody.map(|key| event.is_visible_to(&Viewer::client([key]))),
                seen,
                "seen, {kind}"
            );
            assert_eq!(event.is_visible_to(&Viewer::client([])), seen[2], "seen by nobody, {kind}");
            assert_eq!(everybody.map(|key| event.is_deletable_by(&key)), deleted, "deleted, {kind}");
            assert_eq!(everybody.map(|key| event.vanishes_with(&key, 100)), vanished, "vanished, {kind}");
            assert_eq!(everybody.map(|key| event.vanishes_with(&key, 99)), [false; 3], "too early, {kind}");
        }
    }

    /// Activity of somebody, by the audience that its tag says, for who proved a key and knows a circle.
    #[test]
    fn activity_is_for_those_whom_its_author_has_chosen() {
        let author = Keys::generate();
        let (key, viewer) = (author.public_key(), Keys::generate().public_key());
        let circle = |followed: &[PublicKey], friends: &[PublicKey]| {
            Some(Circle::new(&followed.iter().copied().collect(), &friends.iter().copied().collect()))
        };
        let readers = [
            ("nobody", vec![], None),
            ("the author", vec![key], None),
            ("unknown", vec![viewer], None),
            ("a stranger", vec![viewer], circle(&[viewer], &[])),
            ("whom the author follows", vec![viewer], circle(&[], &[key])),
            ("a follower", vec![viewer], circle(&[key, viewer], &[viewer])),
            ("a friend", vec![viewer], circle(&[viewer, key], &[key])),
        ];
        for (audience, expected) in [
            (Some("friends"), [false, true, false, false, false, false, true]),
            (Some("followers"), [false, true, false, false, false, true, true]),
            (Some("everybody"), [false, true, false, false, false, false, false]),
            (None, [false, true, false, false, false, false, false]),
        ] {
            let tags = audience.map(|audience| ["audience", audience]);
            let event = author.sign(100, kind::ACTIVITY, Tags::from_iter(tags), "signed in");
            for ((name, keys, circle), expected) in readers.iter().zip(expected) {
                let (keys, circle) = (keys.clone().into(), circle.clone().map(Arc::new));
                let viewer = Viewer::Client { keys, circle };
                assert_eq!(event.is_visible_to(&viewer), expected, "{name}, {audience:?}");
            }
            assert!(event.is_visible_to(&Viewer::Operator));
        }
    }
}
