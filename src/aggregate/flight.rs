//! What of an upstream was received and is not finished, and which windows of time are being read.
//!
//! Finished is what is stored, was stored already and is durable, was refused for good, or is a dead letter that is
//! durable. Whoever finishes something says its number; that moves [`Progress`] where nothing older is open.

use std::{
    collections::{BTreeMap, HashMap},
    sync::atomic::{AtomicU64, Ordering},
};

use super::{
    progress::{Progress, Window},
    refused::FilterId,
};
use crate::protocol::{Timestamp, negentropy::Key};

/// A message of an upstream that was taken. Each is counted once by its number.
pub type Number = u64;

/// A window that is being read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct WindowId(u64);

/// What an event was asked for by.
#[derive(Debug, Clone, Copy, Default)]
pub struct Asked {
    /// It is of this window, or else it came live, or was asked for by its id alone.
    pub window: Option<WindowId>,
    /// It is what a comparison by this filter has found.
    pub compared: Option<FilterId>,
}

/// A message that is finished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Finished {
    pub key: Key,
    pub compared: Option<FilterId>,
}

/// What is on its way from an upstream into the store.
#[derive(Debug)]
pub struct Flight {
    /// By how much later than it is dated an event may come, and be in a window that is read again, in seconds.
    overlap: u64,
    last: Number,
    open: BTreeMap<Number, Open>,
    /// How many of them no window will bring again.
    late: usize,
    windows: HashMap<WindowId, Reading>,
    /// Since when the live subscription has been whole; `None` while there is none.
    live_since: Option<Timestamp>,
}

#[derive(Debug, Clone, Copy)]
struct Open {
    received: Timestamp,
    key: Key,
    asked: Asked,
    is_late: bool,
}

#[derive(Debug)]
struct Reading {
    /// `None`: it is of some of what is asked for, and says nothing of the rest.
    window: Option<Window>,
    /// Events that it has brought and that are not finished.
    open: usize,
    is_read: bool,
}

impl Flight {
    pub fn new(overlap: u64) -> Self {
        /// Numbers of a flight. Each has others, or what was taken by a reader that has stopped would finish what the next
        /// one has taken.
        const NUMBERS: Number = 1 << 40;
        static BEGUN: AtomicU64 = AtomicU64::new(0);
        let last = BEGUN.fetch_add(1, Ordering::Relaxed).wrapping_mul(NUMBERS);
        let (open, windows) = (BTreeMap::new(), HashMap::new());
        Self { overlap, last, open, late: 0, windows, live_since: None }
    }

    /// How many events are on their way that a window has brought.
    pub fn count_open(&self, window: WindowId) -> usize {
        self.windows.get(&window).map_or(0, |reading| reading.open)
    }

    /// How many messages are not finished.
    pub fn len(&self) -> usize {
        self.open.len()
    }

    /// A window is read from now on.
    pub fn begin(&mut self, window: Window) -> WindowId {
        self.open_window(Some(window))
    }

    /// Something of the past is read from now on that moves nothing when it is finished.
    pub fn begin_beside(&mut self) -> WindowId {
        self.open_window(None)
    }

    fn open_window(&mut self, window: Option<Window>) -> WindowId {
        self.last += 1;
        let id = WindowId(self.last);
        self.windows.insert(id, Reading { window, open: 0, is_read: false });
        id
    }

    /// A message is taken at that time by our clock.
    pub fn take(&mut self, received: Timestamp, key: Key, asked: Asked) -> Number {
        self.last += 1;
        if let Some(reading) = asked.window.and_then(|id| self.windows.get_mut(&id)) {
            reading.open += 1;
        }
        // What a window has brought is brought again, as it is not finished before.
        let is_late = asked.window.is_none() && self.is_late(received, key);
        self.late += usize::from(is_late);
        self.open.insert(self.last, Open { received, key, asked, is_late });
        self.last
    }

    /// A message is finished: which. Saying so twice, or of one that was forgotten, does nothing.
    pub fn finish(&mut self, number: Number, progress: &mut Progress) -> Option<Finished> {
        let Open { key, asked, .. } = self.remove(number)?;
        if let Some(id) = asked.window
            && let Some(reading) = self.windows.get_mut(&id)
        {
            reading.open -= 1;
            self.close(id, progress);
        }
        Some(Finished { key, compared: asked.compared })
    }

    fn remove(&mut self, number: Number) -> Option<Open> {
        let open = self.open.remove(&number)?;
        self.late -= usize::from(open.is_late);
        Some(open)
    }

    /// Everything of a window was brought.
    pub fn end(&mut self, id: WindowId, progress: &mut Progress) {
        if let Some(reading) = self.windows.get_mut(&id) {
            reading.is_read = true;
            self.close(id, progress);
        }
    }

    /// A window is not read any more. What it has brought is still on its way.
    pub fn give_up(&mut self, id: WindowId) {
        self.windows.remove(&id);
    }

    /// A message is as if it had never come.
    pub fn forget(&mut self, number: Number) {
        if let Some(open) = self.remove(number)
            && let Some(reading) = open.asked.window.and_then(|id| self.windows.get_mut(&id))
        {
            reading.open -= 1;
        }
    }

    /// Nothing is read any more: what is open may still be finished, and moves nothing but what was read to its end.
    pub fn interrupt(&mut self) {
        self.live_since = None;
        self.windows.retain(|_, reading| reading.is_read);
    }

    fn close(&mut self, id: WindowId, progress: &mut Progress) {
        if let Some(reading) = self.windows.get(&id)
            && reading.is_read
            && reading.open == 0
        {
            if let Some(window) = reading.window {
                progress.finish(window);
            }
            self.windows.remove(&id);
        }
    }

    /// The live subscription is whole from this moment on; `None`: it has ended.
    pub fn live(&mut self, since: Option<Timestamp>) {
        self.live_since = since;
    }

    /// Moves on by what came live: up to the receipt of the oldest message that is not finished, or to now; says up to
    /// where. Not while a window is open, nor while something between it and the beginning of the subscription is.
    pub fn follow(&self, now: Timestamp, progress: &mut Progress) -> Option<Timestamp> {
        let since = self.live_since?;
        if !self.windows.is_empty() || progress.through < since.saturating_sub(self.overlap) {
            return None;
        }
        let oldest = self.open.values().map(|open| open.received).min();
        let moment = oldest.map_or(now, |oldest| oldest.min(now));
        progress.follow(moment, self.overlap);
        Some(moment)
    }

    /// Whether an event that came then is dated earlier than anything that will be read again.
    pub fn is_late(&self, received: Timestamp, key: Key) -> bool {
        key.created_at.saturating_add(self.overlap) < received
    }

    /// What is open and in no window that will be read again: if the process dies, it has to be asked for by its id.
    pub fn late(&self) -> impl Iterator<Item = Key> {
        self.open.values().filter(|open| open.is_late).map(|open| open.key)
    }

    /// How many they are.
    pub fn count_late(&self) -> usize {
        self.late
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::EventId;

    const LIVE: Asked = Asked { window: None, compared: None };

    fn of(window: WindowId) -> Asked {
        Asked { window: Some(window), ..LIVE }
    }

    fn key(created_at: Timestamp) -> Key {
        Key { created_at, id: EventId([created_at as u8; 32]) }
    }

    /// Cut at 100, connected at 200, live at once. What comes live is stored before the window between the two was
    /// read; then the process dies. Whoever moved over what is finished alone would never read that window.
    #[test]
    fn what_comes_live_does_not_move_over_an_open_window() {
        let (mut flight, mut progress) = (Flight::new(10), Progress { through: 100, ..Progress::default() });
        flight.live(Some(200));
        let window = flight.begin(Window { since: 90, until: 200 });
        let live = flight.take(201, key(201), LIVE);
        flight.finish(live, &mut progress);
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 100);
        // It is read, and what it brought is on its way.
        let old = flight.take(250, key(150), of(window));
        flight.end(window, &mut progress);
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 100);
        flight.finish(old, &mut progress);
        assert_eq!(progress.through, 200);
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 290);
    }

    #[test]
    fn it_moves_to_the_oldest_message_that_is_not_finished() {
        let (mut flight, mut progress) = (Flight::new(10), Progress { through: 200, ..Progress::default() });
        flight.live(Some(200));
        let first = flight.take(300, key(299), LIVE);
        let second = flight.take(400, key(399), LIVE);
        flight.finish(second, &mut progress);
        flight.follow(500, &mut progress);
        assert_eq!(progress.through, 290);
        flight.finish(first, &mut progress);
        flight.finish(first, &mut progress);
        flight.follow(500, &mut progress);
        assert_eq!((progress.through, flight.open.is_empty()), (490, true));
    }

    #[test]
    fn a_subscription_that_began_behind_a_gap_moves_nothing() {
        let (mut flight, mut progress) = (Flight::new(10), Progress { through: 100, ..Progress::default() });
        // The window between the two was given up with a session, and the next one reads none.
        flight.begin(Window { since: 90, until: 200 });
        flight.interrupt();
        flight.live(Some(200));
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 100);
        flight.live(None);
        flight.follow(400, &mut progress);
        assert_eq!(progress.through, 100);
    }

    #[test]
    fn a_window_that_is_given_up_holds_nothing_up() {
        let (mut flight, mut progress) = (Flight::new(10), Progress { through: 200, ..Progress::default() });
        flight.live(Some(200));
        let window = flight.begin(Window { since: 0, until: 200 });
        let brought = flight.take(220, key(150), of(window));
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 200);
        flight.give_up(window);
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 210, "what it has brought is on its way");
        flight.finish(brought, &mut progress);
        flight.follow(300, &mut progress);
        assert_eq!(progress.through, 290);
    }

    /// Some are followed who were not: what they wrote of old is read, while what others wrote is on its way.
    #[test]
    fn the_past_of_some_says_nothing_of_others() {
        let (mut flight, mut progress) = (Flight::new(10), Progress { through: 100, ..Progress::default() });
        let of_some = flight.begin_beside();
        let theirs = flight.take(300, key(50), of(of_some));
        flight.end(of_some, &mut progress);
        flight.live(Some(100));
        assert_eq!(flight.follow(400, &mut progress), None, "it is not finished");
        flight.finish(theirs, &mut progress);
        assert_eq!((progress.through, flight.windows.len()), (100, 0));
    }

    #[test]
    fn what_is_older_than_the_overlap_is_known_by_its_id() {
        let (mut flight, mut progress) = (Flight::new(10), Progress::default());
        // A window is read again where it is not finished.
        let window = flight.begin(Window { since: 0, until: 20 });
        flight.take(1_000, key(8), of(window));
        let old = flight.take(1_000, key(7), LIVE);
        flight.take(1_000, key(995), LIVE);
        assert_eq!((flight.late().collect::<Vec<_>>(), flight.count_late()), (vec![key(7)], 1));
        flight.finish(old, &mut progress);
        assert_eq!((flight.late().count(), flight.count_late()), (0, 0));
    }
}
