//! The feeds of a question, read as one.

use std::{
    cmp::Reverse,
    collections::{BinaryHeap, HashSet, btree_map::Range},
    iter::Peekable,
    ops::Bound,
};

use lru::LruCache;

use super::{
    Heard,
    author::{Author, Found, Item, Place, end_of, top_of},
};
use crate::{
    protocol::{PublicKey, Timestamp},
    store::{Cursor, FilterProgress, Query},
};

/// The events that the filters of a question name, in the order of answers.
pub struct Scan<'a> {
    feeds: Vec<Feed<'a>>,
    /// The next place of each feed.
    next: BinaryHeap<Reverse<(Place, usize)>>,
    /// For each filter the place behind which not every event is known.
    bars: Vec<Option<Place>>,
}

/// What is left of an author's events of a kind.
type Feed<'a> = (PublicKey, u16, Peekable<Range<'a, Place, Item>>);

impl<'a> Scan<'a> {
    /// Begins where the cursor stands; `None`: of some author nothing is known.
    pub fn new<S: std::hash::BuildHasher>(
        authors: &'a LruCache<PublicKey, Author, S>,
        query: &Query,
        cursor: &Cursor,
        heard: &Heard,
    ) -> Option<Self> {
        let list_open = || {
            let filters = query.filters.iter().zip(&cursor.progress);
            filters.enumerate().filter(|(_, (_, progress))| progress.is_open())
        };
        let until = list_open().map(|(_, ((filter, _), _))| filter.until.unwrap_or(Timestamp::MAX)).max();
        let top = top_of(until.unwrap_or_default());
        let after = cursor.after.map(|(at, id)| (Reverse(at), id)).filter(|after| *after >= top);
        let start = after.map_or(Bound::Included(top), Bound::Excluded);
        let mut scan =
            Self { feeds: Vec::new(), next: BinaryHeap::new(), bars: vec![None; query.filters.len()] };
        let mut known = HashSet::<_, foldhash::fast::RandomState>::default();
        for (index, ((filter, _), _)) in list_open() {
            let floor = end_of(filter.since.unwrap_or_default());
            for author in filter.authors.iter().flatten() {
                let of = authors.peek(author).filter(|of| heard.get(author) == Some(&of.hearing))?;
                for &kind in filter.kinds.iter().flatten() {
                    let feed = of.feed(kind)?;
                    let complete_to = feed.complete_to?;
                    if complete_to < floor {
                        let bar = &mut scan.bars[index];
                        *bar = Some(bar.map_or(complete_to, |bar: Place| bar.min(complete_to)));
                    }
                    if known.insert((author, kind)) {
                        scan.add(*author, kind, feed.items.range((start, Bound::Unbounded)));
                    }
                }
            }
        }
        Some(scan)
    }

    fn add(&mut self, author: PublicKey, kind: u16, range: Range<'a, Place, Item>) {
        let mut range = range.peekable();
        if let Some(&(&place, _)) = range.peek() {
            self.next.push(Reverse((place, self.feeds.len())));
            self.feeds.push((author, kind, range));
        }
    }

    /// Whether some filter of which more is wanted can not be followed to a place; `None`: to its end.
    pub fn is_barred(&self, progress: &[FilterProgress], place: Option<Place>) -> bool {
        let mut open = self.bars.iter().zip(progress).filter(|(_, progress)| progress.is_open());
        open.any(|(bar, _)| bar.is_some_and(|bar| place.is_none_or(|place| place > bar)))
    }
}

impl<'a> Iterator for Scan<'a> {
    type Item = Found<'a>;

    fn next(&mut self) -> Option<Found<'a>> {
        let Reverse((_, feed)) = self.next.pop()?;
        let (author, kind, range) = &mut self.feeds[feed];
        let (&place, item) = range.next()?;
        if let Some(&(&next, _)) = range.peek() {
            self.next.push(Reverse((next, feed)));
        }
        Some(Found { place, item, author: *author, kind: *kind })
    }
}
