//! What a session knows of whose doings its client may see, and what waits until it knows. A plain struct.
//!
//! The circle is read, and then kept true by what comes of the follow lists that it was read from: what takes somebody
//! out counts at once, what may bring somebody in has it read again. So do lists that come out of order: the store alone
//! knows the newest. Where something may have been missed since the circle was read, it counts for nothing until it is
//! read anew.

use std::{collections::BTreeSet, sync::Arc};

use crate::{
    account::Watching,
    protocol::{Circle, Event, Fields, PublicKey, Tags, Viewer, kind},
    route::Generation,
    store::tap::Hearing,
};

/// Changes of follow lists that may come while the circle is read. With more, it is read once more.
const MAX_CHANGES: usize = 1_000;

#[derive(Default)]
pub(super) struct Watch {
    /// The session's own subscriptions: to the lists of the client's keys, and to those of whom they follow.
    pub own: Option<Watched>,
    pub followed: Option<Watched>,
    /// The accounts of the client's keys: who hides sees nothing of others.
    pub accounts: Vec<Watching>,
    circle: Option<Arc<Circle>>,
    /// How all of those lists were heard when the circle was read, if they were.
    heard: Option<Heard>,
    /// Whether the circle is to be read, and that has not begun.
    is_due: bool,
    is_reading: bool,
    /// What came of those lists while the circle was being read.
    changes: Vec<Arc<Event>>,
    /// Activity that waits for the circle, and how long it is.
    held: Vec<(Generation, Arc<Event>)>,
    held_bytes: usize,
}

/// A subscription to the follow lists of these authors.
pub(super) struct Watched {
    pub generation: Generation,
    pub authors: Box<[PublicKey]>,
}

/// Since when several authors are heard without a break.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// The number of the node, which every doubt changes.
    node: u64,
    /// The last number that one of the authors was given.
    last: u64,
}

/// Whether a live event is for the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    Shown,
    Hidden,
    /// That is known when the circle was read.
    Undecided,
}

impl Watch {
    pub fn circle(&self) -> Option<&Arc<Circle>> {
        self.circle.as_ref()
    }

    /// Has the circle read anew. `true`: nobody had asked for that.
    pub fn want(&mut self) -> bool {
        !std::mem::replace(&mut self.is_due, true)
    }

    pub fn is_due(&self) -> bool {
        self.is_due
    }

    pub fn is_reading(&self) -> bool {
        self.is_reading
    }

    /// Whether one of the client's accounts may have changed since the circle began to be read.
    pub fn is_outdated(&self) -> bool {
        self.accounts.iter().any(Watching::has_changed)
    }

    /// The circle is being read from now on.
    pub fn begin(&mut self) {
        self.accounts.iter_mut().for_each(Watching::look);
        (self.is_due, self.is_reading) = (false, true);
    }

    /// The circle has been read for these keys; `None`: it could not be. With it comes how the keys' own lists were heard
    /// before they were read, and then all of them. A break in between has it read anew: the lists may be of two times.
    pub fn end(&mut self, read: Option<(Circle, Option<(Heard, Heard)>)>, keys: &[PublicKey]) {
        self.is_reading = false;
        let changes = std::mem::take(&mut self.changes);
        match read {
            Some((circle, heard)) if changes.len() < MAX_CHANGES => {
                let whole = heard.and_then(|(own, all)| own.and(all));
                self.is_due |= heard.is_some() && whole.is_none();
                (self.circle, self.heard) = (Some(Arc::new(circle)), whole);
            }
            read => {
                (self.circle, self.heard) = (None, None);
                self.is_due |= read.is_some();
            }
        }
        changes.iter().for_each(|event| self.apply(event, keys));
    }

    /// Something has come of the lists.
    pub fn change(&mut self, event: &Arc<Event>, keys: &[PublicKey]) {
        if self.is_reading && self.changes.len() < MAX_CHANGES {
            self.changes.push(Arc::clone(event));
        }
        self.apply(event, keys);
    }

    /// Takes out of the circle what the event does, and has it read where that may not be all.
    fn apply(&mut self, event: &Event, keys: &[PublicKey]) {
        let Some(circle) = &self.circle else { return };
        let author = event.pubkey();
        let is_list = event.kind() == kind::FOLLOW_LIST;
        if event.kind() == kind::DELETION && !may_delete_lists(event.tags()) {
            return;
        }
        let rest = if keys.contains(&author) {
            let people = event.tags().values("p").filter(|_| is_list);
            let people: BTreeSet<PublicKey> = people.filter_map(PublicKey::from_hex).collect();
            circle.retain(|key| people.contains(key))
        } else if circle.is_friend(&author) != (is_list && event.mentions(keys)) {
            circle.without_friend(&author)
        } else {
            return;
        };
        self.circle = Some(Arc::new(rest));
        self.is_due = true;
    }

    /// Whether a live event is for the viewer, who knows the circle. `now`: how the client's keys are heard, and an author
    /// whom they follow.
    pub fn judge(
        &self,
        event: &Event,
        viewer: &Viewer,
        now: impl FnOnce(Option<PublicKey>) -> Option<Heard>,
    ) -> Verdict {
        let is_visible = event.is_visible_to(viewer);
        if event.kind() != kind::ACTIVITY || viewer.keys().contains(&event.pubkey()) {
            return if is_visible { Verdict::Shown } else { Verdict::Hidden };
        }
        let author = event.pubkey();
        let followed = self.circle.as_ref().filter(|circle| circle.follows(&author)).map(|_| author);
        let heard = self.heard.filter(|_| !self.is_outdated());
        let is_true = heard.is_some_and(|heard| now(followed).is_some_and(|now| now.goes_on(heard)));
        match is_visible {
            true if is_true => Verdict::Shown,
            false if is_true && !self.is_due && !self.is_reading => Verdict::Hidden,
            _ => Verdict::Undecided,
        }
    }

    /// Keeps activity until the circle was read, unless that is too much.
    pub fn hold(
        &mut self,
        generation: Generation,
        event: Arc<Event>,
        max_bytes: usize,
    ) -> Result<(), TooMuch> {
        let bytes = event.json().len();
        if self.held_bytes + bytes > max_bytes {
            return Err(TooMuch);
        }
        self.held_bytes += bytes;
        self.held.push((generation, event));
        self.is_due |= !self.is_reading;
        Ok(())
    }

    /// What of the activity that was kept the viewer may see, now that the circle was read. What it may see only when it
    /// is read again waits for that.
    pub fn release(&mut self, viewer: &Viewer) -> Vec<(Generation, Arc<Event>)> {
        let held = std::mem::take(&mut self.held);
        let (shown, mut hidden): (Vec<_>, Vec<_>) =
            held.into_iter().partition(|(_, event)| event.is_visible_to(viewer));
        if !self.is_due {
            hidden = Vec::new();
        }
        self.held_bytes = hidden.iter().map(|(_, event)| event.json().len()).sum();
        self.held = hidden;
        shown
    }
}

/// More activity would wait than may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TooMuch;

impl Heard {
    /// Of authors who are all heard.
    pub fn of(hearings: &[Option<Hearing>]) -> Option<Self> {
        let heard = hearings.iter().map(|hearing| hearing.map(|(node, author)| Self { node, last: author }));
        heard.reduce(|one, other| one?.and(other?)).flatten()
    }

    /// Both, if there was no break between them.
    pub fn and(self, other: Self) -> Option<Self> {
        (self.node == other.node).then_some(Self { node: self.node, last: self.last.max(other.last) })
    }

    /// Whether some of those that were heard then have been heard ever since.
    fn goes_on(self, then: Self) -> bool {
        self.node == then.node && self.last <= then.last
    }
}

/// Whether a deletion request may name a follow list: by address, or by its id, which says nothing of the kind. Most
/// requests say the kinds of what they name.
fn may_delete_lists(tags: &Tags) -> bool {
    let is_address = |value: &str| value.strip_prefix("3:").is_some();
    let mut kinds = tags.values("k").peekable();
    kinds.peek().is_none() || kinds.any(|kind| kind == "3") || tags.values("a").any(is_address)
}

#[cfg(test)]
mod tests;
