//! A page of events as a store hands them out: all texts in one buffer, one allocation a page.

use std::fmt;

use smallvec::SmallVec;

use super::{Content, Cursor, End, Position};
use crate::{
    clock::Moment,
    protocol::{EventId, Timestamp, negentropy::Key},
};

/// Events in the order of the answer, and how to go on.
#[derive(Debug, Clone)]
pub struct Page {
    content: Content,
    text: String,
    entries: Vec<Item>,
    /// Where the next page begins; `None` when this was the last.
    pub next: Option<Cursor>,
    /// Whether the events up to here are all there are; means something on the last page.
    pub end: End,
    pub effort: Effort,
}

/// What a page took.
#[derive(Debug, Clone, Default)]
pub struct Effort {
    /// Where candidates were looked for: for each filter that was still open an index, and in how many of its
    /// ranges.
    pub plan: SmallVec<[(&'static str, usize); 1]>,
    /// Candidates that were looked at.
    pub rows: usize,
}

#[derive(Debug, Clone)]
struct Item {
    id: EventId,
    created_at: Timestamp,
    position: Position,
    accepted_at: Option<Moment>,
    end: usize,
}

/// One event of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry<'a> {
    pub id: EventId,
    pub created_at: Timestamp,
    /// Where the event stands among those that this node accepted; 0 for events of other nodes.
    pub position: Position,
    /// When a node accepted the event, at the latest; `None` where no other node writes to the store. What was accepted
    /// lately may yet reach this node live.
    pub accepted_at: Option<Moment>,
    /// The event as it is sent; where not the events were asked for, [what was](Content).
    pub json: &'a str,
}

impl Entry<'_> {
    pub fn key(&self) -> Key {
        Key { created_at: self.created_at, id: self.id }
    }
}

impl Page {
    pub fn new() -> Self {
        Self::of(Content::Events)
    }

    /// An empty page for the answer to a question that wants this of the events.
    pub fn of(content: Content) -> Self {
        Self {
            content,
            text: String::new(),
            entries: Vec::new(),
            next: None,
            end: End::Finish,
            effort: Effort::default(),
        }
    }

    pub fn push(&mut self, entry: Entry<'_>) {
        let Entry { id, created_at, position, accepted_at, json } = entry;
        if self.content != Content::Keys {
            self.text.push_str(json);
        }
        self.entries.push(Item { id, created_at, position, accepted_at, end: self.text.len() });
    }

    /// Bytes of all events together; of keys those that they take in the page.
    pub fn bytes(&self) -> usize {
        match self.content {
            Content::Events | Content::Authors => self.text.len(),
            Content::Keys => self.entries.len() * size_of::<Item>(),
        }
    }

    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = Entry<'_>> {
        let mut start = 0;
        self.entries.iter().map(move |item| {
            let json = &self.text[start..item.end];
            start = item.end;
            let Item { id, created_at, position, accepted_at, .. } = *item;
            Entry { id, created_at, position, accepted_at, json }
        })
    }
}

impl fmt::Display for Effort {
    /// Such as `author_kind 50, tag 1`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (nth, (index, ranges)) in self.plan.iter().enumerate() {
            let comma = if nth > 0 { ", " } else { "" };
            write!(f, "{comma}{index} {ranges}")?;
        }
        Ok(())
    }
}

impl Default for Page {
    fn default() -> Self {
        Self::new()
    }
}
